//! Batches survive the way there and back, agree with another implementation, and whatever the bytes are, they are records or an error.

use std::io::Write as _;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{self as theirs, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use proptest::prelude::*;

use super::*;

const MOST: usize = 1 << 20;
const STAMP: Stamp = Stamp { producer_id: 4711, producer_epoch: 3, sequence: 17, is_transactional: true };

/// Key, value, header and timestamp of a record, as it is written and read.
#[derive(Clone, Debug, PartialEq)]
struct Whole {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    header: Option<(Vec<u8>, Vec<u8>)>,
}

impl Whole {
    fn as_new(&self) -> NewRecord<'_> {
        NewRecord {
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            header: self.header.as_ref().map(|(name, value)| (name.as_slice(), value.as_slice())),
        }
    }
}

fn some() -> Vec<Whole> {
    let whole = |timestamp, key: Option<&str>, value: Option<&str>, header: Option<(&str, &str)>| Whole {
        timestamp,
        key: key.map(Into::into),
        value: value.map(Into::into),
        header: header.map(|(name, value)| (name.into(), value.into())),
    };
    vec![
        whole(1_700_000_000_000, Some("k"), Some("{}"), Some(("millrace-coordinate", "abc-7"))),
        whole(1_700_000_000_500, None, Some(&"x".repeat(300)), None),
        whole(1_699_999_999_999, Some(""), None, None),
        whole(1_700_000_000_000, None, None, Some(("", ""))),
    ]
}

fn sealed(records: &[Whole]) -> SealedBatch {
    let mut builder = BatchBuilder::new(0);
    for record in records {
        let expected = builder.len() + builder.size(&record.as_new());
        builder.append(&record.as_new());
        assert_eq!(builder.len(), expected, "the size is known beforehand");
    }
    assert_eq!(builder.count(), records.len());
    builder.seal()
}

fn built(records: &[Whole]) -> Bytes {
    sealed(records).stamped(STAMP).bytes().clone()
}

fn only(bytes: &Bytes) -> Batch {
    let mut batches = batches(bytes.clone());
    let batch = batches.next().unwrap().unwrap();
    assert!(batches.next().is_none() && batches.rest() == 0);
    batch
}

fn read(bytes: &Bytes) -> Vec<Whole> {
    let batch = only(bytes).open(MOST).unwrap();
    let records = batch.records().enumerate().map(|(nth, record)| {
        let record = record.unwrap();
        assert_eq!(record.offset, batch.header().base_offset + nth as i64);
        let owned = |(name, value): (&[u8], Option<&[u8]>)| (name.to_vec(), value.unwrap().to_vec());
        let header = record.headers.map(owned).next();
        Whole { timestamp: record.timestamp, key: record.key.map(<[u8]>::to_vec), value: record.value.map(<[u8]>::to_vec), header }
    });
    records.collect()
}

/// Does what `change` does to the bytes of a batch, and makes the checksum and the length right again.
fn changed(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = bytes.to_vec();
    change(&mut bytes);
    intact(&bytes).into()
}

fn compressed(batch: &[u8], codec: u8, compress: impl FnOnce(&[u8]) -> Vec<u8>) -> Bytes {
    changed(batch, |bytes| {
        let payload = compress(&bytes[HEADER_BYTES..]);
        bytes.truncate(HEADER_BYTES);
        bytes.extend(payload);
        bytes[22] |= codec;
    })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

/// As Java writes it.
fn xerial(bytes: &[u8]) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in bytes.chunks(100) {
        let block = snappy(block);
        out.extend((block.len() as i32).to_be_bytes());
        out.extend(block);
    }
    out
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

type Compress = fn(&[u8]) -> Vec<u8>;
const CODECS: [(u8, Compress); 5] = [(1, gzip), (2, snappy), (2, xerial), (3, lz4), (4, zstd)];

#[test]
fn what_is_written_is_read() {
    let bytes = built(&some());
    let batch = only(&bytes);
    let header = *batch.header();
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (4711, 3, 17));
    assert!(header.is_transactional() && !header.is_control());
    assert_eq!((header.count(), header.last_offset(), header.max_timestamp), (4, 3, 1_700_000_000_500));
    assert_eq!(read(&bytes), some());
    for (codec, compress) in CODECS {
        assert_eq!(read(&compressed(&bytes, codec, compress)), some(), "{codec}");
    }
}

