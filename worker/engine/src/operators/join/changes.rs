//! What a join is about to say: pairs of positions, each added or taken back. Knows no values.

use std::collections::HashMap;

use crate::row_kind::RowKind;

/// Changes in the order in which they happen.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Positions on the left and on the right; [`NO_ROW`](crate::state::NO_ROW) where the row is padded.
    pub(super) rows: [Vec<u32>; 2],
    pub(super) additions: Vec<bool>,
    /// A name for each change that is the same in every replay.
    pub(super) ids: Vec<u64>,
}

impl Changes {
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Adds a change of a row of side `own` with one of the other side, or with none.
    pub(super) fn push(&mut self, own: usize, row: u32, other: u32, addition: bool, id: u64) {
        self.rows[own].push(row);
        self.rows[1 - own].push(other);
        self.additions.push(addition);
        self.ids.push(id);
    }

    /// Leaves out what is added and taken back again, or the other way round.
    pub(super) fn net(&mut self) {
        if self.additions.iter().all(|addition| *addition) {
            return;
        }
        let mut last: HashMap<(u32, u32), usize> = HashMap::with_capacity(self.len());
        let mut kept = vec![true; self.len()];
        for change in 0..self.len() {
            let pair = (self.rows[0][change], self.rows[1][change]);
            match last.remove(&pair) {
                Some(before) if self.additions[before] != self.additions[change] => {
                    kept[before] = false;
                    kept[change] = false;
                }
                _ => {
                    last.insert(pair, change);
                }
            }
        }
        self.keep(&kept);
    }

    fn keep(&mut self, kept: &[bool]) {
        fn keep<T>(values: &mut Vec<T>, kept: &[bool]) {
            let mut kept = kept.iter();
            values.retain(|_| *kept.next().expect("one for each change"));
        }
        self.rows.iter_mut().for_each(|rows| keep(rows, kept));
        keep(&mut self.additions, kept);
        keep(&mut self.ids, kept);
    }

    pub(super) fn clear(&mut self) {
        self.rows.iter_mut().for_each(Vec::clear);
        self.additions.clear();
        self.ids.clear();
    }

    /// The kind of each change of `range`.
    pub(super) fn kinds(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = RowKind> {
        self.additions[range].iter().map(|addition| if *addition { RowKind::Insert } else { RowKind::Delete })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NO_ROW;

    #[test]
    fn what_is_undone_is_left_out() {
        let mut changes = Changes::default();
        for (left, right, addition) in
            [(1, 2, true), (3, NO_ROW, false), (1, 2, false), (3, NO_ROW, true), (4, 5, false), (1, 2, true), (1, 2, true)]
        {
            changes.push(0, left, right, addition, 0);
        }
        changes.net();
        assert_eq!(changes.rows, [vec![4, 1, 1], vec![5, 2, 2]]);
        assert_eq!(changes.additions, [false, true, true]);
    }
}
