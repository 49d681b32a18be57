//! Whether the state of an operator is stored whole, as what has changed, or not at all. It reads and writes no store.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::changes::{Changes, Identities, Known};
use super::file;
use crate::checkpoint::StateRef;
use crate::operators::{OperatorState, StateTable};

/// Files of changes after a whole one, at most: each is read and applied when a task is taken over.
const LONGEST_CHAIN: usize = 8;

/// What the last epoch has stored of each operator.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Increments {
    identities: Identities,
    chains: BTreeMap<String, Chain>,
}

/// The files of one operator, and the rows that they hold.
#[derive(Debug, Default)]
struct Chain {
    signature: String,
    files: Vec<StateRef>,
    tables: BTreeMap<String, Known>,
}

/// What an epoch has to store of one operator.
#[derive(Debug)]
pub(in crate::runtime) enum Written {
    /// Nothing: it is as it was.
    Nothing,
    /// A file that follows those of the last epoch.
    Changes(Bytes),
    /// A file of its own.
    Whole(Bytes),
}

impl Increments {
    /// Bytes of memory that knowing what was stored takes.
    pub(in crate::runtime) fn memory_bytes(&self) -> usize {
        self.chains.values().flat_map(|chain| chain.tables.values()).map(Known::memory_bytes).sum()
    }

    /// The last epoch has stored `state` in `files`.
    pub(super) fn restored(&mut self, operator: &str, state: &OperatorState, files: &[StateRef]) {
        let tables = know(&self.identities, state).unwrap_or_default();
        let chain = Chain { signature: state.signature.clone(), files: files.to_vec(), tables };
        self.chains.insert(operator.to_owned(), chain);
    }

    /// What to store of the state of `operator`. The file, if there is one, MUST be told by [`Increments::stored`] next. Takes long where the state is large.
    pub(in crate::runtime) fn next(&mut self, operator: &str, state: &OperatorState) -> Result<Written, String> {
        let failed = |error: &dyn std::fmt::Display| format!("the state of operator {operator} cannot be encoded: {error}");
        let known = know(&self.identities, state);
        let before = self.chains.remove(operator).filter(|chain| chain.signature == state.signature);
        let mut chain = Chain { signature: state.signature.clone(), ..Chain::default() };
        let mut written = None;
        if let (Some(known), Some(before)) = (&known, before)
            && let Some(changes) = before.changes(known, &state.tables)
        {
            if before.is_unchanged(&changes) {
                written = Some(Written::Nothing);
            } else if before.may_grow() {
                let bytes = file::encode_changes(operator, &state.signature, &changes).map_err(|error| failed(&error))?;
                written = before.is_worth(&bytes).then_some(Written::Changes(bytes));
            }
            chain.files = before.files;
        }
        chain.tables = known.unwrap_or_default();
        self.chains.insert(operator.to_owned(), chain);
        match written {
            Some(written) => Ok(written),
            None => file::encode(operator, state).map(Written::Whole).map_err(|error| failed(&error)),
        }
    }

    /// The files that hold the state of `operator` now that `file` is stored.
    pub(in crate::runtime) fn stored(&mut self, operator: &str, whole: bool, file: Option<StateRef>) -> Vec<StateRef> {
        let chain = self.chains.entry(operator.to_owned()).or_default();
        if whole {
            chain.files.clear();
        }
        chain.files.extend(file);
        chain.files.clone()
    }

    /// Forgets the operators that `kept` does not name.
    pub(in crate::runtime) fn retain(&mut self, kept: impl Fn(&str) -> bool) {
        self.chains.retain(|operator, _| kept(operator));
    }
}

impl Chain {
    /// How each table follows from what was stored; `None` if it cannot be told, or is not worth it.
    fn changes(&self, known: &BTreeMap<String, Known>, tables: &BTreeMap<String, StateTable>) -> Option<BTreeMap<String, Changes>> {
        let one = |(name, table): (&String, &StateTable)| {
            let (before, after) = (self.tables.get(name)?, known.get(name)?);
            let changes = before.is_comparable(after).then(|| before.changes(after, table).ok())??;
            let kept = after.rows() - changes.added.groups.len();
            (kept * 2 >= after.rows()).then_some((name.clone(), changes))
        };
        (!self.files.is_empty()).then(|| tables.iter().map(one).collect())?
    }

    fn is_unchanged(&self, changes: &BTreeMap<String, Changes>) -> bool {
        self.tables.len() == changes.len() && changes.iter().all(|(name, changes)| changes.is_none(self.tables[name].rows()))
    }

    fn may_grow(&self) -> bool {
        self.files.len() <= LONGEST_CHAIN
    }

    /// Whether the changes, with those before, are still less to read than half a whole file.
    fn is_worth(&self, changes: &Bytes) -> bool {
        let changes: u64 = self.files[1..].iter().map(|file| file.length).sum::<u64>() + changes.len() as u64;
        changes * 2 <= self.files[0].length
    }
}

/// The rows of all tables; `None` if those of one cannot be compared.
fn know(identities: &Identities, state: &OperatorState) -> Option<BTreeMap<String, Known>> {
    state.tables.iter().map(|(name, table)| Some((name.clone(), identities.know(table)?))).collect()
}
