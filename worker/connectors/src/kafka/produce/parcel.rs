//! Batches on their way, and what their records are known by, should the brokers refuse them. Nothing here is kept for each record but a number.

use millrace_engine::batch::Origin;
use tokio::time::Instant;

use super::super::records::{self, BatchBuilder, HEADER_BYTES, NewRecord, SealedBatch};
use kafka_protocol::ResponseError as Code;

/// What a record costs besides its bytes in the batch.
pub(super) const RECORD_OVERHEAD: usize = size_of::<u64>();

/// Where the records of a batch come from.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Origins, each with the number of its records in a row.
    origins: Vec<(Origin, usize)>,
    ordinals: Vec<u64>,
}

impl Known {
    fn at(&self, nth: usize) -> Option<(&Origin, u64)> {
        let mut before = 0;
        let origin = self.origins.iter().find(|(_, count)| {
            before += count;
            nth < before
        });
        Some((&origin?.0, *self.ordinals.get(nth)?))
    }

    fn split_off(&mut self, at: usize) -> Self {
        let ordinals = self.ordinals.split_off(at);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let mut left = at;
        for (origin, count) in self.origins.drain(..) {
            let here = count.min(left);
            left -= here;
            if here > 0 {
                first.push((origin.clone(), here));
            }
            if count > here {
                second.push((origin, count - here));
            }
        }
        self.origins = first;
        Self { origins: second, ordinals }
    }
}

/// A batch that still takes records.
#[derive(Debug)]
pub(super) struct Open {
    builder: BatchBuilder,
    known: Known,
    /// The lot of rows that the last record belongs to.
    lot: u64,
}

impl Open {
    /// With room for so many bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Self { builder: BatchBuilder::new(capacity), known: Known::default(), lot: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.builder.count() == 0
    }

    /// Bytes that a record would add to the batch.
    pub(super) fn size(&self, record: &NewRecord<'_>) -> usize {
        self.builder.size(record)
    }

    /// Bytes of the batch.
    pub(super) fn len(&self) -> usize {
        self.builder.len()
    }

    /// Appends a record of `lot`, all of whose records have one origin.
    pub(super) fn append(&mut self, record: &NewRecord<'_>, lot: u64, origin: &Origin, ordinal: u64) {
        match self.known.origins.last_mut() {
            Some((_, count)) if self.lot == lot => *count += 1,
            _ => self.known.origins.push((origin.clone(), 1)),
        }
        self.lot = lot;
        self.known.ordinals.push(ordinal);
        self.builder.append(record);
    }

    pub(super) fn seal(self, now: Instant) -> Parcel {
        let weight = self.builder.len() + self.builder.count() * RECORD_OVERHEAD;
        Parcel { batch: self.builder.seal(), known: self.known, weight, attempts: 0, may_be_written: false, since: now }
    }
}

/// A batch to be sent.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) batch: SealedBatch,
    known: Known,
    /// Bytes that it counts for.
    pub(super) weight: usize,
    /// How often it was sent.
    pub(super) attempts: u32,
    /// Whether it was sent without an answer that says that it was not written.
    pub(super) may_be_written: bool,
    /// When it was ready to be sent.
    pub(super) since: Instant,
}

impl Parcel {
    /// Two of about half the size each; `None` if it is only one record. It was stamped before.
    pub(super) fn halves(mut self) -> Result<(Self, Self), Self> {
        if self.batch.count() < 2 {
            return Err(self);
        }
        let whole = open(&self.batch);
        let middle = HEADER_BYTES + self.batch.bytes().len() / 2;
        let (mut first, mut second) = (BatchBuilder::new(middle), BatchBuilder::new(middle));
        let last = self.batch.count() as usize - 1;
        for (nth, record) in whole.records().map_while(Result::ok).enumerate() {
            let header = record.headers.clone().next().map(|(name, value)| (name, value.unwrap_or_default()));
            let record = NewRecord { timestamp: record.timestamp, key: record.key, value: record.value, header };
            let is_first = nth == 0 || (nth < last && second.count() == 0 && first.len() + first.size(&record) <= middle);
            if is_first { first.append(&record) } else { second.append(&record) }
        }
        let known = self.known.split_off(first.count());
        let (weight, attempts, since) = (self.weight / 2, self.attempts, self.since);
        let half =
            |builder: BatchBuilder, known, weight| Self { batch: builder.seal(), known, weight, attempts, may_be_written: false, since };
        Ok((half(first, self.known, weight), half(second, known, self.weight - weight)))
    }

    /// What was refused: its only record.
    pub(super) fn refused(&self, code: Code) -> Option<Refused> {
        let (origin, ordinal) = self.known.at(0)?;
        let whole = open(&self.batch);
        let record = whole.records().next()?.ok()?;
        let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
        Some(Refused { origin: origin.clone(), ordinal, key, value, code, attempts: self.attempts })
    }
}

/// A batch that was made here.
fn open(batch: &SealedBatch) -> records::OpenBatch {
    let batch = records::batches(batch.bytes().clone()).next().and_then(Result::ok);
    let opened = batch.and_then(|batch| batch.open(usize::MAX).ok());
    opened.expect("a batch that was written and stamped here can be read")
}

/// A record that the brokers, or the client for its size, will not take.
#[derive(Debug, PartialEq)]
pub(crate) struct Refused {
    pub(crate) origin: Origin,
    pub(crate) ordinal: u64,
    pub(crate) key: Option<Vec<u8>>,
    /// `None` of a tombstone.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) code: Code,
    /// How often it was sent.
    pub(crate) attempts: u32,
}
