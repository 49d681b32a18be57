//! Inputs from a corpus: a few of the usual changes to one of them. It knows no format but the words it is given.

/// The largest input.
const MAX: usize = 256 << 10;
/// Numbers at which code errs, as texts.
const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "1",
    "-0",
    "255",
    "65536",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775809",
    "1e400",
    "1e-400",
    "NaN",
    "99999999999999999999999999",
    "0.1",
];

/// Numbers drawn from a seed: the same in every run.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The `number`th row of numbers of a seed.
    #[must_use]
    pub fn new(seed: u64, number: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(number.wrapping_mul(0xD1B5_4A32_D192_ED03)) | 1)
    }

    /// Below `sides`, which is not 0.
    pub fn below(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let from = self.below(length + 1);
        // Short ones are as likely as long ones.
        let most = (length - from).min(1 << self.below(12));
        from..from + self.below(most + 1)
    }
}

/// One of the corpus, changed one to eight times.
pub(super) fn mutate(random: &mut Random, corpus: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(8) {
        change(random, &mut input, corpus, words);
        input.truncate(MAX);
    }
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&[u8]]) {
    let length = input.len();
    match random.below(12) {
        0 if length > 0 => input[random.below(length)] ^= 1 << random.below(8),
        1 if length > 0 => input[random.below(length)] = random.below(256) as u8,
        2 => drop(input.drain(random.range(length))),
        3 => input.truncate(random.below(length + 1)),
        4 => {
            let copied = input[random.range(length)].to_vec();
            insert(random, input, &copied);
        }
        // Depth: the same again and again.
        5 => {
            let range = random.range(length.min(24));
            let copied = input[range].repeat(1 << random.below(14));
            insert(random, input, &copied[..copied.len().min(MAX / 2)]);
        }
        6 => {
            let other = &corpus[random.below(corpus.len())];
            let copied = other[random.range(other.len())].to_vec();
            insert(random, input, &copied);
        }
        7 => {
            let number = NUMBERS[random.below(NUMBERS.len())];
            insert(random, input, number.as_bytes());
        }
        8 => {
            let bytes: Vec<u8> = (0..=random.below(8)).map(|_| random.below(256) as u8).collect();
            insert(random, input, &bytes);
        }
        9 if !words.is_empty() => {
            let word = words[random.below(words.len())].repeat(1 << random.below(12));
            insert(random, input, &word[..word.len().min(MAX / 2)]);
        }
        _ if !words.is_empty() => {
            let word = words[random.below(words.len())];
            insert(random, input, word);
        }
        _ => {}
    }
}

/// Puts bytes in, or in the place of as many.
fn insert(random: &mut Random, input: &mut Vec<u8>, bytes: &[u8]) {
    let at = random.below(input.len() + 1);
    let end = if random.below(2) == 0 { at } else { (at + bytes.len()).min(input.len()) };
    input.splice(at..end, bytes.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_others_differ() {
        let corpus = [b"{\"n\":1}".to_vec(), b"{}".to_vec()];
        let inputs = |seed| (0..200).map(|number| mutate(&mut Random::new(seed, number), &corpus, &[b"null"])).collect::<Vec<_>>();
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        let different: std::collections::BTreeSet<_> = inputs(1).into_iter().collect();
        assert!(different.len() > 150, "{}", different.len());
    }
}
