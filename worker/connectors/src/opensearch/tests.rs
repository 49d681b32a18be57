//! The pure parts: bodies, answers, order. The answers are files in `responses/`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema};
use millrace_crds::connectors::opensearch::{Bulk, OpenSearchSink as Options};
use millrace_crds::pipeline::Limits as PipelineLimits;
use millrace_crds::report::ErrorReason;
use millrace_engine::batch::Origin;
use millrace_engine::sink::Sink as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::OpenSearchSink;
use super::bulk::{Draft, MAX_ID_BYTES, Request, id_of};
use super::client::Reply;
use super::queue::{Limits, Queue};
use super::response::{Answer, Outcome, read};
use super::sink::greeting;
use crate::context::{Context, ResolvedLimits};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    status: u16,
    body: Value,
    sent: usize,
    #[serde(default)]
    outcomes: Vec<String>,
    #[serde(default)]
    whole: Option<String>,
}

#[test]
fn answers_are_understood() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/opensearch/responses");
    let mut cases = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let case: Case = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let body = match &case.body {
            Value::String(text) => text.clone().into_bytes(),
            body => serde_json::to_vec(body).unwrap(),
        };
        let (outcomes, whole) = match read(case.status, &body, case.sent) {
            Answer::Items(outcomes) => (outcomes.into_iter().map(outcome).collect(), None),
            Answer::Again { reason, said } => (Vec::new(), Some(format!("{reason:?}: {said}"))),
            Answer::Split { said } => (Vec::new(), Some(format!("split: {said}"))),
        };
        assert_eq!((outcomes, whole), (case.outcomes, case.whole), "{}: {}", path.display(), case.about);
        cases += 1;
    }
    assert!(cases > 10, "{cases}");
}

fn outcome(outcome: Outcome) -> String {
    match outcome {
        Outcome::Accepted => "accepted".to_owned(),
        Outcome::Again { reason, .. } => format!("{reason:?}"),
        Outcome::Refused { said } => format!("refused: {said}"),
    }
}

fn draft(ids: &[&str]) -> Draft {
    let origin = Origin::new("o", "o");
    let mut draft = Draft::default();
    for (nth, id) in ids.iter().enumerate() {
        draft.push("edge", id, format!("{{\"n\":{nth}}}").as_bytes(), &origin, nth as u64);
    }
    draft
}

