//! Messages there and back, and bytes that are none. What needs a broker is tested in the `tests` crate.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, ListArray, RecordBatch, RecordBatchOptions, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use millrace_crds::pipeline::Limits;
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::row_kind::{RowKind, RowKinds};
use proptest::prelude::*;

use super::codec::{DecodeError, Layout, Message, ProducerTime, decode, encode_rows, encode_time};
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

fn again(layout: &Layout, bytes: &[u8]) -> Batch {
    match decode(layout, bytes).unwrap() {
        (producer, Message::Rows(batch)) => {
            assert_eq!(producer, "in_2f0");
            batch
        }
        (_, Message::Time(time)) => panic!("{time:?}"),
    }
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
        let bytes = encode_rows(&layout, "in_2f0", &batch).unwrap();
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
    let bytes = encode_rows(&layout, "in_2f0", &batch).unwrap();
    assert_same(&again(&layout, &bytes), &batch);
}

#[test]
fn a_part_of_a_batch_takes_no_more_than_its_share() {
    let all = rows(&(0..4000).map(Some).collect::<Vec<_>>(), None);
    let layout = layout(&all);
    let part = Batch { records: all.records.slice(17, 4), ordinals: all.ordinals.slice(17, 4), ..all.clone() };
    let (whole, part_bytes) = (encode_rows(&layout, "in_2f0", &all).unwrap(), encode_rows(&layout, "in_2f0", &part).unwrap());
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
        let bytes = encode_time("in_2f0", time);
        assert!(matches!(decode(&layout, &bytes), Ok((producer, Message::Time(found))) if producer == "in_2f0" && found == time));
        let mut longer = bytes;
        longer.push(0);
        assert!(matches!(decode(&layout, &longer), Err(DecodeError::Malformed(_))));
    }
}

#[test]
fn another_version_and_another_layout_are_named() {
    let batch = rows(&[Some(1)], None);
    let layout = layout(&batch);
    let mut bytes = encode_rows(&layout, "p", &batch).unwrap();
    for other in [Layout::new(&batch.records.schema(), &[1]), Layout::new(&Arc::new(Schema::empty()), &[0])] {
        assert!(matches!(decode(&other, &bytes), Err(DecodeError::Layout)));
    }
    bytes[3] = 2;
    assert!(matches!(decode(&layout, &bytes), Err(DecodeError::Version(2))));
    assert!(matches!(decode(&layout, b"{\"k\":1}"), Err(DecodeError::Malformed(_))));
}

#[test]
fn a_cut_message_is_an_error_wherever_it_is_cut() {
    let batch = rows(&[Some(1), None, Some(3)], Some(vec![RowKind::Insert; 3]));
    let layout = layout(&batch);
    let bytes = encode_rows(&layout, "p", &batch).unwrap();
    let padding = 64;
    for length in 0..bytes.len() - padding {
        assert!(decode(&layout, &bytes[..length]).is_err(), "{length} of {}", bytes.len());
    }
}

#[test]
fn a_flipped_bit_gives_rows_or_an_error_and_never_a_panic() {
    let batch = rows(&[Some(1), None, Some(3)], Some(vec![RowKind::Insert; 3]));
    let layout = layout(&batch);
    let bytes = encode_rows(&layout, "p", &batch).unwrap();
    std::panic::set_hook(Box::new(|_| {}));
    for at in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        if let Ok((_, Message::Rows(found))) = decode(&layout, &damaged) {
            assert_eq!(found.records.num_rows(), found.ordinals.len());
            assert!(found.kinds.is_none_or(|kinds| kinds.len() == found.ordinals.len()));
        }
    }
    drop(std::panic::take_hook());
}

proptest! {
    #[test]
    fn any_rows_survive(numbers in prop::collection::vec(prop::option::of(any::<i64>()), 1..50)) {
        let batch = rows(&numbers, None);
        let layout = layout(&batch);
        assert_same(&again(&layout, &encode_rows(&layout, "in_2f0", &batch).unwrap()), &batch);
    }

    #[test]
    fn any_bytes_are_an_error_or_a_message(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let layout = layout(&rows(&[None], None));
        let _either = decode(&layout, &bytes);
        let behind_a_good_start = [b"MRX\x01\x00\x01\x00p".as_slice(), &bytes].concat();
        prop_assert!(decode(&layout, &behind_a_good_start).is_err());
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
    let channel = Channel { name: "c".into(), schema, key: vec![0], timed: true };
    let options = serde_json::from_value(serde_json::json!({"bootstrapServers": "a:1", "partitions": 2})).unwrap();
    let error = KafkaExchange::new(&options, "uid", &[channel], &context).unwrap_err();
    assert!(error.message.contains("\"word\""), "{error}");
}
