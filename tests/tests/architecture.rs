//! The architecture, as far as the compiler and clippy do not check it: who may depend on whom, how files begin, that the
//! README's map leads somewhere. It looks at the checkout only, and needs no server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use millrace_tests::installed::checkout;
use serde_json::Value;

/// What each crate may use of Millrace, and what it must not use at all: names, and prefixes that end in `*`.
/// `operator → crds ← engine ← connectors ← worker`; `tests → all`.
const RULES: [(&str, &[&str], &[&str]); 6] = [
    ("millrace-crds", &[], &["arrow*", "aws*", "datafusion*", "object_store", "opensearch", "parquet", "rdkafka", "tokio"]),
    ("millrace-operator", &["millrace-crds"], &["arrow*", "aws*", "datafusion*", "object_store", "opensearch", "parquet", "rdkafka"]),
    ("millrace-engine", &["millrace-crds"], &["aws*", "kube*", "opensearch", "rdkafka", "reqwest"]),
    ("millrace-connectors", &["millrace-crds", "millrace-engine"], &["kube*", "rdkafka"]),
    ("millrace", &["millrace-crds", "millrace-engine", "millrace-connectors"], &["kube*", "rdkafka"]),
    ("millrace-tests", &["*"], &[]),
];

fn matches(name: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |prefix| name.starts_with(prefix))
}

/// What is wrong with a package of `cargo metadata`.
fn violations(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let Some((_, allowed, forbidden)) = RULES.iter().find(|(crate_name, ..)| *crate_name == name) else {
        return vec![format!("{name} has no rule in tests/tests/architecture.rs")];
    };
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    let names = dependencies.filter_map(|dependency| dependency["name"].as_str());
    let wrong = names.filter(|used| {
        let ours = *used == "millrace" || used.starts_with("millrace-");
        let refused = ours && !allowed.iter().any(|pattern| matches(used, pattern));
        refused || forbidden.iter().any(|pattern| matches(used, pattern))
    });
    wrong.map(|used| format!("{name} must not depend on {used}")).collect()
}

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(["metadata", "--no-deps", "--offline", "--format-version=1"]).current_dir(checkout()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo names no packages")?;
    assert_eq!(packages.len(), RULES.len(), "a rule for each crate");
    let wrong: Vec<_> = packages.iter().flat_map(violations).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn a_wrong_dependency_is_found() {
    let package = |name: &str, dependency: &str| serde_json::json!({"name": name, "dependencies": [{"name": dependency}]});
    for (name, dependency) in
        [("millrace-engine", "millrace-connectors"), ("millrace-operator", "datafusion-sql"), ("millrace-new", "serde")]
    {
        assert_eq!(violations(&package(name, dependency)).len(), 1, "{name} on {dependency}");
    }
    assert_eq!(violations(&package("millrace-connectors", "millrace-engine")), Vec::<String>::new());
}

/// Every file of Rust in the checkout, without what is built.
fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn every_file_says_what_it_is() -> Result<()> {
    let mut files = Vec::new();
    rust_files(checkout(), &mut files)?;
    ensure!(files.len() > RULES.len(), "only {} files found", files.len());
    let mut silent = Vec::new();
    for file in files {
        if !fs::read_to_string(&file)?.starts_with("//! ") {
            silent.push(file.display().to_string());
        }
    }
    assert!(silent.is_empty(), "the first line is not `//! what it is` in:\n{}", silent.join("\n"));
    Ok(())
}

/// The paths that a row of the README's map names: in backquotes or as the target of a link.
fn paths(row: &str) -> Vec<&str> {
    let quoted = row.split('`').skip(1).step_by(2);
    let linked = row.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let mut paths: Vec<_> = quoted.chain(linked).filter(|text| text.contains(['/', '.']) && !text.contains([' ', ':'])).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

#[test]
fn the_map_in_the_readme_leads_somewhere() -> Result<()> {
    let readme = fs::read_to_string(checkout().join("README.md")).context("read README.md")?;
    let table = readme.lines().skip_while(|line| !line.starts_with("| I want to")).take_while(|line| line.starts_with('|'));
    let rows: Vec<_> = table.skip(2).collect();
    ensure!(!rows.is_empty(), "README.md has no table that starts with `| I want to`");
    for row in rows {
        let paths = paths(row);
        assert!(!paths.is_empty(), "this row names no file: {row}");
        for path in paths {
            assert!(checkout().join(path).exists(), "{path} does not exist, but the map names it: {row}");
        }
    }
    Ok(())
}

#[test]
fn a_row_of_the_map_is_read() {
    let row = "| add a sink | [`worker/connectors/src/s3`](worker/connectors/src/s3), the list in `worker/lib.rs`, run `make test` |";
    assert_eq!(paths(row), ["worker/connectors/src/s3", "worker/lib.rs"]);
}
