//! Records that are changes: what rows and kinds they become, what is refused and as what, and random events beside what `serde_json` reads of them.

use millrace_engine::batch::RejectCode;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::super::tests::{LIMITS, rows};
use super::super::{Decoded, Keyed, RecordDecoder};
use super::RecordTable;

fn table(format: Value, changelog: Value) -> RecordTable {
    let spec = json!({
        "kafka": {"bootstrapServers": "kafka:9092", "topics": ["t"]},
        "format": format,
        "schema": {"columns": [
            {"name": "id", "type": "BigInt"},
            {"name": "name", "type": "Varchar"},
            {"name": "day", "type": "Date"},
            {"name": "at", "type": "Timestamp"},
            {"name": "must", "type": "Boolean", "presence": "Required"},
        ]},
        "changelog": changelog,
    });
    RecordTable::of(&serde_json::from_value(spec).unwrap()).unwrap()
}

fn decoder(table: &RecordTable) -> Box<dyn RecordDecoder> {
    let names: Vec<String> = table.schema().fields().iter().map(|field| field.name().clone()).collect();
    table.decoder(&names, &LIMITS).unwrap()
}

/// Rows with their kinds and the records that they are from, and refusals with theirs.
fn lines(decoded: &Decoded) -> Vec<String> {
    let kinds = decoded.kinds.as_ref().unwrap();
    assert_eq!((kinds.len(), decoded.ordinals.len()), (decoded.records.num_rows(), decoded.records.num_rows()));
    let rows = rows(&decoded.records);
    let good =
        rows.iter().zip(kinds.iter()).zip(decoded.ordinals.values()).map(|((row, kind), at)| format!("{at} {} {row}", kind.as_str()));
    good.chain(decoded.rejected.iter().map(|refused| format!("{} {}: {}", refused.ordinal, refused.code.as_str(), refused.error))).collect()
}

fn decode(table: &RecordTable, records: &[(Option<&str>, Option<&str>)]) -> Vec<String> {
    let keyed: Vec<Keyed<'_>> =
        records.iter().map(|(key, value)| Keyed { key: key.map(str::as_bytes), value: value.map(str::as_bytes) }).collect();
    lines(&decoder(table).decode_keyed(&keyed))
}

fn values<'a>(values: &[&'a str]) -> Vec<(Option<&'a str>, Option<&'a str>)> {
    values.iter().map(|value| (None, Some(*value))).collect()
}

