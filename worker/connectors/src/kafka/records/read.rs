//! Reading record batches. Every length is looked at before it is followed; nothing is trusted, and nothing is copied that is not compressed.

use bytes::Bytes;

use super::varint::Cursor;
use super::{
    APPEND_TIME, COMPRESSION, CONTROL, CRC_AT, CRC_FROM, HEADER_BYTES, LENGTH_END, MAGIC, MAGIC_AT, RecordsError, TRANSACTIONAL,
    compression,
};

/// Cuts what a broker sent for one partition into batches.
pub(crate) fn batches(bytes: Bytes) -> Batches {
    Batches { rest: bytes }
}

/// Batches, in order; ends after an error, and before a batch of which only a part is there: brokers cut where the room ends.
#[derive(Clone, Debug)]
pub(crate) struct Batches {
    rest: Bytes,
}

impl Batches {
    /// Bytes that were not taken: after the last batch, those of one that is not there as a whole.
    pub(crate) fn rest(&self) -> usize {
        self.rest.len()
    }

    fn cut(&mut self) -> Option<Result<Batch, RecordsError>> {
        let head = self.rest.first_chunk::<{ MAGIC_AT + 1 }>()?;
        let offset = i64::from_be_bytes(array(head, 0));
        let length = i32::from_be_bytes(array(head, 8));
        let magic = head[MAGIC_AT] as i8;
        if (0..MAGIC).contains(&magic) {
            return Some(Err(RecordsError::OldFormat { offset, magic }));
        }
        let damaged = |what| Some(Err(RecordsError::Damaged { offset, what }));
        if magic != MAGIC {
            return damaged("its version is unknown");
        }
        let Ok(length) = usize::try_from(length) else { return damaged("its length is negative") };
        let Some(whole) = length.checked_add(LENGTH_END).filter(|whole| *whole >= HEADER_BYTES) else {
            return damaged("its length is that of no batch");
        };
        if whole > self.rest.len() {
            return None;
        }
        let mut batch = self.rest.split_to(whole);
        if crc32c::crc32c(&batch[CRC_FROM..]) != u32::from_be_bytes(array(&batch, CRC_AT)) {
            return Some(Err(RecordsError::Checksum { offset }));
        }
        Some(Header::read(&batch).map(|header| {
            let payload = batch.split_off(HEADER_BYTES);
            Batch { header, payload }
        }))
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let cut = self.cut();
        if matches!(cut, Some(Err(_))) {
            self.rest.clear();
        }
        cut
    }
}

/// `N` bytes at `at`, which the caller knows to be there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of the length of the array")
}

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// Offset of its first record, also of one that compaction has removed.
    pub(crate) base_offset: i64,
    /// Of the leader that took it.
    pub(crate) partition_leader_epoch: i32,
    attributes: i16,
    last_offset_delta: i32,
    base_timestamp: i64,
    /// The latest of its timestamps, milliseconds since 1970.
    pub(crate) max_timestamp: i64,
    /// Who wrote it; -1 without idempotence.
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    /// Number of its first record among those of the producer in this partition.
    pub(crate) base_sequence: i32,
    count: i32,
}

impl Header {
    /// Of a batch that is there as a whole.
    fn read(batch: &[u8]) -> Result<Self, RecordsError> {
        let header = Self {
            base_offset: i64::from_be_bytes(array(batch, 0)),
            partition_leader_epoch: i32::from_be_bytes(array(batch, 12)),
            attributes: i16::from_be_bytes(array(batch, 21)),
            last_offset_delta: i32::from_be_bytes(array(batch, 23)),
            base_timestamp: i64::from_be_bytes(array(batch, 27)),
            max_timestamp: i64::from_be_bytes(array(batch, 35)),
            producer_id: i64::from_be_bytes(array(batch, 43)),
            producer_epoch: i16::from_be_bytes(array(batch, 51)),
            base_sequence: i32::from_be_bytes(array(batch, 53)),
            count: i32::from_be_bytes(array(batch, 57)),
        };
        let has_end = header.base_offset.checked_add(i64::from(header.last_offset_delta)).is_some_and(|last| last < i64::MAX);
        if header.base_offset < 0 || header.last_offset_delta < 0 || !has_end {
            return Err(header.damaged("its offsets cannot be"));
        }
        if header.count < 0 {
            return Err(header.damaged("its number of records is negative"));
        }
        Ok(header)
    }

    /// Offset of its last record, also of one that compaction has removed.
    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Number of records that are in it.
    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// Whether it belongs to a transaction.
    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether it holds marks of the brokers, and no data.
    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    fn damaged(&self, what: &'static str) -> RecordsError {
        RecordsError::Damaged { offset: self.base_offset, what }
    }
}

