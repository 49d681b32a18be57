//! JSON records: what is kept exactly, what is refused and as what. No stream is cut here.

use millrace_engine::batch::RejectCode;
use serde_json::{Value, json};

use super::super::tests::Input;

/// The value of the only column `c` of the given type, or why the record was refused.
fn value(kind: &str, literal: &str) -> Result<Value, RejectCode> {
    let output = Input::json(&format!("c {kind}")).decode(format!("{{\"c\":{literal}}}\n"));
    match output.rejected.first() {
        Some(refused) => Err(refused.code),
        None => Ok(output.rows[0].get("c").cloned().unwrap_or(Value::Null)),
    }
}

#[test]
fn values_are_kept_exactly_or_refused() {
    let mismatch = Err(RejectCode::TypeMismatch);
    let cases: Vec<(&str, &str, Result<Value, RejectCode>)> = vec![
        ("Boolean", "true", Ok(json!(true))),
        ("Boolean", "1", mismatch.clone()),
        ("Integer", "-2147483648", Ok(json!(-2_147_483_648_i64))),
        ("Integer", "2147483648", mismatch.clone()),
        ("BigInt", "9007199254740993", Ok(json!(9_007_199_254_740_993_i64))),
        ("BigInt", "9223372036854775807", Ok(json!(i64::MAX))),
        ("BigInt", "9223372036854775808", mismatch.clone()),
        ("BigInt", "1e3", Ok(json!(1000))),
        ("BigInt", "1.0", Ok(json!(1))),
        ("BigInt", "1.5", mismatch.clone()),
        ("BigInt", "1e400", mismatch.clone()),
        ("BigInt", "-0", Ok(json!(0))),
        ("BigInt", "\"12\"", mismatch.clone()),
        ("BigInt", "null", Ok(Value::Null)),
        ("Double", "-0", Ok(json!(-0.0))),
        ("Double", "1e400", mismatch.clone()),
        ("Double", "1e-400", Ok(json!(0.0))),
        ("Double", "0.1", Ok(json!(0.1))),
        ("Double", "\"0.1\"", mismatch.clone()),
        ("Real", "1e39", mismatch.clone()),
        ("Real", "0.5", Ok(json!(0.5))),
        ("Decimal(5;2)", "1.10", Ok(json!(1.1))),
        ("Decimal(5;2)", "\"1.10\"", Ok(json!(1.1))),
        ("Decimal(5;2)", "1.101", mismatch.clone()),
        ("Varchar", "\"\"", Ok(json!(""))),
        ("Varchar", "\"a\\u0000b\"", Ok(json!("a\u{0}b"))),
        ("Varchar", "\"\\ud83d\\ude00 \\\"\\\\\\/\\b\\f\\n\\r\\t\"", Ok(json!("😀 \"\\/\u{8}\u{c}\n\r\t"))),
        ("Varchar", "{\"a\":[1, 2.50]}", Ok(json!("{\"a\":[1, 2.50]}"))),
        ("Varchar", "1.50", Ok(json!("1.50"))),
        ("Varchar", "true", Ok(json!("true"))),
        ("Varbinary", "\"AP8=\"", Ok(json!("AP8="))),
        ("Varbinary", "\"\\/\\/8=\"", Ok(json!("//8="))),
        ("Varbinary", "\"A\"", mismatch.clone()),
        ("Date", "\"2024-02-29\"", Ok(json!("2024-02-29"))),
        ("Date", "\"2023-02-29\"", mismatch.clone()),
        ("Timestamp", "\"2024-02-29T12:00:00.5+01:00\"", Ok(json!("2024-02-29T11:00:00.500Z"))),
        ("Timestamp", "\"2024-02-29 12:00:00\"", Ok(json!("2024-02-29T12:00:00Z"))),
        ("Timestamp", "1709208000123", Ok(json!("2024-02-29T12:00:00.123Z"))),
        ("Timestamp", "1709208000123.4567", Ok(json!("2024-02-29T12:00:00.123456Z"))),
        ("Timestamp", "9223372036854775807", mismatch.clone()),
        ("Timestamp", "true", mismatch),
    ];
    for (kind, literal, expected) in cases {
        assert_eq!(value(kind, literal), expected, "{kind} {literal}");
    }
}

