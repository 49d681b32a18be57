//! What the tests of formats share: specs in YAML's shortest form, whole streams decoded at once, rows as JSON. No production code.

mod csv;
mod logs;
mod properties;
mod round_trip;
mod schema;
mod streams;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use millrace_crds::format::{Schema, SinkFormat, SourceFormat};
use millrace_engine::batch::RejectCode;
use serde_json::{Value, json};

use super::rows::RowEncoder;
use super::{RejectedRecord, StreamDecoder, StreamPosition, record_decoder, stream_decoder, table_schema};
use crate::context::ResolvedLimits;

pub(super) const LIMITS: ResolvedLimits = ResolvedLimits {
    in_flight_bytes: 32 << 20,
    record_bytes: 1 << 20,
    decompression_ratio: 200,
    object_bytes: 4 << 30,
    state_bytes: 128 << 20,
};

/// A source: its format and columns.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) format: SourceFormat,
    pub(super) table: SchemaRef,
    pub(super) projection: Vec<String>,
    pub(super) limits: ResolvedLimits,
}

/// What a stream was decoded to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Output {
    /// Rows as JSON.
    pub(super) rows: Vec<Value>,
    pub(super) ordinals: Vec<u64>,
    pub(super) rejected: Vec<RejectedRecord>,
    pub(super) bytes: u64,
}

impl Input {
    /// `columns` as in `schema.columns`: `a BigInt, b Varchar!` where `!` stands for required.
    pub(super) fn new(format: Value, columns: &str) -> Self {
        let format: SourceFormat = serde_json::from_value(format).unwrap();
        let schema = (!columns.is_empty()).then(|| schema(columns));
        let table = table_schema(&format, schema.as_ref()).unwrap();
        let projection = table.fields().iter().map(|field| field.name().clone()).collect();
        Self { format, table, projection, limits: LIMITS }
    }

    pub(super) fn json(columns: &str) -> Self {
        Self::new(json!({"json": {}}), columns)
    }

    pub(super) fn reading(mut self, columns: &[&str]) -> Self {
        self.projection = columns.iter().map(|c| (*c).to_owned()).collect();
        self
    }

    pub(super) fn with_record_bytes(mut self, bytes: usize) -> Self {
        self.limits.record_bytes = bytes;
        self
    }

    pub(super) fn decoder(&self, resume: Option<StreamPosition>) -> Box<dyn StreamDecoder> {
        stream_decoder(&self.format, &self.table, &self.projection, &self.limits, resume).unwrap()
    }

    /// Decodes a whole stream.
    pub(super) fn decode(&self, bytes: impl AsRef<[u8]>) -> Output {
        self.decode_chunks(&[bytes.as_ref()])
    }

    pub(super) fn decode_chunks(&self, chunks: &[&[u8]]) -> Output {
        let mut decoder = self.decoder(None);
        let mut output = Output::default();
        for chunk in chunks {
            decoder.push(Bytes::copy_from_slice(chunk));
            output.drain(decoder.as_mut());
        }
        decoder.finish();
        output.drain(decoder.as_mut());
        output
    }

    /// Decodes messages.
    pub(super) fn decode_records(&self, payloads: &[&[u8]]) -> Output {
        let mut decoder = record_decoder(&self.format, &self.table, &self.projection, &self.limits).unwrap();
        let mut output = Output::default();
        output.add(decoder.decode(payloads));
        output
    }
}

impl Output {
    pub(super) fn drain(&mut self, decoder: &mut dyn StreamDecoder) {
        while let Some(decoded) = decoder.next() {
            assert!(decoded.records.num_rows() + decoded.rejected.len() > 0, "an empty batch");
            self.add(decoded);
        }
    }

    pub(super) fn add(&mut self, decoded: super::Decoded) {
        assert_eq!(decoded.records.num_rows(), decoded.ordinals.len());
        self.rows.extend(rows(&decoded.records));
        self.ordinals.extend(decoded.ordinals.values());
        self.rejected.extend(decoded.rejected);
        self.bytes += decoded.bytes;
    }

    pub(super) fn codes(&self) -> Vec<(u64, RejectCode)> {
        self.rejected.iter().map(|r| (r.ordinal, r.code)).collect()
    }

    /// The only record of the stream must have been refused.
    pub(super) fn only_refusal(&self) -> &RejectedRecord {
        assert_eq!((self.rows.len(), self.rejected.len()), (0, 1), "{self:?}");
        &self.rejected[0]
    }
}

/// Rows as JSON documents.
pub(super) fn rows(records: &RecordBatch) -> Vec<Value> {
    let mut encoder = RowEncoder::new(&records.schema()).unwrap();
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    encoder.encode(records, &mut out, &mut ends).unwrap();
    let starts = [0].into_iter().chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, end)| serde_json::from_slice(&out[start..*end]).unwrap()).collect()
}

pub(super) fn schema(columns: &str) -> Schema {
    let column = |column: &str| {
        let (name, kind) = column.trim().split_once(' ').unwrap();
        let (kind, presence) = kind.strip_suffix('!').map_or((kind, "Nullable"), |kind| (kind, "Required"));
        let (kind, digits) = kind.split_once('(').unwrap_or((kind, ""));
        let mut column = json!({"name": name, "type": kind, "presence": presence});
        if let Some((precision, scale)) = digits.trim_end_matches(')').split_once(';') {
            column["precision"] = precision.parse().unwrap();
            column["scale"] = scale.parse().unwrap();
        }
        column
    };
    serde_json::from_value(json!({"columns": columns.split(',').map(column).collect::<Vec<_>>()})).unwrap()
}

pub(super) fn sink_format(format: Value) -> SinkFormat {
    serde_json::from_value(format).unwrap()
}
