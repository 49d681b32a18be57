//! Messages there and back, and bytes that are none. What needs a broker is tested in the `tests` crate.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, ListArray, RecordBatch, RecordBatchOptions, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use millrace_crds::pipeline::Limits;
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::exchange::UpTo;
use millrace_engine::row_kind::{RowKind, RowKinds};
use proptest::prelude::*;

use super::codec::{DecodeError, Layout, Message, ProducerTime, Stamp, decode, encode_opening, encode_rows, encode_time, heading};
use super::{Channel, KafkaExchange, topics};
use crate::context::{Context, ResolvedLimits};

fn rows(numbers: &[Option<i64>], kinds: Option<Vec<RowKind>>) -> Batch {
    let texts = || numbers.iter().map(|number| number.map(|number| "x".repeat(usize::try_from(number.unsigned_abs() % 40).unwrap())));
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(numbers.iter().map(|number| number.map(|n| vec![Some(n), None])));
    let inner: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int64Array::from(numbers.to_vec()))),
        ("text", Arc::new(texts().collect::<StringArray>())),
        ("view", Arc::new(texts().collect::<StringViewArray>())),
        ("at", Arc::new(TimestampMicrosecondArray::from(numbers.to_vec()).with_timezone("UTC"))),
        ("list", Arc::new(list)),
        ("row", Arc::new(StructArray::from(vec![(Arc::new(Field::new("inner", DataType::Int64, true)), inner)]))),
    ];
    let records = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap();
    let ordinals = UInt64Array::from_iter_values((0..numbers.len() as u64).map(|row| row * 3));
    Batch { branch: 7, kinds: kinds.map(RowKinds::new), ..Batch::new(records, Origin::new("topic/1", "topic/1"), ordinals) }
}

fn layout(batch: &Batch) -> Layout {
    Layout::new(&batch.records.schema(), &[0])
}

const STAMP: Stamp = Stamp { generation: 3, number: 7 };

fn up_to() -> UpTo {
    UpTo::from([([1; 16], 5), ([9; 16], u64::MAX)])
}

fn written(layout: &Layout, batch: &Batch) -> Vec<u8> {
    encode_rows(layout, "in_2f0", STAMP, &up_to(), std::slice::from_ref(batch)).unwrap()
}

fn decoded(layout: &Layout, bytes: &[u8]) -> Result<Message, DecodeError> {
    decode(layout, heading(bytes)?)
}

fn again(layout: &Layout, bytes: &[u8]) -> Batch {
    let heading = heading(bytes).unwrap();
    assert_eq!((heading.producer.as_str(), heading.stamp, &heading.up_to), ("in_2f0", Some(STAMP), &up_to()));
    match decode(layout, heading).unwrap() {
        Message::Rows(mut batches) if batches.len() == 1 => batches.remove(0),
        other => panic!("{other:?}"),
    }
}

/// The same as versions before numbers wrote it.
fn unnumbered(numbered: &[u8]) -> Vec<u8> {
    let name = 7 + usize::from(u16::from_le_bytes([numbered[5], numbered[6]]));
    let mut bytes = numbered[..name].to_vec();
    bytes[3] = 1;
    // Generation, number; where there are rows, two ends before the fingerprint and the count of batches behind it.
    let mut rest = name + 16;
    if numbered[4] == 0 {
        rest += 2 + 2 * 24;
        bytes.extend(&numbered[rest..rest + 8]);
        rest += 8 + 2;
        let origin = 16 + 2 + usize::from(u16::from_le_bytes([numbered[rest + 16], numbered[rest + 17]])) + 8 + 1;
        // Its header's length stays, that of its body was not said.
        bytes.extend(&numbered[rest..rest + origin + 4]);
        rest += origin + 8;
    }
    bytes.extend(&numbered[rest..]);
    bytes
}

fn assert_same(one: &Batch, other: &Batch) {
    assert_eq!(one.records, other.records);
    assert_eq!((&one.ordinals, one.branch, &one.kinds), (&other.ordinals, other.branch, &other.kinds));
    assert_eq!(one.origin, other.origin);
    assert!((0..one.num_rows()).all(|row| one.coordinate(row) == other.coordinate(row)));
}

