//! Rows in columns, each at a position that stays the same until [`RowStore::retain`]. Knows neither keys nor time: who points at a row is the operator's.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array, new_null_array};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::owned;

/// Position of no row: taken, it gives NULL in every column.
pub(crate) const NO_ROW: u32 = u32::MAX;

/// Neighbouring chunks are merged while they stay below both.
const CHUNK_ROWS: usize = 1 << 15;
const CHUNK_BYTES: usize = 32 << 20;

/// Rows of one schema. They are added at the end as they come, without a copy; small additions are merged as they pile up, so that each row is copied a few times at most.
/// A clone has the same columns, and copies no row.
#[derive(Clone, Debug)]
pub(crate) struct RowStore {
    schema: SchemaRef,
    /// Neighbours at least halve in size from the front to the back, except for full ones.
    chunks: Vec<Chunk>,
    rows: u32,
}

#[derive(Clone, Debug)]
struct Chunk {
    /// Position of its first row.
    start: u32,
    columns: Vec<ArrayRef>,
    bytes: usize,
}

impl RowStore {
    /// A store of rows with these columns.
    pub(crate) fn new(schema: &SchemaRef) -> Self {
        Self { schema: Arc::clone(schema), chunks: Vec::new(), rows: 0 }
    }

    /// Positions in use: the next row gets this one.
    pub(crate) fn len(&self) -> u32 {
        self.rows
    }

    /// The columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Bytes of memory that the rows take, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    /// Adds `rows` rows; returns the position of the first.
    ///
    /// # Errors
    /// If the columns are not those of the schema.
    ///
    /// # Panics
    /// If there would be 2^32 rows.
    pub(crate) fn push(&mut self, columns: &[ArrayRef], rows: usize) -> Result<u32, ArrowError> {
        let first = self.rows;
        if rows == 0 {
            return Ok(first);
        }
        let end = u32::try_from(rows).ok().and_then(|rows| first.checked_add(rows)).filter(|end| *end != NO_ROW);
        self.rows = end.expect("state is bounded far below 2^32 rows");
        let columns: Vec<ArrayRef> = columns.iter().map(owned).collect();
        self.chunks.push(Chunk { start: first, bytes: bytes(&columns), columns });
        while let [.., one, other] = self.chunks.as_slice() {
            let (rows, last) = ((self.rows - one.start) as usize, (self.rows - other.start) as usize);
            if rows > CHUNK_ROWS || one.bytes + other.bytes > CHUNK_BYTES || last * 2 < rows - last {
                break;
            }
            let columns = (0..one.columns.len()).map(|column| concat(&[&*one.columns[column], &*other.columns[column]]));
            let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
            let merged = Chunk { start: one.start, bytes: bytes(&columns), columns };
            self.chunks.truncate(self.chunks.len() - 2);
            self.chunks.push(merged);
        }
        Ok(first)
    }

    /// The values of some columns at `rows`, in that order.
    ///
    /// # Errors
    /// If the values are too large for one array.
    ///
    /// # Panics
    /// If there is no such row, unless it is [`NO_ROW`].
    pub(crate) fn take(&self, rows: &[u32], columns: impl IntoIterator<Item = usize>) -> Result<Vec<ArrayRef>, ArrowError> {
        let data_type = |column: usize| self.schema.field(column).data_type();
        let Some(first) = rows.iter().find(|row| **row != NO_ROW) else {
            return Ok(columns.into_iter().map(|column| new_null_array(data_type(column), rows.len())).collect());
        };
        let first = self.chunk(*first);
        let inside = |row: u32| row >= self.chunks[first].start && row < self.end(first);
        if rows.iter().all(|row| *row == NO_ROW || inside(*row)) {
            let Chunk { start, columns: values, .. } = &self.chunks[first];
            let indices: UInt32Array = if rows.contains(&NO_ROW) {
                rows.iter().map(|row| (*row != NO_ROW).then(|| row - start)).collect()
            } else {
                UInt32Array::from_iter_values(rows.iter().map(|row| row - start))
            };
            return columns.into_iter().map(|column| take(&values[column], &indices, None)).collect();
        }
        // Only chunks that are read take part.
        let mut part = vec![usize::MAX; self.chunks.len() + 1];
        let mut parts = Vec::new();
        let mut places = Vec::with_capacity(rows.len());
        for row in rows {
            let (chunk, place) = if *row == NO_ROW {
                (self.chunks.len(), 0)
            } else {
                let chunk = self.chunk(*row);
                (chunk, (row - self.chunks[chunk].start) as usize)
            };
            if part[chunk] == usize::MAX {
                part[chunk] = parts.len();
                parts.push(chunk);
            }
            places.push((part[chunk], place));
        }
        let values = |column: usize| {
            let null = new_null_array(data_type(column), 1);
            let arrays: Vec<&dyn Array> =
                parts.iter().map(|chunk| self.chunks.get(*chunk).map_or(&*null, |chunk| &*chunk.columns[column])).collect();
            interleave(&arrays, &places)
        };
        columns.into_iter().map(values).collect()
    }

