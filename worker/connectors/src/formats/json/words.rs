//! Bytes of JSON looked at eight or more at a time: what a text has in it, where it ends, what an integer is worth. It decides nothing about what is valid.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks the high bit of each byte that is zero, exactly up to the lowest marked one.
#[inline]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// Marks the high bit of each byte that is `byte`, exactly up to the lowest marked one.
#[inline]
fn equal(word: u64, byte: u8) -> u64 {
    zeros(word ^ (ONES * u64::from(byte)))
}

/// Marks the high bit of each control character, exactly up to the lowest marked one.
#[inline]
fn controls(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20) & !word & HIGHS
}

/// The byte that the lowest mark stands for; 8 without a mark.
#[inline]
fn first(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

/// What is anywhere in a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Survey {
    /// No byte above 127.
    pub(super) ascii: bool,
    /// No backslash and no control character: a text ends at the next quote.
    pub(super) plain: bool,
}

impl Survey {
    #[inline]
    pub(super) fn of(bytes: &[u8]) -> Self {
        let Some(last) = bytes.last_chunk::<8>() else { return Self::of_few(bytes) };
        let look = |(bits, special), word: &[u8; 8]| {
            let word = u64::from_le_bytes(*word);
            (bits | word, special | controls(word) | equal(word, b'\\'))
        };
        // What is left over is looked at with some that were looked at before.
        let (bits, special) = look(bytes.as_chunks::<8>().0.iter().fold((0, 0), look), last);
        Self { ascii: bits & HIGHS == 0, plain: special == 0 }
    }

    fn of_few(bytes: &[u8]) -> Self {
        Self { ascii: bytes.is_ascii(), plain: bytes.iter().all(|byte| *byte >= 0x20 && *byte != b'\\') }
    }
}

/// Index of the first quote.
#[inline]
pub(super) fn quote(bytes: &[u8]) -> Option<usize> {
    // Most texts are short, and end before a call would have begun.
    const FEW: usize = 3;
    let (words, _) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().take(FEW).enumerate() {
        let marks = equal(u64::from_le_bytes(*word), b'"');
        if marks != 0 {
            return Some(index * 8 + first(marks));
        }
    }
    let done = words.len().min(FEW) * 8;
    memchr::memchr(b'"', &bytes[done..]).map(|at| done + at)
}

/// How many bytes at the beginning are neither a quote, a backslash nor a control character.
#[inline]
pub(in crate::formats) fn plain_prefix(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let special = equal(word, b'"') | equal(word, b'\\') | controls(word);
        if special != 0 {
            return index * 8 + first(special);
        }
    }
    let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len());
    words.len() * 8 + plain
}

/// Whether there is no quote, backslash nor control character: a text can be written as it is.
#[inline]
pub(in crate::formats) fn is_plain(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else { return plain_prefix(bytes) == bytes.len() };
    let look = |special, word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        special | controls(word) | equal(word, b'"') | equal(word, b'\\')
    };
    // What is left over is looked at with some that were looked at before.
    look(bytes.as_chunks::<8>().0.iter().fold(0, look), last) == 0
}

/// A JSON integer of at most 16 digits at the beginning, and its length. `None` if there is none, or if what begins like one may be something else: a longer one,
/// one with a fraction or an exponent, one with zeros in front.
#[inline]
pub(super) fn integer(bytes: &[u8]) -> Option<(i64, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let digits = &bytes[usize::from(negative)..];
    let (value, count) = digits_at(digits)?;
    let odd = count == 0 || count > 1 && digits[0] == b'0' || matches!(digits.get(count), Some(b'.' | b'e' | b'E' | b'0'..=b'9'));
    (!odd).then_some((if negative { -value } else { value }, usize::from(negative) + count))
}

/// Powers of ten.
const TENS: [i64; 9] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The number that the digits at the beginning are, up to 16 of them, and how many they are. `None` where there are not enough bytes to tell at a glance.
#[inline]
fn digits_at(bytes: &[u8]) -> Option<(i64, usize)> {
    let Some(head) = bytes.first_chunk::<8>() else { return few_digits(bytes) };
    let (high, count) = digits_in(*head);
    if count < 8 {
        return Some((high, count));
    }
    let Some(tail) = bytes[8..].first_chunk::<8>() else { return few_digits(bytes) };
    let (low, more) = digits_in(*tail);
    Some((high * TENS[more] + low, 8 + more))
}