#[test]
fn rows_come_out_as_they_went_in_with_all_they_are_known_by() {
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    for batch in [
        rows(&[Some(1), None, Some(-3)], None),
        rows(&[Some(1), Some(2), Some(3), None], Some(vec![Insert, UpdateBefore, UpdateAfter, Delete])),
        rows(&[None], Some(vec![Delete])),
    ] {
        let layout = layout(&batch);
        let bytes = written(&layout, &batch);
        assert_same(&again(&layout, &bytes), &batch);
    }
}

#[test]
fn rows_without_columns_are_still_rows() {
    let schema: SchemaRef = Arc::new(Schema::empty());
    let options = RecordBatchOptions::new().with_row_count(Some(3));
    let records = RecordBatch::try_new_with_options(Arc::clone(&schema), Vec::new(), &options).unwrap();
    let batch = Batch::new(records, Origin::new("o", "o"), UInt64Array::from(vec![4, 5, 6]));
    let layout = Layout::new(&schema, &[]);
    let bytes = written(&layout, &batch);
    assert_same(&again(&layout, &bytes), &batch);
}

#[test]
fn a_part_of_a_batch_takes_no_more_than_its_share() {
    let all = rows(&(0..4000).map(Some).collect::<Vec<_>>(), None);
    let layout = layout(&all);
    let part = Batch { records: all.records.slice(17, 4), ordinals: all.ordinals.slice(17, 4), ..all.clone() };
    let (whole, part_bytes) = (written(&layout, &all), written(&layout, &part));
    assert_same(&again(&layout, &part_bytes), &part);
    assert!(part_bytes.len() * 20 < whole.len(), "{} of {}", part_bytes.len(), whole.len());
}

#[test]
fn times_come_out_as_they_went_in() {
    let layout = layout(&rows(&[None], None));
    for (watermark, idle, ended) in
        [(None, true, false), (Some(i64::MIN), false, false), (Some(i64::MAX), false, true), (Some(-1), true, false)]
    {
        let time = ProducerTime { watermark, idle, ended };
        let bytes = encode_time("in_2f0", STAMP, time);
        assert_eq!(heading(&bytes).unwrap().stamp, Some(STAMP));
        assert!(matches!(decoded(&layout, &bytes), Ok(Message::Time(found)) if found == time));
        let before = unnumbered(&bytes);
        assert_eq!(heading(&before).unwrap().stamp, None);
        assert!(matches!(decoded(&layout, &before), Ok(Message::Time(found)) if found == time));
        let mut longer = bytes;
        longer.push(0);
        assert!(matches!(decoded(&layout, &longer), Err(DecodeError::Malformed(_))));
    }
}

#[test]
fn a_generation_begins_with_a_message_of_its_own() {
    let layout = layout(&rows(&[None], None));
    let bytes = encode_opening("in_2f0", 4, 77);
    let found = heading(&bytes).unwrap();
    assert_eq!(found.front, Some(77));
    assert_eq!((found.producer.as_str(), found.stamp), ("in_2f0", Some(Stamp { generation: 4, number: 0 })));
    assert!(matches!(decode(&layout, found), Ok(Message::Opening)));
    let first = encode_time("in_2f0", Stamp { generation: 4, number: 0 }, ProducerTime::default());
    assert!(matches!(heading(&first), Err(DecodeError::Malformed(_))), "0 is the opening's");
}

#[test]
fn rows_that_belong_together_are_one_message() {
    let batches = [rows(&[Some(1), None], None), Batch { branch: 9, ..rows(&[Some(4)], Some(vec![RowKind::Delete])) }];
    let layout = layout(&batches[0]);
    let bytes = encode_rows(&layout, "in_2f0", STAMP, &up_to(), &batches).unwrap();
    let Ok(Message::Rows(found)) = decoded(&layout, &bytes) else { panic!("no rows") };
    assert_eq!(found.len(), 2);
    found.iter().zip(&batches).for_each(|(found, batch)| assert_same(found, batch));
}

#[test]
fn what_was_written_without_numbers_is_read() {
    let batch = rows(&[Some(1), None, Some(-3)], Some(vec![RowKind::Insert, RowKind::Delete, RowKind::Insert]));
    let layout = layout(&batch);
    let bytes = unnumbered(&written(&layout, &batch));
    let found = heading(&bytes).unwrap();
    assert_eq!((found.stamp, found.up_to.len()), (None, 0));
    let Ok(Message::Rows(found)) = decode(&layout, found) else { panic!("no rows") };
    assert_same(&found[0], &batch);
}

