//! Documents that operator and worker exchange keep their form: what an older version wrote must still be read, and comes out the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use millrace_crds::job::{JOB_VERSION, Job};
use millrace_crds::pipeline::Limits;
use millrace_crds::report::{Assignment, CheckOutcome, Poll, Polled, REPORT_VERSION, Report};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Reads a golden document, and checks that writing it gives the same.
fn round_trip<T: DeserializeOwned + PartialEq + Serialize + std::fmt::Debug>(name: &str) -> T {
    let written = golden(name);
    let read: T = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), written, "{name}");
    read
}

#[test]
fn jobs_round_trip() {
    let job: Job = round_trip("job-v1.json");
    assert_eq!(job.version, JOB_VERSION);
    let again: Job = serde_json::from_str(&serde_json::to_string(&job).unwrap()).unwrap();
    assert_eq!((again.revision(), &again), (job.revision(), &job));
}

#[test]
fn jobs_with_changes_round_trip() {
    let job: Job = round_trip("job-changes-v1.json");
    let changes: Vec<_> = job.inputs.iter().filter_map(|input| input.source.changes()).collect();
    assert_eq!(changes.iter().map(|(_, key)| key.join(",")).collect::<Vec<_>>(), ["id", "id"]);
}

#[test]
fn a_revision_is_that_of_the_content() {
    let job: Job = serde_json::from_value(golden("job-v1.json")).unwrap();
    assert_eq!(job.revision(), "7d932870677e0f2a", "revisions of running Pipelines would change: every worker would restart");
    let mut other = job.clone();
    other.steps[0].sql.push(' ');
    assert_ne!(other.revision(), job.revision());
}

#[test]
fn tests_are_no_part_of_a_revision_but_the_policy_is() {
    let job: Job = round_trip("job-tested-v1.json");
    let plain = job.without_tests();
    assert_eq!((plain.revision(), plain.tests_hash()), (job.revision(), None));
    let mut other = job.clone();
    other.tests[0].expect[0].rejected = None;
    assert_eq!(other.revision(), job.revision());
    assert!(job.tests_hash().is_some() && other.tests_hash() != job.tests_hash());
    other.approved_plan = None;
    assert_ne!(other.revision(), job.revision());
    assert!(job.may_drop_state("fedcba9876543210") && !job.may_drop_state("0") && !other.may_drop_state("fedcba9876543210"));
}

#[test]
fn reports_round_trip() {
    let report: Report = round_trip("report-v1.json");
    assert_eq!(report.version, REPORT_VERSION);
    let _: Assignment = round_trip("assignment-v1.json");
    let _: CheckOutcome = round_trip("check-outcome-v1.json");
    let tested: CheckOutcome = round_trip("check-outcome-tests-v1.json");
    assert_eq!(tested.state.unwrap().first_lost[0].operator, "per_country/aggregate/0");
}

#[test]
fn documents_of_plans_that_keep_state_round_trip() {
    let report: Report = round_trip("report-stateful-v1.json");
    assert!(report.tasks[0].task.is_whole());
    let job: Job = round_trip("job-stateful-v1.json");
    assert_eq!(job.state_ttl_seconds, Some(3600));
}

#[test]
fn documents_of_state_on_disk_round_trip() {
    let report: Report = round_trip("report-spilled-v1.json");
    assert_eq!(report.tasks[0].spilled_bytes, Some(1 << 20));
    let report: Report = round_trip("report-failed-v1.json");
    assert_eq!(report.tasks[0].failures, Some(3));
    let job: Job = round_trip("job-spilled-v1.json");
    assert_eq!((job.limits.spill_bytes(), Limits::default().spill_bytes()), (1 << 30, 10 << 30));
}

#[test]
fn documents_of_plans_that_are_shared_round_trip() {
    let job: Job = round_trip("job-exchange-v1.json");
    let exchange = &job.exchange.as_ref().unwrap().kafka;
    assert_eq!((exchange.partitions, exchange.prefix()), (8, "team-a."));
    assert!(job.secrets()["exchange-login"].contains("password") && job.secrets()["exchange-tls"].contains("ca.crt"));
}

#[test]
fn the_least_a_document_may_hold_is_enough() {
    let report: Report = serde_json::from_value(golden("report-least-v1.json")).unwrap();
    assert!(report.tasks[0].troubles.is_empty() && report.tasks[0].lag_records.is_none());
    let job: Job = serde_json::from_value(golden("job-least-v1.json")).unwrap();
    assert!(job.outputs[0].dead_letter.is_none());
}

#[test]
fn fields_of_newer_versions_are_passed_over() {
    let mut report = golden("report-v1.json");
    report["later"] = Value::Bool(true);
    report["tasks"][0]["later"] = Value::Bool(true);
    let _: Report = serde_json::from_value(report).unwrap();
    let mut assignment = golden("assignment-v1.json");
    assignment["later"] = Value::Bool(true);
    let _: Assignment = serde_json::from_value(assignment).unwrap();
    let mut polled = golden("polled-v1.json");
    polled["later"] = Value::Bool(true);
    let _: Polled = serde_json::from_value(polled).unwrap();
}

#[test]
fn polls_round_trip() {
    let poll: Poll = round_trip("poll-v1.json");
    assert_eq!((poll.version, poll.sequence), (REPORT_VERSION, 41));
    let polled: Polled = round_trip("polled-v1.json");
    assert!(polled.changed);
}

#[test]
fn a_job_names_every_secret_it_needs() {
    // Whatever is called `secretRef` in the document must be found; a new connector's would show here.
    fn references(value: &Value, names: &mut std::collections::BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                names.extend(object.get("secretRef").and_then(|r| r["name"].as_str()).map(str::to_owned));
                object.values().for_each(|inner| references(inner, names));
            }
            Value::Array(items) => items.iter().for_each(|inner| references(inner, names)),
            _ => {}
        }
    }
    let document = golden("job-v1.json");
    let mut expected = std::collections::BTreeSet::new();
    references(&document, &mut expected);
    let job: Job = serde_json::from_value(document).unwrap();
    let secrets = job.secrets();
    assert_eq!(secrets.keys().map(|name| (*name).to_owned()).collect::<std::collections::BTreeSet<_>>(), expected);
    assert!(secrets["aws"].contains("AWS_SECRET_ACCESS_KEY") && secrets["search"].contains("password"));
}
