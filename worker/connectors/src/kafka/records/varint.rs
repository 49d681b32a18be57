//! Numbers of varying length, zigzag-encoded, as in Protocol Buffers. It reads nothing beyond a number.

/// Bytes of a 64-bit number at most.
const LONGEST: usize = 10;

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next bytes, if there are so many.
    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// A 64-bit number.
    #[inline]
    pub(super) fn varlong(&mut self) -> Option<i64> {
        let first = self.byte()?;
        if first < 0x80 {
            return Some(unzigzag(u64::from(first)));
        }
        let mut value = u64::from(first & 0x7f);
        for nth in 1..LONGEST {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if nth == LONGEST - 1 && bits > 1 {
                return None;
            }
            value |= bits << (7 * nth);
            if byte < 0x80 {
                return Some(unzigzag(value));
            }
        }
        None
    }

    /// A 32-bit number.
    #[inline]
    pub(super) fn varint(&mut self) -> Option<i32> {
        i32::try_from(self.varlong()?).ok()
    }

    /// Bytes with their length in front; `Some(None)` where the length says that there are none, not even empty ones.
    #[inline]
    #[expect(clippy::option_option, reason = "that there are none, and that they are cut, are two things")]
    pub(super) fn bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint()? {
            -1 => Some(None),
            length => self.take(usize::try_from(length).ok()?).map(Some),
        }
    }
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[inline]
fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// Appends a number.
#[inline]
pub(super) fn put(value: i64, out: &mut Vec<u8>) {
    let mut value = zigzag(value);
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`put`] appends.
#[inline]
pub(super) fn length(value: i64) -> usize {
    let bits = u64::BITS - (zigzag(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_of_the_specification() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            put(value, &mut out);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(Cursor(bytes).varlong(), Some(value));
        }
        for broken in [&[][..], &[0x80], &[0xff; 9], &[0xff; 11], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]] {
            assert_eq!(Cursor(broken).varlong(), None, "{broken:?}");
        }
        assert_eq!(Cursor(&[0x80, 0x80, 0x80, 0x80, 0x10]).varint(), None, "more than 32 bits");
    }

    proptest! {
        #[test]
        fn any_number_survives(value in any::<i64>(), small in -70_i64..70) {
            for value in [value, small, value >> 32] {
                let mut out = Vec::new();
                put(value, &mut out);
                prop_assert_eq!(out.len(), length(value));
                out.push(7);
                let mut cursor = Cursor(&out);
                prop_assert_eq!(cursor.varlong(), Some(value));
                prop_assert_eq!(cursor.0, &[7]);
            }
        }
    }
}
