//! What one answer of a broker holds of a partition, decoded from where it lies. It asks for nothing and copies no value.

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::AbortedTransaction;

use super::aborted::Aborted;
use super::records::{self, Batch, Control, OpenBatch, RecordsError};
use crate::formats::{Decoded, Keyed, RecordDecoder};

/// Records of one delivery at most.
const BATCH_RECORDS: usize = 8192;
/// Bytes of one delivery, more or less.
const BATCH_BYTES: usize = 1 << 20;
/// What one batch may become when it is decompressed, whatever the ratio says: at least, and at most.
const OPENED_BYTES: (usize, usize) = (16 << 20, 128 << 20);

/// Batches that have not been delivered, or not as a whole.
pub(super) struct Fetched {
    /// All that was sent; batches that are not compressed lie in it.
    bytes: Bytes,
    batches: std::vec::IntoIter<(Batch, usize)>,
    /// A batch that was delivered in part, and how many of its records were.
    begun: Option<(OpenBatch, usize)>,
    /// Why there is nothing behind the batches.
    broken: Option<RecordsError>,
    aborted: Aborted,
    /// Records before this are not wanted: a batch is sent as a whole.
    from: i64,
    next: i64,
    last_epoch: Option<i32>,
    ratio: u64,
}

/// What became of records, without the memory that they lay in.
pub(super) struct Taken {
    pub(super) decoded: Decoded,
    /// Offset of each value that was decoded.
    pub(super) offsets: Vec<u64>,
    /// After the last record.
    pub(super) next: i64,
    /// Of the leader that took the last record.
    pub(super) leader_epoch: i32,
    /// Of the last record, milliseconds since 1970.
    pub(super) timestamp: i64,
}

impl Fetched {
    /// `bytes` were asked for from offset `from` on; `ratio` bounds what a byte may become.
    pub(super) fn cut(bytes: Bytes, aborted: Option<Vec<AbortedTransaction>>, from: i64, ratio: u64) -> Self {
        let mut found = Vec::new();
        let mut broken = None;
        let mut batches = records::batches(bytes.clone());
        let mut before = batches.rest();
        while let Some(batch) = batches.next() {
            match batch {
                Ok(batch) => found.push((batch, before - batches.rest())),
                Err(error) => broken = Some(error),
            }
            before = batches.rest();
        }
        if found.is_empty() && broken.is_none() && batches.rest() > 0 {
            broken = Some(RecordsError::Damaged { offset: from, what: "only a part of it was sent" });
        }
        let last = found.last().map(|(batch, _)| *batch.header());
        let transactions = aborted.unwrap_or_default().into_iter().map(|one| (one.first_offset, one.producer_id.0));
        Self {
            bytes,
            batches: found.into_iter(),
            begun: None,
            broken,
            aborted: Aborted::new(transactions),
            from,
            next: last.map_or(from, |last| from.max(last.last_offset() + 1)),
            last_epoch: last.map(|last| last.partition_leader_epoch),
            ratio,
        }
    }

    /// After everything that is in it.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// Of the leader that took its last batch.
    pub(super) fn last_epoch(&self) -> Option<i32> {
        self.last_epoch
    }

    /// Whether nothing can follow it.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Whether all was delivered.
    pub(super) fn is_exhausted(&self) -> bool {
        self.batches.len() == 0 && self.begun.is_none() && self.broken.is_none()
    }

