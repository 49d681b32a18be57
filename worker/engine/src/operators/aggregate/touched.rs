//! When each key was last touched, in four bytes: in steps of about a 64-millionth of the time to live, rounded up. Knows no key, and forgets none.

use arrow::array::BooleanArray;

use crate::state::{Part, SharedVec};

/// Steps of a time to live, more or less.
const STEPS: i64 = 1 << 26;
/// The steps that are left for the past when all are counted anew: many times to live.
const PAST: i64 = 1 << 31;

/// The times of keys by number.
pub(super) struct Touched {
    scale: Scale,
    /// Steps after the base; 0 before time was known.
    steps: SharedVec<u32>,
}

/// What [`Touched`] was when it was shared.
pub(super) struct TouchedPart {
    scale: Scale,
    steps: Part<u32>,
}

/// What a number of steps means.
#[derive(Clone, Copy)]
struct Scale {
    /// A power of ten, so that times that are whole milliseconds or seconds stay what they are. Microseconds.
    step: i64,
    /// In steps since 1970; `None` before time is known.
    base: Option<i64>,
}

impl Scale {
    fn time(self, steps: u32) -> i64 {
        match (steps, self.base) {
            (0, _) | (_, None) => i64::MIN,
            (_, Some(base)) => base.saturating_add(steps.into()).saturating_mul(self.step),
        }
    }

    /// A time in steps since 1970, rounded up: nothing may be over too early.
    fn steps(self, time: i64) -> i64 {
        time.div_euclid(self.step) + i64::from(time.rem_euclid(self.step) > 0)
    }
}

impl Touched {
    /// Of keys that live for `ttl` microseconds.
    pub(super) fn new(ttl: i64) -> Self {
        let mut step = 1;
        while step <= ttl / STEPS / 10 {
            step *= 10;
        }
        Self { scale: Scale { step, base: None }, steps: SharedVec::default() }
    }

    /// The same, with what each key had.
    pub(super) fn restored(ttl: i64, times: &[i64]) -> Self {
        let mut touched = Self::new(ttl);
        touched.grow(times.len());
        let known = times.iter().copied().filter(|time| *time > i64::MIN);
        if let Some((first, last)) = known.clone().min().zip(known.max()) {
            let scale = touched.scale;
            touched.scale.base = Some((scale.steps(first) - 1).max(scale.steps(last).saturating_sub(PAST)));
            for (group, time) in (0_u32..).zip(times) {
                touched.touch(&[group], *time);
            }
        }
        touched
    }

    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Adds keys that were not touched until there are `total`.
    pub(super) fn grow(&mut self, total: usize) {
        self.steps.grow(total, 0);
    }

