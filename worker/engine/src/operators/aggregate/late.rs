//! Windows that have given their result and still take rows, for as long as is allowed: what late rows change in them goes out as a changelog, one change for
//! each key at most. Keeps nothing; the slices are the window aggregate's.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array, new_empty_array};
use arrow::compute::{interleave, take};

use super::column::{MILLISECOND, OutputColumn, moment, row_numbers};
use super::group::changes;
use super::pane::{Finished, Pane, Rows, Selection};
use super::window::{Assignment, Window, WindowAggregate};
use crate::batch::Batch;
use crate::operators::{ExecuteError, Message, Output};
use crate::row_kind::RowKinds;
use crate::state::KeyTable;

/// Windows that a batch revises: the hashes of the keys that it touches in each.
pub(super) type Revised = BTreeMap<Window, HashSet<u64>>;

impl WindowAggregate {
    /// The windows of these rows that have given their result and still take rows.
    pub(super) fn revised(&self, parts: &[(Window, Selection<'_>)], rows: &Rows<'_>) -> Revised {
        let mut revised = Revised::new();
        if self.blueprint.lateness == 0 {
            return revised;
        }
        for (slice, selection) in parts {
            let windows: Vec<Window> = match self.blueprint.assignment {
                Assignment::Time { windows, .. } => windows.windows_of(slice.0).map(|end| (end, 0)).collect(),
                Assignment::Attached { .. } => vec![*slice],
            };
            let revisable = |(end, _): &Window| *end <= self.closed && end.saturating_add(self.blueprint.lateness) > self.closed;
            for window in windows.into_iter().filter(revisable) {
                revised.entry(window).or_default().extend(selection.hashes(rows.hashes).iter());
            }
        }
        revised
    }

    /// Results of some keys of a window, as they are now. Each slice is added up by itself first: so they are the same however its parts are stored.
    pub(super) fn results(&mut self, window: Window, keys: Option<&HashSet<u64>>) -> Result<Finished, ExecuteError> {
        let mut merged = Pane::new(&self.key_types, &self.blueprint.calls)?;
        for slice in self.inside(window) {
            let calls = &self.blueprint.calls;
            let Some(parts) = self.slices.get_mut(&slice) else { continue };
            let mut of_slice = Pane::new(&self.key_types, calls)?;
            for part in parts.tidied(&self.key_types, calls)? {
                match keys {
                    None => of_slice.merge(calls, part)?,
                    Some(keys) => {
                        let picked = (0_u32..).zip(&part.hashes).filter(|(_, hash)| keys.contains(hash)).map(|(row, _)| row);
                        let picked = UInt32Array::from_iter_values(picked);
                        if !picked.is_empty() {
                            of_slice.merge(calls, &part.pick(&picked)?)?;
                        }
                    }
                }
            }
            if !of_slice.keys.is_empty() {
                merged.merge(calls, &of_slice.freeze(calls)?)?;
            }
        }
        if !merged.keys.is_empty() {
            return merged.finish(&self.blueprint.calls);
        }
        let results = self.blueprint.calls.iter().map(|call| new_empty_array(call.function.field().data_type())).collect();
        Ok(Finished { keys: self.key_types.iter().map(new_empty_array).collect(), hashes: Vec::new(), results })
    }

    /// Says what is different in a window.
    pub(super) fn revise(&self, window: Window, before: &Finished, after: &Finished, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let mut keys = KeyTable::new(&self.key_types)?;
        let all = keys.intern(&after.keys, &after.hashes)?;
        let mut known: Vec<(u32, u32)> =
            keys.find(&before.keys, &before.hashes)?.into_iter().zip(0..).filter_map(|(key, row)| Some((key?, row))).collect();
        known.sort_unstable();
        let (known, rows): (Vec<u32>, Vec<u32>) = known.into_iter().unzip();
        let rows = UInt32Array::from(rows);
        let old: Vec<ArrayRef> = before.results.iter().map(|column| take(column, &rows, None)).collect::<Result<_, _>>()?;
        let changes = changes(&all, &known, &all, &old, &after.results)?;
        if changes.groups.is_empty() {
            return Ok(());
        }
        let (end, start) = (window.0, self.blueprint.start(window));
        let count = changes.groups.len();
        let groups = UInt32Array::from(changes.groups);
        let columns = self.blueprint.output.iter().zip(self.blueprint.schema.fields()).map(|(column, field)| match column {
            OutputColumn::Key(key) => take(&after.keys[*key], &groups, None),
            OutputColumn::WindowStart => moment(start, field.data_type(), count),
            OutputColumn::WindowEnd => moment(end, field.data_type(), count),
            OutputColumn::WindowTime => moment(end.saturating_sub(MILLISECOND), field.data_type(), count),
            OutputColumn::Call(call) => interleave(&[old[*call].as_ref(), after.results[*call].as_ref()], &changes.values),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let columns = columns.collect::<Result<_, _>>()?;
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.blueprint.schema), columns, &options)?;
        let hashes: Vec<u64> = groups.values().iter().map(|group| after.hashes[*group as usize]).collect();
        let ordinals: UInt64Array = row_numbers(&hashes, start, end)?;
        let kinds = Some(RowKinds::new(changes.kinds));
        output.emit(Message::Batch(Batch { kinds, ..Batch::new(records, self.origin.clone(), ordinals) }));
        Ok(())
    }
}
