//! What is inside files, objects and records: bytes to Arrow and back. No I/O here: the caller brings and takes the bytes.
//!
//! * [`StreamDecoder`]: a file or object, as chunks of decompressed bytes ([`decompress`]).
//! * [`RecordDecoder`]: messages that are one record each.
//! * [`FileEncoder`]: a file or object, a batch at a time. [`rows`]: one JSON document a row.
//! * [`template`]: names of folders and indexes from column values.
//! * [`dead_letter`]: rejected records as rows.
//!
//! ```text
//!  chunks ──▶ decompress ──▶ frames ──records──▶ json · csv · raw · cloudfront · vpc_flow ──values──▶ columns ──▶ Decoded
//!  keys and values ──▶ changes: debezium · upserts of json ──rows and their kinds──▶ columns ────────────────▶ Decoded
//!  ranges ──▶ parquet_in ─────────────────────────────────────────────────────────────────────────────────────▶ Decoded
//! ```

pub mod dead_letter;
pub mod decompress;
pub mod parquet_in;
pub mod rows;
pub mod template;

mod changes;
mod cloudfront;
mod columns;
mod csv;
mod decoders;
mod encoders;
mod fields;
mod fixed;
mod frames;
mod instants;
mod json;
mod json_lines;
mod parquet_out;
mod raw;
pub(crate) mod record_values;
mod records;
mod schema;
mod texts;
mod values;
mod vpc_flow;

#[cfg(test)]
mod tests;

pub use changes::RecordTable;
pub use decoders::{is_stream_seekable, record_decoder, stream_decoder};
pub use encoders::{can_encode, file_encoder, file_extension};
pub use schema::table_schema;

use arrow::array::{RecordBatch, UInt64Array};
use bytes::Bytes;
use millrace_engine::batch::{Batch, Origin, RejectCode, RejectStage, Rejected};
use millrace_engine::row_kind::RowKinds;
use millrace_engine::source::Records;
use serde::{Deserialize, Serialize};

/// Where to go on in a decompressed stream: at the start of a record.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamPosition {
    /// Records before this place, good and bad: the ordinal of the next one.
    pub record: u64,
    /// Decompressed bytes before this place. Not used by Parquet.
    pub byte: u64,
    /// What the decoder has learnt from the stream's header (names of fields), in its own form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// Records that were decoded together.
#[derive(Debug)]
pub struct Decoded {
    /// The good ones; exactly the columns of the projection. May have no columns and still a row count.
    pub records: RecordBatch,
    /// Number of each of them in its stream.
    pub ordinals: UInt64Array,
    /// The bad ones.
    pub rejected: Vec<RejectedRecord>,
    /// Decompressed bytes of both.
    pub bytes: u64,
    /// What each of the good ones says in a changelog; `None` if all are insertions.
    pub kinds: Option<RowKinds>,
}

impl Decoded {
    /// The same as records of `origin`.
    pub(crate) fn into_records(self, origin: &Origin) -> Records {
        let rejected = self.rejected.into_iter().map(|record| Rejected {
            origin: origin.clone(),
            ordinal: record.ordinal,
            stage: RejectStage::Decode,
            code: record.code,
            error: record.error,
            payload: record.payload,
            payload_bytes: record.payload_bytes,
            attempts: 1,
        });
        let rejected = rejected.collect();
        let kinds = self.kinds;
        let batch = (self.records.num_rows() > 0).then(|| Batch { kinds, ..Batch::new(self.records, origin.clone(), self.ordinals) });
        Records { batch, rejected, bytes: self.bytes }
    }
}

/// A record that could not be decoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RejectedRecord {
    /// Its number in the stream.
    pub ordinal: u64,
    /// Why.
    pub code: RejectCode,
    /// Why, for people.
    pub error: String,
    /// The record, cut to [`PAYLOAD_CAP`].
    pub payload: Bytes,
    /// Its length before it was cut (what is known of it).
    pub payload_bytes: u64,
}

/// A rejected record's payload is cut to this many bytes.
pub const PAYLOAD_CAP: usize = 64 * 1024;

/// Decodes one file or object from chunks of decompressed bytes. Synchronous; holds at most one batch and one record.
pub trait StreamDecoder: Send {
    /// Takes the next bytes.
    fn push(&mut self, chunk: Bytes);

    /// The stream has ended: what is left is the last record, terminated or not.
    fn finish(&mut self);

    /// Decodes what was pushed, up to about 8,192 rows or 1 MiB; `None` when more bytes are needed or all is done.
    fn next(&mut self) -> Option<Decoded>;

    /// Where to go on after everything that [`StreamDecoder::next`] has returned.
    fn position(&self) -> StreamPosition;
}

/// Decodes messages that are one record each.
pub trait RecordDecoder: Send {
    /// Decodes `payloads`; `ordinals` of the result (and of rejected records) are indexes into it.
    fn decode(&mut self, payloads: &[&[u8]]) -> Decoded;

    /// As [`RecordDecoder::decode`], where the payloads lie in `memory`: values may be left where they are instead of being copied, and then hold on to it.
    fn decode_within(&mut self, payloads: &[&[u8]], _memory: &[Bytes]) -> Decoded {
        self.decode(payloads)
    }

    /// Whether keys of records are read, and records without a value mean something: then [`RecordDecoder::decode_keyed`] is to be called instead.
    fn takes_keys(&self) -> bool {
        false
    }

    /// As [`RecordDecoder::decode`], of records with their keys.
    fn decode_keyed(&mut self, records: &[Keyed<'_>]) -> Decoded {
        self.decode(&records.iter().map(|record| record.value.unwrap_or_default()).collect::<Vec<_>>())
    }

    /// Rows that one record can become: so many ordinals in the source belong to each record.
    fn rows_of_record(&self) -> u64 {
        1
    }
}

/// A message with its key; without a value, it says that what its key names is gone.
#[derive(Clone, Copy, Debug)]
pub struct Keyed<'a> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// What it holds.
    pub value: Option<&'a [u8]>,
}

/// Encodes one file or object.
pub trait FileEncoder: Send {
    /// Adds rows.
    ///
    /// # Errors
    /// If a value cannot be represented; nothing of the batch is then in the file.
    fn write(&mut self, records: &RecordBatch) -> Result<(), EncodeError>;

    /// Bytes encoded so far that have not been taken, to upload while the file grows.
    fn take(&mut self) -> Vec<Bytes>;

    /// An estimate of the file's size in bytes if it were finished now.
    fn estimated_bytes(&self) -> u64;

    /// Ends the file and returns the bytes that have not been taken.
    ///
    /// # Errors
    /// If the end of the file cannot be encoded.
    fn finish(&mut self) -> Result<Vec<Bytes>, EncodeError>;
}

/// Rows could not be encoded.
#[derive(Debug, thiserror::Error)]
#[error("rows cannot be encoded as {format}: {message}")]
pub struct EncodeError {
    /// Name of the format.
    pub format: &'static str,
    /// What the encoder said.
    pub message: String,
}
