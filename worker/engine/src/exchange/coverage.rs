//! What the partitions of an exchange have been given of the rows of one front task, and what that task leaves out when it reads them again. It knows no rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::batch::Origin;

/// Up to where: for each [key of an origin](Origin::key) of the input, the ordinal of the last record.
pub type UpTo = BTreeMap<[u8; 16], u64>;

/// What the partitions of all channels have been given by older generations of a front task.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Coverage {
    /// By channel and partition.
    channels: Vec<Vec<UpTo>>,
}

impl Coverage {
    /// Nothing yet.
    #[must_use]
    pub fn new(channels: usize, partitions: u16) -> Self {
        Self { channels: vec![vec![UpTo::new(); usize::from(partitions)]; channels] }
    }

    /// A partition of a channel has been given everything up to there.
    ///
    /// # Panics
    /// If there is no such channel or partition.
    pub fn add(&mut self, channel: usize, partition: u16, up_to: &UpTo) {
        advance(&mut self.channels[channel][usize::from(partition)], up_to);
    }
}

/// Moves `known` on to `up_to`, where that is further.
pub fn advance(known: &mut UpTo, up_to: &UpTo) {
    for (origin, ordinal) in up_to {
        let known = known.entry(*origin).or_insert(*ordinal);
        *known = (*known).max(*ordinal);
    }
}

/// What a front task leaves out while it reads again what older generations have read. Whoever pushes rows says where they lie, and the operators in front of
/// the channels leave out those whose partition has been given them. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Replay(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Whether anything is left to be left out.
    is_on: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    coverage: Coverage,
    /// By channel, whether each partition has been given the rows that are pushed now; `None` if none has.
    given: Vec<Option<Arc<[bool]>>>,
}

impl Replay {
    /// After what `coverage` says.
    #[must_use]
    pub fn new(coverage: Coverage) -> Self {
        let is_on = coverage.channels.iter().flatten().any(|up_to| !up_to.is_empty());
        let given = vec![None; coverage.channels.len()];
        Self(Arc::new(Shared { is_on: AtomicBool::new(is_on), state: Mutex::new(State { coverage, given }) }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ordinals of an origin up to which some partition has been given everything, in order. Rows of different sides MUST NOT be pushed together.
    #[must_use]
    pub fn bounds(&self, origin: &Origin) -> Vec<u64> {
        if !self.is_on() {
            return Vec::new();
        }
        let state = self.lock();
        let bounds: BTreeSet<u64> = state.coverage.channels.iter().flatten().filter_map(|up_to| up_to.get(origin.key()).copied()).collect();
        bounds.into_iter().collect()
    }

    /// Rows of `origin` up to `ordinal` are pushed next, and none from before the last of its [bounds](Replay::bounds) below that.
    pub fn at(&self, origin: &Origin, ordinal: u64) {
        if !self.is_on() {
            return;
        }
        let mut state = self.lock();
        let State { coverage, given } = &mut *state;
        for (partitions, given) in coverage.channels.iter().zip(given) {
            let covers = |up_to: &UpTo| up_to.get(origin.key()).is_some_and(|last| ordinal <= *last);
            let of_channel: Arc<[bool]> = partitions.iter().map(covers).collect();
            *given = of_channel.contains(&true).then_some(of_channel);
        }
    }

    /// Everything of `origin` up to `ordinal` has been pushed.
    pub fn passed(&self, origin: &Origin, ordinal: u64) {
        if !self.is_on() {
            return;
        }
        let mut state = self.lock();
        let all = || state.coverage.channels.iter().flatten();
        if all().any(|up_to| up_to.get(origin.key()).is_some_and(|last| *last > ordinal)) {
            return;
        }
        // Its ordinals only grow: nothing of it has been given any more.
        for up_to in state.coverage.channels.iter_mut().flatten() {
            up_to.remove(origin.key());
        }
        let is_on = state.coverage.channels.iter().flatten().any(|up_to| !up_to.is_empty());
        self.0.is_on.store(is_on, Ordering::Relaxed);
    }

    /// Whether some of what partitions have been given has not been read again yet. Until then an epoch MUST go on from the place in the exchange that the one
    /// before had: behind a later place, nobody would find any more what was given before it.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_on.load(Ordering::Relaxed)
    }

    /// Whether each partition of a channel has been given what is pushed now; `None` if none has.
    pub(crate) fn given(&self, channel: usize) -> Option<Arc<[bool]>> {
        if !self.is_on() {
            return None;
        }
        self.lock().given.get(channel).cloned().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up_to(origin: &Origin, ordinal: u64) -> UpTo {
        UpTo::from([(*origin.key(), ordinal)])
    }

    fn given(replay: &Replay) -> Vec<Option<Vec<bool>>> {
        (0..2).map(|channel| replay.given(channel).map(|given| given.to_vec())).collect()
    }

    #[test]
    fn a_row_is_left_out_where_it_has_been_given() {
        let (one, other) = (Origin::new("one", "one"), Origin::new("other", "other"));
        let mut coverage = Coverage::new(2, 2);
        coverage.add(0, 0, &up_to(&one, 5));
        coverage.add(0, 0, &up_to(&one, 3));
        coverage.add(0, 1, &up_to(&one, 9));
        coverage.add(1, 1, &up_to(&other, 2));
        let replay = Replay::new(coverage);
        assert_eq!((replay.bounds(&one), replay.bounds(&other)), (vec![5, 9], vec![2]));
        replay.at(&one, 5);
        assert_eq!(given(&replay), [Some(vec![true, true]), None]);
        replay.at(&one, 6);
        assert_eq!(given(&replay), [Some(vec![false, true]), None]);
        replay.at(&other, 2);
        assert_eq!(given(&replay), [None, Some(vec![false, true])]);
        replay.passed(&one, 8);
        assert_eq!(replay.bounds(&one), [5, 9]);
        replay.passed(&one, 9);
        assert!(replay.bounds(&one).is_empty(), "it is behind all of it");
        replay.at(&one, 10);
        assert_eq!(given(&replay), [None, None]);
        assert!(replay.is_on(), "the other is not");
        replay.at(&other, 3);
        replay.passed(&other, 3);
        assert!(!replay.is_on(), "nothing is left");
        assert_eq!(given(&replay), [None, None]);
    }

    #[test]
    fn who_has_given_nothing_leaves_nothing_out() {
        let replay = Replay::new(Coverage::new(1, 3));
        let origin = Origin::new("one", "one");
        assert!(replay.bounds(&origin).is_empty());
        replay.at(&origin, 1);
        assert_eq!(replay.given(0), None);
    }
}