#[test]
fn a_batch_of_a_broker_is_read() {
    let bytes: &[u8] = &[
        0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x43, 0x0, 0x0, 0x0, 0x0, 0x2, 0x73, 0x6d, 0x29, 0x7b, 0x0, 0x0, 0x0, 0x0,
        0x0, 0x3, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x1, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0,
        0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x1, 0x22, 0x1, 0xd0, 0xf, 0x2, 0xa, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0xa, 0x77, 0x6f,
        0x72, 0x6c, 0x64, 0x0,
    ];
    let batch = only(&Bytes::from_static(bytes)).open(0).unwrap();
    let record = batch.records().next().unwrap().unwrap();
    assert_eq!((record.offset, record.timestamp, record.key, record.value), (1, 1000, Some(&b"hello"[..]), Some(&b"world"[..])));
    assert_eq!(batch.header().last_offset(), 3, "others were compacted away");
}

#[test]
fn another_implementation_reads_what_is_written_and_writes_what_is_read() {
    let bytes = built(&some());
    let found = RecordBatchDecoder::decode(&mut bytes.clone()).unwrap().records;
    let records: Vec<_> = found
        .iter()
        .map(|record| {
            assert!(record.transactional && record.producer_id == 4711 && record.producer_epoch == 3);
            let header = record.headers.iter().next();
            Whole {
                timestamp: record.timestamp,
                key: record.key.as_ref().map(|key| key.to_vec()),
                value: record.value.as_ref().map(|value| value.to_vec()),
                header: header.map(|(name, value)| (name.as_bytes().to_vec(), value.as_ref().unwrap().to_vec())),
            }
        })
        .collect();
    assert_eq!(records, some());
    assert_eq!(found.iter().map(|record| record.sequence).collect::<Vec<_>>(), [17, 18, 19, 20]);

    let records: Vec<_> = some()
        .into_iter()
        .enumerate()
        .map(|(nth, record)| theirs::Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 5,
            producer_id: 9,
            producer_epoch: 1,
            timestamp_type: TimestampType::Creation,
            offset: 1000 + nth as i64,
            sequence: nth as i32,
            timestamp: record.timestamp,
            key: record.key.map(Bytes::from),
            value: record.value.map(Bytes::from),
            headers: record
                .header
                .into_iter()
                .map(|(name, value)| (StrBytes::from_string(String::from_utf8(name).unwrap()), Some(Bytes::from(value))))
                .collect(),
        })
        .collect();
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, &records, &RecordEncodeOptions { version: 2, compression: theirs::Compression::None }).unwrap();
    let bytes = bytes.freeze();
    assert_eq!(read(&bytes), some());
    let header = *only(&bytes).header();
    assert_eq!((header.base_offset, header.partition_leader_epoch, header.producer_id), (1000, 5, 9));
}

#[test]
fn a_part_of_a_batch_at_the_end_is_left() {
    let whole = built(&some());
    for cut in 0..whole.len() {
        let bytes = Bytes::from([&whole[..], &whole[..cut]].concat());
        let mut batches = batches(bytes);
        assert!(batches.next().unwrap().is_ok());
        assert!(batches.next().is_none(), "{cut}");
        assert_eq!(batches.rest(), cut);
    }
}

#[test]
fn another_stamp_changes_nothing_else() {
    let batch = sealed(&some()).stamped(STAMP);
    let other = Stamp { producer_id: 1, producer_epoch: 2, sequence: 3, is_transactional: false };
    // While the first is still being sent.
    let again = batch.clone().stamped(other);
    let header = *only(again.bytes()).header();
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence, header.is_transactional()), (1, 2, 3, false));
    assert_eq!((read(again.bytes()), again.count()), (some(), 4));
    assert_eq!(batch.bytes(), &built(&some()));
    assert_eq!(again.stamped(STAMP).bytes(), batch.bytes());
}

