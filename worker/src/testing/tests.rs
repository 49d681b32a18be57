//! Tests of tests: what passes, what fails, and what is said then. What SQL means is tested in the engine.

use std::path::PathBuf;

use millrace_crds::job::Job;
use serde_json::{Value, json};

use super::command::text;
use super::{Outcome, report, run_all};
use crate::assemble::assemble;

/// Runs one test of a Pipeline that reads orders.
fn outcome(sql: &str, given: Value, expect: Value) -> Outcome {
    let columns = json!([
        {"name": "id", "type": "BigInt", "presence": "Required"},
        {"name": "at", "type": "Timestamp"},
        {"name": "country", "type": "Varchar"},
        {"name": "amount", "type": "Decimal", "precision": 38, "scale": 2},
    ]);
    let job: Job = serde_json::from_value(json!({
        "version": 1,
        "pipeline": {"namespace": "default", "name": "p", "uid": "u"},
        "inputs": [{"name": "orders", "sourceName": "orders", "source": {
            "files": {"path": "/nowhere"}, "format": {"csv": {}}, "schema": {"columns": columns}, "eventTime": {"column": "at"},
        }}],
        "steps": [{"name": "step", "sql": sql}],
        "outputs": [{"name": "out", "from": "step", "sink": "out"}],
        "sinks": {"out": {"stdout": {}}},
        "state": {"location": "file:///nowhere"},
        "checkpoint": {}, "errorPolicy": {}, "limits": {}, "stateTtlSeconds": 3600,
        "tests": [{"name": "a test", "given": given, "expect": expect}],
    }))
    .unwrap();
    let assembled = assemble(job, PathBuf::new()).unwrap();
    run_all(&assembled).remove(0)
}

/// One line of text for what is wrong, or nothing.
fn said(sql: &str, given: Value, expect: Value) -> String {
    outcome(sql, given, expect).failures.join("\n")
}

const SHAPED: &str = "SELECT id, upper(country) AS country, amount, at FROM orders WHERE amount > 10";

#[test]
fn the_examples_pass() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut tests = 0;
    for folder in std::fs::read_dir(examples).unwrap() {
        let (jobs, _) = crate::local::resolve(&[folder.unwrap().path()], &std::env::temp_dir()).unwrap();
        for (_, job) in jobs {
            for outcome in run_all(&assemble(job, PathBuf::new()).unwrap()) {
                assert_eq!(outcome.failures, Vec::<String>::new(), "{}", outcome.name);
                tests += 1;
            }
        }
    }
    assert!(tests > 0);
}

#[test]
fn a_test_that_passes() {
    let given = json!([
        {"input": "orders", "rows": [{"id": 1, "country": "de", "amount": "12345678901234567890123.10", "at": "2026-01-01T00:00:00Z"}]},
        {"input": "orders", "rows": [{"id": 2, "amount": 11}, {"id": 3, "amount": 9.5}], "advanceTo": "2026-01-02T00:00:00Z"},
    ]);
    let rows = json!([
        {"id": 1, "country": "DE", "amount": "12345678901234567890123.1", "at": "2026-01-01T00:00:00Z"},
        {"id": 2, "amount": 11.0, "country": null},
    ]);
    assert_eq!(said(SHAPED, given, json!([{"output": "out", "rows": rows}])), "");
}

#[test]
fn what_differs_is_said() {
    let given = json!([{"input": "orders", "rows": [{"id": 1, "country": "de", "amount": 12}, {"id": 2, "country": "fr", "amount": 13}, {"id": 3, "amount": 14}]}]);
    let rows = json!([{"id": 1, "country": "de", "amount": 12}, {"id": 2, "country": "FR", "amount": 13}]);
    let outcome = outcome(SHAPED, given, json!([{"output": "out", "rows": rows}]));
    assert_eq!(
        text("default/p", std::slice::from_ref(&outcome)),
        r#"pipeline default/p
  FAILED  a test
    output out: 1 missing (-), 2 unexpected (+), 1 as expected
        - {"id":1,"country":"de","amount":12}
        + {"id":1,"country":"DE","amount":12.00}
            country: expected "de", got "DE"
        + {"id":3,"amount":14.00}"#
    );
    let report = report(&[outcome, Outcome { name: "other".into(), failures: Vec::new() }]).unwrap();
    assert_eq!((report.passed, report.failed), (1, 1));
    assert!(report.first_failure.unwrap().starts_with("a test: output out: 1 missing"));
}

