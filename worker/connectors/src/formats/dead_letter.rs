//! The envelope of a record that was refused: what it was, where it came from, and why. No clock is read, so every replay makes the same envelope.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use millrace_engine::batch::{Rejected, coordinate};

/// Columns of an envelope.
///
/// | column | what |
/// |---|---|
/// | `id` | coordinate of the record: origin and ordinal in one text, the same in every replay |
/// | `origin`, `ordinal` | where it was: `s3://bucket/key`, `topic/3`; its number there |
/// | `stage`, `code`, `error`, `attempts` | which part refused it, why (closed set), why (for people), how often it was tried |
/// | `payload` | the record, base64, cut to [`super::PAYLOAD_CAP`] |
/// | `payload_text` | the same as text, if it is UTF-8 |
/// | `payload_bytes` | the record's whole length |
/// | `pipeline`, `task`, `generation` | who refused it |
#[must_use]
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name| Field::new(name, DataType::Utf8View, false);
        Arc::new(Schema::new(vec![
            text("id"),
            text("origin"),
            Field::new("ordinal", DataType::Int64, false),
            text("stage"),
            text("code"),
            text("error"),
            Field::new("attempts", DataType::Int32, false),
            text("payload"),
            Field::new("payload_text", DataType::Utf8View, true),
            Field::new("payload_bytes", DataType::Int64, false),
            text("pipeline"),
            text("task"),
            Field::new("generation", DataType::Int64, false),
        ]))
    });
    SchemaRef::clone(&SCHEMA)
}

/// One envelope for each of `rejected`, in order.
///
/// # Panics
/// Never: the columns are those of [`schema`].
#[must_use]
pub fn encode(rejected: &[Rejected], pipeline: &str, task: &str, generation: u64) -> RecordBatch {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let longs = |of: &dyn Fn(&Rejected) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rejected.iter().map(|record| signed(of(record)))))
    };
    let texts = |of: &dyn Fn(&Rejected) -> String| -> ArrayRef { Arc::new(StringViewArray::from_iter_values(rejected.iter().map(of))) };
    let attempts = rejected.iter().map(|record| i32::try_from(record.attempts).unwrap_or(i32::MAX));
    let columns: Vec<ArrayRef> = vec![
        texts(&|record| coordinate(&record.origin, 0, record.ordinal)),
        texts(&|record| record.origin.name().to_owned()),
        longs(&|record| record.ordinal),
        texts(&|record| record.stage.as_str().to_owned()),
        texts(&|record| record.code.as_str().to_owned()),
        texts(&|record| record.error.clone()),
        Arc::new(Int32Array::from_iter_values(attempts)),
        texts(&|record| BASE64.encode(&record.payload)),
        Arc::new(rejected.iter().map(payload_text).collect::<StringViewArray>()),
        longs(&|record| record.payload_bytes),
        texts(&|_| pipeline.to_owned()),
        texts(&|_| task.to_owned()),
        longs(&|_| generation),
    ];
    RecordBatch::try_new(schema(), columns).expect("the columns are those of the schema")
}

/// The payload as text. If it was cut, it may end in the middle of a character, which is then left out.
fn payload_text(record: &Rejected) -> Option<&str> {
    match std::str::from_utf8(&record.payload) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() && record.payload_bytes > record.payload.len() as u64 => {
            std::str::from_utf8(&record.payload[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use bytes::Bytes;
    use millrace_engine::batch::{Origin, RejectCode, RejectStage};

    use super::*;

    fn rejected(payload: &'static [u8], payload_bytes: u64) -> Rejected {
        Rejected {
            origin: Origin::new("bucket/key/etag", "s3://bucket/key"),
            ordinal: 41,
            stage: RejectStage::Decode,
            code: RejectCode::Malformed,
            error: "not JSON at byte 1".to_owned(),
            payload: Bytes::from_static(payload),
            payload_bytes,
            attempts: 1,
        }
    }

    #[test]
    fn an_envelope_says_where_why_and_what() {
        let envelopes = encode(&[rejected(b"{x", 2)], "edge", "logs-0", 7);
        let mut rows = super::super::rows::RowEncoder::new(&schema()).unwrap();
        let mut out = Vec::new();
        rows.encode_lines(&envelopes, &mut out).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let origin = Origin::new("bucket/key/etag", "");
        assert_eq!(
            document,
            serde_json::json!({
                "id": coordinate(&origin, 0, 41), "origin": "s3://bucket/key", "ordinal": 41, "stage": "Decode",
                "code": "Malformed", "error": "not JSON at byte 1", "attempts": 1, "payload": "e3g=", "payload_text": "{x",
                "payload_bytes": 2, "pipeline": "edge", "task": "logs-0", "generation": 7
            })
        );
    }

    #[test]
    fn the_text_is_there_only_if_it_is_text() {
        let cases =
            [rejected(b"ab\xFF", 3), rejected("aé".as_bytes(), 3), rejected(b"a\xC3", 2), rejected(b"a\xC3", 900), rejected(b"", 0)];
        let envelopes = encode(&cases, "p", "t", u64::MAX);
        let texts: Vec<Option<&str>> = envelopes["payload_text"].as_string_view().iter().collect();
        assert_eq!(texts, [None, Some("aé"), None, Some("a"), Some("")]);
    }

    #[test]
    fn no_rejected_records_make_an_empty_batch() {
        assert_eq!(encode(&[], "p", "t", 1).num_rows(), 0);
    }
}
