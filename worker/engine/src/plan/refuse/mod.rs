//! Refuses, by name and place, what parses but cannot run as a stream yet. A whitelist: what is not known here is refused, never ignored, never run wrongly.
//!
//! The planner below ignores some clauses silently. So every struct of the syntax tree is taken apart field by field here, and every enum variant by
//! variant: what a newer parser adds does not compile until somebody has decided about it. [`whitelist`](super::whitelist) does the same to the plan.

mod expression;
mod query;
mod relation;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{Expr, Query, Select, Spanned, Statement, TableFactor, Visit, Visitor};
use millrace_crds::report::Problem;

use super::problem::{Reason, in_step, problem};
use super::text::{Place, Text};

pub(super) use query::NO_STATE;

/// Expressions nested deeper than this are refused: they are evaluated by recursion.
const MAX_DEPTH: usize = 200;

/// Everything in the statements of a step that cannot run.
pub(super) fn refuse(step: &str, text: &Text, statement: &Statement) -> Vec<Problem> {
    let mut refuser = Refuser { step, text, window_parts: BTreeSet::new(), depth: 0, too_deep: false, problems: Vec::new() };
    match statement {
        Statement::Query(query) => {
            // The visitor has no reason to stop early, so there is nothing to be learned from what it returns.
            let _ = query.visit(&mut refuser);
        }
        _ => refuser.statement(),
    }
    refuser.problems
}

/// Collects what is refused.
struct Refuser<'a> {
    step: &'a str,
    text: &'a Text,
    /// Where the parts of window functions stand that have been read.
    window_parts: BTreeSet<Place>,
    depth: usize,
    too_deep: bool,
    problems: Vec<Problem>,
}

impl Refuser<'_> {
    /// Refuses a construct by its name.
    fn refuse(&mut self, construct: &str, place: Option<Place>, hint: &str) {
        self.add(place, format!("{construct} is not supported"), hint);
    }

    fn add(&mut self, place: Option<Place>, message: String, hint: &str) {
        let problem = problem(Reason::NotSupported, in_step(self.step, place), message, Some(hint.to_owned()));
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn statement(&mut self) {
        let (word, place) = self.text.first_word().unzip();
        self.refuse(&word.unwrap_or_default(), place, "a step is one SELECT; what is written where is said by outputs");
    }
}

impl Visitor for Refuser<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.query(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.select(select);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.relation(factor);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH && !self.too_deep {
            self.too_deep = true;
            self.add(
                place(expression),
                format!("the expression is nested more than {MAX_DEPTH} deep"),
                "use IN (…) for long lists of alternatives, or split it over several steps",
            );
        }
        if !self.too_deep {
            self.expression(expression);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _expression: &Expr) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// Where a part of the syntax tree starts, as far as it knows.
fn place(part: &impl Spanned) -> Option<Place> {
    Place::new(part.span().start)
}
