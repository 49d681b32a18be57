//! Builds a column of texts: copied, or left where they lie in memory that was lent. It never keeps bytes that are not UTF-8.

use arrow::array::builder::StringViewBuilder;
use arrow::array::{ArrayBuilder as _, StringViewArray};
use arrow::buffer::Buffer;
use bytes::Bytes;

/// Pieces of memory that are looked through for a text at most.
const MOST_LENT: usize = 16;

/// The texts so far.
#[derive(Debug)]
pub(super) struct Texts {
    builder: StringViewBuilder,
    /// Where texts may be left: addresses, and the number of the block of the builder.
    lent: Vec<(std::ops::Range<usize>, u32)>,
    /// The one in which the last text was found.
    last: usize,
}

impl Texts {
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self { builder: StringViewBuilder::with_capacity(rows), lent: Vec::new(), last: 0 }
    }

    /// Texts that lie in `memory` and are to be kept as a whole need not be copied, until the column is finished.
    pub(super) fn lend(&mut self, memory: &[Bytes]) {
        if memory.len() > MOST_LENT || memory.iter().any(|piece| u32::try_from(piece.len()).is_err()) {
            return;
        }
        for piece in memory.iter().filter(|piece| !piece.is_empty()) {
            let start = piece.as_ptr().addr();
            self.lent.push((start..start + piece.len(), self.builder.append_block(Buffer::from(piece.clone()))));
        }
    }

    /// Appends a copy.
    #[inline]
    pub(super) fn append_value(&mut self, text: &str) {
        self.builder.append_value(text);
    }

    #[inline]
    pub(super) fn append_null(&mut self) {
        self.builder.append_null();
    }

    /// Appends what is text, from where it lies if that is lent; false, and nothing is appended, if it is none.
    #[inline]
    pub(super) fn append_record(&mut self, record: &[u8]) -> bool {
        if let Some((block, offset)) = self.place(record) {
            return self.builder.try_append_view(block, offset, record.len() as u32).is_ok();
        }
        std::str::from_utf8(record).map(|text| self.builder.append_value(text)).is_ok()
    }

    /// The block of lent memory that bytes lie in, and where.
    #[inline]
    fn place(&mut self, bytes: &[u8]) -> Option<(u32, u32)> {
        let start = bytes.as_ptr().addr();
        let has = |(range, _): &(std::ops::Range<usize>, u32)| range.start <= start && start + bytes.len() <= range.end;
        // Records come in the order of the memory.
        if !self.lent.get(self.last).is_some_and(has) {
            self.last = self.lent.iter().position(has)?;
        }
        let (range, block) = &self.lent[self.last];
        Some((*block, (start - range.start) as u32))
    }

    pub(super) fn len(&self) -> usize {
        self.builder.len()
    }

    /// The texts as an array; none are left, and nothing is lent.
    pub(super) fn finish(&mut self) -> StringViewArray {
        self.lent.clear();
        self.builder.finish()
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn is_at(array: &StringViewArray, row: usize, memory: &[u8]) -> bool {
        memory.as_ptr_range().contains(&array.value(row).as_ptr())
    }

    #[test]
    fn what_lies_in_lent_memory_is_left_there_and_all_else_is_copied() {
        let (one, other) = (Bytes::from(vec![b'a'; 100]), Bytes::from([b"\xFF".as_slice(), &[b'b'; 99]].concat()));
        let mut texts = Texts::with_capacity(0);
        texts.lend(&[one.clone(), Bytes::new(), other.clone()]);
        assert!(texts.append_record(&one[10..60]));
        assert!(texts.append_record(&other[1..]));
        assert!(!texts.append_record(&other), "it is no UTF-8");
        assert!(texts.append_record(&[b'c'; 40]));
        assert!(!texts.append_record(b"\xFF"));
        assert!(texts.append_record(&one[..5]), "short ones fit into the view");
        texts.append_null();
        assert_eq!(texts.len(), 5);
        let array = texts.finish();
        let values: Vec<_> = array.iter().map(|value| value.map(str::len)).collect();
        assert_eq!(values, [Some(50), Some(99), Some(40), Some(5), None]);
        assert_eq!([is_at(&array, 0, &one), is_at(&array, 1, &other), is_at(&array, 2, &one)], [true, true, false]);
        assert_eq!(array.value(1), "b".repeat(99));

        // Nothing is lent any more.
        assert!(texts.append_record(&one[10..60]));
        assert!(!is_at(&texts.finish(), 0, &one));
    }

    #[test]
    fn memory_in_many_pieces_is_not_lent() {
        let pieces = vec![Bytes::from_static(b"a text that does not fit into a view"); MOST_LENT + 1];
        let mut texts = Texts::with_capacity(0);
        texts.lend(&pieces);
        assert!(texts.append_record(&pieces[0]));
        let array = texts.finish();
        assert_eq!((array.value(0), is_at(&array, 0, &pieces[0])), ("a text that does not fit into a view", false));
    }
}
