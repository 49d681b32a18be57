//! What stands in front of the values of a record, remembered so that a record like the one before is not scanned for its names. It is only ever compared with
//! what stands there now, byte for byte, so what it has learnt from one record cannot make another one mean something else.

/// Values of a record that it remembers.
const REMEMBERED: usize = 256;
/// Longer heads are not remembered.
const LENGTH: usize = 64;
/// Bytes that are compared at once.
const WORD: usize = 16;

/// The heads of the last record, by place.
#[derive(Debug, Default)]
pub(super) struct Heads(Vec<Head>);

/// All that stands between one value and the next: comma (or opening brace), name in quotes, colon, and the white space that is used.
#[derive(Debug)]
struct Head {
    /// Its first bytes, and which bits of them count.
    word: u128,
    mask: u128,
    bytes: Vec<u8>,
    slot: Option<usize>,
}

impl Head {
    fn new(bytes: &[u8], slot: Option<usize>) -> Self {
        let mut word = [0; WORD];
        let length = bytes.len().min(WORD);
        word[..length].copy_from_slice(&bytes[..length]);
        let mask = u128::MAX >> (8 * (WORD - length));
        Self { word: u128::from_le_bytes(word), mask, bytes: bytes.to_vec(), slot }
    }

    #[inline]
    fn is_at_start_of(&self, record: &[u8]) -> bool {
        match record.split_first_chunk::<WORD>() {
            Some((word, rest)) => {
                let rest_is_equal = || self.bytes.get(WORD..).is_none_or(|behind| rest.starts_with(behind));
                (u128::from_le_bytes(*word) ^ self.word) & self.mask == 0 && rest_is_equal()
            }
            None => record.starts_with(&self.bytes),
        }
    }
}

impl Heads {
    /// The slot of the `place`th value and where that begins, if what stands at `at` is what stood in front of it in the record before.
    #[inline]
    pub(super) fn expected(&self, place: usize, record: &[u8], at: usize) -> Option<(Option<usize>, usize)> {
        let head = self.0.get(place)?;
        let found = head.is_at_start_of(record.get(at..)?);
        found.then_some((head.slot, at + head.bytes.len()))
    }

    /// Remembers what stands in front of the `place`th value, and the slot of the value.
    pub(super) fn remember(&mut self, place: usize, bytes: &[u8], slot: Option<usize>) {
        if bytes.is_empty() || bytes.len() > LENGTH {
            return;
        }
        let known = self.0.len();
        match self.0.get_mut(place) {
            Some(head) => *head = Head::new(bytes, slot),
            None if place == known && place < REMEMBERED => self.0.push(Head::new(bytes, slot)),
            None => {}
        }
    }
}