    /// Decodes the next records; `None` when there are no more.
    pub(super) fn decode(&mut self, decoder: &mut dyn RecordDecoder) -> Result<Option<Taken>, RecordsError> {
        loop {
            let (opened, skip) = self.open()?;
            if opened.is_empty() {
                return Ok(None);
            }
            let (mut offsets, mut values, mut changes) = (Vec::new(), Vec::new(), Vec::new());
            let takes_keys = decoder.takes_keys();
            let (mut bytes, mut last, mut begun) = (0, None, None);
            for (number, batch) in opened.iter().enumerate() {
                let skip = if number == 0 { skip } else { 0 };
                for (index, record) in batch.records().enumerate().skip(skip) {
                    let record = record?;
                    if bytes >= BATCH_BYTES || offsets.len() >= BATCH_RECORDS {
                        begun = Some(index);
                        break;
                    }
                    if record.offset < self.from {
                        continue;
                    }
                    last = Some((record.offset, batch.header().partition_leader_epoch, record.timestamp));
                    if takes_keys {
                        offsets.push(record.offset.unsigned_abs());
                        changes.push(Keyed { key: record.key, value: record.value });
                        bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
                    } else if let Some(value) = record.value {
                        offsets.push(record.offset.unsigned_abs());
                        values.push(value);
                        bytes += value.len();
                    }
                }
            }
            let taken = last.map(|(offset, leader_epoch, timestamp)| {
                let decoded =
                    if takes_keys { decoder.decode_keyed(&changes) } else { decoder.decode_within(&values, &self.memory(&opened)) };
                Taken { decoded, offsets, next: offset + 1, leader_epoch, timestamp }
            });
            drop((values, changes));
            // Only the last one can be too much: `open` stops with it.
            self.begun = begun.zip(opened.into_iter().next_back()).map(|(index, batch)| (batch, index));
            if taken.is_some() {
                return Ok(taken);
            }
        }
    }

    /// The memory that the records of batches lie in.
    fn memory(&self, batches: &[OpenBatch]) -> Vec<Bytes> {
        let all = self.bytes.as_ptr_range();
        let (sent, opened): (Vec<_>, Vec<_>) = batches.iter().map(OpenBatch::memory).partition(|memory| all.contains(&memory.as_ptr()));
        let whole = (!sent.is_empty()).then_some(&self.bytes);
        whole.into_iter().chain(opened).cloned().collect()
    }

