//! JSON records beside `serde_json`, and each record beside itself alone: what was remembered of the records before must not show. No example is written out here.

use std::collections::HashMap;

use millrace_engine::batch::RejectCode;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::tests::Input;

/// Names, some of which are columns, some nearly so, and some longer than what is compared at once.
const NAMES: &[&str] = &[
    "a",
    "b",
    "c",
    "a",
    "b",
    "c",
    "d",
    "",
    "A",
    "ab",
    "\\u0061",
    "a\\u0062",
    "longer_than_sixteen_bytes",
    "longer_than_sixteen_bytez",
    "\u{e9}",
];
/// Values around the lengths at which something else is done with them.
const VALUES: &[&str] = &[
    "0",
    "7",
    "-1",
    "-0",
    "1234567",
    "12345678",
    "123456789",
    "-1234567890123456",
    "1234567890123456",
    "12345678901234567",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "01",
    "00000000",
    "-",
    "1.0",
    "1.5",
    "1e3",
    "1234567890123456e0",
    "1.",
    "\"\"",
    "\"x\"",
    "\"1234567\"",
    "\"12345678\"",
    "\"123456789012345678901234\"",
    "\"1234567890123456789012345678901234567890\"",
    "\"12345678901234567890123\\\"567890\"",
    "\"\\\\\"",
    "\"\\\"",
    "\"\\u00e9\\n\"",
    "\"\u{e9}\u{1f600}\"",
    "\"a\tb\"",
    "\"never closed",
    "null",
    "true",
    "false",
    "nul",
    "{}",
    "[1, {\"a\":2, \"b\":\"]\"}]",
    "[1",
    "",
];

/// A record whose members are much like those of others, with something out of place now and then.
fn record() -> impl Strategy<Value = String> {
    let space = || prop_oneof![12 => Just(""), 1 => Just(" "), 1 => Just("\t"), 1 => Just("\r")];
    let comma = prop_oneof![30 => Just(","), 1 => Just(""), 1 => Just(",,"), 1 => Just(";")];
    let colon = prop_oneof![30 => Just(":"), 1 => Just(""), 1 => Just("::"), 1 => Just("\":")];
    let member = (select(NAMES), select(VALUES), comma, colon, [space(), space(), space(), space()]);
    let end =
        prop_oneof![20 => Just("}"), 1 => Just(""), 1 => Just("}}"), 1 => Just(",}"), 1 => Just("} "), 1 => Just("]"), 1 => Just("}\u{0}")];
    (vec(member, 0..6), end).prop_map(|(members, end)| {
        let mut text = String::from("{");
        for (index, (name, value, comma, colon, [s1, s2, s3, s4])) in members.iter().enumerate() {
            let comma = if index == 0 { "" } else { comma };
            text.extend([comma, s1, "\"", name, "\"", s2, colon, s3, value, s4]);
        }
        text + end
    })
}

/// What `serde_json` reads of these columns, a number in `a` and texts in `b` and `c`; why not, otherwise.
fn expected(record: &str, columns: &[&str]) -> Result<Value, RejectCode> {
    let members: HashMap<String, Box<RawValue>> = serde_json::from_str(record).map_err(|_| RejectCode::Malformed)?;
    let mut row = Map::new();
    for name in columns {
        let Some(raw) = members.get(*name).map(|raw| raw.get()).filter(|raw| *raw != "null") else { continue };
        let value = match (*name, raw.parse::<i64>()) {
            ("a", Ok(number)) => Value::from(number),
            ("a", Err(_)) => match raw {
                "1.0" => Value::from(1),
                "1e3" => Value::from(1000),
                "1234567890123456e0" => Value::from(1_234_567_890_123_456_i64),
                _ => return Err(RejectCode::TypeMismatch),
            },
            _ if raw.starts_with('"') => serde_json::from_str(raw).map_err(|_| RejectCode::Malformed)?,
            _ => Value::from(raw),
        };
        row.insert((*name).to_owned(), value);
    }
    Ok(Value::Object(row))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn records_are_read_as_serde_reads_each_of_them(records in vec(record(), 1..12), repeated in 1_usize..4) {
        let records: Vec<String> = records.into_iter().flat_map(|record| std::iter::repeat_n(record, repeated)).collect();
        let payloads: Vec<&[u8]> = records.iter().map(String::as_bytes).collect();
        for columns in [&["a", "b", "c"][..], &["b"], &["c", "a"], &[]] {
            let input = Input::json("a BigInt, b Varchar, c Varchar").reading(columns);
            let together = input.decode_records(&payloads);
            let mut rows = together.ordinals.iter().zip(&together.rows);
            let mut refused = together.rejected.iter();
            for (ordinal, record) in records.iter().enumerate() {
                let alone = input.decode_records(&[record.as_bytes()]);
                match expected(record, columns) {
                    Ok(row) => {
                        prop_assert_eq!(&alone.rows, &[row], "{}", record);
                        prop_assert_eq!(rows.next(), Some((&(ordinal as u64), &alone.rows[0])), "{}", record);
                    }
                    Err(code) => {
                        prop_assert_eq!(alone.codes(), [(0, code)], "{}", record);
                        let refused = refused.next().unwrap();
                        prop_assert_eq!((refused.ordinal, refused.code, &refused.error), (ordinal as u64, code, &alone.rejected[0].error));
                    }
                }
            }
            prop_assert_eq!(rows.next(), None);
            prop_assert!(refused.next().is_none());
        }
    }
}
