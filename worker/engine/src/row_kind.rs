//! What a row of a changelog says: that a row is there, is replaced, or is gone. Nothing here looks at column values.

use arrow::array::{Array, BooleanArray, UInt8Array, UInt32Array};
use arrow::error::ArrowError;

/// What one row says, in the words of Flink's changelogs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum RowKind {
    /// `+I`: the row is new.
    Insert = 0,
    /// `-U`: the row is about to be replaced; always followed by its [`RowKind::UpdateAfter`].
    UpdateBefore = 1,
    /// `+U`: the row as it is now.
    UpdateAfter = 2,
    /// `-D`: the row is gone.
    Delete = 3,
}

impl RowKind {
    /// Whether the row is to be added to what a query has seen; if not, it is to be taken back.
    #[must_use]
    pub fn is_addition(self) -> bool {
        matches!(self, Self::Insert | Self::UpdateAfter)
    }

    /// The form that people and Flink write: `+I`, `-U`, `+U`, `-D`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }

    fn of(code: u8) -> Self {
        match code {
            0 => Self::Insert,
            1 => Self::UpdateBefore,
            2 => Self::UpdateAfter,
            _ => Self::Delete,
        }
    }
}

/// The kinds of the rows of a batch, one for each. A batch without has only insertions, which is the usual case and costs nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct RowKinds(UInt8Array);

impl RowKinds {
    /// Kinds in the order of the rows.
    pub fn new(kinds: impl IntoIterator<Item = RowKind>) -> Self {
        Self(UInt8Array::from_iter_values(kinds.into_iter().map(|kind| kind as u8)))
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The kind of a row.
    ///
    /// # Panics
    /// If `row` is not below [`RowKinds::len`].
    #[must_use]
    pub fn get(&self, row: usize) -> RowKind {
        RowKind::of(self.0.value(row))
    }

    /// All kinds in the order of the rows.
    pub fn iter(&self) -> impl Iterator<Item = RowKind> {
        self.0.values().iter().map(|code| RowKind::of(*code))
    }

    /// Those of the rows for which `mask` is true. Half a replacement is none: an old row whose new one is not kept is deleted, and a new one whose old one
    /// is not kept is inserted.
    #[must_use]
    pub fn filter(&self, mask: &BooleanArray) -> Self {
        let kept = |row: usize, wanted: RowKind| row < self.len() && self.get(row) == wanted && mask.is_valid(row) && mask.value(row);
        let rows = (0..self.len()).filter(|row| mask.is_valid(*row) && mask.value(*row));
        Self::new(rows.map(|row| match self.get(row) {
            RowKind::UpdateBefore if !kept(row + 1, RowKind::UpdateAfter) => RowKind::Delete,
            RowKind::UpdateAfter if row == 0 || !kept(row - 1, RowKind::UpdateBefore) => RowKind::Insert,
            kind => kind,
        }))
    }

    /// Those of the rows at `rows`, in that order.
    pub fn take(&self, rows: &UInt32Array) -> Result<Self, ArrowError> {
        Ok(Self(UInt8Array::from(arrow::compute::take(&self.0, rows, None)?.to_data())))
    }

    /// Those of `length` rows from `offset`.
    ///
    /// # Panics
    /// If there are fewer rows.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self(self.0.slice(offset, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};

    #[test]
    fn kinds_survive_what_is_done_to_rows() {
        let kinds = RowKinds::new([Insert, UpdateBefore, UpdateAfter, Delete]);
        assert_eq!(kinds.iter().map(RowKind::as_str).collect::<Vec<_>>(), ["+I", "-U", "+U", "-D"]);
        assert_eq!(kinds.iter().map(RowKind::is_addition).collect::<Vec<_>>(), [true, false, true, false]);
        let odd = kinds.filter(&BooleanArray::from(vec![false, true, false, true]));
        assert_eq!(odd, RowKinds::new([Delete, Delete]));
        assert_eq!(kinds.filter(&BooleanArray::from(vec![true, false, true, false])), RowKinds::new([Insert, Insert]));
        assert_eq!(kinds.filter(&BooleanArray::from(vec![false, true, true, false])), RowKinds::new([UpdateBefore, UpdateAfter]));
        assert_eq!(kinds.take(&UInt32Array::from(vec![3, 0])).unwrap(), RowKinds::new([Delete, Insert]));
        assert_eq!(kinds.slice(1, 2), RowKinds::new([UpdateBefore, UpdateAfter]));
        assert_eq!((kinds.len(), kinds.get(2), kinds.is_empty()), (4, UpdateAfter, false));
    }
}
