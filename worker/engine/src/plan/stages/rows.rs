//! Deals the rows of a batch out by key group. Knows no plan.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::UInt64Type;
use arrow::error::ArrowError;

use crate::batch::Batch;
use crate::operators::KEY_GROUPS;
use crate::state::{hash_rows, key_group};

/// The partition of a key group: each has a contiguous range of groups.
pub(crate) fn partition_of(group: u16, partitions: u16) -> u16 {
    (u32::from(group) * u32::from(partitions.min(KEY_GROUPS)) / u32::from(KEY_GROUPS)) as u16
}

/// The partition of each row by the values of its key. NULL is a value like any other.
pub(crate) fn partitions_of(key: &[ArrayRef], rows: usize, partitions: u16) -> Result<Vec<u16>, ArrowError> {
    Ok(hash_rows(key, rows)?.into_iter().map(|hash| partition_of(key_group(hash), partitions)).collect())
}

/// The rows of a batch by partition: 0 up to `partitions`, of which there are [`KEY_GROUPS`] at most; partitions without rows are left out. The order of the
/// rows of a partition stays.
///
/// Half a replacement is none: where a row's old key is in another partition than its new one, the old is deleted there, and the new inserted here.
///
/// # Errors
/// If a column of the key has a type that cannot be one.
pub fn partition_rows(batch: &Batch, key: &[usize], partitions: u16) -> Result<Vec<(u16, Batch)>, ArrowError> {
    let parts = deal(batch, key, partitions)?.into_iter();
    parts.map(|(partition, rows)| Ok((partition, rows.map_or_else(|| Ok(batch.clone()), |rows| pick(batch, rows))?))).collect()
}

/// Partitions that have rows, and which; `None` if one has all.
type Dealt = Vec<(u16, Option<Vec<u32>>)>;

/// The rows of each partition. See [`partition_rows`].
pub(crate) fn deal(batch: &Batch, key: &[usize], partitions: u16) -> Result<Dealt, ArrowError> {
    let columns: Vec<ArrayRef> = key.iter().map(|column| Arc::clone(batch.records.column(*column))).collect();
    let of_row = partitions_of(&columns, batch.num_rows(), partitions)?;
    let Some(first) = of_row.first() else { return Ok(Vec::new()) };
    if of_row.iter().all(|partition| partition == first) {
        return Ok(vec![(*first, None)]);
    }
    let mut parts: Vec<Vec<u32>> = vec![Vec::new(); usize::from(partitions)];
    (0..).zip(&of_row).for_each(|(row, partition)| parts[usize::from(*partition)].push(row));
    Ok((0..).zip(parts).filter(|(_, rows)| !rows.is_empty()).map(|(partition, rows)| (partition, Some(rows))).collect())
}

/// Some rows of a batch, which are in order. See [`partition_rows`].
pub(crate) fn pick(batch: &Batch, rows: Vec<u32>) -> Result<Batch, ArrowError> {
    let kinds = batch.kinds.as_ref().map(|kinds| {
        let mut mask = vec![false; batch.num_rows()];
        rows.iter().for_each(|row| mask[*row as usize] = true);
        kinds.filter(&BooleanArray::from(mask))
    });
    let rows = UInt32Array::from(rows);
    let columns = batch.records.columns().iter().map(|column| take(column, &rows, None)).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(Batch {
        records: RecordBatch::try_new_with_options(batch.records.schema(), columns, &options)?,
        ordinals: take(&batch.ordinals, &rows, None)?.as_primitive::<UInt64Type>().clone(),
        origin: batch.origin.clone(),
        branch: batch.branch,
        kinds,
    })
}