fn lines(request: &Request) -> Vec<Value> {
    let body = request.body();
    assert_eq!(body.last(), Some(&b'\n'));
    body[..body.len() - 1].split(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[test]
fn a_body_is_an_action_and_a_document_a_line_each() {
    let mut first = draft(&["a"]);
    let origin = Origin::new("o", "o");
    first.push("ünï", "quote\" back\\ line\n", b"{}", &origin, 1);
    first.append(draft(&["b"]));
    let request = first.seal();
    let expected = [
        json!({"index": {"_index": "edge", "_id": "a"}}),
        json!({"n": 0}),
        json!({"index": {"_index": "ünï", "_id": "quote\" back\\ line\n"}}),
        json!({}),
        json!({"index": {"_index": "edge", "_id": "b"}}),
        json!({"n": 0}),
    ];
    assert_eq!(lines(&request), expected);
    assert_eq!(&request.document(1)[..], b"{}");
    let (head, tail) = request.halves();
    assert_eq!(lines(&head), expected[..2]);
    assert_eq!(lines(&tail), expected[2..]);
    assert_eq!(lines(&request.only(&[0, 2])), [&expected[..2], &expected[4..]].concat());
    assert_eq!(&request.only(&[2]).document(0)[..], b"{\"n\":0}");
    assert_eq!(request.only(&[2]).again().entries()[0].attempts, 2);
}

#[test]
fn only_undecided_documents_are_sent_again() {
    let again = || Outcome::Again { reason: ErrorReason::Throttled, said: String::new() };
    let refused = || Outcome::Refused { said: String::new() };
    let request = draft(&["a", "b", "a", "c", "b", "c"]).seal();
    // a: the later one is in the index, so the earlier one must not come after it. b: the later one will never be. c: both wait, in order.
    let outcomes = [again(), again(), Outcome::Accepted, again(), refused(), again()];
    assert_eq!(request.undecided(&outcomes), [1, 3, 5]);
    let all = vec![Outcome::Accepted; 6];
    assert_eq!(request.undecided(&all), [0; 0]);
}

#[test]
fn a_long_key_becomes_a_hash() {
    let fits = "k".repeat(MAX_ID_BYTES);
    assert_eq!(id_of(fits.clone()), fits);
    let hashed = id_of("k".repeat(MAX_ID_BYTES + 1));
    assert_eq!(hashed.len(), 64);
    assert_eq!(hashed, id_of("k".repeat(MAX_ID_BYTES + 1)));
    assert_ne!(hashed, id_of("k".repeat(MAX_ID_BYTES + 2)));
    assert_eq!(id_of(String::new()), "");
}

fn limits(bytes: usize, count: usize) -> Limits {
    Limits { bytes, count, wait: Duration::from_secs(1) }
}

/// Ids in the next request.
fn next(queue: &mut Queue<&'static str>, now: Instant, flushing: bool) -> Option<(Vec<String>, Vec<u64>)> {
    let next = queue.next(now, flushing)?;
    let identities = next.draft.identities().collect();
    let request = next.draft.seal();
    let ids = lines(&request).iter().filter_map(|line| Some(line["index"]["_id"].as_str()?.to_owned())).collect();
    Some((ids, identities))
}

#[test]
fn a_request_goes_out_at_once_when_none_is_under_way() {
    let now = Instant::now();
    let mut queue = Queue::new(limits(10_000, 4), false);
    queue.push(draft(&["a"]), "", now);
    let (ids, first) = next(&mut queue, now, false).unwrap();
    assert_eq!(ids, ["a"]);
    // One is under way: the next ones wait until they are many, or have waited.
    queue.push(draft(&["b", "c"]), "", now);
    assert!(next(&mut queue, now, false).is_none());
    assert_eq!(queue.due(), Some(now + Duration::from_secs(1)));
    queue.push(draft(&["d", "e"]), "", now);
    let (ids, _) = next(&mut queue, now, false).unwrap();
    assert_eq!(ids, ["b", "c", "d", "e"]);
    // As many as may be are under way: nothing else goes, however long it waits.
    queue.push(draft(&["f", "g", "h", "i"]), "", now);
    assert!(next(&mut queue, now + Duration::from_secs(5), true).is_none());
    assert_eq!(queue.due(), None);
    queue.finished(first.into_iter());
    assert_eq!(next(&mut queue, now, false).unwrap().0.len(), 4);
}

#[test]
fn time_and_the_end_of_an_epoch_send_what_is_there() {
    let now = Instant::now();
    for (later, flushing) in [(now + Duration::from_secs(1), false), (now, true)] {
        let mut queue = Queue::new(limits(10_000, 100), false);
        queue.push(draft(&["a"]), "", now);
        assert!(next(&mut queue, now, false).is_some());
        queue.push(draft(&["b"]), "", now);
        assert!(next(&mut queue, now, false).is_none());
        assert_eq!(next(&mut queue, later, flushing).unwrap().0, ["b"]);
    }
}

#[test]
fn a_request_is_not_larger_than_the_limit() {
    let now = Instant::now();
    let one = draft(&["a"]).body_bytes();
    let mut queue = Queue::new(limits(one * 2, 100), false);
    for id in ["a", "b", "c"] {
        queue.push(draft(&[id]), "", now);
    }
    assert_eq!(next(&mut queue, now, false).unwrap().0, ["a", "b"]);
    assert_eq!(next(&mut queue, now, true).unwrap().0, ["c"]);
    let mut queue = Queue::new(limits(1, 100), false);
    queue.push(draft(&["large"]), "", now);
    assert_eq!(next(&mut queue, now, false).unwrap().0, ["large"], "a document that is larger alone goes alone");
}

#[test]
fn no_two_requests_under_way_hold_the_same_id() {
    let now = Instant::now();
    let mut queue = Queue::new(limits(10_000, 2), true);
    queue.push(draft(&["a", "b"]), "", now);
    let (_, first) = next(&mut queue, now, false).unwrap();
    queue.push(draft(&["b", "c"]), "", now);
    queue.push(draft(&["d"]), "", now);
    assert!(next(&mut queue, now, true).is_none(), "b is under way, and d must not overtake");
    assert_eq!(queue.due(), None);
    queue.finished(first.into_iter());
    assert_eq!(next(&mut queue, now, true).unwrap().0, ["b", "c"]);
    assert_eq!(next(&mut queue, now, true).unwrap().0, ["d"]);
    assert!(!queue.is_empty());
}

#[test]
fn limits_have_the_documented_defaults() {
    let Limits { bytes, count, wait } = Limits::from(None);
    assert_eq!((bytes, count, wait), (5_242_880, 10_000, Duration::from_secs(1)));
    let bulk = Bulk { bytes: Some(1024), count: Some(7), seconds: Some(3) };
    let Limits { bytes, count, wait } = Limits::from(Some(&bulk));
    assert_eq!((bytes, count, wait), (1024, 7, Duration::from_secs(3)));
}

fn reply(status: u16, body: &Value) -> Reply {
    Reply { status, retry_after: None, body: body.to_string().into() }
}

#[test]
fn a_probe_says_what_it_saw() {
    let hello = json!({"name": "n", "cluster_name": "logs", "version": {"distribution": "opensearch", "number": "2.19.1"}});
    assert_eq!(greeting(&reply(200, &hello), Some("ann")).unwrap(), "opensearch 2.19.1, cluster \"logs\", as ann");
    for (status, body, reason) in [
        (401, json!("Unauthorized"), ErrorReason::AccessDenied),
        (503, json!({}), ErrorReason::ServerError),
        (200, json!({"welcome": "to a web server"}), ErrorReason::NotFound),
        (404, json!({}), ErrorReason::NotFound),
    ] {
        assert_eq!(greeting(&reply(status, &body), None).unwrap_err().reason, reason, "{status}");
    }
}

fn sink(options: Value) -> Result<OpenSearchSink, millrace_engine::connector::ConnectorError> {
    let options: Options = serde_json::from_value(options).unwrap();
    let limits = ResolvedLimits::from(&PipelineLimits::default());
    OpenSearchSink::new(&options, &Context { secrets_dir: "/nonexistent".into(), limits })
}

#[test]
fn options_that_cannot_work_are_refused() {
    for endpoint in ["ftp://search:9200", "https://", "https://ann:pw@search"] {
        let error = sink(json!({"endpoint": endpoint, "index": "edge"})).unwrap_err();
        assert_eq!(error.reason, ErrorReason::Invalid, "{endpoint}");
        assert!(!error.message.contains("pw@"), "{}", error.message);
    }
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let named = |index: &str, id: &str| sink(json!({"endpoint": "https://search", "index": index, "idFrom": [id]}));
    named("edge-{id}", "id").unwrap().accepts(&schema, None).unwrap();
    for (index, id) in [("edge", "key"), ("edge-{tenant}", "id"), ("edge-{yyyy}", "id")] {
        assert!(named(index, id).unwrap().accepts(&schema, None).is_err(), "{index} {id}");
    }
}

#[test]
fn identities_depend_on_index_and_id() {
    let origin = Origin::new("o", "o");
    let mut draft = Draft::default();
    for (index, id) in [("a", "b"), ("a", "c"), ("ab", ""), ("c", "b"), ("a", "b")] {
        draft.push(index, id, b"{}", &origin, 0);
    }
    assert_eq!(draft.identities().collect::<BTreeSet<_>>().len(), 4);
}
