//! Tests of the record's bytes: every bit matters, and versions are honoured.
//! They never touch a store.

use serde_json::json;

use super::*;

fn record() -> EpochRecord {
    EpochRecord {
        format_version: FORMAT_VERSION,
        min_reader_version: READER_VERSION,
        pipeline_uid: PipelineUid::new("uid").unwrap(),
        task: TaskId::new("task").unwrap(),
        epoch: Epoch(7),
        generation: Generation(2),
        owner: "nonce".into(),
        plan_hash: "abc".into(),
        created_at_millis: 1_700_000_000_000,
        regressed_from: None,
        positions: [("logs\u{1f}0".to_owned(), json!({"offset": 9_007_199_254_740_993_u64}))].into(),
        operators: [(
            "op".to_owned(),
            vec![StateRef { path: "state/2/7/a".into(), length: 3, sha256: "00".into(), signature: "count".into() }],
        )]
        .into(),
        buckets: Some(KnownBuckets {
            shape: "f00d".into(),
            known: [(0, KnownBucket::default()), (127, KnownBucket { dues: [("op".to_owned(), i64::MAX)].into(), state_bytes: 5 })].into(),
        }),
        stage: Some(StageName::Back),
        event_times: Some(EventTimes {
            splits: [("logs\u{1f}0".to_owned(), 9)].into(),
            inputs: [("logs".to_owned(), InputTime { watermark: 4, idle: true })].into(),
            watermark: Some(4),
            processing_time: Some(5),
        }),
        exchange: Some(json!({"generation": 2, "ends": {"topic": [{"number": 3, "offset": -1}]}})),
        sinks: [("archive".to_owned(), vec![json!({"manifest": "é\u{0}\n"})])].into(),
        counters: [("in".to_owned(), 5), ("out".to_owned(), 4)].into(),
    }
}

fn content(record: &EpochRecord) -> EpochContent {
    EpochContent { positions: record.positions.clone(), operators: record.operators.clone(), ..EpochContent::default() }
}

/// A valid envelope around any payload.
fn sealed(payload: &Value) -> Vec<u8> {
    let payload = serde_json::to_vec(payload).unwrap();
    [header(&payload).as_bytes(), &payload].concat()
}

#[test]
fn what_was_encoded_decodes_equal() {
    let record = record();
    assert_eq!(EpochRecord::decode(&record.encode().unwrap()).unwrap(), record);
}

#[test]
fn only_what_an_older_reader_would_lose_keeps_it_out() {
    let idle = content(&record());
    assert_eq!(idle.min_reader_version(), 2);
    let stateless = EpochContent { operators: BTreeMap::new(), ..idle.clone() };
    assert_eq!(stateless.min_reader_version(), 1);
    assert_eq!(EpochContent { event_times: Some(EventTimes::default()), ..stateless.clone() }.min_reader_version(), 2);
    assert_eq!(EpochContent { exchange: Some(json!({})), ..stateless }.min_reader_version(), 4);
    let in_parts = EpochContent { operators: [(part_key("op", 7, 0), Vec::new())].into(), ..idle.clone() };
    assert_eq!(in_parts.min_reader_version(), 3);
    let known = EpochContent { buckets: record().buckets, ..in_parts };
    assert_eq!(known.min_reader_version(), 3, "a reader of before only reads more than it has to");
    let written_before = json!({
        "formatVersion": 1, "minReaderVersion": 1, "pipelineUid": "uid", "task": "task", "epoch": 7, "generation": 2, "owner": "n",
        "planHash": "abc", "createdAtMillis": 1, "positions": {}, "operators": {}, "sinks": {}, "counters": {}
    });
    let read = EpochRecord::decode(&sealed(&written_before)).unwrap();
    assert_eq!((read.event_times, read.buckets), (None, None));
}

#[test]
fn every_single_bit_flip_is_detected() {
    let bytes = record().encode().unwrap().to_vec();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(matches!(EpochRecord::decode(&damaged), Err(DecodeError::Corrupt(_))), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn every_truncation_and_every_surplus_is_detected() {
    let bytes = record().encode().unwrap().to_vec();
    for length in 0..bytes.len() {
        assert!(matches!(EpochRecord::decode(&bytes[..length]), Err(DecodeError::Corrupt(_))), "cut at {length}");
        assert!(matches!(EpochRecord::decode(&bytes[length + 1..]), Err(DecodeError::Corrupt(_))), "starts after {length}");
    }
    for surplus in [&b"\0"[..], b"\n", b"}", &bytes] {
        assert!(EpochRecord::decode(&[&bytes, surplus].concat()).is_err());
    }
}

#[test]
fn a_newer_minimum_is_refused_as_such_even_if_the_rest_is_unknown() {
    let newer = sealed(&json!({"formatVersion": 9, "minReaderVersion": READER_VERSION + 1, "somethingElse": true}));
    assert_eq!(EpochRecord::decode(&newer), Err(DecodeError::Newer { needed: READER_VERSION + 1 }));
}

#[test]
fn a_newer_format_with_unknown_fields_is_read_if_it_allows_this_reader() {
    let mut value = serde_json::to_value(record()).unwrap();
    value["formatVersion"] = json!(FORMAT_VERSION + 1);
    value["unknown"] = json!({"x": [1, 2]});
    let read = EpochRecord::decode(&sealed(&value)).unwrap();
    assert_eq!(read, EpochRecord { format_version: FORMAT_VERSION + 1, ..record() });
}

#[test]
fn an_intact_envelope_around_something_else_is_corrupt() {
    for payload in [json!({}), json!([]), json!({"minReaderVersion": 1}), json!({"minReaderVersion": -1})] {
        assert!(matches!(EpochRecord::decode(&sealed(&payload)), Err(DecodeError::Corrupt(_))), "{payload}");
    }
}

#[test]
fn content_that_could_not_be_read_back_is_not_written() {
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!([deep]);
    }
    let mut record = record();
    record.positions.insert("deep".into(), deep);
    assert!(matches!(record.encode(), Err(Error::Encode { .. })));
}

#[test]
fn an_idle_task_has_the_same_progress_and_any_work_is_progress() {
    let last = record();
    let idle = content(&last);
    assert!(idle.is_same_progress(&last));
    assert!(EpochContent { sinks: [("archive".to_owned(), vec![])].into(), ..idle.clone() }.is_same_progress(&last));
    assert!(EpochContent { counters: [("in".to_owned(), 0)].into(), ..idle.clone() }.is_same_progress(&last));

    let moved = EpochContent { positions: BTreeMap::new(), ..idle.clone() };
    let stateful = EpochContent { operators: BTreeMap::new(), ..idle.clone() };
    let committing = EpochContent { sinks: [("archive".to_owned(), vec![json!(1)])].into(), ..idle.clone() };
    let counting = EpochContent { counters: [("in".to_owned(), 1)].into(), ..idle };
    for busy in [moved, stateful, committing, counting] {
        assert!(!busy.is_same_progress(&last), "{busy:?}");
    }
}

#[test]
fn parts_are_of_their_operator_and_bucket() {
    assert_eq!((part_key("s/join/0", 7, 0), part_key("s/join/0", 127, 2)), ("s/join/0#007".to_owned(), "s/join/0#127.2".to_owned()));
    assert_eq!(operator_of("s/join/0"), ("s/join/0", None));
    assert_eq!(operator_of("s/join/0#007"), ("s/join/0", Some(7)));
    assert_eq!(operator_of("s/join/0#127.2"), ("s/join/0", Some(127)));
}