#[test]
fn what_is_not_json_is_malformed_in_skipped_fields_too() {
    for literal in [
        "",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "-",
        "0x1",
        "NaN",
        "Infinity",
        "nul",
        "'a'",
        "\"a",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"a\tb\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "[1,]",
        "[,1]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "[1",
        "{\"a\":1",
        "]",
        "[}",
        "{]",
        "[1 2]",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1,}",
        "true false",
    ] {
        for name in ["c", "skipped"] {
            let output = Input::json("c Varchar").decode(format!("{{\"{name}\":{literal}}}\n"));
            let refused = output.only_refusal();
            assert_eq!(refused.code, RejectCode::Malformed, "{name} {literal}");
            assert!(refused.error.starts_with("not JSON at byte "), "{}", refused.error);
        }
    }
}

#[test]
fn a_record_is_one_object() {
    for record in ["1", "\"a\"", "[{\"c\":1}]", "null", "{\"c\":1}{\"c\":2}", "{\"c\":1} x", "{", "}", "{\"c\":1", "\u{0}"] {
        assert_eq!(Input::json("c BigInt").decode(record).only_refusal().code, RejectCode::Malformed, "{record}");
    }
    let spaced = Input::json("c BigInt").decode(" \t{ \"c\" : 1 , \"d\" : [ ] , \"e\" : { } } \r\n");
    assert_eq!(spaced.rows, [json!({"c": 1})]);
    assert_eq!(Input::json("c BigInt").decode("{}").rows, [json!({})]);
}

#[test]
fn text_that_is_not_utf8_is_malformed() {
    let output = Input::json("c BigInt").decode(b"{\"c\":1,\"x\":\"\xFF\"}\n");
    assert_eq!(output.only_refusal().error, "the text is not UTF-8 at byte 12");
    assert_eq!(&output.rejected[0].payload[..], b"{\"c\":1,\"x\":\"\xFF\"}");
}

#[test]
fn the_last_of_equal_names_counts() {
    let output = Input::json("c BigInt, d BigInt").decode("{\"c\":1,\"d\":5,\"c\":2}\n{\"c\":1,\"c\":null}\n{\"\\u0063\":7}");
    assert_eq!(output.rows, [json!({"c": 2, "d": 5}), json!({}), json!({"c": 7})]);
}

#[test]
fn names_are_found_in_any_order_and_number() {
    let output = Input::json("a BigInt, b BigInt, c BigInt").decode(
        "{\"a\":1,\"b\":2,\"c\":3}\n{\"c\":3,\"b\":2,\"a\":1}\n{\"b\":2}\n{\"x\":9,\"a\":1,\"y\":9,\"c\":3}\n{\"a\":1,\"b\":2,\"c\":3}\n",
    );
    let all = json!({"a": 1, "b": 2, "c": 3});
    assert_eq!(output.rows, [all.clone(), all.clone(), json!({"b": 2}), json!({"a": 1, "c": 3}), all]);
    let mut many: Vec<String> = (0..100_000).map(|n| format!("\"k{n}\":{n}")).collect();
    many.push("\"a\":1".to_owned());
    let mut input = Input::json("a BigInt");
    input.limits.record_bytes = 10 << 20;
    assert_eq!(input.decode(format!("{{{}}}", many.join(","))).rows, [json!({"a": 1})]);
}

