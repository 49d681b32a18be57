//! Vectors of which a copy costs next to nothing: they are shared in chunks, and a chunk is copied when it is written while somebody else holds it.
//! Knows no keys, and no thread: who holds a copy may read it wherever and as long as it likes.
//!
//! A snapshot of state is such a copy: the stream goes on while it is put into columns. After it, the first write to each chunk copies that chunk.

use std::sync::Arc;

use arrow::array::BooleanArray;

/// Elements of a chunk: small enough that copying one is not felt, large enough that there are not many.
pub(super) const CHUNK: usize = 2048;

/// What can be read by several, and is copied when it is written while it is.
#[derive(Debug)]
pub(super) enum Cow<T> {
    /// Nobody else has it.
    Own(T),
    /// Somebody else had it, and may still.
    Shared(Arc<T>),
}

impl<T: Clone + Default> Cow<T> {
    pub(super) fn get(&self) -> &T {
        match self {
            Self::Own(own) => own,
            Self::Shared(shared) => shared,
        }
    }

    /// For writing.
    pub(super) fn own(&mut self) -> &mut T {
        if let Self::Shared(shared) = self {
            *self = Self::Own(Arc::unwrap_or_clone(std::mem::take(shared)));
        }
        match self {
            Self::Own(own) => own,
            Self::Shared(_) => unreachable!("it has just been made its owner's"),
        }
    }

    /// What it is now, for as long as anybody wants it.
    pub(super) fn share(&mut self) -> Arc<T> {
        match self {
            Self::Own(own) => {
                let shared = Arc::new(std::mem::take(own));
                *self = Self::Shared(Arc::clone(&shared));
                shared
            }
            Self::Shared(shared) => Arc::clone(shared),
        }
    }
}

/// A vector in chunks.
#[derive(Debug)]
pub(crate) struct SharedVec<T> {
    /// All but the last are full.
    chunks: Vec<Cow<Vec<T>>>,
    len: usize,
}

/// What a [`SharedVec`] was when it was shared.
#[derive(Clone, Debug)]
pub(crate) struct Part<T>(Vec<Arc<Vec<T>>>);

impl<T> Default for SharedVec<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
}

impl<T: Copy> SharedVec<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// # Panics
    /// If there is no such element.
    pub(crate) fn get(&self, index: usize) -> T {
        self.chunks[index / CHUNK].get()[index % CHUNK]
    }

    /// For writing.
    ///
    /// # Panics
    /// If there is no such element.
    pub(crate) fn at(&mut self, index: usize) -> &mut T {
        &mut self.chunks[index / CHUNK].own()[index % CHUNK]
    }

    pub(crate) fn push(&mut self, value: T) {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Cow::Own(Vec::new()));
        }
        if let Some(last) = self.chunks.last_mut() {
            last.own().push(value);
            self.len += 1;
        }
    }

    /// Appends `value` until there are `total`; does nothing if there are.
    pub(crate) fn grow(&mut self, total: usize, value: T) {
        while self.len < total {
            if self.len.is_multiple_of(CHUNK) {
                self.chunks.push(Cow::Own(Vec::new()));
            }
            let room = (CHUNK - self.len % CHUNK).min(total - self.len);
            if let Some(last) = self.chunks.last_mut() {
                let last = last.own();
                last.resize(last.len() + room, value);
                self.len += room;
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        self.chunks.iter().flat_map(|chunk| chunk.get().iter().copied())
    }

    /// Keeps the elements for which `keep` is true.
    pub(crate) fn retain(&mut self, keep: &BooleanArray) {
        *self = self.iter().zip(keep.values().iter()).filter_map(|(value, keep)| keep.then_some(value)).collect();
    }

    /// What it is now, whatever is written later.
    pub(crate) fn share(&mut self) -> Part<T> {
        Part(self.chunks.iter_mut().map(Cow::share).collect())
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        let last = self.chunks.last().map_or(0, |last| last.get().capacity());
        (full + last) * size_of::<T>() + self.chunks.capacity() * size_of::<Cow<Vec<T>>>()
    }
}

/// A vector of bits.
#[derive(Debug, Default)]
pub(crate) struct SharedBits {
    words: SharedVec<u64>,
    len: usize,
}

/// What [`SharedBits`] were when they were shared.
#[derive(Clone, Debug)]
pub(crate) struct BitsPart {
    words: Part<u64>,
    len: usize,
}

impl SharedBits {
    /// # Panics
    /// If there is no such bit.
    pub(crate) fn get(&self, index: usize) -> bool {
        self.words.get(index / 64) >> (index % 64) & 1 == 1
    }

    /// # Panics
    /// If there is no such bit.
    pub(crate) fn set(&mut self, index: usize, value: bool) {
        let (word, bit) = (self.words.at(index / 64), 1 << (index % 64));
        if value { *word |= bit } else { *word &= !bit }
    }

    /// Appends bits that are not set until there are `total`; does nothing if there are.
    pub(crate) fn grow(&mut self, total: usize) {
        self.words.grow(total.div_ceil(64), 0);
        self.len = self.len.max(total);
    }

    /// Keeps the bits for which `keep` is true.
    pub(crate) fn retain(&mut self, keep: &BooleanArray) {
        let kept = bits(self.words.iter(), self.len).zip(keep.values().iter()).filter_map(|(value, keep)| keep.then_some(value));
        *self = kept.collect();
    }

    /// What they are now, whatever is written later.
    pub(crate) fn share(&mut self) -> BitsPart {
        BitsPart { words: self.words.share(), len: self.len }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.words.memory_bytes()
    }
}

impl FromIterator<bool> for SharedBits {
    fn from_iter<I: IntoIterator<Item = bool>>(values: I) -> Self {
        let mut all = Self::default();
        for (index, value) in values.into_iter().enumerate() {
            all.grow(index + 1);
            if value {
                all.set(index, true);
            }
        }
        all
    }
}

impl BitsPart {
    pub(crate) fn iter(&self) -> impl Iterator<Item = bool> {
        bits(self.words.iter(), self.len)
    }
}

fn bits(words: impl Iterator<Item = u64>, len: usize) -> impl Iterator<Item = bool> {
    words.flat_map(|word| (0..64).map(move |bit| word >> bit & 1 == 1)).take(len)
}

impl<T: Copy> FromIterator<T> for SharedVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut all = Self::default();
        values.into_iter().for_each(|value| all.push(value));
        all
    }
}

