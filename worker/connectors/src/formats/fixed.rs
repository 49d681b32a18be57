//! Builds a column whose values all have the same width, for the price of a push as long as none is NULL. It never checks a value.

use arrow::array::{ArrowPrimitiveType, PrimitiveArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::DataType;

/// The values so far.
#[derive(Debug)]
pub(super) struct Fixed<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    /// Which rows have a value; empty until one has none.
    valid: Vec<bool>,
    data_type: DataType,
}

impl<T: ArrowPrimitiveType> Fixed<T> {
    /// With room for `rows` values of `data_type`, whose native type is that of `T`.
    pub(super) fn new(data_type: &DataType, rows: usize) -> Self {
        Self { values: Vec::with_capacity(rows), valid: Vec::new(), data_type: data_type.clone() }
    }

    #[inline]
    pub(super) fn append_value(&mut self, value: T::Native) {
        self.values.push(value);
        if !self.valid.is_empty() {
            self.valid.push(true);
        }
    }

    pub(super) fn append_null(&mut self) {
        self.valid.resize(self.values.len(), true);
        self.valid.push(false);
        self.values.push(T::Native::default());
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The values as an array; none are left.
    pub(super) fn finish(&mut self) -> PrimitiveArray<T> {
        let values = ScalarBuffer::from(std::mem::take(&mut self.values));
        let valid = std::mem::take(&mut self.valid);
        let nulls = (!valid.is_empty()).then(|| NullBuffer::from(valid));
        PrimitiveArray::new(values, nulls).with_data_type(self.data_type.clone())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array as _;
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn nulls_stand_where_they_came() {
        let cases: [&[Option<i64>]; 5] =
            [&[], &[Some(1), Some(2)], &[None], &[Some(1), None, Some(3), None, None, Some(6)], &[None, Some(i64::MIN)]];
        let mut fixed = Fixed::<Int64Type>::new(&DataType::Int64, 2);
        for case in cases {
            for (row, value) in case.iter().enumerate() {
                assert_eq!(fixed.len(), row);
                match value {
                    Some(value) => fixed.append_value(*value),
                    None => fixed.append_null(),
                }
            }
            let array = fixed.finish();
            assert_eq!(array.iter().collect::<Vec<_>>(), case);
            assert_eq!(array.nulls().is_some(), case.contains(&None));
        }
    }
}