#[test]
fn another_version_and_another_layout_are_named() {
    let batch = rows(&[Some(1)], None);
    let layout = layout(&batch);
    let mut bytes = written(&layout, &batch);
    for other in [Layout::new(&batch.records.schema(), &[1]), Layout::new(&Arc::new(Schema::empty()), &[0])] {
        assert!(matches!(decoded(&other, &bytes), Err(DecodeError::Layout)));
    }
    bytes[3] = 3;
    assert!(matches!(decoded(&layout, &bytes), Err(DecodeError::Version(3))));
    assert!(matches!(decoded(&layout, b"{\"k\":1}"), Err(DecodeError::Malformed(_))));
}

#[test]
fn a_cut_message_is_an_error_wherever_it_is_cut() {
    let batch = rows(&[Some(1), None, Some(3)], Some(vec![RowKind::Insert; 3]));
    let layout = layout(&batch);
    let bytes = written(&layout, &batch);
    for length in 0..bytes.len() {
        assert!(decoded(&layout, &bytes[..length]).is_err(), "{length} of {}", bytes.len());
    }
    let bytes = unnumbered(&bytes);
    let padding = 64;
    for length in 0..bytes.len() - padding {
        assert!(decoded(&layout, &bytes[..length]).is_err(), "{length} of {}", bytes.len());
    }
}

#[test]
fn a_flipped_bit_gives_rows_or_an_error_and_never_a_panic() {
    let batch = rows(&[Some(1), None, Some(3)], Some(vec![RowKind::Insert; 3]));
    let layout = layout(&batch);
    let bytes = written(&layout, &batch);
    std::panic::set_hook(Box::new(|_| {}));
    for at in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        if let Ok(Message::Rows(batches)) = decoded(&layout, &damaged) {
            for found in batches {
                assert_eq!(found.records.num_rows(), found.ordinals.len());
                assert!(found.kinds.is_none_or(|kinds| kinds.len() == found.ordinals.len()));
            }
        }
    }
    drop(std::panic::take_hook());
}

proptest! {
    #[test]
    fn any_rows_survive(numbers in prop::collection::vec(prop::option::of(any::<i64>()), 1..50)) {
        let batch = rows(&numbers, None);
        let layout = layout(&batch);
        assert_same(&again(&layout, &written(&layout, &batch)), &batch);
    }

    #[test]
    fn any_bytes_are_an_error_or_a_message(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let layout = layout(&rows(&[None], None));
        let _either = decoded(&layout, &bytes);
        for version in [1, 2] {
            let behind_a_good_start = [b"MRX".as_slice(), &[version], b"\x00\x01\x00p", &bytes].concat();
            prop_assert!(decoded(&layout, &behind_a_good_start).is_err());
        }
    }
}

#[test]
fn topics_are_named_by_pipeline_and_channel() {
    let name = topics::name("team.", "uid", "per_user/aggregate/0.0").unwrap();
    assert!(name.starts_with("team.") && name.ends_with(".per_user.aggregate.0.0"), "{name}");
    assert_ne!(topics::name("team.", "other", "c").unwrap(), topics::name("team.", "uid", "c").unwrap());
    let error = topics::name(&"x".repeat(64), "uid", &"y".repeat(200)).unwrap_err();
    assert!(error.message.contains("topicPrefix"), "{error}");
}

#[test]
fn a_column_that_no_message_holds_is_refused_by_name() {
    let context = Context { secrets_dir: "/nonexistent".into(), limits: ResolvedLimits::from(&Limits::default()) };
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let schema = Arc::new(Schema::new(vec![Field::new("word", dictionary, true)]));
    let channel = Channel { name: "c".into(), schema, key: vec![0], timed: true, front: 0 };
    let options = serde_json::from_value(serde_json::json!({"bootstrapServers": "a:1", "partitions": 2})).unwrap();
    let error = KafkaExchange::new(&options, "uid", &[channel], &context).unwrap_err();
    assert!(error.message.contains("\"word\""), "{error}");
}