#[test]
fn depth_is_bounded_without_recursion() {
    let nested = |depth: usize, open: &str, close: &str| format!("{{\"x\":{}1{}}}", open.repeat(depth), close.repeat(depth));
    for (open, close) in [("[", "]"), ("{\"y\":", "}"), ("[[{\"z\":", "}]]")] {
        let levels = 63 / open.matches(['[', '{']).count();
        for name in ["x", "c"] {
            let mut input = Input::json(&format!("{name} Varchar"));
            input.limits.record_bytes = 64 << 20;
            assert_eq!(input.decode(nested(levels, open, close)).rows.len(), 1, "{open} {levels}");
            for depth in [levels + 1, 128, 1000, 10_000, 5_000_000] {
                let output = input.decode(nested(depth, open, close));
                assert_eq!(output.only_refusal().code, RejectCode::TooDeep, "{open} {depth}");
            }
            let unclosed = input.decode(format!("{{\"x\":{}", open.repeat(5_000_000)));
            assert_eq!(unclosed.only_refusal().code, RejectCode::TooDeep);
        }
    }
}

#[test]
fn required_columns_are_checked_even_if_nobody_reads_them() {
    let input = Input::json("a BigInt!, b BigInt");
    for (record, missing) in [("{\"a\":1}", false), ("{\"b\":1}", true), ("{\"a\":null,\"b\":1}", true)] {
        for projection in [&["a", "b"][..], &["b"], &[]] {
            let output = input.clone().reading(projection).decode(record);
            let codes: Vec<RejectCode> = output.rejected.iter().map(|r| r.code).collect();
            assert_eq!(codes, if missing { vec![RejectCode::MissingField] } else { vec![] }, "{record} {projection:?}");
            assert_eq!(output.rows.len(), usize::from(!missing));
        }
    }
}

#[test]
fn one_bad_record_does_not_take_others_with_it() {
    let text: String = (0..1000)
        .map(|n| match n % 100 {
            7 => "{\"a\":1,\"b\":\"x\"}\n".to_owned(),
            8 => "oops\n".to_owned(),
            _ => format!("{{\"a\":{n},\"b\":{n}}}\n"),
        })
        .collect();
    let output = Input::json("a BigInt, b BigInt").decode(text);
    assert_eq!(output.rows.len(), 980);
    assert!(output.rows.iter().zip(&output.ordinals).all(|(row, ordinal)| row["a"] == *ordinal && row["b"] == *ordinal));
    let expected: Vec<(u64, RejectCode)> =
        (0..10).flat_map(|n| [(n * 100 + 7, RejectCode::TypeMismatch), (n * 100 + 8, RejectCode::Malformed)]).collect();
    assert_eq!(output.codes(), expected);
    assert_eq!(output.rejected[0].error, "column \"b\": \"x\" is not a valid BigInt");
}

#[test]
fn a_message_may_span_lines_and_must_not_be_empty() {
    let output = Input::json("a BigInt").decode_records(&[b"{\n \"a\": 1\n}\n", b"", b" ", b"{\"a\":2}", b"x"]);
    assert_eq!(output.rows, [json!({"a": 1}), json!({"a": 2})]);
    assert_eq!(output.ordinals, [0, 3]);
    let malformed = RejectCode::Malformed;
    assert_eq!(output.codes(), [(1, malformed), (2, malformed), (4, malformed)]);
}

#[test]
fn names_are_told_apart_whatever_the_record_before_had_in_their_place() {
    let text = "{\"a\":1,\"b\":2}\n{\"b\":3,\"a\":4}\n{ \"a\" : 5 , \"ab\":6,\"b\":7}\n{\"\\u0061\":8,\"b\":9}\n{\"a\":10,\"b\":11}\n{\"a\":12,\"b\":13,\"a\":14}\n{\"a\"x:1}\n{\"a\":15}\n";
    let output = Input::json("a BigInt,b BigInt").decode(text);
    let column = |name: &str| -> Vec<Option<i64>> { output.rows.iter().map(|row| row.get(name).and_then(Value::as_i64)).collect() };
    assert_eq!(column("a"), [Some(1), Some(4), Some(5), Some(8), Some(10), Some(14), Some(15)]);
    assert_eq!(column("b"), [Some(2), Some(3), Some(7), Some(9), Some(11), Some(13), None]);
    assert_eq!(output.rejected.iter().map(|refused| refused.code).collect::<Vec<_>>(), [RejectCode::Malformed]);
}