#[test]
fn order_counts_unless_it_does_not() {
    let given = || json!([{"input": "orders", "rows": [{"id": 1, "amount": 12}, {"id": 2, "amount": 13}]}]);
    let rows = json!([{"id": 2, "amount": 13}, {"id": 1, "amount": 12}]);
    let in_order = said(SHAPED, given(), json!([{"output": "out", "rows": rows}]));
    assert!(in_order.contains("another order") && in_order.contains("- {\"id\":2"), "{in_order}");
    assert_eq!(said(SHAPED, given(), json!([{"output": "out", "rows": rows, "order": "Any"}])), "");
}

#[test]
fn no_rows_are_expected_unless_some_are() {
    let given = json!([{"input": "orders", "rows": [{"id": 1, "amount": 12}]}]);
    assert!(said(SHAPED, given.clone(), json!([{"output": "out"}])).contains("0 missing (-), 1 unexpected (+)"));
    // The same row twice is not there once.
    let twice = json!([{"id": 1, "amount": 12}, {"id": 1, "amount": 12}]);
    assert!(said(SHAPED, given, json!([{"output": "out", "rows": twice}])).contains("1 missing (-), 0 unexpected (+), 1 as expected"));
}

#[test]
fn a_changelog_shows_every_change() {
    let given = json!([{"input": "orders", "rows": [{"id": 1, "amount": 12}]}]);
    let expect = |op: &str| json!([{"output": "out", "form": "Changelog", "rows": [{"_op": op, "id": 1, "amount": 12}]}]);
    assert_eq!(said(SHAPED, given.clone(), expect("+I")), "");
    assert!(said(SHAPED, given, expect("-D")).contains("_op: expected \"-D\", got \"+I\""));
}

#[test]
fn results_that_are_revised_are_compared_as_a_table_or_change_by_change() {
    let sql = "SELECT country, count(*) AS n, sum(amount) AS total FROM orders GROUP BY country";
    let order = |country: &str, amount: u32| json!({"id": 1, "at": "2026-01-01T00:00:00Z", "country": country, "amount": amount});
    let given = || json!([{"input": "orders", "rows": [order("de", 10), order("de", 5), order("fr", 1)]}]);
    // A table has no order.
    let table = json!([{"country": "fr", "n": 1, "total": 1}, {"country": "de", "n": 2, "total": 15}]);
    assert_eq!(said(sql, given(), json!([{"output": "out", "rows": table}])), "");
    let row = |op: &str, country: &str, n: u32, total: u32| json!({"_op": op, "country": country, "n": n, "total": total});
    let changes = json!([row("+I", "de", 1, 10), row("-U", "de", 1, 10), row("+U", "de", 2, 15), row("+I", "fr", 1, 1)]);
    assert_eq!(said(sql, given(), json!([{"output": "out", "form": "Changelog", "rows": changes}])), "");
    let wrong = said(sql, given(), json!([{"output": "out", "rows": [{"country": "de", "n": 3, "total": 15}, table[0]]}]));
    assert!(wrong.contains("n: expected 3, got 2") && wrong.contains("1 missing (-), 1 unexpected (+), 1 as expected"), "{wrong}");
}

#[test]
fn rejected_rows_are_counted() {
    let sql = "SELECT id, 10 / id AS tenth FROM orders";
    let given = || json!([{"input": "orders", "rows": [{"id": 0}, {"id": 5}]}]);
    let rows = json!([{"id": 5, "tenth": 2}]);
    let surprised = said(sql, given(), json!([{"output": "out", "rows": rows}]));
    assert!(surprised.contains("1 rows are rejected, 0 expected\n    row 1 of orders: operator"), "{surprised}");
    assert_eq!(said(sql, given(), json!([{"output": "out", "rows": rows, "rejected": 1}])), "");
}

