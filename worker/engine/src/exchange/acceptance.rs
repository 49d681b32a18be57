//! Which messages of a producer count in one partition. A function of the messages and their order alone; it looks at nothing else.

/// What becomes of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is the opening marker of a newer generation: from here on only that one counts.
    Opened,
    /// It counts.
    Taken,
    /// A generation wrote it that a newer one has taken over from.
    Zombie,
    /// It has been taken before.
    Again,
    /// One before it is missing: neither it nor what follows counts, until a newer generation opens.
    Hole,
}

/// What has been taken of one producer in one partition.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Acceptance {
    generation: u64,
    /// Of the last message.
    number: u64,
}

impl Acceptance {
    /// After message `number` of `generation`. Nothing has been taken by 0 and 0: no generation has that number.
    #[must_use]
    pub fn after(generation: u64, number: u64) -> Self {
        Self { generation, number }
    }

    /// The generation that counts; 0 before one has opened.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The number of its last message.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Takes the next message of the producer in the partition. Number 0 is an opening marker.
    pub fn judge(&mut self, generation: u64, number: u64) -> Verdict {
        if generation < self.generation {
            return Verdict::Zombie;
        }
        let is_newer = generation > self.generation;
        let verdict = if is_newer && number == 0 {
            Verdict::Opened
        } else if !is_newer && number <= self.number {
            return Verdict::Again;
        } else if !is_newer && number == self.number + 1 {
            Verdict::Taken
        } else {
            return Verdict::Hole;
        };
        *self = Self::after(generation, number);
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(mut acceptance: Acceptance, messages: &[(u64, u64)]) -> String {
        let letters = messages.iter().map(|(generation, number)| match acceptance.judge(*generation, *number) {
            Verdict::Opened => 'O',
            Verdict::Taken => 'T',
            Verdict::Zombie => 'z',
            Verdict::Again => 'a',
            Verdict::Hole => 'h',
        });
        letters.collect()
    }

    #[test]
    fn the_newest_generation_that_has_opened_counts() {
        let messages = [(1, 0), (1, 1), (3, 0), (1, 2), (2, 0), (3, 1), (2, 1), (3, 2)];
        assert_eq!(judged(Acceptance::default(), &messages), "OTOzzTzT");
    }

    #[test]
    fn nothing_counts_twice_nor_behind_a_hole() {
        assert_eq!(judged(Acceptance::default(), &[(1, 1), (1, 0), (1, 0), (1, 1), (1, 1), (1, 3), (1, 4), (2, 0), (2, 1)]), "hOaTahhOT");
        assert_eq!(judged(Acceptance::after(4, 7), &[(4, 7), (4, 8), (3, 9), (5, 1), (5, 0)]), "aTzhO");
    }
}
