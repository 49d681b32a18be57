//! What becomes of state when one plan replaces another: operator by operator, from the signatures alone. It reads no state and decides nothing about what is allowed.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_crds::report::EXCHANGE;
use sha2::{Digest, Sha256};

/// What the state of each stateful operator is made of, by operator id; see [`Plan::state_signatures`](super::Plan::state_signatures).
pub type Signatures = BTreeMap<Arc<str>, String>;

/// Stands among signatures if each split has the state of its own keys. No operator has such an id, which has slashes.
const PER_SPLIT: &str = "tasks";

/// Signatures of a plan of which each split has a task of its own, with the state of its keys.
#[must_use]
pub fn per_split(mut signatures: Signatures) -> Signatures {
    if !signatures.is_empty() {
        signatures.insert(Arc::from(PER_SPLIT), "per split".to_owned());
    }
    signatures
}

/// What becomes of the state of each operator of either plan, by operator id.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StateDiff {
    /// In the order of the ids.
    pub operators: BTreeMap<Arc<str>, StateFate>,
    /// Whether not even the positions of the inputs can be taken over: one of the plans runs as one task for all splits and the other as one for each (it keeps no
    /// state, or is keyed by what the inputs are partitioned by), or they are shared through an exchange of other partitions, or none, which has a task for each
    /// partition as well. None of these can go on from the epochs of another.
    pub positions_lost: bool,
}

/// What becomes of the state of one operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StateFate {
    /// It is taken over.
    Kept {
        /// What it is made of.
        signature: String,
    },
    /// There was none: the operator starts with nothing.
    Started {
        /// What it will be made of.
        signature: String,
    },
    /// It is lost: the new plan has no such operator, or one that keeps no state.
    Removed {
        /// What it was made of.
        signature: String,
    },
    /// It is lost: the operator keeps other state in the new plan.
    Changed {
        /// What it was made of.
        old: String,
        /// What it will be made of.
        new: String,
    },
}

impl StateFate {
    /// Why the state is lost, as the reason of a condition; `None` if it is not.
    #[must_use]
    pub fn lost(&self) -> Option<&'static str> {
        match self {
            Self::Kept { .. } | Self::Started { .. } => None,
            Self::Removed { .. } => Some("OperatorRemoved"),
            Self::Changed { .. } => Some("KeyChanged"),
        }
    }
}

impl StateDiff {
    /// Operators that lose their state, and why.
    pub fn lost(&self) -> impl Iterator<Item = (&Arc<str>, &'static str)> {
        self.operators.iter().filter_map(|(id, fate)| Some((id, fate.lost()?)))
    }

    /// Whether nothing is lost.
    #[must_use]
    pub fn is_compatible(&self) -> bool {
        !self.positions_lost && self.lost().next().is_none()
    }
}

/// Compares what is there with what the new plan can take over: state is taken over by the operator of the same id, if its signature is the same.
#[must_use]
pub fn compare(old: &Signatures, new: &Signatures) -> StateDiff {
    let fate = |id: &Arc<str>| match (old.get(id).cloned(), new.get(id).cloned()) {
        (Some(old), Some(new)) if old == new => Some(StateFate::Kept { signature: new }),
        (Some(old), Some(new)) => Some(StateFate::Changed { old, new }),
        (Some(signature), None) => Some(StateFate::Removed { signature }),
        (None, Some(signature)) => Some(StateFate::Started { signature }),
        (None, None) => None,
    };
    let ids = old.keys().chain(new.keys()).filter(|id| ![PER_SPLIT, EXCHANGE].contains(&&***id));
    let operators = ids.filter_map(|id| Some((Arc::clone(id), fate(id)?))).collect();
    StateDiff { operators, positions_lost: is_whole(old) != is_whole(new) || old.get(EXCHANGE) != new.get(EXCHANGE) }
}

/// Whether one task has all the state.
fn is_whole(signatures: &Signatures) -> bool {
    !signatures.is_empty() && ![PER_SPLIT, EXCHANGE].iter().any(|id| signatures.contains_key(*id))
}