const PER_MINUTE: &str = "SELECT window_start, count(*) AS n FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(at), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end";

#[test]
fn windows_close_as_the_clock_says() {
    // Without maxDelaySeconds a Source waits for ten seconds.
    let orders = |times: &[&str]| {
        let rows: Vec<Value> = times.iter().map(|time| json!({"id": 1, "at": format!("2026-01-01T00:{time}Z")})).collect();
        json!({"input": "orders", "rows": rows})
    };
    let minute = |minute: u32, n: u32| json!({"window_start": format!("2026-01-01T00:{minute:02}:00Z"), "n": n});
    let check =
        |given: Value, rows: Value| assert_eq!(said(PER_MINUTE, given.clone(), json!([{"output": "out", "rows": rows}])), "", "{given}");
    // Rows that are given together are not late for one another.
    check(json!([orders(&["05:00", "00:00"])]), json!([minute(0, 1), minute(5, 1)]));
    // 01:09 less ten seconds: the first minute is still open. With 01:10 it is not.
    check(json!([orders(&["00:00", "01:09"]), orders(&["00:30"])]), json!([minute(0, 2), minute(1, 1)]));
    check(json!([orders(&["00:00", "01:10"]), orders(&["00:30"])]), json!([minute(0, 1), minute(1, 1)]));
    check(json!([orders(&["00:00"]), {"advanceTo": "2026-01-01T00:01:00Z"}, orders(&["00:30"])]), json!([minute(0, 1)]));
    // The clock does not go back.
    let back = json!([{"advanceTo": "2026-01-01T00:01:00Z"}, {"advanceTo": "2026-01-01T00:00:00Z"}, orders(&["00:30"])]);
    check(back, json!([]));
}

#[test]
fn processing_time_goes_as_the_clock_says() {
    let sql = "SELECT window_start, count(*) AS n FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(at), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end";
    let sql = sql.replace("TUMBLE(TABLE orders, DESCRIPTOR(at)", "TUMBLE(TABLE timed, DESCRIPTOR(proc)");
    let sql = format!("WITH timed AS (SELECT *, PROCTIME() AS proc FROM orders) {sql}");
    let orders = json!({"input": "orders", "rows": [{"id": 1}, {"id": 2, "at": "2030-01-01T00:00:00Z"}]});
    let advance = |time: &str| json!({"advanceTo": format!("2026-01-01T00:{time}Z")});
    let given = json!([orders, advance("00:30"), orders, advance("00:59"), orders, advance("01:00"), orders]);
    let rows = json!([
        {"window_start": "1970-01-01T00:00:00Z", "n": 2},
        {"window_start": "2026-01-01T00:00:00Z", "n": 4},
        {"window_start": "2026-01-01T00:01:00Z", "n": 2},
    ]);
    assert_eq!(said(&sql, given, json!([{"output": "out", "rows": rows}])), "");
}

#[test]
fn a_row_without_a_time_cannot_be_given_where_time_counts() {
    let given = json!([{"input": "orders", "rows": [{"id": 1}]}]);
    let said = said(PER_MINUTE, given, json!([{"output": "out"}]));
    assert!(said.starts_with("given[0]: row 1 has no event time (\"at\")"), "{said}");
}

