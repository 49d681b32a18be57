//! The table from keys to dense numbers: the first key is 0, the next new one 1, and so on. It holds keys only; what belongs to a key stands in
//! vectors and accumulators of the operator, at the key's number.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, PrimitiveArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;

use super::hash::hash_word;
use super::shared::{CHUNK, Cow, Part, SharedVec};

/// Keys of some columns. NULL is a value like any other: all NULLs are one key.
#[derive(Debug)]
pub(crate) struct KeyTable {
    types: Vec<DataType>,
    table: HashTable<u32>,
    keys: Keys,
}

/// How the keys themselves are held, by number.
#[derive(Debug)]
enum Keys {
    /// One column that fits a word: the commonest key, and the fastest; its hash is computed again where it is needed. The value of NULL counts for nothing.
    Word { values: SharedVec<i64>, null: Option<u32> },
    /// Any columns, as comparable bytes, with their hashes.
    Rows { converter: RowConverter, rows: RowBytes, hashes: SharedVec<u64> },
}

/// What the keys of a [`KeyTable`] were when they were shared.
#[derive(Debug)]
pub(crate) struct KeyPart {
    types: Vec<DataType>,
    keys: KeysPart,
}

#[derive(Debug)]
enum KeysPart {
    Word { values: Part<i64>, null: Option<u32> },
    Rows { rows: Vec<Arc<RowChunk>>, hashes: Part<u64> },
}

/// Rows as bytes, in chunks of [`CHUNK`] rows.
#[derive(Debug, Default)]
struct RowBytes {
    chunks: Vec<Cow<RowChunk>>,
}

/// Row `n` ends at `ends[n]`.
#[derive(Clone, Debug, Default)]
struct RowChunk {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl RowChunk {
    fn get(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start..self.ends[row]]
    }
}

impl RowBytes {
    fn get(&self, number: u32) -> &[u8] {
        self.chunks[number as usize / CHUNK].get().get(number as usize % CHUNK)
    }

    fn push(&mut self, row: &[u8]) {
        if self.chunks.last().is_none_or(|last| last.get().ends.len() == CHUNK) {
            self.chunks.push(Cow::Own(RowChunk::default()));
        }
        if let Some(last) = self.chunks.last_mut() {
            let last = last.own();
            last.bytes.extend_from_slice(row);
            last.ends.push(last.bytes.len());
        }
    }

    fn memory_bytes(&self) -> usize {
        let chunk = |chunk: &RowChunk| chunk.bytes.capacity() + chunk.ends.capacity() * size_of::<usize>();
        self.chunks.iter().map(|held| size_of::<Cow<RowChunk>>() + chunk(held.get())).sum()
    }
}

