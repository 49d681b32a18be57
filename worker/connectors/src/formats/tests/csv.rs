//! Delimited text. The properties against another reader are in `properties`.

use millrace_engine::batch::RejectCode;
use serde_json::{Value, json};

use super::Input;

fn csv(options: &Value, columns: &str) -> Input {
    Input::new(json!({"csv": options}), columns)
}

#[test]
fn the_header_names_the_columns_in_any_order() {
    let input = csv(&json!({}), "a BigInt, b Varchar, c Double");
    let output = input.decode("b, unknown ,a\r\nx,,1\r\n\"y, \"\"z\"\"\nw\",0,2\r\n");
    assert_eq!(output.rows, [json!({"a": 1, "b": "x"}), json!({"a": 2, "b": "y, \"z\"\nw"})]);
    assert_eq!(output.ordinals, [0, 1]);
}

#[test]
fn without_a_header_columns_are_in_order() {
    let input = csv(&json!({"header": "Absent", "delimiter": "\\t", "null": "\\N"}), "a BigInt, b Varchar");
    let output = input.decode("1\tx\n\\N\t\\N\n2\t\n3\t\"\\N\"\n");
    assert_eq!(output.rows, [json!({"a": 1, "b": "x"}), json!({}), json!({"a": 2, "b": ""}), json!({"a": 3, "b": "\\N"})]);
}

#[test]
fn an_empty_field_is_null_and_a_quoted_one_an_empty_text() {
    let input = csv(&json!({"header": "Absent"}), "a BigInt, b Varchar");
    let output = input.decode(",\n\"\",\"\"\n");
    assert_eq!(output.rows, [json!({}), json!({"b": ""})]);
}

#[test]
fn the_number_of_fields_must_be_that_of_the_header() {
    let output = csv(&json!({}), "a BigInt, b Varchar").decode("a,b\n1\n1,x,2\n1,x\n");
    assert_eq!(output.codes(), [(0, RejectCode::Malformed), (1, RejectCode::Malformed)]);
    assert_eq!(output.rejected[1].error, "the record has 3 fields, 2 are expected");
    assert_eq!(output.ordinals, [2]);
}

#[test]
fn required_columns_must_be_there() {
    let input = csv(&json!({}), "a BigInt!, b Varchar");
    for projection in [&["a", "b"][..], &["b"]] {
        let output = input.clone().reading(projection).decode("a,b\n,x\n1,x\n");
        assert_eq!((output.codes(), output.rows.len()), (vec![(0, RejectCode::MissingField)], 1));
        let output = input.clone().reading(projection).decode("b\nx\n");
        assert_eq!(output.codes(), [(0, RejectCode::MissingField)]);
    }
}

#[test]
fn hostile_text_is_kept_or_refused() {
    let input = csv(&json!({"header": "Absent"}), "a Varchar, b Varchar");
    let text = "x\u{0}y,1\n5\" pipe,2\n\"a\"b,3\n\"a\" ,4\n,\u{FEFF}\n";
    let output = input.decode(text);
    assert_eq!(output.rows, [json!({"a": "x\u{0}y", "b": "1"}), json!({"a": "5\" pipe", "b": "2"}), json!({"b": "\u{FEFF}"})]);
    assert_eq!(output.codes(), [(2, RejectCode::Malformed), (3, RejectCode::Malformed)]);
    assert_eq!(input.decode(b"\xC3\x28,1\n").only_refusal().code, RejectCode::Malformed);
    assert_eq!(input.decode("\u{FEFF}a,b\n").rows, [json!({"a": "a", "b": "b"})]);
    let unclosed = input.decode("a,\"b\nc,d\n");
    assert_eq!(unclosed.only_refusal().error, "the quote that opens field 2 is never closed");
}

