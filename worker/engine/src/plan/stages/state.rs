//! Deals the state of a plan out among lanes, and puts it together again. Knows no operator but by its blueprint.
//!
//! State is stored with the key group of the operator's own key, of which the key of the exchange may be only a part; so it is dealt out by the columns of the
//! exchange, never by the group that it is stored with.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt16Array, UInt32Array};
use arrow::compute::{concat, concat_batches, filter, filter_record_batch, take as compute_take, take_record_batch};
use arrow::datatypes::UInt16Type;

use super::Exchange;
use super::keys::StateKeys;
use super::rows::partitions_of;
use crate::operators::{ExecuteError, KEY_GROUPS, OperatorState, Snapshot, StateTable, TakenSnapshot, TakenState};

impl Exchange {
    /// The state of each of `partitions` backs, out of the state of the whole.
    ///
    /// # Errors
    /// If there is state that the plan does not have.
    pub fn split(&self, snapshot: &Snapshot, partitions: u16) -> Result<Vec<Snapshot>, ExecuteError> {
        let mut parts = vec![Snapshot::new(); usize::from(partitions)];
        for (id, state) in snapshot {
            let keys = self.keys.get(id).ok_or_else(|| unknown(id, "the operator"))?;
            for (part, state) in parts.iter_mut().zip(split(id, state, keys, partitions)?) {
                part.insert(Arc::clone(id), state);
            }
        }
        Ok(parts)
    }

    /// The state of one operator by key group of the exchange, group after group; groups without rows are left out.
    pub(crate) fn by_group<E: From<ExecuteError>>(
        &self,
        id: &Arc<str>,
        state: &OperatorState,
        mut take: impl FnMut(u16, OperatorState) -> Result<(), E>,
    ) -> Result<(), E> {
        let keys = self.keys.get(id).ok_or_else(|| unknown(id, "the operator"))?;
        let mut rows: Vec<BTreeMap<&String, Vec<u32>>> = vec![BTreeMap::new(); usize::from(KEY_GROUPS)];
        for (name, table) in &state.tables {
            for (row, group) in (0..).zip(groups_of(id, name, table, keys, KEY_GROUPS)?) {
                rows[usize::from(group)].entry(name).or_default().push(row);
            }
        }
        for (group, rows) in (0..).zip(rows).filter(|(_, rows)| !rows.is_empty()) {
            let part = |(name, table): (&String, &StateTable)| {
                let rows = UInt32Array::from(rows.get(name).cloned().unwrap_or_default());
                let groups = compute_take(&table.groups, &rows, None)?.as_primitive::<UInt16Type>().clone();
                Ok((name.clone(), StateTable { groups, records: take_record_batch(&table.records, &rows)? }))
            };
            let tables = state.tables.iter().map(part).collect::<Result<_, ExecuteError>>()?;
            take(group, OperatorState { signature: state.signature.clone(), tables })?;
        }
        Ok(())
    }

    /// The state of the whole, out of that of all backs of one plan.
    pub fn merge(parts: Vec<TakenSnapshot>) -> TakenSnapshot {
        let mut by_operator: BTreeMap<Arc<str>, Vec<TakenState>> = BTreeMap::new();
        for (id, state) in parts.into_iter().flat_map(|part| part.0) {
            by_operator.entry(id).or_default().push(state);
        }
        let merged = |states: Vec<TakenState>| {
            let signature = states.first().map_or_else(String::new, |state| state.signature.clone());
            TakenState::new(signature, move || merge(states.into_iter().map(TakenState::finish).collect::<Result<_, _>>()?))
        };
        TakenSnapshot(by_operator.into_iter().map(|(id, states)| (id, merged(states))).collect())
    }
}

fn split(id: &Arc<str>, state: &OperatorState, keys: &StateKeys, partitions: u16) -> Result<Vec<OperatorState>, ExecuteError> {
    let empty = OperatorState { signature: state.signature.clone(), tables: BTreeMap::new() };
    let mut parts = vec![empty; usize::from(partitions)];
    for (name, table) in &state.tables {
        let of_row = groups_of(id, name, table, keys, partitions)?;
        for (partition, part) in (0..).zip(&mut parts) {
            let mask: BooleanArray = of_row.iter().map(|of_row| Some(*of_row == partition)).collect();
            let groups = filter(&table.groups, &mask)?.as_primitive::<UInt16Type>().clone();
            part.tables.insert(name.clone(), StateTable { groups, records: filter_record_batch(&table.records, &mask)? });
        }
    }
    Ok(parts)
}

/// The partition of each row of a table.
fn groups_of(id: &Arc<str>, name: &str, table: &StateTable, keys: &StateKeys, partitions: u16) -> Result<Vec<u16>, ExecuteError> {
    let stored = keys.blueprint.stored_keys(name).ok_or_else(|| unknown(id, name))?;
    let columns = keys.positions.iter().map(|position| table.records.columns().get(*stored.get(*position)?).map(Arc::clone));
    let columns: Option<Vec<ArrayRef>> = columns.collect();
    Ok(partitions_of(&columns.ok_or_else(|| unknown(id, name))?, table.records.num_rows(), partitions)?)
}

/// Parts of the state of an operator, put together; `None` if there are none.
pub(crate) fn merged(states: Vec<OperatorState>) -> Result<Option<OperatorState>, ExecuteError> {
    let Some(signature) = states.first().map(|state| state.signature.clone()) else { return Ok(None) };
    Ok(Some(OperatorState { signature, tables: merge(states)? }))
}

/// Tables of parts of a state, put together.
pub(crate) fn merge(states: Vec<OperatorState>) -> Result<BTreeMap<String, StateTable>, ExecuteError> {
    let mut by_name: BTreeMap<String, Vec<StateTable>> = BTreeMap::new();
    for (name, table) in states.into_iter().flat_map(|state| state.tables) {
        by_name.entry(name).or_default().push(table);
    }
    by_name.into_iter().map(|(name, tables)| Ok((name, concatenated(tables)?))).collect()
}

fn concatenated(mut tables: Vec<StateTable>) -> Result<StateTable, ExecuteError> {
    if tables.len() == 1
        && let Some(only) = tables.pop()
    {
        return Ok(only);
    }
    let groups: Vec<&dyn Array> = tables.iter().map(|table| &table.groups as &dyn Array).collect();
    let groups: UInt16Array = concat(&groups)?.as_primitive::<UInt16Type>().clone();
    let records: Vec<&RecordBatch> = tables.iter().map(|table| &table.records).collect();
    let schema = records.first().map(|records| records.schema());
    let schema = schema.ok_or_else(|| ExecuteError::State { message: "a table of no lane".to_owned() })?;
    Ok(StateTable { groups, records: concat_batches(&schema, records)? })
}

fn unknown(id: &Arc<str>, what: &str) -> ExecuteError {
    ExecuteError::State { message: format!("it has `{what}` of operator {id}, which the plan does not have") }
}