impl KeyTable {
    /// A table for keys of columns of these types.
    ///
    /// # Errors
    /// If a type cannot be a key.
    pub(crate) fn new(types: &[DataType]) -> Result<Self, ArrowError> {
        let keys = match types {
            [one] if fits_a_word(one) => Keys::Word { values: SharedVec::default(), null: None },
            _ => Keys::Rows { converter: converter(types)?, rows: RowBytes::default(), hashes: SharedVec::default() },
        };
        Ok(Self { types: types.to_vec(), table: HashTable::new(), keys })
    }

    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        match &self.keys {
            Keys::Word { values, .. } => values.len(),
            Keys::Rows { hashes, .. } => hashes.len(),
        }
    }

    /// Whether there are no keys.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hash of the key with this number.
    ///
    /// # Panics
    /// If there is no such key.
    pub(crate) fn hash(&self, number: u32) -> u64 {
        match &self.keys {
            Keys::Word { values, null } => hash_word((*null != Some(number)).then(|| values.get(number as usize))),
            Keys::Rows { hashes, .. } => hashes.get(number as usize),
        }
    }

    /// Bytes of memory that the table takes, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        let keys = match &self.keys {
            Keys::Word { values, .. } => values.memory_bytes(),
            Keys::Rows { rows, hashes, .. } => rows.memory_bytes() + hashes.memory_bytes(),
        };
        keys + self.table.allocation_size()
    }

    /// The number of the key of each row; keys that are new get the next numbers. `hashes` are those of [`hash_rows`](super::hash_rows) over `columns`.
    ///
    /// # Errors
    /// If the columns are not of the table's types.
    ///
    /// # Panics
    /// If there would be more than 2^32 keys.
    pub(crate) fn intern(&mut self, columns: &[ArrayRef], hashes: &[u64]) -> Result<Vec<u32>, ArrowError> {
        let Self { table, keys, .. } = self;
        if columns.is_empty() {
            // Without columns there is one key.
            if let (Keys::Rows { rows, hashes: known, .. }, Some(hash)) = (keys, hashes.first())
                && known.is_empty()
            {
                rows.push(&[]);
                known.push(*hash);
            }
            return Ok(vec![0; hashes.len()]);
        }
        let mut numbers = Vec::with_capacity(hashes.len());
        match keys {
            Keys::Word { values, null } => {
                let words = words(&columns[0])?;
                for (row, hash) in hashes.iter().enumerate() {
                    let next = next_number(values.len());
                    let number = if words.is_null(row) {
                        *null.get_or_insert(next)
                    } else {
                        let word = words.value(row);
                        let same = |number: &u32| values.get(*number as usize) == word && *null != Some(*number);
                        // NULL is not in the table.
                        *table.entry(*hash, same, |number| hash_word(Some(values.get(*number as usize)))).or_insert(next).get()
                    };
                    if number == next {
                        values.push(if words.is_null(row) { 0 } else { words.value(row) });
                    }
                    numbers.push(number);
                }
            }
            Keys::Rows { converter, rows, hashes: known } => {
                let converted = converter.convert_columns(columns)?;
                for (row, hash) in converted.iter().zip(hashes) {
                    let next = next_number(known.len());
                    let same = |number: &u32| known.get(*number as usize) == *hash && rows.get(*number) == row.data();
                    let number = *table.entry(*hash, same, |number| known.get(*number as usize)).or_insert(next).get();
                    if number == next {
                        known.push(*hash);
                        rows.push(row.data());
                    }
                    numbers.push(number);
                }
            }
        }
        Ok(numbers)
    }

    /// The number of the key of each row, if the table has it; adds none.
    ///
    /// # Errors
    /// As [`KeyTable::intern`].
    pub(crate) fn find(&self, columns: &[ArrayRef], hashes: &[u64]) -> Result<Vec<Option<u32>>, ArrowError> {
        if columns.is_empty() {
            return Ok(vec![(!self.is_empty()).then_some(0); hashes.len()]);
        }
        match &self.keys {
            Keys::Word { values, null } => {
                let words = words(&columns[0])?;
                let find = |(row, hash): (usize, &u64)| {
                    if words.is_null(row) {
                        return *null;
                    }
                    let word = words.value(row);
                    self.table.find(*hash, |number| values.get(*number as usize) == word && *null != Some(*number)).copied()
                };
                Ok(hashes.iter().enumerate().map(find).collect())
            }
            Keys::Rows { converter, rows, .. } => {
                let converted = converter.convert_columns(columns)?;
                let find =
                    |(row, hash): (arrow::row::Row<'_>, &u64)| self.table.find(*hash, |number| rows.get(*number) == row.data()).copied();
                Ok(converted.iter().zip(hashes).map(find).collect())
            }
        }
    }

    /// The key columns of the keys with these numbers, in that order.
    ///
    /// # Errors
    /// Only for types that [`KeyTable::new`] refuses.
    ///
    /// # Panics
    /// If there is no such key.
    pub(crate) fn columns(&self, numbers: &[u32]) -> Result<Vec<ArrayRef>, ArrowError> {
        match &self.keys {
            Keys::Word { values, null } => {
                let words = numbers.iter().map(|number| (*null != Some(*number)).then(|| values.get(*number as usize)));
                Ok(vec![from_words(words.collect(), &self.types[0])?])
            }
            Keys::Rows { .. } if self.types.is_empty() => Ok(Vec::new()),
            Keys::Rows { converter, rows, .. } => {
                let parser = converter.parser();
                converter.convert_rows(numbers.iter().map(|number| parser.parse(rows.get(*number))))
            }
        }
    }

    /// All keys as they are now, whatever comes later. Costs little.
    pub(crate) fn share(&mut self) -> KeyPart {
        let keys = match &mut self.keys {
            Keys::Word { values, null } => KeysPart::Word { values: values.share(), null: *null },
            Keys::Rows { rows, hashes, .. } => {
                KeysPart::Rows { rows: rows.chunks.iter_mut().map(Cow::share).collect(), hashes: hashes.share() }
            }
        };
        KeyPart { types: self.types.clone(), keys }
    }

    /// Forgets all keys for which `keep` is false; the others keep their order and get new numbers from 0. The caller does the same to what it holds by number.
    ///
    /// # Errors
    /// As [`KeyTable::columns`].
    pub(crate) fn retain(&mut self, keep: &BooleanArray) -> Result<(), ArrowError> {
        let kept: Vec<u32> = (0..).zip(keep.values().iter()).filter_map(|(number, keep)| keep.then_some(number)).collect();
        let columns = self.columns(&kept)?;
        let hashes: Vec<u64> = kept.iter().map(|number| self.hash(*number)).collect();
        *self = Self::new(&self.types)?;
        self.intern(&columns, &hashes)?;
        Ok(())
    }
}

