//! The windows of time that rows are in: TUMBLE, HOP, CUMULATE and SESSION, in microseconds. Pure arithmetic; holds no rows.
//!
//! Windows are cut into **slices** that overlap nowhere: a row is in one slice, and a window is made of whole slices. A slice or window is named by its end,
//! the first moment that is not in it.
//!
//! ```text
//! HOP(slide 2, size 6)          slices  |--2--|--4--|--6--|--8--|
//!                               windows |--------6--------|
//!                                             |--------8--------|
//! ```

use std::fmt;
use std::time::Duration;

/// Which windows there are. All lengths are in microseconds and above zero; steps and slides divide sizes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Windows {
    /// One after the other.
    Tumble { size: i64, offset: i64 },
    /// One starts every `slide`.
    Hop { size: i64, slide: i64, offset: i64 },
    /// Those that start together grow by `step` up to `size`.
    Cumulate { size: i64, step: i64, offset: i64 },
    /// Rows that are no more than `gap` apart.
    Session { gap: i64 },
}

impl Windows {
    /// Length of a slice.
    pub(super) fn slice(self) -> i64 {
        match self {
            Self::Tumble { size, .. } => size,
            Self::Hop { slide, .. } => slide,
            Self::Cumulate { step, .. } => step,
            Self::Session { gap } => gap,
        }
    }

    fn offset(self) -> i64 {
        match self {
            Self::Tumble { offset, .. } | Self::Hop { offset, .. } | Self::Cumulate { offset, .. } => offset,
            Self::Session { .. } => 0,
        }
    }

    /// The end of the slice that a moment is in. Times at the very edge of what 64 bits hold stay in the last slice that fits.
    pub(super) fn slice_end(self, time: i64) -> i64 {
        let (slice, offset) = (self.slice(), self.offset());
        time.saturating_sub(offset).div_euclid(slice).saturating_add(1).saturating_mul(slice).saturating_add(offset)
    }

    /// Where the window that ends at `end` starts.
    pub(super) fn start(self, end: i64) -> i64 {
        match self {
            Self::Tumble { size, .. } | Self::Hop { size, .. } => end.saturating_sub(size),
            Self::Cumulate { size, offset, .. } => base(end, size, offset),
            Self::Session { .. } => end,
        }
    }

    /// The end of the last window that the slice is in.
    pub(super) fn last_window(self, slice_end: i64) -> i64 {
        match self {
            Self::Tumble { .. } | Self::Session { .. } => slice_end,
            Self::Hop { size, slide, .. } => slice_end.saturating_add(size - slide),
            Self::Cumulate { size, offset, .. } => base(slice_end, size, offset).saturating_add(size),
        }
    }

    /// The windows that the slice is in, by their ends, in order.
    pub(super) fn windows_of(self, slice_end: i64) -> impl Iterator<Item = i64> {
        let count = (self.last_window(slice_end).saturating_sub(slice_end)) / self.slice() + 1;
        (0..count).map(move |window| slice_end + window * self.slice())
    }

    /// The end of the window after the one that ends at `end`, if they share slices.
    pub(super) fn next(self, end: i64) -> Option<i64> {
        match self {
            Self::Tumble { .. } | Self::Session { .. } => None,
            Self::Hop { slide, .. } => end.checked_add(slide),
            Self::Cumulate { step, .. } => (end < self.last_window(end)).then(|| end.checked_add(step)).flatten(),
        }
    }
}

/// Where the windows of CUMULATE start that one of which ends at `end`.
fn base(end: i64, size: i64, offset: i64) -> i64 {
    end.saturating_sub(1).saturating_sub(offset).div_euclid(size).saturating_mul(size).saturating_add(offset)
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |micros: i64| format!("{:?}", Duration::from_micros(micros.unsigned_abs()));
        let (name, parts, offset) = match *self {
            Self::Tumble { size, offset } => ("TUMBLE", vec![("size", size)], offset),
            Self::Hop { size, slide, offset } => ("HOP", vec![("slide", slide), ("size", size)], offset),
            Self::Cumulate { size, step, offset } => ("CUMULATE", vec![("step", step), ("size", size)], offset),
            Self::Session { gap } => ("SESSION", vec![("gap", gap)], 0),
        };
        let mut parts: Vec<String> = parts.into_iter().map(|(name, micros)| format!("{name} {}", text(micros))).collect();
        if offset != 0 {
            parts.push(format!("offset {}", text(offset)));
        }
        write!(f, "{name}({})", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contains(windows: Windows, end: i64, time: i64) -> bool {
        windows.start(end) <= time && time < end
    }

    #[test]
    fn windows_as_flink_cuts_them() {
        let hop = Windows::Hop { size: 6, slide: 2, offset: 0 };
        assert_eq!((hop.slice_end(0), hop.slice_end(1), hop.slice_end(2), hop.slice_end(-1)), (2, 2, 4, 0));
        assert_eq!(hop.windows_of(2).collect::<Vec<_>>(), [2, 4, 6]);
        let cumulate = Windows::Cumulate { size: 6, step: 2, offset: 0 };
        assert_eq!(cumulate.windows_of(4).collect::<Vec<_>>(), [4, 6]);
        assert_eq!((cumulate.start(2), cumulate.start(6), cumulate.start(8)), (0, 0, 6));
        assert_eq!((cumulate.next(4), cumulate.next(6)), (Some(6), None));
        let tumble = Windows::Tumble { size: 10, offset: 3 };
        assert_eq!((tumble.slice_end(3), tumble.slice_end(2), tumble.slice_end(-8)), (13, 3, -7));
        assert_eq!(tumble.to_string(), "TUMBLE(size 10µs, offset 3µs)");
    }

    #[test]
    fn the_ends_of_time_are_no_panic() {
        for windows in [
            Windows::Tumble { size: 7, offset: 3 },
            Windows::Hop { size: 6, slide: 2, offset: 1 },
            Windows::Cumulate { size: 6, step: 2, offset: 1 },
        ] {
            for time in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
                let end = windows.slice_end(time);
                let _ = (windows.start(end), windows.last_window(end), windows.next(end));
            }
        }
    }

    proptest! {
        #[test]
        fn a_row_is_in_the_windows_of_its_slice_and_in_no_others(
            time in -1000_i64..1000, slide in 1_i64..7, times in 1_i64..6, offset in 0_i64..7,
        ) {
            let size = slide * times;
            for windows in [
                Windows::Tumble { size, offset: offset % size },
                Windows::Hop { size, slide, offset: offset % slide },
                Windows::Cumulate { size, step: slide, offset: offset % size },
            ] {
                let slice = windows.slice_end(time);
                prop_assert!(slice - windows.slice() <= time && time < slice);
                let inside: Vec<i64> = windows.windows_of(slice).collect();
                prop_assert_eq!(inside.last().copied(), Some(windows.last_window(slice)));
                for end in &inside {
                    prop_assert!(contains(windows, *end, time), "{windows} {end} {time}");
                }
                let expected = match windows { Windows::Cumulate { .. } => (windows.last_window(slice) - slice) / slide + 1, Windows::Hop { .. } => times, _ => 1 };
                prop_assert_eq!(inside.len() as i64, expected);
            }
        }
    }
}