    /// Batches of data for one delivery, and how many records of the first have been delivered already.
    fn open(&mut self) -> Result<(Vec<OpenBatch>, usize), RecordsError> {
        let (mut opened, mut skip) = (Vec::new(), 0);
        let (mut records, mut bytes) = (0, 0);
        if let Some((batch, taken)) = self.begun.take() {
            (records, bytes, skip) = (batch.header().count() - taken, batch.bytes(), taken);
            opened.push(batch);
        }
        while records < BATCH_RECORDS && bytes < BATCH_BYTES {
            let Some((batch, sent)) = self.batches.next() else { break };
            let header = *batch.header();
            let most = usize::try_from(self.ratio).unwrap_or(usize::MAX).saturating_mul(sent).clamp(OPENED_BYTES.0, OPENED_BYTES.1);
            if header.is_control() {
                if batch.open(most)?.control()? == Some(Control::Abort) {
                    self.aborted.ended(&header);
                }
            } else if !self.aborted.has(&header) {
                let batch = batch.open(most)?;
                records += header.count();
                bytes += batch.bytes();
                opened.push(batch);
            }
        }
        // What is good before it comes first.
        match self.broken.take() {
            Some(error) if opened.is_empty() && self.batches.len() == 0 => Err(error),
            broken => {
                self.broken = broken;
                Ok((opened, skip))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{RecordBatch, RecordBatchOptions, UInt64Array};
    use arrow::datatypes::Schema;

    use super::super::records::{BatchBuilder, NewRecord, Stamp};
    use super::*;

    /// Keeps what it was given.
    #[derive(Default)]
    struct Kept(Vec<String>);

    impl RecordDecoder for Kept {
        fn decode(&mut self, payloads: &[&[u8]]) -> Decoded {
            self.0.extend(payloads.iter().map(|payload| String::from_utf8_lossy(payload).into_owned()));
            let options = RecordBatchOptions::new().with_row_count(Some(payloads.len()));
            Decoded {
                records: RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).unwrap(),
                ordinals: UInt64Array::from_iter_values(0..payloads.len() as u64),
                rejected: Vec::new(),
                bytes: 0,
                kinds: None,
            }
        }
    }

    /// A batch at an offset, taken by the leader of epoch 7; of a transaction if it has a producer.
    fn batch<'a>(base: i64, producer: Option<i64>, values: impl IntoIterator<Item = Option<&'a str>>) -> Vec<u8> {
        let mut builder = BatchBuilder::new(0);
        for value in values {
            builder.append(&NewRecord { timestamp: 1000 + base, key: None, value: value.map(str::as_bytes), header: None });
        }
        sealed(base, producer, builder)
    }

    fn sealed(base: i64, producer: Option<i64>, builder: BatchBuilder) -> Vec<u8> {
        let stamp = Stamp { producer_id: producer.unwrap_or(-1), producer_epoch: 0, sequence: 0, is_transactional: producer.is_some() };
        let mut bytes = builder.seal().stamped(stamp).bytes().to_vec();
        // Neither is under the checksum: brokers set both.
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes[12..16].copy_from_slice(&7_i32.to_be_bytes());
        bytes
    }

    /// The mark at the end of a transaction.
    fn mark(base: i64, producer: i64, commits: bool) -> Vec<u8> {
        let mut builder = BatchBuilder::new(0);
        builder.append(&NewRecord { timestamp: 0, key: Some(&[0, 0, 0, u8::from(commits)]), value: Some(&[0; 6]), header: None });
        let mut bytes = sealed(base, Some(producer), builder);
        bytes[22] |= 0x20;
        records::intact(&bytes)
    }

    fn cut(batches: &[Vec<u8>], aborted: Option<&[(i64, i64)]>, from: i64) -> Fetched {
        let aborted = aborted.map(|aborted| {
            let one = |(first, producer): &(i64, i64)| {
                AbortedTransaction::default().with_first_offset(*first).with_producer_id((*producer).into())
            };
            aborted.iter().map(one).collect()
        });
        Fetched::cut(batches.concat().into(), aborted, from, 200)
    }

    /// Everything that is delivered: values and their offsets.
    fn all(fetched: &mut Fetched) -> (Vec<String>, Vec<u64>) {
        let (mut kept, mut offsets) = (Kept::default(), Vec::new());
        while let Some(taken) = fetched.decode(&mut kept).unwrap() {
            offsets.extend(taken.offsets);
        }
        assert!(fetched.is_exhausted());
        (kept.0, offsets)
    }

    #[test]
    fn what_was_aborted_is_left_out_and_marks_are_passed() {
        let batches = [
            batch(0, Some(1), [Some("a0"), Some("a1")]),
            batch(2, Some(2), [Some("b2")]),
            batch(3, None, [Some("c3")]),
            batch(4, Some(1), [Some("a4")]),
            mark(5, 1, false),
            // The same producer again: committed this time.
            batch(6, Some(1), [Some("a6")]),
            mark(7, 2, true),
            mark(8, 1, true),
            // And once more: aborted, and its end is not in this answer.
            batch(9, Some(1), [Some("a9")]),
        ];
        let mut fetched = cut(&batches, Some(&[(9, 1), (0, 1)]), 0);
        assert_eq!((fetched.next(), fetched.last_epoch()), (10, Some(7)));
        assert_eq!(all(&mut fetched), (vec!["b2".into(), "c3".into(), "a6".into()], vec![2, 3, 6]));
        // Who reads what is not committed sees it all, but for the marks.
        let (values, _) = all(&mut cut(&batches, None, 0));
        assert_eq!(values, ["a0", "a1", "b2", "c3", "a4", "a6", "a9"]);
        // It began before what is read now.
        let mut rest = cut(&batches[3..], Some(&[(0, 1), (9, 1)]), 4);
        assert_eq!(all(&mut rest).0, ["a6"]);
    }

    #[test]
    fn nothing_but_marks_is_passed_without_a_delivery() {
        let mut fetched = cut(&[mark(5, 1, false), mark(6, 2, true)], Some(&[(5, 1)]), 5);
        assert!(fetched.decode(&mut Kept::default()).unwrap().is_none());
        assert!(fetched.is_exhausted());
        assert_eq!(fetched.next(), 7);
        let mut nothing = cut(&[], Some(&[]), 5);
        assert!(nothing.decode(&mut Kept::default()).unwrap().is_none());
        assert_eq!((nothing.next(), nothing.last_epoch()), (5, None));
    }

    #[test]
    fn a_batch_is_read_from_the_offset_that_was_asked_for_and_tombstones_are_passed() {
        let batches = [batch(10, None, [Some("x"), None, Some("y"), None]), batch(14, None, [None])];
        let mut fetched = cut(&batches, None, 11);
        let mut kept = Kept::default();
        let taken = fetched.decode(&mut kept).unwrap().unwrap();
        assert_eq!((kept.0, taken.offsets, taken.next, taken.timestamp), (vec!["y".to_owned()], vec![12], 15, 1014));
        assert_eq!(taken.leader_epoch, 7);
        assert!(fetched.is_exhausted());
    }

    /// Keeps keys too.
    #[derive(Default)]
    struct KeptChanges(Vec<(Option<String>, Option<String>)>);

    impl RecordDecoder for KeptChanges {
        fn decode(&mut self, _payloads: &[&[u8]]) -> Decoded {
            panic!("keys are wanted")
        }

        fn takes_keys(&self) -> bool {
            true
        }

        fn decode_keyed(&mut self, records: &[Keyed<'_>]) -> Decoded {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.0.extend(records.iter().map(|record| (record.key.map(text), record.value.map(text))));
            Kept::default().decode(&vec![&b""[..]; records.len()])
        }
    }

    #[test]
    fn who_wants_keys_gets_records_without_a_value_too() {
        let mut builder = BatchBuilder::new(0);
        for (key, value) in [(Some("a"), Some("1")), (Some("a"), None), (None, Some("2")), (None, None)] {
            builder.append(&NewRecord { timestamp: 0, key: key.map(str::as_bytes), value: value.map(str::as_bytes), header: None });
        }
        let mut fetched = cut(&[sealed(20, None, builder)], None, 21);
        let mut kept = KeptChanges::default();
        let taken = fetched.decode(&mut kept).unwrap().unwrap();
        assert_eq!((taken.offsets, taken.next), (vec![21, 22, 23], 24));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(kept.0, [(some("a"), None), (None, some("2")), (None, None)]);
    }

    #[test]
    fn a_large_batch_is_delivered_in_parts() {
        let values: Vec<_> = (0..20_000).map(|number| format!("v{number}")).collect();
        let batches = [batch(0, None, values.iter().map(|value| Some(value.as_str()))), batch(20_000, None, [Some("last")])];
        let mut fetched = cut(&batches, None, 0);
        let (mut kept, mut parts) = (Kept::default(), Vec::new());
        while let Some(taken) = fetched.decode(&mut kept).unwrap() {
            assert_eq!(taken.next, kept.0.len() as i64, "what is passed is what was delivered");
            parts.push(taken.offsets.len());
        }
        assert_eq!(parts, [8192, 8192, 3617]);
        assert_eq!(kept.0[..20_000], values);
        // By bytes too.
        let long = "x".repeat(400_000);
        let batches = [batch(0, None, [Some(long.as_str()); 5])];
        let mut fetched = cut(&batches, None, 0);
        let mut kept = Kept::default();
        fetched.decode(&mut kept).unwrap();
        assert_eq!(kept.0.len(), 3);
        assert_eq!(all(&mut fetched).1, [3, 4]);
    }

    #[test]
    fn what_is_damaged_is_an_error_after_what_is_good() {
        let mut damaged = batch(2, None, [Some("bad")]);
        *damaged.last_mut().unwrap() ^= 1;
        let batches = [batch(0, None, [Some("good"), Some("too")]), damaged, batch(3, None, [Some("never")])];
        let mut fetched = cut(&batches, None, 0);
        assert!(fetched.is_broken());
        assert_eq!(fetched.next(), 2, "nothing is passed over");
        let mut kept = Kept::default();
        assert_eq!(fetched.decode(&mut kept).unwrap().unwrap().next, 2);
        assert!(!fetched.is_exhausted());
        let error = fetched.decode(&mut kept).err().unwrap();
        assert_eq!(error, RecordsError::Checksum { offset: 2 });
        assert_eq!(kept.0, ["good", "too"]);

        // A broker cuts where the room ends, but never the first batch.
        let mut part = batch(3, None, [Some("cut")]);
        part.truncate(70);
        let mut fetched = cut(&[batch(0, None, [Some("whole")]), part.clone()], None, 0);
        assert_eq!((fetched.is_broken(), all(&mut fetched).0), (false, vec!["whole".to_owned()]));
        let mut only_part = cut(&[part], None, 3);
        assert!(matches!(only_part.decode(&mut Kept::default()), Err(RecordsError::Damaged { offset: 3, .. })));
        let mut old = batch(4, None, [Some("old")]);
        old[16] = 1;
        let mut old = cut(&[old], None, 4);
        assert_eq!(old.decode(&mut Kept::default()).err().unwrap(), RecordsError::OldFormat { offset: 4, magic: 1 });
    }
}
