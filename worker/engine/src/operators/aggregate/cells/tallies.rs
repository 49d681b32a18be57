//! Numbers by group that count something: four bytes each until one does not fit, then eight. Knows not what is counted.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array};

use crate::state::{Part, SharedVec};

/// The numbers.
#[derive(Debug)]
pub(super) enum Tallies {
    /// None has been below 0, or so high that it would not fit.
    Narrow(SharedVec<u32>),
    Wide(SharedVec<i64>),
}

/// What [`Tallies`] were when they were shared.
pub(super) enum TalliesPart {
    Narrow(Part<u32>),
    Wide(Part<i64>),
}

impl Default for Tallies {
    fn default() -> Self {
        Self::Narrow(SharedVec::default())
    }
}

impl Tallies {
    /// Appends zeros until there are `total`; does nothing if there are.
    pub(super) fn grow(&mut self, total: usize) {
        match self {
            Self::Narrow(numbers) => numbers.grow(total, 0),
            Self::Wide(numbers) => numbers.grow(total, 0),
        }
    }

    /// # Panics
    /// If there is no such group.
    #[inline]
    pub(super) fn get(&self, group: usize) -> i64 {
        match self {
            Self::Narrow(numbers) => numbers.get(group).into(),
            Self::Wide(numbers) => numbers.get(group),
        }
    }

    /// Adds to the number of a group; wraps.
    ///
    /// # Panics
    /// If there is no such group.
    #[inline]
    pub(super) fn add(&mut self, group: usize, more: i64) {
        if let Self::Narrow(numbers) = self {
            let number = numbers.at(group);
            if let Ok(sum) = u32::try_from(i64::from(*number).wrapping_add(more)) {
                *number = sum;
                return;
            }
            *self = Self::Wide(numbers.iter().map(i64::from).collect());
        }
        if let Self::Wide(numbers) = self {
            let number = numbers.at(group);
            *number = number.wrapping_add(more);
        }
    }

    /// # Panics
    /// If there is no such group.
    pub(super) fn reset(&mut self, group: usize) {
        match self {
            Self::Narrow(numbers) => *numbers.at(group) = 0,
            Self::Wide(numbers) => *numbers.at(group) = 0,
        }
    }

    /// Keeps the numbers of the groups for which `keep` is true.
    pub(super) fn retain(&mut self, keep: &BooleanArray) {
        match self {
            Self::Narrow(numbers) => numbers.retain(keep),
            Self::Wide(numbers) => numbers.retain(keep),
        }
    }

    /// What they are now, whatever is written later.
    pub(super) fn share(&mut self) -> TalliesPart {
        match self {
            Self::Narrow(numbers) => TalliesPart::Narrow(numbers.share()),
            Self::Wide(numbers) => TalliesPart::Wide(numbers.share()),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Narrow(numbers) => numbers.memory_bytes(),
            Self::Wide(numbers) => numbers.memory_bytes(),
        }
    }
}

impl From<&[i64]> for Tallies {
    fn from(numbers: &[i64]) -> Self {
        let narrow: Option<SharedVec<u32>> = numbers.iter().map(|number| u32::try_from(*number).ok()).collect();
        narrow.map_or_else(|| Self::Wide(numbers.iter().copied().collect()), Self::Narrow)
    }
}

impl TalliesPart {
    /// As a column.
    pub(super) fn column(&self) -> ArrayRef {
        Arc::new(match self {
            Self::Narrow(numbers) => numbers.iter().map(i64::from).collect::<Int64Array>(),
            Self::Wide(numbers) => Int64Array::from(numbers.to_vec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray as _;
    use arrow::datatypes::Int64Type;

    use super::*;

    fn all(tallies: &mut Tallies) -> Vec<i64> {
        tallies.share().column().as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn numbers_take_more_room_once_one_needs_it() {
        for beyond in [i64::from(u32::MAX) + 1, -1] {
            let mut tallies = Tallies::default();
            tallies.grow(3);
            tallies.add(1, 5);
            tallies.add(1, -2);
            tallies.add(2, u32::MAX.into());
            assert!(matches!(tallies, Tallies::Narrow(_)));
            let narrow = tallies.memory_bytes();
            tallies.add(0, beyond);
            assert!(matches!(tallies, Tallies::Wide(_)) && tallies.memory_bytes() > narrow);
            tallies.grow(4);
            assert_eq!(all(&mut tallies), [beyond, 3, u32::MAX.into(), 0]);
            tallies.reset(1);
            tallies.add(3, 1);
            tallies.retain(&BooleanArray::from(vec![true, true, false, true]));
            assert_eq!((all(&mut tallies), tallies.get(0)), (vec![beyond, 0, 1], beyond));
            assert_eq!(all(&mut Tallies::from([beyond, 7].as_slice())), [beyond, 7]);
        }
        assert!(matches!(Tallies::from([0, 7].as_slice()), Tallies::Narrow(_)));
    }
}