#[test]
fn the_brokers_say_how_a_transaction_ended() {
    let mark = |kind: u8| {
        let marked = [0, 0, 0, kind];
        let record = Whole { timestamp: 0, key: Some(marked.to_vec()), value: Some(vec![0; 6]), header: None };
        let bytes = changed(&built(&[record]), |bytes| bytes[22] |= CONTROL as u8);
        only(&bytes).open(MOST).unwrap().control()
    };
    assert_eq!((mark(0), mark(1), mark(9)), (Ok(Some(Control::Abort)), Ok(Some(Control::Commit)), Ok(None)));
    assert_eq!(only(&built(&some())).open(MOST).unwrap().control(), Ok(None));
    let short = Whole { timestamp: 0, key: Some(vec![0]), value: None, header: None };
    let bytes = changed(&built(&[short]), |bytes| bytes[22] |= CONTROL as u8);
    assert!(matches!(only(&bytes).open(MOST).unwrap().control(), Err(RecordsError::Damaged { .. })));
}

#[test]
fn the_broker_may_set_all_timestamps_to_one() {
    let bytes = changed(&built(&some()), |bytes| bytes[22] |= APPEND_TIME as u8);
    assert!(read(&bytes).iter().all(|record| record.timestamp == 1_700_000_000_500));
}

#[test]
fn what_is_not_read_is_named() {
    let bytes = built(&some());
    let first = |bytes: Bytes| batches(bytes).next().unwrap();
    for magic in [0, 1] {
        let mut old = bytes.to_vec();
        (old[7], old[MAGIC_AT]) = (5, magic);
        let error = first(old.into()).unwrap_err();
        assert_eq!(error, RecordsError::OldFormat { offset: 5, magic: magic as i8 });
    }
    let mut damaged = bytes.to_vec();
    damaged[70] ^= 1;
    let mut reading = batches(damaged.into());
    assert_eq!(reading.next().unwrap().unwrap_err(), RecordsError::Checksum { offset: 0 });
    assert!(reading.next().is_none());
    let codec = changed(&bytes, |bytes| bytes[22] |= 5);
    assert_eq!(only(&codec).open(MOST).unwrap_err(), RecordsError::UnknownCompression { offset: 0, codec: 5 });
}

#[test]
fn more_than_there_is_room_for_is_refused() {
    let big = Whole { timestamp: 0, key: None, value: Some(vec![b'x'; 100_000]), header: None };
    let bytes = built(std::slice::from_ref(&big));
    let plain = bytes.len() - HEADER_BYTES;
    for (codec, compress) in CODECS {
        let bytes = compressed(&bytes, codec, compress);
        assert!(bytes.len() < plain / 2);
        assert!(matches!(only(&bytes).open(plain - 1), Err(RecordsError::TooLarge { .. })), "{codec}");
        assert!(only(&bytes).open(plain).is_ok(), "{codec}");
        assert_eq!(read(&bytes), std::slice::from_ref(&big), "{codec}");
    }
}

fn wholes() -> impl Strategy<Value = Vec<Whole>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    let whole = (any::<i64>(), prop::option::of(bytes()), prop::option::of(bytes()), prop::option::of((bytes(), bytes())));
    let whole = whole.prop_map(|(timestamp, key, value, header)| Whole { timestamp, key, value, header });
    prop::collection::vec(whole, 1..20)
}

proptest! {
    #[test]
    fn any_records_survive(records in wholes(), codec in 0..CODECS.len()) {
        let bytes = built(&records);
        prop_assert_eq!(&read(&bytes), &records);
        let (codec, compress) = CODECS[codec];
        prop_assert_eq!(&read(&compressed(&bytes, codec, compress)), &records);
    }

    #[test]
    fn any_bytes_are_batches_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        exhaust(&bytes);
        // Behind a header that is right, in each compression.
        for codec in 0..6 {
            let batch = changed(&built(&some()), |batch| {
                batch.truncate(HEADER_BYTES);
                batch.extend(&bytes);
                batch[22] |= codec;
            });
            exhaust(&batch);
        }
    }

    #[test]
    fn a_changed_byte_is_an_error_or_other_records(at in 0..10_000_usize, value in any::<u8>(), codec in 0..CODECS.len()) {
        let plain = built(&some());
        let (codec, compress) = CODECS[codec];
        for bytes in [plain.clone(), compressed(&plain, codec, compress)] {
            // As it came, which the checksum sees; and as somebody wrote it who means harm.
            let at = at % bytes.len();
            let mut damaged = bytes.to_vec();
            let same = damaged[at] == value;
            damaged[at] = value;
            if at >= CRC_AT && !same {
                prop_assert!(batches(damaged.clone().into()).all(|batch| batch.is_err()));
            }
            exhaust(&damaged);
            exhaust(&changed(&bytes, |bytes| bytes[at] = value));
        }
    }
}
