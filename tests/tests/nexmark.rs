//! The queries of Nexmark on Millrace's plans, against what Flink has answered for the same events. Needs no Flink; what Millrace refuses is listed here, so that the list cannot grow unseen.

use anyhow::{Context, Result, ensure};
use millrace_tests::nexmark::in_process::{self, Arrival};
use millrace_tests::nexmark::queries::{self, Query};
use millrace_tests::nexmark::results::Rows;
use millrace_tests::nexmark::{GOLDEN_DISORDER, golden, golden_path};

/// Queries that the engine refuses, with a part of what it says.
const REFUSED: [(&str, &str); 0] = [];

#[test]
fn results_are_those_of_flink() -> Result<()> {
    let mut wrong = Vec::new();
    for disorder in [1, GOLDEN_DISORDER] {
        let tables = in_process::tables(&golden(disorder));
        for query in queries::all()? {
            if REFUSED.iter().any(|(name, _)| *name == query.name) {
                continue;
            }
            let expected = expected(&query, disorder)?;
            let plan = match in_process::plan(&query)? {
                Ok(plan) => plan,
                Err(problems) => {
                    wrong.push(format!("{} is refused: {problems:?}", query.name));
                    continue;
                }
            };
            for arrival in [Arrival::Together(1), Arrival::OneByOne(100), Arrival::Restored(2, 3)] {
                let outcome = in_process::run(&plan, &query, &tables, arrival);
                let difference = match outcome {
                    Ok(rows) => rows.difference(&expected),
                    Err(error) => Some(format!("{error:#}")),
                };
                if let Some(difference) = difference {
                    wrong.push(format!("{} with disorder {disorder}, {arrival:?}: {difference}", query.name));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn what_is_refused_is_refused_by_name() -> Result<()> {
    for query in queries::all()? {
        let Some((_, reason)) = REFUSED.iter().find(|(name, _)| *name == query.name) else { continue };
        let problems = in_process::plan(&query)?.err().with_context(|| format!("{} runs now: take it off the list", query.name))?;
        ensure!(problems.iter().any(|problem| problem.message.contains(reason)), "{} is refused otherwise: {problems:?}", query.name);
    }
    Ok(())
}

fn expected(query: &Query, disorder: u64) -> Result<Rows> {
    let path = golden_path(&query.name, disorder);
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Rows::of_changelog(&text)
}