impl KeyPart {
    /// Hashes of all keys, in the order of their numbers.
    pub(crate) fn hashes(&self) -> Vec<u64> {
        match &self.keys {
            KeysPart::Word { values, null } => {
                let numbered = (0_u32..).zip(values.iter());
                numbered.map(|(number, word)| hash_word((*null != Some(number)).then_some(word))).collect()
            }
            KeysPart::Rows { hashes, .. } => hashes.to_vec(),
        }
    }

    /// The key columns of all keys, in the order of their numbers.
    ///
    /// # Errors
    /// As [`KeyTable::columns`].
    pub(crate) fn columns(&self) -> Result<Vec<ArrayRef>, ArrowError> {
        match &self.keys {
            KeysPart::Word { values, null } => {
                let words = match null {
                    None => Int64Array::from(values.to_vec()),
                    Some(null) => (0_u32..).zip(values.iter()).map(|(number, word)| (number != *null).then_some(word)).collect(),
                };
                Ok(vec![from_words(words, &self.types[0])?])
            }
            KeysPart::Rows { .. } if self.types.is_empty() => Ok(Vec::new()),
            KeysPart::Rows { rows, .. } => {
                let converter = converter(&self.types)?;
                let parser = converter.parser();
                let all = rows.iter().flat_map(|chunk| (0..chunk.ends.len()).map(|row| parser.parse(chunk.get(row))));
                converter.convert_rows(all)
            }
        }
    }
}

fn converter(types: &[DataType]) -> Result<RowConverter, ArrowError> {
    RowConverter::new(types.iter().cloned().map(SortField::new).collect())
}

fn next_number(known: usize) -> u32 {
    u32::try_from(known).expect("state is bounded far below 2^32 keys")
}

/// Whether [`words`] takes a column of this type.
pub(crate) fn fits_a_word(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) | DataType::Boolean)
}

/// A column as words; NULL stays NULL.
pub(crate) fn words(column: &ArrayRef) -> Result<PrimitiveArray<Int64Type>, ArrowError> {
    match column.data_type() {
        DataType::UInt64 => {
            let array = column.as_any().downcast_ref::<UInt64Array>().expect("the type says so");
            Ok(array.unary(|value| value as i64))
        }
        DataType::Date32 => words(&cast(column, &DataType::Int32)?),
        DataType::Int64 => Ok(column.as_any().downcast_ref::<Int64Array>().expect("the type says so").clone()),
        _ => {
            let words = cast(column, &DataType::Int64)?;
            Ok(words.as_any().downcast_ref::<Int64Array>().expect("it was cast to that").clone())
        }
    }
}

