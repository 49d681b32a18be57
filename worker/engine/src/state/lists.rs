//! For each key the positions of its rows, in the order in which they came. Holds no rows; links only, in plain vectors.

use super::NO_ROW;

/// Doubly linked lists of positions, one for each key number. A position is in one list at most.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    /// First and last position by key number.
    ends: Vec<[u32; 2]>,
    /// By position.
    links: Vec<Link>,
    linked: usize,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    /// Key number; [`NO_ROW`] if the position is in no list.
    key: u32,
    previous: u32,
    next: u32,
}

const UNLINKED: Link = Link { key: NO_ROW, previous: NO_ROW, next: NO_ROW };

impl Lists {
    /// Makes room for keys and positions below these numbers. New positions are in no list.
    pub(crate) fn grow(&mut self, keys: usize, positions: u32) {
        if self.ends.len() < keys {
            self.ends.resize(keys, [NO_ROW; 2]);
        }
        if self.links.len() < positions as usize {
            self.links.resize(positions as usize, UNLINKED);
        }
    }

    /// Positions that are in a list.
    pub(crate) fn linked(&self) -> usize {
        self.linked
    }

    /// The key of a position; `None` if it is in no list.
    pub(crate) fn key(&self, position: u32) -> Option<u32> {
        Some(self.links[position as usize].key).filter(|key| *key != NO_ROW)
    }

    /// Whether a key has no positions.
    pub(crate) fn is_empty(&self, key: usize) -> bool {
        self.ends.get(key).is_none_or(|ends| ends[0] == NO_ROW)
    }

    /// Appends a position, which is in no list, to a key's.
    pub(crate) fn push(&mut self, key: u32, position: u32) {
        let [first, last] = &mut self.ends[key as usize];
        self.links[position as usize] = Link { key, previous: *last, next: NO_ROW };
        match *last {
            NO_ROW => *first = position,
            last => self.links[last as usize].next = position,
        }
        *last = position;
        self.linked += 1;
    }

    /// Takes a position out of its list.
    pub(crate) fn remove(&mut self, position: u32) {
        let Link { key, previous, next } = std::mem::replace(&mut self.links[position as usize], UNLINKED);
        if key == NO_ROW {
            return;
        }
        match previous {
            NO_ROW => self.ends[key as usize][0] = next,
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NO_ROW => self.ends[key as usize][1] = previous,
            next => self.links[next as usize].previous = previous,
        }
        self.linked -= 1;
    }

    /// A key's positions in the order in which they were appended.
    pub(crate) fn iter(&self, key: u32) -> impl Iterator<Item = u32> {
        let first = self.ends.get(key as usize).map_or(NO_ROW, |ends| ends[0]);
        self.follow(first, |link| link.next)
    }

    /// The same from the last to the first.
    pub(crate) fn iter_back(&self, key: u32) -> impl Iterator<Item = u32> {
        let last = self.ends.get(key as usize).map_or(NO_ROW, |ends| ends[1]);
        self.follow(last, |link| link.previous)
    }

    fn follow(&self, first: u32, step: impl Fn(&Link) -> u32) -> impl Iterator<Item = u32> {
        let some = |position: u32| (position != NO_ROW).then_some(position);
        std::iter::successors(some(first), move |position| some(step(&self.links[*position as usize])))
    }

    /// All positions that are in a list, ascending.
    pub(crate) fn positions(&self) -> Vec<u32> {
        (0..).zip(&self.links).filter(|(_, link)| link.key != NO_ROW).map(|(position, _)| position).collect()
    }

    /// Forgets the positions that are in no list; `kept` are the others, ascending. They get the positions from 0.
    pub(crate) fn retain(&mut self, kept: &[u32]) {
        let mut moved = vec![NO_ROW; self.links.len()];
        (0..).zip(kept).for_each(|(position, kept)| moved[*kept as usize] = position);
        let moved = |position: u32| if position == NO_ROW { NO_ROW } else { moved[position as usize] };
        self.links = kept
            .iter()
            .map(|position| {
                let Link { key, previous, next } = self.links[*position as usize];
                Link { key, previous: moved(previous), next: moved(next) }
            })
            .collect();
        self.ends.iter_mut().flatten().for_each(|end| *end = moved(*end));
    }

    /// Renumbers keys: `numbers` has the new one of each, [`NO_ROW`] for keys that have no positions and are forgotten.
    pub(crate) fn renumber(&mut self, numbers: &[u32]) {
        self.links.iter_mut().filter(|link| link.key != NO_ROW).for_each(|link| link.key = numbers[link.key as usize]);
        let ends = self.ends.iter().zip(numbers).filter(|(_, number)| **number != NO_ROW).map(|(ends, _)| *ends);
        self.ends = ends.collect();
    }

    /// Bytes of memory, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.ends.capacity() * size_of::<[u32; 2]>() + self.links.capacity() * size_of::<Link>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lists: &Lists, key: u32) -> Vec<u32> {
        let mut back: Vec<u32> = lists.iter_back(key).collect();
        back.reverse();
        assert_eq!(lists.iter(key).collect::<Vec<_>>(), back);
        back
    }

    #[test]
    fn positions_stay_in_the_order_of_their_arrival() {
        let mut lists = Lists::default();
        lists.grow(3, 6);
        for (key, position) in [(2, 0), (0, 1), (2, 3), (2, 4), (0, 5)] {
            lists.push(key, position);
        }
        assert_eq!((rows(&lists, 0), rows(&lists, 1), rows(&lists, 2)), (vec![1, 5], vec![], vec![0, 3, 4]));
        lists.remove(3);
        lists.remove(3);
        lists.remove(1);
        assert_eq!((rows(&lists, 0), rows(&lists, 2), lists.linked()), (vec![5], vec![0, 4], 3));
        assert_eq!((lists.key(3), lists.key(4), lists.is_empty(1)), (None, Some(2), true));
        let kept = lists.positions();
        assert_eq!(kept, [0, 4, 5]);
        lists.retain(&kept);
        lists.renumber(&[0, NO_ROW, 1]);
        assert_eq!((rows(&lists, 0), rows(&lists, 1)), (vec![2], vec![0, 1]));
        lists.grow(2, 4);
        lists.push(1, 3);
        lists.remove(0);
        assert_eq!(rows(&lists, 1), [1, 3]);
    }
}
