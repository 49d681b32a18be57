//! The decoders of formats that are rows of text: cutting into records, counting, collecting batches. What is in a record is the business of a [`RowFormat`].

use std::sync::Arc;

use arrow::array::UInt64Array;
use bytes::Bytes;
use millrace_engine::batch::RejectCode;

use super::columns::Columns;
use super::frames::{Frame, Frames, Separator};
use super::{Decoded, PAYLOAD_CAP, RecordDecoder, RejectedRecord, StreamDecoder, StreamPosition};

/// Rows, good and bad, after which a batch is complete.
const BATCH_ROWS: usize = 8192;
/// Bytes of records after which a batch is complete.
const BATCH_BYTES: u64 = 1 << 20;
/// Bytes of memory that are held at most for each byte of values in it.
const MOST_HELD: usize = 2;

/// Why a record was refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: RejectCode,
    pub(super) error: String,
}

impl Refusal {
    pub(super) fn new(code: RejectCode, error: impl Into<String>) -> Self {
        Self { code, error: error.into() }
    }

    pub(super) fn malformed(error: impl Into<String>) -> Self {
        Self::new(RejectCode::Malformed, error)
    }
}

/// What a line turned out to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Row {
    /// A record; each column has got its value.
    Added,
    /// No record: empty, a header, a comment.
    None,
}

/// Knows what is in one record.
pub(super) trait RowFormat: Send {
    /// Appends the values of `record` to `columns`. After a refusal a column may have a value or not; the caller cleans up.
    fn decode(&mut self, record: &[u8], columns: &mut Columns) -> Result<Row, Refusal>;

    /// Whether a record is a value as it is, so that it need not be copied out of the memory that it lies in.
    fn keeps_records(&self) -> bool {
        false
    }

    /// A record of the stream was too long to be decoded.
    fn missed(&mut self) {}

    /// What was learnt from the header of the stream.
    fn header(&self) -> Option<String> {
        None
    }
}

/// Decodes one record into `columns`, and whatever happens leaves them with whole rows only.
#[inline]
pub(super) fn decode_one(format: &mut impl RowFormat, record: &[u8], columns: &mut Columns) -> Result<Row, Refusal> {
    let outcome = format.decode(record, columns);
    match &outcome {
        Ok(Row::Added) => columns.end_row(),
        Ok(Row::None) => {}
        Err(_) => columns.abandon_row(),
    }
    outcome
}

/// A file or object of records.
#[derive(Debug)]
pub(super) struct Stream<F> {
    frames: Frames,
    format: F,
    columns: Columns,
    record: u64,
    /// Rows of the last batch: as many may follow.
    rows: usize,
    /// Nothing was read yet: a byte order mark may follow.
    at_start: bool,
}

impl<F: RowFormat> Stream<F> {
    pub(super) fn new(format: F, separator: Separator, columns: Columns, record_limit: usize, resume: &StreamPosition) -> Self {
        Self {
            frames: Frames::new(separator, record_limit, resume.byte),
            format,
            columns,
            record: resume.record,
            rows: 0,
            at_start: resume.byte == 0,
        }
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.frames.carry_capacity()
    }
}

impl<F: RowFormat> StreamDecoder for Stream<F> {
    fn push(&mut self, chunk: Bytes) {
        self.frames.push(chunk);
    }

    fn finish(&mut self) {
        self.frames.end();
    }