/// 16 hex digits for each signature: enough to see whether two are equal.
#[must_use]
pub fn digests(signatures: &Signatures) -> BTreeMap<String, String> {
    let digest = |signature: &str| Sha256::digest(signature).iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
    signatures.iter().map(|(id, signature)| (id.to_string(), digest(signature))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signatures(pairs: &[(&str, &str)]) -> Signatures {
        pairs.iter().map(|(id, signature)| (Arc::from(*id), (*signature).to_owned())).collect()
    }

    #[test]
    fn each_operator_has_one_fate() {
        let old = signatures(&[("a/aggregate/0", "k BIGINT"), ("b/aggregate/0", "k BIGINT"), ("c/join/0", "x")]);
        let new = signatures(&[("a/aggregate/0", "k BIGINT"), ("b/aggregate/0", "k VARCHAR"), ("d/join/0", "x")]);
        let diff = compare(&old, &new);
        let fates: Vec<_> = diff.operators.iter().map(|(id, fate)| (&**id, fate.clone())).collect();
        assert_eq!(
            fates,
            [
                ("a/aggregate/0", StateFate::Kept { signature: "k BIGINT".into() }),
                ("b/aggregate/0", StateFate::Changed { old: "k BIGINT".into(), new: "k VARCHAR".into() }),
                ("c/join/0", StateFate::Removed { signature: "x".into() }),
                ("d/join/0", StateFate::Started { signature: "x".into() }),
            ]
        );
        let lost: Vec<_> = diff.lost().map(|(id, why)| (&**id, why)).collect();
        assert_eq!(lost, [("b/aggregate/0", "KeyChanged"), ("c/join/0", "OperatorRemoved")]);
        assert!(!diff.is_compatible());
    }

    #[test]
    fn what_only_starts_loses_nothing() {
        let some = signatures(&[("a/aggregate/0", "k")]);
        let more = signatures(&[("a/aggregate/0", "k"), ("b/aggregate/0", "k")]);
        assert!(compare(&some, &more).is_compatible());
        assert!(compare(&some, &some).is_compatible());
        assert!(!compare(&more, &some).is_compatible());
        assert_eq!(compare(&Signatures::new(), &Signatures::new()), StateDiff::default());
    }

    #[test]
    fn with_the_first_state_and_the_last_positions_are_lost() {
        let (none, some) = (Signatures::new(), signatures(&[("a/aggregate/0", "k")]));
        for (old, new) in [(&none, &some), (&some, &none)] {
            let diff = compare(old, new);
            assert!(diff.positions_lost && !diff.is_compatible());
        }
        assert!(!compare(&some, &some).positions_lost);
    }

    #[test]
    fn state_of_splits_and_state_of_the_whole_do_not_take_each_other_over() {
        let some = signatures(&[("a/aggregate/0", "k")]);
        let (whole, split, none) = (some.clone(), per_split(some), Signatures::new());
        assert!(compare(&whole, &split).positions_lost && compare(&split, &whole).positions_lost);
        assert!(compare(&split, &split).is_compatible());
        let started = compare(&none, &split);
        assert!(started.is_compatible(), "without state there is a task for each split as well");
        assert_eq!(started.operators.len(), 1);
        assert_eq!(compare(&split, &none).lost().count(), 1);
        assert_eq!(per_split(Signatures::new()), none);
    }

    #[test]
    fn the_shape_of_an_exchange_is_a_matter_of_positions_and_what_is_in_it_one_of_state() {
        let whole = signatures(&[("a/aggregate/0", "k")]);
        let shared = |partitions: &str, columns: &str| {
            signatures(&[("a/aggregate/0", "k"), ("*exchange", partitions), ("*exchange/a.aggregate.0.0", columns)])
        };
        for (old, new) in [(&whole, &shared("4", "x")), (&shared("4", "x"), &whole), (&shared("4", "x"), &shared("8", "x"))] {
            assert!(compare(old, new).positions_lost, "{old:?} {new:?}");
        }
        assert!(compare(&shared("4", "x"), &shared("4", "x")).is_compatible());
        let diff = compare(&shared("4", "x"), &shared("4", "y"));
        assert_eq!(diff.lost().map(|(id, _)| id.to_string()).collect::<Vec<_>>(), ["*exchange/a.aggregate.0.0"]);
        assert!(!diff.positions_lost);
    }

    #[test]
    fn digests_are_equal_when_signatures_are() {
        let digests = digests(&signatures(&[("a", "k"), ("b", "k"), ("c", "l")]));
        assert_eq!(digests["a"], digests["b"]);
        assert_ne!(digests["a"], digests["c"]);
        assert_eq!(digests["a"].len(), 16);
    }
}
