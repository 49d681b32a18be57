//! Cutting streams into records: limits, line ends, positions. What is in a record matters little here.

use bytes::Bytes;
use millrace_engine::batch::RejectCode;
use serde_json::json;

use super::super::columns::Columns;
use super::super::frames::Separator;
use super::super::raw::Raw;
use super::super::records::Stream;
use super::super::{PAYLOAD_CAP, StreamDecoder, StreamPosition};
use super::{Input, Output};

fn raw() -> Input {
    Input::new(json!({"raw": {}}), "")
}

#[test]
fn lines_end_with_or_without_a_return_and_the_last_one_with_neither() {
    let output = raw().decode("a\r\nb\n\nc\r\r\n\r\nd");
    let lines: Vec<&str> = output.rows.iter().map(|row| row["line"].as_str().unwrap()).collect();
    assert_eq!(lines, ["a", "b", "", "c\r", "", "d"]);
    assert_eq!(output.bytes, 13);
    assert_eq!(raw().decode("").rows.len(), 0);
    assert_eq!(raw().decode("\n").rows, [json!({"line": ""})]);
}

#[test]
fn empty_lines_are_no_records_where_a_record_cannot_be_empty() {
    let output = Input::json("a BigInt").decode("\n\n{\"a\":1}\r\n  \n\r\nx\n{\"a\":2}\n\n");
    assert_eq!((output.ordinals.as_slice(), output.codes()), (&[0, 2][..], vec![(1, RejectCode::Malformed)]));
}

#[test]
fn a_byte_order_mark_is_ignored_at_the_start_only() {
    let output = Input::json("a BigInt").decode("\u{FEFF}{\"a\":1}\n\u{FEFF}{\"a\":2}\n");
    assert_eq!((output.ordinals.as_slice(), output.codes()), (&[0][..], vec![(1, RejectCode::Malformed)]));
}

#[test]
fn nothing_but_rows_is_counted_without_columns() {
    let output = Input::json("a BigInt").reading(&[]).decode("{\"a\":1}\n{\"a\":\"x\"}\noops\n");
    assert_eq!((output.rows.len(), output.codes()), (2, vec![(2, RejectCode::Malformed)]));
}

#[test]
fn a_record_may_have_exactly_as_many_bytes_as_allowed() {
    for (length, fits) in [(9, true), (10, true), (11, false)] {
        for end in ["", "\n", "\nb\n"] {
            let text = format!("{}{end}", "a".repeat(length));
            let output = raw().with_record_bytes(10).decode(&text);
            assert_eq!(output.rejected.is_empty(), fits, "{length} {end:?}");
            if !fits {
                let refused = &output.rejected[0];
                assert_eq!((refused.code, refused.payload_bytes, refused.payload.len()), (RejectCode::TooLarge, 11, 11));
            }
            assert_eq!(output.rows.len() + output.rejected.len(), 1 + usize::from(end.contains('b')));
        }
    }
}

/// E-IN-1: a line of 256 MiB without a newline.
#[test]
fn an_endless_line_takes_bounded_memory_and_costs_one_record() {
    let limit = 1 << 20;
    let columns = Columns::new(raw().table).unwrap();
    let mut decoder = Stream::new(Raw, Separator::Newline, columns, limit, &StreamPosition::default());
    let mut output = Output::default();
    decoder.push(Bytes::from_static(b"first\n"));
    output.drain(&mut decoder);
    let chunk = Bytes::from(vec![b'x'; 1 << 18]);
    let mut held = 0;
    for _ in 0..1024 {
        decoder.push(chunk.clone());
        output.drain(&mut decoder);
        held = held.max(decoder.held_bytes());
        assert_eq!(decoder.position().byte, 6, "the line is not done before its end");
    }
    assert!(held <= 2 * limit, "{held} bytes were held");
    assert!(decoder.held_bytes() <= PAYLOAD_CAP);
    decoder.push(Bytes::from_static(b"y\nlast"));
    decoder.finish();
    output.drain(&mut decoder);
    assert_eq!(output.ordinals, [0, 2]);
    let refused = &output.rejected[0];
    assert_eq!((refused.ordinal, refused.code, refused.payload_bytes), (1, RejectCode::TooLarge, (256 << 20) + 1));
    assert_eq!(refused.payload.len(), PAYLOAD_CAP);
    assert_eq!(decoder.position().byte, 6 + (256 << 20) + 2 + 4);
}

#[test]
fn batches_end_at_8192_records_or_a_mebibyte() {
    let mut decoder = raw().decoder(None);
    decoder.push(Bytes::from("\n".repeat(20_000)));
    let sizes: Vec<usize> = std::iter::from_fn(|| decoder.next()).map(|decoded| decoded.ordinals.len()).collect();
    assert_eq!(sizes, [8192, 8192, 3616]);
    let mut decoder = raw().decoder(None);
    decoder.push(Bytes::from(format!("{}\n", "a".repeat(1023)).repeat(1500)));
    let sizes: Vec<u64> = std::iter::from_fn(|| decoder.next()).map(|decoded| decoded.bytes).collect();
    assert_eq!(sizes, [1 << 20, 476 << 10]);
    let mut decoder = Input::json("a BigInt").decoder(None);
    decoder.push(Bytes::from("x\n".repeat(10_000)));
    assert_eq!(decoder.next().unwrap().rejected.len(), 8192);
}

#[test]
fn much_that_is_no_record_does_not_look_like_the_end() {
    let mut text = "\n".repeat(3 << 20);
    text.push_str("{\"a\":1}\n");
    let output = Input::json("a BigInt").decode(text);
    assert_eq!(output.ordinals, [0]);
}
