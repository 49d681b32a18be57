//! Record batches, version 2: the bytes in which Kafka keeps and carries records. Pure functions: nothing here knows a broker, a clock or a topic.
//!
//! ```text
//!  batch    base offset 8 ─ length 4 ─ leader epoch 4 ─ magic 1 ─ CRC-32C 4 ┐ of all that follows
//!           attributes 2 ─ last offset delta 4 ─ base and max timestamp 8 + 8 ─ producer id 8, epoch 2, base sequence 4 ─ count 4
//!           records, compressed as a whole
//!  record   length ─ attributes 1 ─ timestamp delta ─ offset delta ─ key ─ value ─ headers        (lengths and deltas are varints, zigzag)
//! ```
//! * Reading: [`batches`] cuts what a broker sent into [`Batch`]es, [`Batch::open`] decompresses one, [`OpenBatch::records`] goes over its records. A record
//!   borrows from the batch; nothing is allocated for it. Whatever the bytes are, they are records or a [`RecordsError`].
//! * Writing: a [`BatchBuilder`] takes records straight into the bytes of a batch, and [`SealedBatch`] is told by whom it is sent, and as which in a row.
//!
//! What is written is not compressed: the sink has no option for it.

mod build;
mod compression;
mod read;
#[cfg(test)]
mod tests;
mod varint;

use bytes::Bytes;

pub(crate) use build::{BatchBuilder, NewRecord, SealedBatch, Stamp};
pub(crate) use read::{Batch, Control, Header, OpenBatch, batches};

/// Bytes of a batch before its records.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes before what the length of a batch counts.
const LENGTH_END: usize = 12;
/// Where the checksum lies, and from where on it is taken.
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;
/// Where the magic byte lies, in all versions.
const MAGIC_AT: usize = 16;
/// The only version that is read and written.
const MAGIC: i8 = 2;

/// Bits of the attributes of a batch.
const COMPRESSION: i16 = 0b111;
const APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// Why bytes are no records. Offsets are those that the batch claims.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum RecordsError {
    /// A version that brokers since 4.0 no longer keep.
    #[error(
        "records from offset {offset} on are in the format of before Kafka 0.11 (magic {magic}), which is not read: copy the topic to a new one"
    )]
    OldFormat {
        /// Of the first of them.
        offset: i64,
        /// The version.
        magic: i8,
    },
    /// The bytes are others than those that were written.
    #[error("the batch of records at offset {offset} is damaged: its checksum is another")]
    Checksum {
        /// Of the batch.
        offset: i64,
    },
    /// The bytes are not in the form that they should have.
    #[error("the batch of records at offset {offset} is damaged: {what}")]
    Damaged {
        /// Of the batch.
        offset: i64,
        /// What is wrong.
        what: &'static str,
    },
    /// A compression that came later.
    #[error(
        "the batch of records at offset {offset} is compressed in a way (number {codec}) that this version does not know: upgrade the worker"
    )]
    UnknownCompression {
        /// Of the batch.
        offset: i64,
        /// Its number.
        codec: i16,
    },
    /// The compressed bytes are damaged.
    #[error("the batch of records at offset {offset} cannot be decompressed ({codec}): {message}")]
    Compression {
        /// Of the batch.
        offset: i64,
        /// Name of the compression.
        codec: &'static str,
        /// What the decompressor said.
        message: String,
    },
    /// More than there is room for.
    #[error("the batch of records at offset {offset} has more than {most} bytes when decompressed ({codec})")]
    TooLarge {
        /// Of the batch.
        offset: i64,
        /// Name of the compression.
        codec: &'static str,
        /// The bound.
        most: usize,
    },
}

/// Reads all there is to read in any bytes, for fuzzing; the number of records.
pub(crate) fn exhaust(bytes: &[u8]) -> usize {
    /// Of one batch, decompressed.
    const MOST: usize = 1 << 20;
    let mut records = 0;
    for batch in batches(Bytes::copy_from_slice(bytes)) {
        let Ok(Ok(batch)) = batch.map(|batch| batch.open(MOST)) else { continue };
        let _either = batch.control();
        for record in batch.records().flatten() {
            let _headers = record.headers.count();
            records += 1;
        }
    }
    records
}

/// The bytes as those of one batch whose length and checksum are right.
pub(crate) fn intact(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().max(HEADER_BYTES), 0);
    let length = (bytes.len() - LENGTH_END) as i32;
    bytes[8..LENGTH_END].copy_from_slice(&length.to_be_bytes());
    bytes[MAGIC_AT] = MAGIC as u8;
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    bytes
}
