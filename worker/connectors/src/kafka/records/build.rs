//! Writing record batches: records go straight into the bytes that are sent. It never looks into a key or value.

use bytes::Bytes;

use super::varint::{length, put};
use super::{CRC_AT, CRC_FROM, HEADER_BYTES, LENGTH_END, MAGIC, MAGIC_AT, TRANSACTIONAL};

/// Where the number of records lies.
const COUNT_AT: usize = 57;

/// A record to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRecord<'a> {
    /// Milliseconds since 1970.
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub(crate) value: Option<&'a [u8]>,
    /// Name and value of a header.
    pub(crate) header: Option<(&'a [u8], &'a [u8])>,
}

/// A batch that still takes records.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    /// Room for the header, and the records.
    bytes: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch, with room for `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity.max(HEADER_BYTES));
        bytes.resize(HEADER_BYTES, 0);
        Self { bytes, count: 0, base_timestamp: 0, max_timestamp: i64::MIN }
    }

    /// Number of records.
    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the batch as it is sent.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that a record would add.
    #[inline]
    pub(crate) fn size(&self, record: &NewRecord<'_>) -> usize {
        let body = self.body(record);
        length(body as i64) + body
    }

    #[inline]
    fn timestamp_delta(&self, record: &NewRecord<'_>) -> i64 {
        if self.count == 0 { 0 } else { record.timestamp.wrapping_sub(self.base_timestamp) }
    }

    #[inline]
    fn body(&self, record: &NewRecord<'_>) -> usize {
        let field = |bytes: Option<&[u8]>| bytes.map_or(1, |bytes| length(bytes.len() as i64) + bytes.len());
        let headers = record.header.map_or(0, |(name, value)| field(Some(name)) + field(Some(value)));
        // One byte of attributes, one for the number of headers.
        2 + length(self.timestamp_delta(record)) + length(self.count.into()) + field(record.key) + field(record.value) + headers
    }

    /// Appends a record.
    #[inline]
    pub(crate) fn append(&mut self, record: &NewRecord<'_>) {
        let body = self.body(record);
        let delta = self.timestamp_delta(record);
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let out = &mut self.bytes;
        put(body as i64, out);
        out.push(0);
        put(delta, out);
        put(self.count.into(), out);
        put_field(record.key, out);
        put_field(record.value, out);
        match record.header {
            None => out.push(0),
            Some((name, value)) => {
                put(1, out);
                put_field(Some(name), out);
                put_field(Some(value), out);
            }
        }
        self.count += 1;
    }

    /// Ends the batch. It must hold a record.
    pub(crate) fn seal(mut self) -> SealedBatch {
        debug_assert!(self.count > 0, "a batch without records is sent by nobody");
        let length = (self.bytes.len() - LENGTH_END) as i32;
        let last = self.count - 1;
        let mut set = |at: usize, field: &[u8]| self.bytes[at..at + field.len()].copy_from_slice(field);
        set(8, &length.to_be_bytes());
        // The leader epoch, which the broker sets.
        set(12, &(-1_i32).to_be_bytes());
        set(MAGIC_AT, &MAGIC.to_be_bytes());
        set(23, &last.to_be_bytes());
        set(27, &self.base_timestamp.to_be_bytes());
        set(35, &self.max_timestamp.to_be_bytes());
        set(COUNT_AT, &self.count.to_be_bytes());
        // Room that was made for more is not held on to.
        if self.bytes.capacity() > 2 * self.bytes.len() {
            self.bytes.shrink_to_fit();
        }
        SealedBatch { bytes: self.bytes.into(), count: self.count }
    }
}

#[inline]
fn put_field(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        None => put(-1, out),
        Some(bytes) => {
            put(bytes.len() as i64, out);
            out.extend_from_slice(bytes);
        }
    }
}

/// By whom a batch is sent, and as which in a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    /// Number of the first record among those of the producer in this partition.
    pub(crate) sequence: i32,
    pub(crate) is_transactional: bool,
}

/// A batch that takes no more records. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SealedBatch {
    bytes: Bytes,
    count: i32,
}

impl SealedBatch {
    /// Number of records.
    pub(crate) fn count(&self) -> i32 {
        self.count
    }

    /// The bytes as they are sent, once it is stamped.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The batch as it is sent: with the checksum of all of it. Copied only if somebody else still holds it.
    pub(crate) fn stamped(self, stamp: Stamp) -> Self {
        let mut bytes = Vec::from(self.bytes);
        let mut set = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        let attributes = if stamp.is_transactional { TRANSACTIONAL } else { 0 };
        set(21, &attributes.to_be_bytes());
        set(43, &stamp.producer_id.to_be_bytes());
        set(51, &stamp.producer_epoch.to_be_bytes());
        set(53, &stamp.sequence.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        Self { bytes: bytes.into(), count: self.count }
    }
}
