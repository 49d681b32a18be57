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
    // What is replaced, by what, and what is said of it.
    type Case<'a> = (&'a str, String, &'a [(&'a str, &'a str)]);
    let state = "  state: {location: \"s3://state/orders\"}\n";
    let test = "  tests: [{name: t, given: [{input: orders, rows: [{id: 1}]}], expect: [{output: paid}]}]\n";
    let cases: [Case<'_>; 8] = [
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

const STATEFUL: &str = "SELECT window_start, status, count(*) AS n FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(at), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, status";

/// The base with a window, so that there is state, and a step that keeps none.
fn stateful() -> String {
    let timed = BASE.replace("{name: id, type: BigInt}", "{name: id, type: BigInt}, {name: at, type: Timestamp}");
    let timed = timed.replace("type: Varchar}]}\n", "type: Varchar}]}\n  eventTime: {column: at}\n");
    let sql = format!("{{name: paid, sql: \"SELECT status, n FROM counts\"}}, {{name: counts, sql: \"{STATEFUL}\"}}");
    timed.replace("{name: paid, sql: \"SELECT id FROM orders WHERE status = 'paid'\"}", &sql)
}

/// The comparison when `from` becomes `to`, and the policy is as it is given.
fn compared(from: &str, to: &str, policy: &str) -> Comparison {
    let folder = tempfile::tempdir().unwrap();
    let base = stateful() + policy;
    assert!(base.contains(from), "{from}");
    let (old, new) = (side(folder.path(), &base), side(folder.path(), &base.replace(from, to)));
    Comparison::new((&old, &old.pipelines[0].0, &old.pipelines[0].1), (&new, &new.pipelines[0].0, &new.pipelines[0].1)).unwrap()
}

fn effects_of(comparison: &Comparison) -> Vec<(&str, &str)> {
    comparison.changes.iter().map(|change| (change.path.as_str(), change.effect.as_str())).collect()
}

#[test]
fn state_is_kept_lost_or_given_up() {
    // Another step changes: the state stays.
    let kept = compared("SELECT status, n FROM counts", "SELECT status, n + 1 AS n FROM counts", "");
    assert_eq!(effects_of(&kept), [("steps[paid]", "RestoreFromCheckpoint")]);
    assert!(kept.text().ends_with("\n  state of counts/window_aggregate/0: kept"), "{}", kept.text());

    // Another function: it is lost, and refused unless it is allowed.
    let (from, to) = ("count(*) AS n", "max(id) AS n");
    let refused = compared(from, to, "");
    assert_eq!(effects_of(&refused), [("steps[counts]", "Forbidden")]);
    let text = refused.text();
    assert!(refused.is_refused() && text.contains("state of counts/window_aggregate/0: lost (KeyChanged)\n    was "), "{text}");
    assert!(text.contains("to allow it: spec.upgrade.statePolicy ResetState"), "{text}");
    let reset = compared(from, to, "  upgrade: {statePolicy: ResetState}\n");
    assert_eq!(effects_of(&reset), [("steps[counts]", "StateReset")]);
    assert!(!reset.is_refused());
    assert!(compared(from, to, "  upgrade: {statePolicy: Approve}\n").is_refused());

    // Another name is another operator.
    let renamed = compared("counts", "numbers", "");
    assert!(
        renamed.is_refused() && renamed.text().contains("state of counts/window_aggregate/0: lost (OperatorRemoved)"),
        "{}",
        renamed.text()
    );
    assert!(renamed.text().contains("state of numbers/window_aggregate/0: new, starts with none"));
}

#[test]
fn the_first_state_cannot_be_added() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (side(folder.path(), BASE), side(folder.path(), &(stateful() + "  upgrade: {statePolicy: ResetState}\n")));
    let comparison =
        Comparison::new((&old, &old.pipelines[0].0, &old.pipelines[0].1), (&new, &new.pipelines[0].0, &new.pipelines[0].1)).unwrap();
    assert!(comparison.is_refused() && comparison.text().contains("positions of the inputs: lost"), "{}", comparison.text());
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