/// The number that the digits at the beginning of `word` are, and how many they are.
#[inline]
fn digits_in(word: [u8; 8]) -> (i64, usize) {
    let values = u64::from_le_bytes(word) ^ (ONES * u64::from(b'0'));
    // Marks what is above 9, exactly up to the lowest one.
    let marks = (values.wrapping_add(ONES * 0x76) | values) & HIGHS;
    let count = first(marks);
    // The digits to the end, zeros in front of them.
    let values = values.checked_shl(64 - 8 * count as u32).unwrap_or(0);
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_FFFF_0000_FFFF;
    let eight = fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xFFFF_FFFF;
    (eight as i64, count)
}

/// As [`digits_at`], a byte at a time: for the end of a record.
fn few_digits(bytes: &[u8]) -> Option<(i64, usize)> {
    let count = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let value = bytes[..count.min(16)].iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    (count <= 16).then_some((value, count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_are_taken_whole_or_not_at_all() {
        let cases: [(&str, Option<(i64, usize)>); 24] = [
            ("0", Some((0, 1))),
            ("0,", Some((0, 1))),
            ("-0}", Some((0, 2))),
            ("7 ", Some((7, 1))),
            ("1234567", Some((1_234_567, 7))),
            ("12345678", Some((12_345_678, 8))),
            ("123456789}", Some((123_456_789, 9))),
            ("-1234567890123456,\"a\":1", Some((-1_234_567_890_123_456, 17))),
            ("1234567890123456", Some((1_234_567_890_123_456, 16))),
            ("12345678901234567", None),
            ("12345678901234567,\"a\":1", None),
            ("99999999999999999999999999", None),
            ("01", None),
            ("00000000,\"abcdefgh\"", None),
            ("-01,\"abcdefgh\"", None),
            ("1.5,\"abcdefgh\"", None),
            ("1e5,\"abcdefgh\"", None),
            ("12345678E1", None),
            ("1234567890123456.0", None),
            ("", None),
            ("-", None),
            ("-,\"abcdefgh\"", None),
            ("--1", None),
            ("12/45678:", Some((12, 2))),
        ];
        for (text, expected) in cases {
            assert_eq!(integer(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn nothing_but_the_digits_is_a_digit() {
        for byte in 0..=u8::MAX {
            let word = [b'1', b'2', b'3', byte, b'5', 0xFF, byte, 0];
            let expected = if byte.is_ascii_digit() { (12_305 + i64::from(byte - b'0') * 10, 5) } else { (123, 3) };
            assert_eq!(digits_in(word), expected, "{byte}");
        }
    }

    #[test]
    fn every_byte_in_every_place_is_surveyed() {
        for length in [0, 1, 15, 16, 17, 31, 32, 33, 50] {
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'x'; length];
                    text[place] = byte;
                    let expected = Survey { ascii: byte < 128, plain: byte >= 0x20 && byte != b'\\' };
                    assert_eq!(Survey::of(&text), expected, "{byte} at {place} of {length}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_first_quote_is_found(text in "[ab\"]{0,5}[ab]{0,40}[ab\"]{0,5}") {
            prop_assert_eq!(quote(text.as_bytes()), text.find('"'));
        }

        #[test]
        fn integers_are_those_of_the_standard_library(text in "-?[0-9]{0,20}[,.e} ]?[0-9,]{0,9}") {
            if let Some((value, length)) = integer(text.as_bytes()) {
                prop_assert_eq!(text[..length].parse::<i64>().ok(), Some(value));
                prop_assert!(!text[length..].starts_with(|next: char| next.is_ascii_digit() || next == '.' || next == 'e'));
            }
        }

        #[test]
        fn a_plain_prefix_ends_at_the_first_special_byte(head in "[a-z\u{80}-\u{ff}]{0,40}", tail in proptest::collection::vec(any::<u8>(), 0..9)) {
            let text = [head.as_bytes(), &tail].concat();
            let expected = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(text.len());
            prop_assert_eq!(plain_prefix(&text), expected);
            prop_assert_eq!(is_plain(&text), expected == text.len());
        }
    }
}
