//! Which buckets of a task are in memory: decided from sizes alone. It loads and parks nothing.

/// The part of the memory that rows of parked buckets may take together.
const WAITING: usize = 4;

/// A bucket, to decide about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct View {
    pub(super) number: u16,
    pub(super) is_parked: bool,
    /// Bytes of memory that its state takes, or would.
    pub(super) state: usize,
    /// Bytes of rows that wait for it.
    pub(super) waiting: usize,
    /// Something would come out of it, or it is not known whether.
    pub(super) is_due: bool,
    /// When it last had rows; higher is later.
    pub(super) used: u64,
}

/// Bytes of memory that all of them take.
pub(super) fn memory(views: &[View]) -> usize {
    views.iter().map(|view| if view.is_parked { view.waiting } else { view.state + view.waiting }).sum()
}

/// Buckets to park so that there is room for `more` bytes within `limit`: those that have not had rows for the longest time first, and never `kept`.
pub(super) fn to_park(views: &[View], limit: usize, more: usize, kept: Option<u16>) -> Vec<u16> {
    let mut over = (memory(views) + more).saturating_sub(limit);
    let mut candidates: Vec<&View> = views.iter().filter(|view| !view.is_parked && Some(view.number) != kept).collect();
    candidates.sort_by_key(|view| (view.used, view.number));
    let mut parked = Vec::new();
    for view in candidates {
        if over == 0 {
            break;
        }
        over = over.saturating_sub(view.state);
        parked.push(view.number);
    }
    parked
}

/// The parked bucket that has to be loaded next: one that is due, else, if too many rows wait, that for which most do.
pub(super) fn to_load(views: &[View], limit: usize) -> Option<u16> {
    let parked = || views.iter().filter(|view| view.is_parked);
    if let Some(due) = parked().find(|view| view.is_due) {
        return Some(due.number);
    }
    let waiting: usize = parked().map(|view| view.waiting).sum();
    if waiting > limit / WAITING { fullest(views) } else { None }
}

/// The parked bucket for which most rows wait.
pub(super) fn fullest(views: &[View]) -> Option<u16> {
    let waiting = views.iter().filter(|view| view.is_parked && view.waiting > 0);
    waiting.max_by_key(|view| (view.waiting, std::cmp::Reverse(view.number))).map(|view| view.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(number: u16, state: usize, used: u64) -> View {
        View { number, is_parked: false, state, waiting: 0, is_due: false, used }
    }

    fn away(number: u16, waiting: usize, is_due: bool) -> View {
        View { number, is_parked: true, state: 1000, waiting, is_due, used: 0 }
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_is_parked_first() {
        let views = [here(0, 40, 3), here(1, 40, 1), here(2, 40, 2), away(3, 10, false)];
        assert_eq!(memory(&views), 130);
        assert_eq!(to_park(&views, 130, 0, None), Vec::<u16>::new());
        assert_eq!(to_park(&views, 129, 0, None), [1]);
        assert_eq!(to_park(&views, 130, 41, None), [1, 2]);
        assert_eq!(to_park(&views, 129, 0, Some(1)), [2]);
        assert_eq!(to_park(&views, 1, 0, Some(1)), [2, 0], "that is all that can be done");
    }

    #[test]
    fn what_is_due_is_loaded_first_then_where_most_rows_wait() {
        let views = [away(0, 10, false), away(1, 15, false), here(2, 40, 0)];
        assert_eq!(to_load(&views, 100), None);
        assert_eq!(to_load(&views, 99), Some(1));
        assert_eq!(to_load(&[away(3, 0, true), away(1, 90, false)], 100), Some(3));
        assert_eq!(fullest(&views), Some(1));
        assert_eq!(fullest(&[away(3, 0, false), here(1, 3, 0)]), None);
    }
}
