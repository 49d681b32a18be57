//! State put aside into a tier, by bucket: the key groups of the exchange. It decides nothing about which buckets are in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Broken;
use crate::operators::{Due, ExecuteError, OperatorState, Snapshot, StateTable};
use crate::plan::stages::{Exchange, merged, partition_of};
use crate::runtime::stored::{Content, decode, encode};
use crate::runtime::tier::{self, SpillSpace, Spilled};

/// Part of the state of one operator, in the tier.
#[derive(Clone)]
pub(in crate::runtime) struct Part {
    pub(in crate::runtime) operator: Arc<str>,
    pub(in crate::runtime) signature: String,
    pub(in crate::runtime) file: Arc<Spilled>,
}

/// State by bucket, all of it in the tier.
pub(in crate::runtime) struct Aside {
    pub(super) exchange: Exchange,
    pub(super) space: Arc<SpillSpace>,
    pub(super) buckets: BTreeMap<u16, Kept>,
    /// Whether it is of a time when all ways had told a watermark.
    pub(super) knows_time: bool,
}

/// The state of one bucket.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) parts: Vec<Part>,
    /// Whether the last epoch has it in files of this bucket alone.
    pub(super) is_stored: bool,
    /// `None` if it has to be loaded to know that.
    pub(super) known: Option<Known>,
}

/// What is known of a bucket that is not in memory.
pub(in crate::runtime) struct Known {
    /// When something comes out of it.
    pub(in crate::runtime) dues: Vec<Due>,
    /// Bytes of memory that it takes.
    pub(in crate::runtime) state_bytes: usize,
}

impl Aside {
    /// Nothing yet.
    pub(in crate::runtime) fn new(exchange: Exchange, space: Arc<SpillSpace>, knows_time: bool) -> Self {
        Self { exchange, space, buckets: BTreeMap::new(), knows_time }
    }

    /// Adds state of an operator; returns the buckets that it is of.
    pub(in crate::runtime) fn add(&mut self, operator: &Arc<str>, state: &OperatorState) -> Result<Vec<u16>, Broken> {
        let Self { exchange, space, buckets, .. } = self;
        let mut of = Vec::new();
        exchange.by_group(operator, state, |group, state| {
            buckets.entry(group).or_default().parts.push(put(space, operator, &state)?);
            of.push(group);
            Ok::<_, Broken>(())
        })?;
        Ok(of)
    }

    /// Adds state of an operator that is all of one bucket, and in the tier.
    pub(in crate::runtime) fn add_part(&mut self, bucket: u16, operator: &str, signature: &str, file: Spilled) {
        let part = Part { operator: operator.into(), signature: signature.to_owned(), file: Arc::new(file) };
        self.buckets.entry(bucket).or_default().parts.push(part);
    }

    /// The last epoch has all that was added of a bucket, in files of its own.
    pub(in crate::runtime) fn is_stored(&mut self, bucket: u16) {
        if let Some(kept) = self.buckets.get_mut(&bucket) {
            kept.is_stored = true;
        }
    }

    /// This is known of all that was added of a bucket.
    pub(in crate::runtime) fn is_known(&mut self, bucket: u16, known: Known) {
        if let Some(kept) = self.buckets.get_mut(&bucket) {
            kept.known = Some(known);
        }
    }

    /// Of so many lanes, each with the state of its keys.
    pub(in crate::runtime) fn split(self, lanes: u16) -> Vec<Self> {
        let Self { exchange, space, buckets, knows_time } = self;
        let mut parts: Vec<Self> = (0..lanes).map(|_| Self::new(exchange.clone(), Arc::clone(&space), knows_time)).collect();
        for (group, kept) in buckets {
            parts[usize::from(partition_of(group, lanes))].buckets.insert(group, kept);
        }
        parts
    }
}

/// Puts state into the tier.
pub(super) fn put(space: &Arc<SpillSpace>, operator: &Arc<str>, state: &OperatorState) -> Result<Part, Broken> {
    let bytes = encode(operator, state).map_err(|error| tier::Error::Encode(error.to_string()))?;
    Ok(Part { operator: Arc::clone(operator), signature: state.signature.clone(), file: Arc::new(space.put(&bytes)?) })
}

/// Whether there is anything in it.
pub(in crate::runtime) fn has_rows(tables: &BTreeMap<String, StateTable>) -> bool {
    tables.values().any(|table| !table.groups.is_empty())
}

/// The state that parts hold together.
pub(super) fn get(parts: &[Part]) -> Result<Snapshot, Broken> {
    let mut by_operator: BTreeMap<Arc<str>, Vec<OperatorState>> = BTreeMap::new();
    for part in parts {
        let damaged = |detail: String| tier::Error::Damaged { detail };
        let Content::Whole(state) = decode(&part.operator, &part.file.get()?).map_err(damaged)? else {
            return Err(damaged("it holds changes".to_owned()).into());
        };
        by_operator.entry(Arc::clone(&part.operator)).or_default().push(state);
    }
    let whole = by_operator.into_iter().filter_map(|(operator, states)| Some((operator, merged(states).transpose()?)));
    Ok(whole.map(|(operator, state)| Ok((operator, state?))).collect::<Result<_, ExecuteError>>()?)
}
