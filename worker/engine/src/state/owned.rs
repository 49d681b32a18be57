//! Columns that hold on to little more than their own values, so that what state takes is what is counted. Knows nothing of what the values mean.
//!
//! A column can keep far more alive than it shows: a slice the whole of what it was cut from, a view the texts of rows that are gone, and each column of
//! a message the bytes of all of them. All of that counts as its memory, once for each column and slice.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MutableArrayData, make_array};
use arrow::datatypes::{BinaryViewType, ByteViewType, DataType, StringViewType};

/// Bytes that are not worth a copy.
const SLACK: usize = 256;

/// The same values; copied if the column holds on to more than twice what they take.
pub(crate) fn owned(column: &ArrayRef) -> ArrayRef {
    let held = column.get_buffer_memory_size();
    match column.data_type() {
        DataType::Utf8View => owned_views::<StringViewType>(column, held),
        DataType::BinaryView => owned_views::<BinaryViewType>(column, held),
        _ => {
            let data = column.to_data();
            // What cannot be told is copied.
            if !is_wasteful(held, data.get_slice_memory_size().unwrap_or(0)) {
                return Arc::clone(column);
            }
            let mut copy = MutableArrayData::new(vec![&data], false, data.len());
            match copy.try_extend(0, 0, data.len()) {
                Ok(()) => make_array(copy.freeze()),
                // The offsets of a copy are no larger than its own: what does not fit is not there.
                Err(_) => Arc::clone(column),
            }
        }
    }
}

/// The same of views. What a filter leaves of short texts behind them is not worth a copy: they count twice.
fn owned_views<T: ByteViewType>(column: &ArrayRef, held: usize) -> ArrayRef {
    let views = column.as_byte_view::<T>();
    let takes = views.total_buffer_bytes_used() + 2 * column.len() * size_of::<u128>();
    if is_wasteful(held, takes) { Arc::new(views.gc()) } else { Arc::clone(column) }
}

fn is_wasteful(held: usize, takes: usize) -> bool {
    held > SLACK + 2 * takes
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch, StringArray, StringViewArray};

    use super::*;

    fn bytes(column: &ArrayRef) -> usize {
        column.get_buffer_memory_size()
    }

    #[test]
    fn a_slice_leaves_the_rest_behind() {
        let numbers: ArrayRef = Arc::new((0..100_000).map(|n| (n % 3 != 0).then_some(n)).collect::<Int64Array>());
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..100_000).map(|n| format!("{n:50}"))));
        let views: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..100_000).map(|n| format!("{n:50}"))));
        for column in [numbers, texts, views] {
            let slice = column.slice(5_001, 10);
            let own = owned(&slice);
            assert_eq!(&own, &slice);
            assert!(bytes(&slice) > 800_000 && bytes(&own) < 4096, "{} {}", bytes(&slice), bytes(&own));
            assert!(Arc::ptr_eq(&owned(&column), &column), "nothing to leave behind");
        }
    }

    #[test]
    fn columns_of_one_message_part() {
        let columns: Vec<(String, ArrayRef)> =
            (0..8).map(|number| (format!("c{number}"), Arc::new(Int64Array::from_iter_values(0..10_000)) as ArrayRef)).collect();
        let records = RecordBatch::try_from_iter(columns).unwrap();
        let mut message = Vec::new();
        let mut writer = arrow_ipc::writer::StreamWriter::try_new(&mut message, records.schema_ref()).unwrap();
        writer.write(&records).unwrap();
        writer.finish().unwrap();
        drop(writer);
        let read = arrow_ipc::reader::StreamReader::try_new(message.as_slice(), None).unwrap().next().unwrap().unwrap();
        let all = |columns: Vec<ArrayRef>| columns.iter().map(bytes).sum::<usize>();
        assert!(all(read.columns().to_vec()) >= 8 * 8 * 80_000, "each holds all of it");
        assert!(all(read.columns().iter().map(owned).collect()) < 8 * 100_000);
    }
}