    /// The columns of the chunk that holds a row, and its place in them.
    ///
    /// # Panics
    /// If there is no such row.
    pub(crate) fn locate(&self, row: u32) -> (&[ArrayRef], usize) {
        let chunk = &self.chunks[self.chunk(row)];
        (&chunk.columns, (row - chunk.start) as usize)
    }

    /// Keeps only the rows at `kept`, which ascend; they get the positions from 0.
    ///
    /// # Errors
    /// As [`RowStore::take`].
    pub(crate) fn retain(&mut self, kept: &[u32]) -> Result<(), ArrowError> {
        let mut other = Self::new(&self.schema);
        let mut rest = kept;
        for (index, chunk) in self.chunks.iter().enumerate() {
            let end = self.end(index);
            let (here, later) = rest.split_at(rest.partition_point(|row| *row < end));
            rest = later;
            if here.len() == (end - chunk.start) as usize {
                other.push(&chunk.columns, here.len())?;
            } else {
                let indices = UInt32Array::from_iter_values(here.iter().map(|row| row - chunk.start));
                let columns = chunk.columns.iter().map(|column| take(column, &indices, None)).collect::<Result<Vec<_>, _>>()?;
                other.push(&columns, here.len())?;
            }
        }
        *self = other;
        Ok(())
    }

    fn chunk(&self, row: u32) -> usize {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        self.chunks.partition_point(|chunk| chunk.start <= row) - 1
    }

    fn end(&self, chunk: usize) -> u32 {
        self.chunks.get(chunk + 1).map_or(self.rows, |next| next.start)
    }
}

fn bytes(columns: &[ArrayRef]) -> usize {
    columns.iter().map(ArrayRef::get_array_memory_size).sum()
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray, StringViewArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    fn store() -> RowStore {
        RowStore::new(&Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8, true)])))
    }

    fn add(store: &mut RowStore, numbers: std::ops::Range<i64>) -> u32 {
        let rows = numbers.clone().count();
        let texts: StringArray = numbers.clone().map(|n| (n % 7 != 0).then(|| n.to_string())).collect();
        store.push(&[Arc::new(Int64Array::from_iter_values(numbers)), Arc::new(texts)], rows).unwrap()
    }

    fn numbers(store: &RowStore, rows: &[u32]) -> Vec<Option<i64>> {
        let columns = store.take(rows, [0, 1]).unwrap();
        let texts: Vec<Option<&str>> = columns[1].as_string::<i32>().iter().collect();
        let numbers: Vec<Option<i64>> = columns[0].as_primitive::<Int64Type>().iter().collect();
        let expected: Vec<Option<String>> = numbers.iter().map(|n| n.filter(|n| n % 7 != 0).map(|n| n.to_string())).collect();
        assert_eq!(texts, expected.iter().map(Option::as_deref).collect::<Vec<_>>());
        numbers
    }

    #[test]
    fn rows_stay_where_they_are_while_chunks_are_merged() {
        let mut store = store();
        for n in 0..1000 {
            assert_eq!(add(&mut store, n..n + 1), n as u32);
        }
        assert!(store.chunks.len() <= 12, "{}", store.chunks.len());
        add(&mut store, 1000..50_000);
        add(&mut store, 50_000..50_001);
        assert_eq!(store.len(), 50_001);
        let rows = [50_000, 3, 999, 999, NO_ROW, 1000, 0];
        assert_eq!(numbers(&store, &rows), [Some(50_000), Some(3), Some(999), Some(999), None, Some(1000), Some(0)]);
        assert_eq!(numbers(&store, &[7, NO_ROW, 6]), [Some(7), None, Some(6)], "all in one chunk");
        assert_eq!(numbers(&store, &[NO_ROW]), [None]);
        assert_eq!(numbers(&store, &[]), []);
        let (columns, place) = store.locate(2000);
        assert_eq!(columns[0].as_primitive::<Int64Type>().value(place), 2000);
    }

    #[test]
    fn what_is_kept_moves_to_the_front() {
        let mut store = store();
        for n in 0..100 {
            add(&mut store, n * 10..n * 10 + 10);
        }
        let before = store.memory_bytes();
        let kept: Vec<u32> = (0..1000).filter(|row| row % 3 == 0 && !(200..600).contains(row)).collect();
        store.retain(&kept).unwrap();
        assert_eq!(store.len() as usize, kept.len());
        let all: Vec<u32> = (0..store.len()).collect();
        assert_eq!(numbers(&store, &all), kept.iter().map(|row| Some(i64::from(*row))).collect::<Vec<_>>());
        assert!(store.memory_bytes() < before);
        store.retain(&[]).unwrap();
        assert_eq!((store.len(), store.memory_bytes()), (0, 0));
        assert_eq!(add(&mut store, 5..6), 0);
    }

    #[test]
    fn strings_of_dropped_rows_are_let_go() {
        let mut store = RowStore::new(&Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8View, true)])));
        let long: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..1000).map(|n| format!("{n:100}"))));
        let few = take(&long, &UInt32Array::from(vec![5, 7]), None).unwrap();
        store.push(&[few], 2).unwrap();
        assert!(store.memory_bytes() < 10_000, "{}", store.memory_bytes());
        assert_eq!(store.take(&[1], [0]).unwrap()[0].as_string_view().value(0).trim(), "7");
    }
}
