//! How lists, structs, maps and dictionaries are written as JSON: by the values inside them. It recurses as deep as the type is nested, never by the data.

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeListArray, GenericListArray, GenericListViewArray, MapArray, OffsetSizeTrait,
    StructArray,
};
use arrow::datatypes::{
    ArrowDictionaryKeyType, ArrowNativeType, DataType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};

use super::values::{Value, value};
use super::{key, write_object};

/// Arrays whose values are runs of another array.
pub(super) trait Runs: Array {
    fn items(&self) -> &ArrayRef;

    /// First item of a row, and the number of its items.
    fn run(&self, row: usize) -> (usize, usize);
}

impl<O: OffsetSizeTrait> Runs for GenericListArray<O> {
    fn items(&self) -> &ArrayRef {
        self.values()
    }

    fn run(&self, row: usize) -> (usize, usize) {
        let offsets = self.value_offsets();
        let start = offsets[row].as_usize();
        (start, offsets[row + 1].as_usize() - start)
    }
}

impl<O: OffsetSizeTrait> Runs for GenericListViewArray<O> {
    fn items(&self) -> &ArrayRef {
        self.values()
    }

    fn run(&self, row: usize) -> (usize, usize) {
        (self.value_offsets()[row].as_usize(), self.value_sizes()[row].as_usize())
    }
}

impl Runs for FixedSizeListArray {
    fn items(&self) -> &ArrayRef {
        self.values()
    }

    fn run(&self, row: usize) -> (usize, usize) {
        (self.value_offset(row).as_usize(), self.value_length().as_usize())
    }
}

pub(super) fn list(array: &impl Runs) -> Option<Box<dyn Value + '_>> {
    Some(Box::new(Lists { items: value(array.items().as_ref())?, array }))
}

struct Lists<'a, A> {
    array: &'a A,
    items: Box<dyn Value + 'a>,
}

impl<A: Runs> Value for Lists<'_, A> {
    fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        let (start, length) = self.array.run(row);
        out.push(b'[');
        for item in start..start + length {
            if item > start {
                out.push(b',');
            }
            write_or_null(self.items.as_ref(), item, out);
        }
        out.push(b']');
    }
}

fn write_or_null(value: &dyn Value, row: usize, out: &mut Vec<u8>) {
    if value.is_null(row) {
        out.extend_from_slice(b"null");
    } else {
        value.write(row, out);
    }
}

pub(super) struct Structs<'a> {
    array: &'a StructArray,
    keys: Vec<Vec<u8>>,
    fields: Vec<Box<dyn Value + 'a>>,
}

impl<'a> Structs<'a> {
    pub(super) fn new(array: &'a StructArray) -> Option<Self> {
        Some(Self {
            array,
            keys: array.fields().iter().map(|field| key(field.name())).collect(),
            fields: array.columns().iter().map(|column| value(column.as_ref())).collect::<Option<_>>()?,
        })
    }
}

impl Value for Structs<'_> {
    fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        write_object(&self.fields, &self.keys, row, out);
    }
}

pub(super) struct Maps<'a> {
    array: &'a MapArray,
    keys: Box<dyn Value + 'a>,
    values: Box<dyn Value + 'a>,
}

impl<'a> Maps<'a> {
    pub(super) fn new(array: &'a MapArray) -> Option<Self> {
        Some(Self { array, keys: value(array.keys().as_ref())?, values: value(array.values().as_ref())? })
    }
}

impl Value for Maps<'_> {
    fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        let offsets = self.array.value_offsets();
        let (start, end) = (offsets[row].as_usize(), offsets[row + 1].as_usize());
        out.push(b'{');
        for entry in start..end {
            if entry > start {
                out.push(b',');
            }
            self.keys.write(entry, out);
            out.push(b':');
            write_or_null(self.values.as_ref(), entry, out);
        }
        out.push(b'}');
    }
}

pub(super) fn dictionary<'a>(array: &'a dyn Array, key: &DataType) -> Option<Box<dyn Value + 'a>> {
    fn of<K: ArrowDictionaryKeyType>(array: &dyn Array) -> Option<Box<dyn Value + '_>> {
        let array = array.as_dictionary::<K>();
        Some(Box::new(Dictionaries { values: value(array.values().as_ref())?, array }))
    }
    match key {
        DataType::Int8 => of::<Int8Type>(array),
        DataType::Int16 => of::<Int16Type>(array),
        DataType::Int32 => of::<Int32Type>(array),
        DataType::Int64 => of::<Int64Type>(array),
        DataType::UInt8 => of::<UInt8Type>(array),
        DataType::UInt16 => of::<UInt16Type>(array),
        DataType::UInt32 => of::<UInt32Type>(array),
        DataType::UInt64 => of::<UInt64Type>(array),
        _ => None,
    }
}

struct Dictionaries<'a, K: ArrowDictionaryKeyType> {
    array: &'a DictionaryArray<K>,
    values: Box<dyn Value + 'a>,
}

impl<K: ArrowDictionaryKeyType> Value for Dictionaries<'_, K> {
    fn is_null(&self, row: usize) -> bool {
        self.array.key(row).is_none_or(|key| self.values.is_null(key))
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self.array.key(row) {
            Some(key) => self.values.write(key, out),
            None => out.extend_from_slice(b"null"),
        }
    }
}