    /// When a key was touched; the lowest number before time was known.
    pub(super) fn get(&self, group: u32) -> i64 {
        self.scale.time(self.steps.get(group as usize))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = i64> {
        let scale = self.scale;
        self.steps.iter().map(move |steps| scale.time(steps))
    }

    /// Keys are touched at a time that is not before that of any other; the lowest number if none is known.
    pub(super) fn touch(&mut self, groups: &[u32], time: i64) {
        let steps = if time == i64::MIN { 0 } else { self.steps_of(time) };
        groups.iter().for_each(|group| *self.steps.at(*group as usize) = steps);
    }

    /// Time is known from now on: keys that were touched before are touched now.
    pub(super) fn begin(&mut self, time: i64) {
        let steps = self.steps_of(time);
        self.steps = self.steps.iter().map(|known| if known == 0 { steps } else { known }).collect();
    }

    fn steps_of(&mut self, time: i64) -> u32 {
        let now = self.scale.steps(time);
        let base = *self.scale.base.get_or_insert(now.saturating_sub(1));
        if let Ok(steps) = u32::try_from(now.saturating_sub(base)) {
            return steps.max(1);
        }
        // Before the base: counts as the first. Far behind it: what was touched more than half of all steps ago is long over, however much longer ago.
        if now < base {
            return 1;
        }
        let moved = now.saturating_sub(PAST);
        let by = moved.saturating_sub(base);
        let shifted = self.steps.iter().map(|steps| if steps == 0 { 0 } else { (i64::from(steps) - by).max(1) as u32 });
        self.steps = shifted.collect();
        self.scale.base = Some(moved);
        PAST as u32
    }

    /// Keeps the keys for which `keep` is true.
    pub(super) fn retain(&mut self, keep: &BooleanArray) {
        self.steps.retain(keep);
    }

    /// What it is now, whatever is written later.
    pub(super) fn share(&mut self) -> TouchedPart {
        TouchedPart { scale: self.scale, steps: self.steps.share() }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.steps.memory_bytes()
    }
}

impl TouchedPart {
    /// The times of all keys.
    pub(super) fn to_vec(&self) -> Vec<i64> {
        self.steps.iter().map(|steps| self.scale.time(steps)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;
    const SECOND: i64 = 1_000_000;

    fn times(touched: &mut Touched) -> Vec<i64> {
        touched.share().to_vec()
    }

    #[test]
    fn times_of_whole_milliseconds_stay_what_they_are() {
        for ttl in [0, 1, SECOND, DAY] {
            let mut touched = Touched::new(ttl);
            touched.grow(3);
            touched.touch(&[1], 1_772_323_150_123_000);
            touched.touch(&[2], 1_772_323_150_124_000);
            assert_eq!(times(&mut touched), [i64::MIN, 1_772_323_150_123_000, 1_772_323_150_124_000], "{ttl}");
            assert_eq!((touched.len(), touched.get(0), touched.get(1)), (3, i64::MIN, 1_772_323_150_123_000));
            touched.begin(1_772_323_150_125_000);
            assert_eq!(touched.iter().next(), Some(1_772_323_150_125_000));
        }
    }

    #[test]
    fn other_times_are_rounded_up() {
        let mut touched = Touched::new(10 * DAY);
        touched.grow(3);
        touched.touch(&[0], -7);
        touched.touch(&[1], 1);
        touched.touch(&[2], 20_001);
        assert_eq!(times(&mut touched), [0, 10_000, 30_000]);
        touched.retain(&BooleanArray::from(vec![true, false, true]));
        assert_eq!(times(&mut touched), [0, 30_000]);
    }

    #[test]
    fn after_a_leap_of_time_what_is_over_stays_over() {
        let mut touched = Touched::new(SECOND);
        touched.grow(4);
        touched.touch(&[0], 0);
        touched.touch(&[1], 3000 * SECOND);
        touched.touch(&[2], 5000 * SECOND);
        assert_eq!(times(&mut touched), [2_852_516_353, 3000 * SECOND, 5000 * SECOND, i64::MIN], "2^31 microseconds ago, and longer");
        touched.touch(&[3], i64::MAX);
        let all = times(&mut touched);
        assert_eq!(all[3], i64::MAX);
        assert!(all[..3].iter().all(|time| *time < i64::MAX - 2000 * SECOND), "{all:?}");
    }

    #[test]
    fn what_was_stored_comes_back() {
        let stored = [i64::MIN, -5 * SECOND, 7 * SECOND, 7 * SECOND, 3 * SECOND];
        let mut touched = Touched::restored(DAY, &stored);
        assert_eq!(times(&mut touched), stored);
        touched.touch(&[0], 8 * SECOND);
        assert_eq!(touched.get(0), 8 * SECOND);
        let mut apart = Touched::restored(SECOND, &[0, 1_000_000 * SECOND]);
        assert_eq!(times(&mut apart)[1], 1_000_000 * SECOND);
        assert!(apart.get(0) < 999_000 * SECOND);
        assert_eq!(times(&mut Touched::restored(SECOND, &[i64::MIN])), [i64::MIN]);
    }
}