/// One batch, not decompressed yet. Its checksum is right.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    header: Header,
    payload: Bytes,
}

impl Batch {
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Decompresses it, to `most` bytes at most. What is not compressed is not copied.
    pub(crate) fn open(self, most: usize) -> Result<OpenBatch, RecordsError> {
        let payload = compression::open(self.header.base_offset, self.header.attributes & COMPRESSION, self.payload, most)?;
        Ok(OpenBatch { header: self.header, payload })
    }
}

/// A batch whose records can be looked at.
#[derive(Clone, Debug)]
pub(crate) struct OpenBatch {
    header: Header,
    payload: Bytes,
}

impl OpenBatch {
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of its records.
    pub(crate) fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// The memory that its records lie in.
    pub(crate) fn memory(&self) -> &Bytes {
        &self.payload
    }

    /// Its records, in order.
    pub(crate) fn records(&self) -> Records<'_> {
        Records { header: &self.header, left: self.header.count, last_delta: -1, rest: Cursor(&self.payload) }
    }

    /// What the brokers say in it; `None` if it is no control batch, or says something that came later and concerns nobody who reads.
    pub(crate) fn control(&self) -> Result<Option<Control>, RecordsError> {
        if !self.header.is_control() {
            return Ok(None);
        }
        let Some(first) = self.records().next().transpose()? else { return Ok(None) };
        let key = first.key.and_then(|key| key.first_chunk::<4>());
        let Some([_, _, high, low]) = key else { return Err(self.header.damaged("a control record has no kind")) };
        Ok(match i16::from_be_bytes([*high, *low]) {
            0 => Some(Control::Abort),
            1 => Some(Control::Commit),
            _ => None,
        })
    }
}

/// How a transaction of the producer ended in this partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Control {
    /// What it wrote does not count.
    Abort,
    /// What it wrote counts.
    Commit,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Record<'a> {
    pub(crate) offset: i64,
    /// Milliseconds since 1970.
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Headers<'a>,
}

/// Records of a batch; ends after an error.
#[derive(Clone, Debug)]
pub(crate) struct Records<'a> {
    header: &'a Header,
    left: i32,
    last_delta: i32,
    rest: Cursor<'a>,
}

impl<'a> Records<'a> {
    #[inline]
    fn read(&mut self) -> Result<Record<'a>, &'static str> {
        const CUT: &str = "a record is cut";
        let length = self.rest.varint().and_then(|length| usize::try_from(length).ok()).ok_or(CUT)?;
        let mut record = Cursor(self.rest.take(length).ok_or(CUT)?);
        // Attributes of records are not used in this version.
        record.byte().ok_or(CUT)?;
        let timestamp_delta = record.varlong().ok_or(CUT)?;
        let offset_delta = record.varint().ok_or(CUT)?;
        if offset_delta <= self.last_delta || offset_delta > self.header.last_offset_delta {
            return Err("the offset of a record cannot be");
        }
        self.last_delta = offset_delta;
        let key = record.bytes().ok_or(CUT)?;
        let value = record.bytes().ok_or(CUT)?;
        let count = record.varint().filter(|count| *count >= 0).ok_or(CUT)?;
        if count == 0 && !record.0.is_empty() {
            return Err("a record is longer than what is in it");
        }
        let timestamp = if self.header.attributes & APPEND_TIME != 0 {
            self.header.max_timestamp
        } else {
            self.header.base_timestamp.wrapping_add(timestamp_delta)
        };
        let headers = Headers { left: count, rest: record };
        Ok(Record { offset: self.header.base_offset + i64::from(offset_delta), timestamp, key, value, headers })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordsError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let read = if self.left > 0 {
            self.left -= 1;
            self.read()
        } else if self.rest.0.is_empty() {
            return None;
        } else {
            Err("there is more in it than its records")
        };
        Some(read.map_err(|what| {
            (self.left, self.rest) = (0, Cursor(&[]));
            self.header.damaged(what)
        }))
    }
}

/// Headers of a record, read when asked for; ends after what is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headers<'a> {
    left: i32,
    rest: Cursor<'a>,
}

impl PartialEq for Headers<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.left, self.rest.0) == (other.left, other.rest.0)
    }
}

#[expect(clippy::copy_iterator, reason = "a record is copied with its headers, which are a place in the batch")]
impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let mut read = || Some((self.rest.bytes()??, self.rest.bytes()?));
        let header = read();
        if header.is_none() {
            self.left = 0;
        }
        header
    }
}
