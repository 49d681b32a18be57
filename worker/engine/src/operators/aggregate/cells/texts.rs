//! MIN and MAX of texts, by group. Takes nothing back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, LargeStringArray, StringArray, StringViewArray};
use arrow::datatypes::DataType;
use datafusion_common::Result;

use super::{Cells, Change, SharedState};

/// The smallest or largest text, by bytes.
pub(super) struct TextExtreme {
    result: DataType,
    largest: bool,
    values: Vec<Option<Box<str>>>,
}

impl TextExtreme {
    pub(super) fn new(result: DataType, largest: bool) -> Self {
        Self { result, largest, values: Vec::new() }
    }

    fn see(&mut self, group: u32, value: &str) {
        let known = &mut self.values[group as usize];
        let better = known.as_deref().is_none_or(|known| if self.largest { value > known } else { value < known });
        if better {
            *known = Some(value.into());
        }
    }

    fn texts<'a>(&self, values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
        match self.result {
            DataType::Utf8 => Arc::new(values.collect::<StringArray>()),
            DataType::LargeUtf8 => Arc::new(values.collect::<LargeStringArray>()),
            _ => Arc::new(values.collect::<StringViewArray>()),
        }
    }
}

/// Calls `each` with the number and value of every row that has one.
fn for_each(array: &ArrayRef, mut each: impl FnMut(usize, &str)) {
    let rows = (0..array.len()).filter(|row| array.is_valid(*row));
    match array.data_type() {
        DataType::Utf8 => rows.for_each(|row| each(row, array.as_string::<i32>().value(row))),
        DataType::LargeUtf8 => rows.for_each(|row| each(row, array.as_string::<i64>().value(row))),
        _ => rows.for_each(|row| each(row, array.as_string_view().value(row))),
    }
}

impl Cells for TextExtreme {
    fn grow(&mut self, total: usize) -> Result<()> {
        self.values.resize(total, None);
        Ok(())
    }

    fn update(&mut self, change: &Change<'_>) -> Result<()> {
        for_each(&change.values[0], |row, value| {
            if change.counts(row) {
                self.see(change.groups[row], value);
            }
        });
        Ok(())
    }

    fn merge(&mut self, into: u32, from: u32) -> Result<()> {
        if let Some(value) = self.values[from as usize].take() {
            self.see(into, &value);
        }
        Ok(())
    }

    fn evaluate(&mut self, groups: &[u32]) -> Result<ArrayRef> {
        Ok(self.texts(groups.iter().map(|group| self.values[*group as usize].as_deref())))
    }

    fn reset(&mut self, groups: &[u32]) -> Result<()> {
        groups.iter().for_each(|group| self.values[*group as usize] = None);
        Ok(())
    }

    fn retain(&mut self, keep: &BooleanArray) {
        let mut keep = keep.values().iter();
        self.values.retain(|_| keep.next().unwrap_or(true));
    }

    fn share(&mut self) -> Result<SharedState> {
        let texts = self.texts(self.values.iter().map(Option::as_deref));
        Ok(Box::new(move || Ok(vec![texts])))
    }

    fn restore(&mut self, state: &[ArrayRef]) -> Result<()> {
        self.values = vec![None; state[0].len()];
        for_each(&state[0], |group, value| self.values[group] = Some(value.into()));
        Ok(())
    }

    fn merge_states(&mut self, groups: &[u32], states: &[ArrayRef]) -> Result<()> {
        for_each(&states[0], |row, value| self.see(groups[row], value));
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        // What a short text takes in the heap.
        self.values.capacity() * size_of::<Option<Box<str>>>() + self.values.len() * 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_of_each_group() {
        for data_type in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View] {
            for (largest, expected) in [(true, ["b", "ab"]), (false, ["", "ab"])] {
                let mut cells = TextExtreme::new(data_type.clone(), largest);
                cells.grow(3).unwrap();
                let texts: StringArray = vec![Some("a"), Some("b"), None, Some(""), Some("ab"), Some("zz")].into_iter().collect();
                let values = arrow::compute::cast(&texts, &data_type).unwrap();
                let mask = BooleanArray::from(vec![true, true, true, true, true, false]);
                cells.update(&Change { values: &[values], mask: Some(&mask), groups: &[0, 0, 0, 0, 1, 1], additions: None }).unwrap();
                let text = |array: &ArrayRef| -> Vec<Option<String>> {
                    let array = arrow::compute::cast(array, &DataType::Utf8).unwrap();
                    array.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect()
                };
                let found = cells.evaluate(&[0, 1, 2]).unwrap();
                assert_eq!((text(&found), found.data_type()), (vec![Some(expected[0].into()), Some(expected[1].into()), None], &data_type));
                let state = cells.share().unwrap()().unwrap();
                let mut other = TextExtreme::new(data_type.clone(), largest);
                other.restore(&state).unwrap();
                other.merge(2, 0).unwrap();
                other.retain(&BooleanArray::from(vec![false, true, true]));
                assert_eq!(text(&other.evaluate(&[1]).unwrap()), [Some(expected[0].to_owned())]);
                other.reset(&[1]).unwrap();
                assert_eq!(text(&other.evaluate(&[1]).unwrap()), [None]);
            }
        }
    }
}