#[test]
fn events_are_rows_before_and_after() {
    let table = table(json!({"debezium": {"timestamps": "Microseconds"}}), json!(null));
    let (one, two) = (r#"{"id":1,"name":"a","day":1,"at":1000001,"must":true}"#, r#"{"id":1,"name":"b","must":false}"#);
    let wrapped = format!(
        r#"{{"schema":{{"type":"struct","fields":[{{"field":"op"}}]}},"payload":{{"before":{one},"after":{two},"op":"u","ts_ms":5}}}}"#
    );
    let mut records = values(&[
        r#"{"before":null,"after":{"id":1,"name":"a","day":1,"at":1000001,"must":true},"source":{"op":"x","after":7},"op":"c","ts_ms":5}"#,
        &wrapped,
        r#"{"op":"d","before":{"id":1,"name":"b","must":false},"after":null}"#,
        r#"{"op":"r","after":{"id":2,"must":true,"more":[1]}}"#,
    ]);
    // The tombstone behind a deletion says nothing new.
    records.insert(3, (Some(r#"{"id":1}"#), None));
    let row = |id: u64, name: &str| format!(r#"{{"id":{id},"name":"{name}""#);
    let first = format!(r#"{},"day":"1970-01-02","at":"1970-01-01T00:00:01.000001Z","must":true}}"#, row(1, "a"));
    let second = format!(r#"{},"must":false}}"#, row(1, "b"));
    assert_eq!(
        decode(&table, &records),
        [
            format!("0 +I {}", sorted(&first)),
            format!("1 -U {}", sorted(&first)),
            format!("1 +U {}", sorted(&second)),
            format!("2 -D {}", sorted(&second)),
            format!("4 +I {}", sorted(r#"{"id":2,"must":true}"#)),
        ]
    );
}

/// As `serde_json` writes it.
fn sorted(text: &str) -> String {
    serde_json::from_str::<Value>(text).unwrap().to_string()
}

#[test]
fn what_is_no_event_is_refused_with_what_to_do() {
    let table = table(json!({"debezium": {}}), json!(null));
    let deep = format!(r#"{{"op":"c","after":{{"id":1,"must":true,"x":{}1{}}}}}"#, "[".repeat(70), "]".repeat(70));
    let long = format!(r#"{{"op":"c","after":{{"id":1,"must":true,"name":"{}"}}}}"#, "x".repeat(2 << 20));
    let cases = [
        ("", RejectCode::Malformed, "the event is empty"),
        ("{\"op\":\"c\"", RejectCode::Malformed, "the event: not JSON at byte 9"),
        ("[1]", RejectCode::Malformed, "expected an object"),
        (r#"{"id":1,"must":true}"#, RejectCode::Malformed, "no change event of Debezium"),
        (r#"{"payload":null,"schema":null}"#, RejectCode::Malformed, "no change event of Debezium"),
        (r#"{"payload":{"op":7,"after":{}}}"#, RejectCode::Malformed, "\"op\" of the event is no text"),
        (r#"{"op":"t","before":null,"after":null}"#, RejectCode::Malformed, "the table was truncated"),
        (r#"{"op":"m"}"#, RejectCode::Malformed, "is \"m\", not one of c, r, u, d"),
        (r#"{"op":"c","after":null}"#, RejectCode::MissingField, "no row in \"after\""),
        (r#"{"op":"c","after":"x"}"#, RejectCode::Malformed, "\"after\" of the event is no object"),
        (r#"{"op":"u","before":[],"after":{"must":true}}"#, RejectCode::Malformed, "\"before\" of the event is no object"),
        (r#"{"op":"u","after":{"id":1,"must":true}}"#, RejectCode::MissingField, "REPLICA IDENTITY FULL"),
        (r#"{"op":"d","before":null}"#, RejectCode::MissingField, "changelog.primaryKey"),
        (r#"{"op":"d","before":{"id":1}}"#, RejectCode::MissingField, "the row before: column \"must\" is required"),
        (r#"{"op":"u","before":{"must":true},"after":{"id":"x","must":true}}"#, RejectCode::TypeMismatch, "the row after: column \"id\""),
        (&deep, RejectCode::TooDeep, "deeper than 64"),
        (&long, RejectCode::TooLarge, "limits.maxRecordBytes"),
    ];
    for (record, code, message) in cases {
        let found = decode(&table, &values(&[record]));
        let [line] = found.as_slice() else { panic!("{record}: {found:?}") };
        assert!(line.starts_with(&format!("0 {}: ", code.as_str())) && line.contains(message), "{record}: {line}");
    }
    // One that is refused half-way leaves nothing behind.
    let good = r#"{"op":"c","after":{"id":5,"must":true}}"#;
    let found = decode(&table, &values(&[good, cases[14].0, good]));
    assert_eq!(found[..2], [r#"0 +I {"id":5,"must":true}"#, r#"2 +I {"id":5,"must":true}"#]);
    assert!(found.len() == 3 && found[2].starts_with("1 TypeMismatch"), "{found:?}");
    let invalid = decoder(&table).decode(&[b"{\"op\":\"c\",\"after\":{\"must\":true},\"x\":\"\xff\"}"]);
    assert_eq!(invalid.rejected[0].code, RejectCode::Malformed);
}

#[test]
fn events_with_a_key_replace_each_other() {
    let table = table(json!({"debezium": {}}), json!({"primaryKey": ["id"]}));
    assert!(!table.schema().field_with_name("id").unwrap().is_nullable() && table.schema().field_with_name("must").unwrap().is_nullable());
    let found = decode(
        &table,
        &[
            (None, Some(r#"{"op":"u","before":null,"after":{"id":1,"name":"a","must":true}}"#)),
            (None, Some(r#"{"op":"d","before":{"id":2,"name":"gone","must":"?"},"after":null}"#)),
            (Some(r#"{"id":3}"#), Some(r#"{"op":"d","before":null,"after":null}"#)),
            (Some(r#"{"schema":{"fields":[]},"payload":{"id":4}}"#), None),
            (None, Some(r#"{"op":"c","after":{"name":"a","must":true}}"#)),
            (None, Some(r#"{"op":"c","after":{"id":5}}"#)),
            (None, Some(r#"{"op":"d"}"#)),
        ],
    );
    assert_eq!(found[..4], [r#"0 +I {"id":1,"must":true,"name":"a"}"#, r#"1 -D {"id":2}"#, r#"2 -D {"id":3}"#, r#"3 -D {"id":4}"#]);
    assert!(found[4].starts_with("4 MissingField: the row after: column \"id\" is required"), "{}", found[4]);
    assert!(found[5].starts_with("5 MissingField: the row after: column \"must\" is required"), "{}", found[5]);
    assert!(found[6].starts_with("6 MissingField: the record has neither a value nor a key"), "{}", found[6]);
}

#[test]
fn values_are_rows_and_no_value_is_none() {
    let upserts = table(json!({"json": {}}), json!({"primaryKey": ["id"]}));
    let found = decode(
        &upserts,
        &[
            (Some("ignored"), Some(r#"{"id":1,"name":"a","must":true,"payload":{"id":9}}"#)),
            (Some(r#"{"id":1}"#), None),
            (Some(r#"{"id":"x"}"#), None),
            (Some("1"), None),
            (None, None),
            (None, Some(r#"{"name":"a","must":true}"#)),
            (None, Some(" ")),
        ],
    );
    assert_eq!(found[..2], [r#"0 +I {"id":1,"must":true,"name":"a"}"#, r#"1 -D {"id":1}"#]);
    let expected = [
        "2 TypeMismatch: the record's key: column \"id\"",
        "3 Malformed: the record's key: not JSON",
        "4 MissingField: the record has neither",
        "5 MissingField: the record: column \"id\" is required",
        "6 Malformed: the record is empty",
    ];
    for (found, expected) in found[2..].iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}, not {expected}");
    }
    assert_eq!(found.len(), 7);

    let text = table(json!({"json": {}}), json!({"primaryKey": ["id"], "recordKey": "Text"}));
    let found = decode(&text, &[(Some("42"), None), (Some("x"), None), (Some("43"), None)]);
    assert_eq!(found[..2], [r#"0 -D {"id":42}"#, r#"2 -D {"id":43}"#]);
    assert!(found[2].starts_with("1 TypeMismatch: the record's key: column \"id\": \"x\""), "{}", found[2]);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let of = |format: Value, changelog: Value, columns: Value| {
        let spec = json!({"kafka": {"bootstrapServers": "k:1", "topics": ["t"]}, "format": format, "schema": {"columns": columns}, "changelog": changelog});
        RecordTable::of(&serde_json::from_value(spec).unwrap()).map(drop).map_err(|error| error.message)
    };
    let id = json!([{"name": "id", "type": "BigInt"}]);
    let refused = |format: Value, changelog: Value, message: &str| {
        let error = of(format, changelog, id.clone()).unwrap_err();
        assert!(error.contains(message), "{error}");
    };
    refused(json!({"json": {}}), json!({"mode": "Retract", "primaryKey": ["id"]}), "only the format debezium has");
    refused(json!({"csv": {"header": "Absent"}}), json!({"primaryKey": ["id"]}), "for the formats json and debezium");
    refused(json!({"json": {}}), json!({"primaryKey": ["k"]}), "names the column k, which the source does not have; it has id");
    refused(json!({"json": {}}), json!({"primaryKey": []}), "is empty");
    refused(json!({"json": {}}), json!({"primaryKey": ["id", "id"], "recordKey": "Text"}), "the text of one column");
    of(json!({"debezium": {}}), json!({"mode": "Retract", "primaryKey": ["id"]}), id.clone()).unwrap();
    let upserts = table(json!({"json": {}}), json!({"primaryKey": ["id"]}));
    let error = upserts.decoder(&["name".to_owned()], &LIMITS).err().unwrap();
    assert!(error.message.contains("column id of the primary key has to be read"), "{}", error.message);
}

const OPS: &[&str] = &["\"c\"", "\"r\"", "\"u\"", "\"d\"", "\"t\"", "\"\\u0063\"", "null", "1", "{}"];
const ROWS: &[&str] = &[
    "null",
    r#"{"id":1,"must":true}"#,
    r#"{"must":false,"id":2,"name":"\u00e9}"}"#,
    r#"{ "id" : 3 , "name" : {"op":"d","after":{}} , "must" : true }"#,
    r#"{"id":4}"#,
    r#"{"id":"x","must":true}"#,
    "[]",
    "7",
    r#"{"id":5,"must":true,"id":6}"#,
];

/// An event that may be wrong in any part.
fn event() -> impl Strategy<Value = String> {
    let member = prop_oneof![
        3 => select(OPS).prop_map(|op| format!("\"op\":{op}")),
        3 => select(ROWS).prop_map(|row| format!("\"before\":{row}")),
        4 => select(ROWS).prop_map(|row| format!("\"after\":{row}")),
        1 => Just("\"source\":{\"op\":\"d\",\"x\":[1,{}]}".to_owned()),
        1 => Just("\"ts_ms\" : 12".to_owned()),
    ];
    let end = prop_oneof![20 => Just("}"), 1 => Just(""), 1 => Just("}}")];
    (vec(member, 0..6), end, any::<bool>()).prop_map(|(members, end, wrapped)| {
        let event = format!("{{{}{end}", members.join(","));
        if wrapped { format!("{{\"schema\":{{\"op\":\"c\"}},\"payload\":{event}}}") } else { event }
    })
}

/// A row as it is read, or that it is refused.
fn expected_row(row: &Value) -> Result<Value, ()> {
    let object = row.as_object().ok_or(())?;
    let mut read = serde_json::Map::new();
    let id = object.get("id").ok_or(())?;
    read.insert("id".to_owned(), id.as_i64().map(Value::from).ok_or(())?);
    read.insert("must".to_owned(), object.get("must").filter(|must| must.is_boolean()).ok_or(())?.clone());
    if let Some(name) = object.get("name") {
        // What is nested is kept as its text.
        read.insert("name".to_owned(), name.as_str().map_or_else(|| json!("{\"op\":\"d\",\"after\":{}}"), |name| json!(name)));
    }
    Ok(Value::Object(read))
}

/// What `serde_json` makes of an event.
fn expected(event: &str) -> Result<Vec<String>, ()> {
    let mut event: Value = serde_json::from_str(event).map_err(|_| ())?;
    if event.get("op").is_none_or(Value::is_null) {
        event = event.get("payload").ok_or(())?.clone();
    }
    let nothing = Value::Null;
    let [before, after] = ["before", "after"].map(|name| event.get(name).unwrap_or(&nothing));
    if !(before.is_null() || before.is_object()) {
        return Err(());
    }
    let line = |kind: &str, row: &Value| expected_row(row).map(|row| format!("{kind} {row}"));
    match event.get("op").and_then(Value::as_str).ok_or(())? {
        "c" | "r" => Ok(vec![line("+I", after)?]),
        "u" => Ok(vec![line("-U", before)?, line("+U", after)?]),
        "d" => Ok(vec![line("-D", before)?]),
        _ => Err(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn events_are_read_as_serde_reads_each_of_them(events in vec(event(), 1..10)) {
        // An "op" that is written with escapes is one that nobody writes.
        let events: Vec<String> = events.into_iter().map(|event| event.replace("\\u0063", "C")).collect();
        let table = table(json!({"debezium": {}}), json!({"mode": "Retract", "primaryKey": ["id"]}));
        let payloads: Vec<&[u8]> = events.iter().map(String::as_bytes).collect();
        let decoded = decoder(&table).decode(&payloads);
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for (ordinal, event) in events.iter().enumerate() {
            match expected(event) {
                Ok(lines) => good.extend(lines.into_iter().map(|line| format!("{ordinal} {line}"))),
                Err(()) => bad.push(ordinal as u64),
            }
        }
        prop_assert_eq!(decoded.rejected.iter().map(|refused| refused.ordinal).collect::<Vec<_>>(), bad);
        prop_assert_eq!(&lines(&decoded)[..good.len()], &good[..]);
    }
}