/// A quote that is never closed costs one record of at most the limit, not the rest of the file.
#[test]
fn an_open_quote_ends_with_the_record_limit() {
    let input = csv(&json!({"header": "Absent"}), "a BigInt, b Varchar").with_record_bytes(1000);
    let mut text = "1,\"open\n".to_owned();
    text.extend((0..500).map(|n| format!("{n},x\n")));
    let output = input.decode(text);
    assert_eq!(output.codes(), [(0, RejectCode::TooLarge)]);
    assert!(output.rows.len() > 300, "{}", output.rows.len());
    assert_eq!(output.rows.last().unwrap(), &json!({"a": 499, "b": "x"}));
    assert_eq!(output.ordinals, (1..=output.rows.len() as u64).collect::<Vec<_>>());
}

/// Lines that each open a quote which the next one seems to close must not make reading quadratic.
#[test]
fn quotes_that_open_on_every_line_are_read_in_one_pass() {
    let input = csv(&json!({"header": "Absent"}), "a Varchar, b Varchar");
    let output = input.decode("x\",\"\n".repeat(700_000));
    assert!(output.rows.len() + output.rejected.len() < 10, "{}", output.rejected.len());
}

#[test]
fn a_file_whose_first_line_names_no_column_delivers_nothing() {
    let input = csv(&json!({}), "a BigInt, b Varchar");
    let output = input.decode("1,x\n2,y\n");
    assert_eq!(output.codes(), [(0, RejectCode::Malformed), (1, RejectCode::Malformed)]);
    assert!(output.rejected[0].error.contains("format.csv.header"), "{}", output.rejected[0].error);
    let mut decoder = input.decoder(None);
    decoder.push("1,x\n".into());
    assert_eq!(decoder.next().unwrap().rejected.len(), 1);
    let mut resumed = input.decoder(Some(decoder.position()));
    resumed.push("a,b\n3,z\n".into());
    assert_eq!(resumed.next().unwrap().rejected.len(), 2);
}

#[test]
fn the_header_is_the_first_line_that_is_not_empty_also_after_a_restart() {
    let input = csv(&json!({}), "a BigInt").with_record_bytes(10);
    let mut decoder = input.decoder(None);
    decoder.push("\n\r\n".into());
    assert!(decoder.next().is_none());
    let mut resumed = input.decoder(Some(decoder.position()));
    resumed.push("a\n1\n".into());
    assert_eq!(resumed.next().unwrap().records.num_rows(), 1);
    // A header that is too long to be read does not make the next line one.
    let output = input.decode("a,bbbbbbbbbbbbbbbbbb\na,b\n1,2\n");
    assert_eq!(output.codes(), [(0, RejectCode::TooLarge), (1, RejectCode::Malformed), (2, RejectCode::Malformed)]);
}

#[test]
fn types_are_read_from_text() {
    let columns = "a Boolean, b Integer, c Real, d Decimal(6;3), e Varbinary, f Date, g Timestamp";
    let output = csv(&json!({"header": "Absent"}), columns)
        .decode("true,-5,1.5,3.250,AP8=,2024-01-01,2024-01-01 00:00:00.25\nyes,,,,,,\n,1e3,,,,,\n,,,,,,2024-01-01\n");
    let expected = json!({"a": true, "b": -5, "c": 1.5, "d": 3.25, "e": "AP8=", "f": "2024-01-01", "g": "2024-01-01T00:00:00.250Z"});
    assert_eq!(output.rows, [expected]);
    let mismatch = RejectCode::TypeMismatch;
    assert_eq!(output.codes(), [(1, mismatch), (2, mismatch), (3, mismatch)]);
}

#[test]
fn messages_are_records_without_header() {
    let output = csv(&json!({"header": "Absent"}), "a BigInt, b Varchar").decode_records(&[b"1,x\r\n", b"2,\"y\nz\"", b"", b"3"]);
    assert_eq!(output.rows, [json!({"a": 1, "b": "x"}), json!({"a": 2, "b": "y\nz"})]);
    assert_eq!(output.codes(), [(2, RejectCode::Malformed), (3, RejectCode::Malformed)]);
}