    fn next(&mut self) -> Option<Decoded> {
        let start = self.frames.byte();
        let mut ordinals = Vec::with_capacity(self.rows);
        let mut rejected = Vec::new();
        let limit = self.frames.limit();
        while let Some(frame) = self.frames.next() {
            let refused = match frame {
                Frame::Record(mut record) => {
                    if self.at_start {
                        record = record.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(record);
                    }
                    match decode_one(&mut self.format, record, &mut self.columns) {
                        Ok(Row::Added) => {
                            ordinals.push(self.record);
                            self.record += 1;
                            None
                        }
                        Ok(Row::None) => None,
                        Err(refusal) => Some(reject(refusal, self.record, record, record.len() as u64)),
                    }
                }
                Frame::TooLong { start, length } => {
                    self.format.missed();
                    Some(reject(too_large(length, limit), self.record, start, length))
                }
            };
            self.at_start = false;
            if let Some(refused) = refused {
                rejected.push(refused);
                self.record += 1;
            }
            // Never with nothing: `None` would mean that all that was pushed is done.
            let records = ordinals.len() + rejected.len();
            if records >= BATCH_ROWS || records > 0 && self.frames.byte() - start >= BATCH_BYTES {
                break;
            }
        }
        if ordinals.is_empty() && rejected.is_empty() {
            return None;
        }
        self.rows = ordinals.len();
        Some(Decoded {
            records: self.columns.take(),
            ordinals: UInt64Array::from(ordinals),
            rejected,
            bytes: self.frames.byte() - start,
            kinds: None,
        })
    }

    fn position(&self) -> StreamPosition {
        StreamPosition { record: self.record, byte: self.frames.byte(), header: self.format.header() }
    }
}

/// Messages that are one record each.
#[derive(Debug)]
pub(super) struct Messages<F> {
    format: F,
    columns: Columns,
    limit: usize,
}

impl<F: RowFormat> Messages<F> {
    pub(super) fn new(format: F, columns: Columns, record_limit: usize) -> Self {
        Self { format, columns, limit: record_limit }
    }
}

impl<F: RowFormat> RecordDecoder for Messages<F> {
    fn decode(&mut self, payloads: &[&[u8]]) -> Decoded {
        let mut ordinals = Vec::with_capacity(payloads.len());
        let mut rejected = Vec::new();
        let mut bytes = 0;
        for (payload, ordinal) in payloads.iter().zip(0_u64..) {
            let length = payload.len() as u64;
            bytes += length;
            let outcome = if payload.len() > self.limit {
                Err(too_large(length, self.limit))
            } else {
                decode_one(&mut self.format, payload, &mut self.columns)
            };
            match outcome {
                Ok(Row::Added) => ordinals.push(ordinal),
                Ok(Row::None) => rejected.push(reject(Refusal::malformed("the record is empty"), ordinal, payload, length)),
                Err(refusal) => rejected.push(reject(refusal, ordinal, payload, length)),
            }
        }
        Decoded { records: self.columns.take(), ordinals: UInt64Array::from(ordinals), rejected, bytes, kinds: None }
    }

    fn decode_within(&mut self, payloads: &[&[u8]], memory: &[Bytes]) -> Decoded {
        // Memory of which only a small part is used would be held for nothing.
        let held: usize = memory.iter().map(Bytes::len).sum();
        if self.format.keeps_records() && held <= MOST_HELD * payloads.iter().map(|payload| payload.len()).sum::<usize>() {
            self.columns.lend(memory);
        }
        self.decode(payloads)
    }
}

pub(super) fn too_large(length: u64, limit: usize) -> Refusal {
    Refusal::new(
        RejectCode::TooLarge,
        format!("the record has {length} bytes, {limit} are allowed: raise limits.maxRecordBytes, or check the line ends"),
    )
}

pub(super) fn reject(refusal: Refusal, ordinal: u64, payload: &[u8], length: u64) -> RejectedRecord {
    RejectedRecord {
        ordinal,
        code: refusal.code,
        error: refusal.error,
        payload: Bytes::copy_from_slice(&payload[..payload.len().min(PAYLOAD_CAP)]),
        payload_bytes: length,
    }
}

/// The columns of `projection`, by name, in its order.
pub(super) fn project(table: &arrow::datatypes::SchemaRef, projection: &[String]) -> Option<arrow::datatypes::SchemaRef> {
    let fields: Option<Vec<_>> = projection.iter().map(|name| table.fields().iter().find(|f| f.name() == name).map(Arc::clone)).collect();
    Some(Arc::new(arrow::datatypes::Schema::new(fields?)))
}
