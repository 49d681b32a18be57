//! Numbers that look random and are the same everywhere: SplitMix64. Never seeded from outside.

/// A sequence of numbers.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The sequence number `nth` of `seed`.
    pub(super) fn new(seed: u64, nth: u64) -> Self {
        let mut mixed = Self(seed ^ nth.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        Self(mixed.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        // The upper half of the product: below `end`, and as even as 64 bits are.
        u64::try_from((u128::from(self.next()) * u128::from(end)) >> 64).unwrap_or(0)
    }

    /// One of `choices`, which are some.
    pub(super) fn choose<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap_or(0)]
    }

    /// Appends `count` small letters.
    pub(super) fn letters(&mut self, count: u64, text: &mut Vec<u8>) {
        let mut bits = 0;
        for nth in 0..count {
            if nth % 12 == 0 {
                bits = self.next();
            }
            text.push(b'a' + u8::try_from(bits % 26).unwrap_or(0));
            bits /= 26;
        }
    }
}
