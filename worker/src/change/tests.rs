//! What `millrace plan` says about one change at a time.

use std::path::Path;

use super::{Comparison, Side};

const BASE: &str = r#"
apiVersion: millrace.dev/v1alpha1
kind: Source
metadata: {name: orders}
spec:
  kafka: {bootstrapServers: "kafka:9092", topics: [orders]}
  format: {json: {}}
  schema: {columns: [{name: id, type: BigInt}, {name: status, type: Varchar}]}
---
apiVersion: millrace.dev/v1alpha1
kind: Sink
metadata: {name: out}
spec: {stdout: {}}
---
apiVersion: millrace.dev/v1alpha1
kind: Pipeline
metadata: {name: orders}
spec:
  inputs: [{name: orders, sourceRef: {name: orders}}]
  steps: [{name: paid, sql: "SELECT id FROM orders WHERE status = 'paid'"}]
  outputs: [{name: paid, from: paid, sinkRef: {name: out}}]
  state: {location: "s3://state/orders"}
"#;

fn side(folder: &Path, text: &str) -> Side {
    let file = folder.join("manifests.yaml");
    std::fs::write(&file, text).unwrap();
    Side::load(&file).unwrap()
}

/// Path and effect of every change, when `from` in the manifests becomes `to`.
fn effects(from: &str, to: &str) -> Vec<(String, &'static str)> {
    let folder = tempfile::tempdir().unwrap();
    assert!(from.is_empty() || BASE.contains(from), "{from}");
    let old = side(folder.path(), BASE);
    let new = side(folder.path(), &BASE.replace(from, to));
    let comparison =
        Comparison::new((&old, &old.pipelines[0].0, &old.pipelines[0].1), (&new, &new.pipelines[0].0, &new.pipelines[0].1)).unwrap();
    assert_eq!(comparison.is_refused(), comparison.text().contains("Forbidden"));
    comparison.changes.into_iter().map(|change| (change.path, change.effect.as_str())).collect()
}

#[test]
fn each_change_has_its_effect() {
    let state = "  state: {location: \"s3://state/orders\"}\n";
    let test = "  tests: [{name: t, given: [{input: orders, rows: [{id: 1}]}], expect: [{output: paid}]}]\n";
    let cases: [(&str, String, &[(&str, &str)]); 8] = [
        (state, state.to_owned(), &[]),
        ("'paid'", "'Paid'".to_owned(), &[("steps[paid]", "RollingRestart")]),
        (
            state,
            format!("{state}  scale: {{replicas: 3}}\n  desiredState: Paused\n"),
            &[("desiredState", "HotReload"), ("scale", "HotReload")],
        ),
        (state, format!("{state}{test}"), &[("tests[t]", "HotReload")]),
        (state, format!("{state}  observability: {{logLevel: Debug}}\n"), &[("observability", "RollingRestart")]),
        ("state/orders", "state/other".to_owned(), &[("state", "RollingRestart"), ("spec", "Forbidden")]),
        ("\"kafka:9092\"", "\"other:9092\"".to_owned(), &[("Source orders", "RollingRestart")]),
        ("{stdout: {}}", "{stdout: {layout: Table}}".to_owned(), &[("Sink out", "RollingRestart")]),
    ];
    for (from, to, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|(path, effect)| ((*path).to_owned(), *effect)).collect();
        assert_eq!(effects(from, &to), expected, "{from} → {to}");
    }
}

#[test]
fn what_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (side(folder.path(), BASE), side(folder.path(), &BASE.replace("'paid'", "'Paid'")));
    let of = |side: &Side| (side.pipelines[0].1.job.revision(), side.pipelines[0].1.plan.hash());
    let comparison =
        Comparison::new((&old, &old.pipelines[0].0, &old.pipelines[0].1), (&new, &new.pipelines[0].0, &new.pipelines[0].1)).unwrap();
    let ((old, old_plan), (new, new_plan)) = (of(&old), of(&new));
    assert_eq!(
        comparison.text(),
        format!(
            "\n  revision {old} → {new}, plan {old_plan} → {new_plan}\n  steps[paid]  changed  RollingRestart         \
             workers are replaced one after the other; each goes on at the positions of the last checkpoint"
        )
    );
}