impl<T: Copy> Part<T> {
    /// All of it in one piece.
    pub(crate) fn to_vec(&self) -> Vec<T> {
        let mut all = Vec::with_capacity(self.0.iter().map(|chunk| chunk.len()).sum());
        self.0.iter().for_each(|chunk| all.extend_from_slice(chunk));
        all
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        self.0.iter().flat_map(|chunk| chunk.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is done to a vector.
    #[derive(Clone, Debug)]
    enum Act {
        Push(u32),
        Grow(usize),
        Set(usize, u32),
        Retain(u32),
        Share,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            any::<u32>().prop_map(Act::Push),
            (0..3 * CHUNK).prop_map(Act::Grow),
            (any::<usize>(), any::<u32>()).prop_map(|(index, value)| Act::Set(index, value)),
            (1..7_u32).prop_map(Act::Retain),
            Just(Act::Share),
        ]
    }

    proptest! {
        #[test]
        fn what_was_shared_stays_as_it_was(acts in proptest::collection::vec(act(), 0..40)) {
            let (mut vector, mut model) = (SharedVec::default(), Vec::new());
            let mut shared: Vec<(Part<u32>, Vec<u32>)> = Vec::new();
            for act in acts {
                match act {
                    Act::Push(value) => {
                        vector.push(value);
                        model.push(value);
                    }
                    Act::Grow(more) => {
                        vector.grow(model.len() + more, 9);
                        model.resize(model.len() + more, 9);
                        vector.grow(1, 0);
                        if model.is_empty() {
                            model.push(0);
                        }
                    }
                    Act::Set(index, value) if !model.is_empty() => {
                        let index = index % model.len();
                        *vector.at(index) = value;
                        model[index] = value;
                    }
                    Act::Set(..) => {}
                    Act::Retain(modulus) => {
                        let keep: BooleanArray = model.iter().map(|value| Some(value % modulus == 0)).collect();
                        vector.retain(&keep);
                        model.retain(|value| value % modulus == 0);
                    }
                    Act::Share => shared.push((vector.share(), model.clone())),
                }
                prop_assert_eq!((vector.len(), vector.is_empty()), (model.len(), model.is_empty()));
            }
            prop_assert_eq!(vector.iter().collect::<Vec<_>>(), model.clone());
            prop_assert!((0..model.len()).all(|index| vector.get(index) == model[index]));
            for (part, model) in shared {
                prop_assert_eq!(part.to_vec(), model.clone());
                prop_assert!(part.iter().eq(model.iter().copied()));
            }
        }
    }

    #[test]
    fn bits_are_what_they_were_set_to() {
        let model: Vec<bool> = (0..300).map(|n| n % 3 == 0 || n % 7 == 0).collect();
        let mut bits: SharedBits = model.iter().copied().collect();
        bits.grow(310);
        bits.grow(5);
        let part = bits.share();
        bits.set(0, false);
        bits.set(309, true);
        assert!(part.iter().eq(model.iter().copied().chain([false; 10])), "what was shared stays as it was");
        assert_eq!([bits.get(0), bits.get(3), bits.get(4), bits.get(308), bits.get(309)], [false, true, false, false, true]);
        let keep: BooleanArray = (0..310).map(|n| Some(n % 3 == 0)).collect();
        bits.retain(&keep);
        let kept = (0..310).filter(|n| n % 3 == 0).map(|n| n != 0 && n < 300 || n == 309);
        assert!(bits.share().iter().eq(kept));
    }

    #[test]
    fn only_what_is_written_is_copied() {
        let mut vector: SharedVec<u32> = (0..3 * CHUNK as u32).collect();
        let part = vector.share();
        *vector.at(CHUNK) = 7;
        let same = |chunk: usize| std::ptr::eq(vector.chunks[chunk].get(), part.0[chunk].as_ref());
        assert_eq!([same(0), same(1), same(2)], [true, false, true]);
        let before = std::ptr::from_ref(vector.chunks[2].get().as_slice());
        drop(part);
        *vector.at(2 * CHUNK) = 8;
        assert_eq!(std::ptr::from_ref(vector.chunks[2].get().as_slice()), before, "nobody else has it any more");
    }
}