/// The reverse of [`words`].
pub(crate) fn from_words(words: Int64Array, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    match data_type {
        DataType::UInt64 => Ok(Arc::new(words.unary::<_, arrow::datatypes::UInt64Type>(|value| value as u64))),
        DataType::Date32 => cast(&cast(&words, &DataType::Int32)?, &DataType::Date32),
        _ => cast(&words, data_type),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Date32Array, Float64Array, StringArray, StringViewArray, TimestampMicrosecondArray};

    use super::super::hash_rows;
    use super::*;

    fn intern(table: &mut KeyTable, columns: &[ArrayRef]) -> Vec<u32> {
        let hashes = hash_rows(columns, columns[0].len()).unwrap();
        table.intern(columns, &hashes).unwrap()
    }

    fn types(columns: &[ArrayRef]) -> Vec<DataType> {
        columns.iter().map(|column| column.data_type().clone()).collect()
    }

    /// Every column as it is, twice, in two batches.
    fn comes_back(columns: &[ArrayRef], numbers: &[u32]) {
        let mut table = KeyTable::new(&types(columns)).unwrap();
        assert_eq!(intern(&mut table, columns), numbers);
        assert_eq!(intern(&mut table, columns), numbers, "the second time they are known");
        assert_eq!(table.len(), numbers.iter().max().map_or(0, |last| *last as usize + 1));
        let back = table.columns(numbers).unwrap();
        assert_eq!(&back, columns);
        let hashes = hash_rows(columns, columns[0].len()).unwrap();
        let found = table.find(columns, &hashes).unwrap();
        assert_eq!(found, numbers.iter().copied().map(Some).collect::<Vec<_>>());
        assert!(table.memory_bytes() > 0);
        let all: Vec<u32> = (0..table.len() as u32).collect();
        assert!((0_u32..).zip(&hashes).all(|(row, hash)| table.hash(numbers[row as usize]) == *hash));
        let part = table.share();
        intern(&mut table, columns);
        assert_eq!(part.columns().unwrap(), table.columns(&all).unwrap());
        assert_eq!(part.hashes(), all.iter().map(|number| table.hash(*number)).collect::<Vec<_>>());
    }

    #[test]
    fn keys_of_one_word() {
        comes_back(&[Arc::new(Int64Array::from(vec![Some(5), None, Some(0), Some(5), None, Some(i64::MIN)]))], &[0, 1, 2, 0, 1, 3]);
        comes_back(&[Arc::new(UInt64Array::from(vec![u64::MAX, 0, u64::MAX]))], &[0, 1, 0]);
        comes_back(&[Arc::new(Date32Array::from(vec![Some(-3), None, Some(-3)]))], &[0, 1, 0]);
        comes_back(&[Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)]))], &[0, 1, 2, 0]);
        comes_back(&[Arc::new(TimestampMicrosecondArray::from(vec![1, 2, 1]).with_timezone("UTC"))], &[0, 1, 0]);
    }

    #[test]
    fn keys_of_any_columns() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1), None, Some(1)]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("b"), Some("a"), Some("a")]));
        comes_back(&[numbers, texts], &[0, 1, 2, 0]);
        comes_back(&[Arc::new(StringViewArray::from(vec![Some("a long string that is not inlined"), None, Some("")]))], &[0, 1, 2]);
        comes_back(&[Arc::new(Float64Array::from(vec![1.5, 2.5, 1.5]))], &[0, 1, 0]);
    }

    #[test]
    fn a_key_that_is_not_there_is_not_found() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), None]));
        let hashes = hash_rows(std::slice::from_ref(&column), 2).unwrap();
        let mut table = KeyTable::new(&[DataType::Int64]).unwrap();
        assert_eq!(table.find(std::slice::from_ref(&column), &hashes).unwrap(), [None, None]);
        table.intern(&[column.slice(1, 1)], &hashes[1..]).unwrap();
        assert_eq!(table.find(&[column], &hashes).unwrap(), [None, Some(0)], "the zero that stands for NULL is no zero");
    }

    #[test]
    fn without_columns_there_is_one_key() {
        let mut table = KeyTable::new(&[]).unwrap();
        let hashes = hash_rows(&[], 2).unwrap();
        assert_eq!(table.find(&[], &hashes).unwrap(), [None, None]);
        assert_eq!(table.intern(&[], &hashes).unwrap(), [0, 0]);
        assert_eq!((table.find(&[], &hashes).unwrap(), table.len()), (vec![Some(0), Some(0)], 1));
        assert!(table.columns(&[0]).unwrap().is_empty());
        table.retain(&vec![true].into()).unwrap();
        assert_eq!(table.len(), 1);
        table.retain(&vec![false].into()).unwrap();
        assert!(table.is_empty());
    }

    #[test]
    fn what_is_forgotten_gives_its_number_away() {
        for column in [
            Arc::new((0..100).map(|n| (n != 50).then_some(n)).collect::<Int64Array>()) as ArrayRef,
            Arc::new((0..100).map(|n| (n != 50).then(|| n.to_string())).collect::<StringArray>()),
        ] {
            let mut table = KeyTable::new(&[column.data_type().clone()]).unwrap();
            intern(&mut table, std::slice::from_ref(&column));
            let keep: BooleanArray = (0..100).map(|n| Some(n % 2 == 0)).collect();
            table.retain(&keep).unwrap();
            assert_eq!((table.len(), table.is_empty()), (50, false));
            let all: Vec<u32> = (0..50).collect();
            let expected = arrow::compute::filter(&column, &keep).unwrap();
            assert_eq!(table.columns(&all).unwrap(), [expected]);
            assert_eq!(intern(&mut table, &[column.slice(4, 2)]), [2, 50]);
        }
    }

    #[test]
    fn many_keys_of_which_some_collide_in_the_table() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values((0..200_000).map(|n| n * n % 65_537)));
        let mut table = KeyTable::new(&[DataType::Int64]).unwrap();
        let numbers = intern(&mut table, std::slice::from_ref(&column));
        assert_eq!(table.columns(&numbers).unwrap(), [column]);
        // All hashes equal: only the keys tell them apart.
        let few: ArrayRef = Arc::new((0..100).map(|n| Some(n.to_string())).collect::<StringArray>());
        let mut table = KeyTable::new(&[DataType::Utf8]).unwrap();
        assert_eq!(table.intern(&[few], &[7; 100]).unwrap(), (0..100).collect::<Vec<_>>());
    }
}