#[test]
fn tests_that_cannot_be_run_say_why() {
    let expect = || json!([{"output": "out"}]);
    let cases = [
        (json!([{"input": "orders", "rows": [{"id": 1}, {"id": "x"}]}]), "given[0]: row 2 cannot be decoded, as in a Source: "),
        (
            json!([{"input": "orders", "rows": [{"amount": 1}]}]),
            "given[0]: row 1 cannot be decoded, as in a Source: column \"id\" is required",
        ),
        (
            json!([{"input": "orders", "rows": [{"id": 1, "amout": 1}]}]),
            "given[0]: row 1: \"amout\" is no column of the Source: there are id, at",
        ),
        (json!([{"advanceTo": "2026-02-30T00:00:00Z"}]), "given[0]: advanceTo \"2026-02-30T00:00:00Z\" is no time"),
    ];
    for (given, message) in cases {
        let said = said(SHAPED, given, expect());
        assert!(said.starts_with(message), "{said}");
    }
    let unknown = said(SHAPED, json!([{"input": "orders", "rows": [{"id": 1}]}]), json!([{"output": "out", "rows": [{"idd": 1}]}]));
    assert_eq!(unknown, "output out: row 1 expects \"idd\", which is no column of it: there are id, country, amount, at");
}

/// What is wrong with given rows of a topic of changes, or what differs.
fn changes(changelog: Value, format: Value, rows: Value, expected: Value) -> Vec<String> {
    let columns = json!([{"name": "id", "type": "BigInt"}, {"name": "name", "type": "Varchar"}]);
    let job: Job = serde_json::from_value(json!({
        "version": 1,
        "pipeline": {"namespace": "default", "name": "p", "uid": "u"},
        "inputs": [{"name": "orders", "sourceName": "orders", "source": {
            "kafka": {"bootstrapServers": "kafka:9092", "topics": ["t"]}, "format": format, "schema": {"columns": columns}, "changelog": changelog,
        }}],
        "steps": [{"name": "step", "sql": "SELECT * FROM orders WHERE name <> 'x'"}],
        "outputs": [{"name": "out", "from": "step", "sink": "out"}],
        "sinks": {"out": {"stdout": {}}},
        "state": {"location": "file:///nowhere"},
        "checkpoint": {}, "errorPolicy": {}, "limits": {},
        "tests": [{"name": "a test", "given": [{"input": "orders", "rows": rows}], "expect": [{"output": "out", "form": "Changelog", "rows": expected}]}],
    }))
    .unwrap();
    run_all(&assemble(job, PathBuf::new()).unwrap()).remove(0).failures
}

#[test]
fn given_rows_say_what_they_change() {
    let (upserts, none) = (json!({"primaryKey": ["id"]}), json!(null));
    let row = |op: &str, name: &str| json!({"_op": op, "id": 1, "name": name});
    let rows =
        json!([{"id": 1, "name": "a"}, {"id": 1, "name": "a"}, {"id": 1, "name": "b"}, {"id": 1, "name": "x"}, {"_op": "-D", "id": 1}]);
    let expected = json!([row("+I", "a"), row("-U", "a"), row("+U", "b"), row("-D", "b")]);
    assert_eq!(changes(upserts.clone(), json!({"json": {}}), rows, expected), [""; 0]);
    let rows = json!([row("+I", "a"), row("-U", "a"), row("+U", "x"), row("-D", "x")]);
    assert_eq!(changes(none.clone(), json!({"debezium": {}}), rows, json!([row("+I", "a"), row("-D", "a")])), [""; 0]);

    let wrong = |changelog: &Value, format: &str, rows: Value, said: &str| {
        let failures = changes(changelog.clone(), json!({format: {}}), rows, json!([]));
        assert!(failures.len() == 1 && failures[0].contains(said), "{failures:?}");
    };
    wrong(&upserts, "json", json!([row("-U", "a")]), "given[0]: row 1: \"_op\" of this input is one of +I, -D");
    wrong(&none, "debezium", json!([row("?", "a")]), "is one of +I, -U, +U, -D");
    wrong(&none, "debezium", json!([row("+I", "a"), row("-U", "a")]), "row 2: a row of \"_op\" -U is followed by that of +U");
    wrong(&none, "debezium", json!([row("+U", "a")]), "row 1: a row of \"_op\" +U stands behind that of -U");
    wrong(&none, "debezium", json!([row("+I", "a"), row("+U", "a")]), "row 1: a row of \"_op\" -U is followed by that of +U");
    wrong(&upserts, "json", json!([{"_op": "-D", "name": "a"}]), "MissingField");
}
