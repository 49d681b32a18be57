//! Aggregates of groups that are read again and again, and from which values can be taken back: for results that are revised. Knows no keys.
//!
//! The commonest functions over numbers and texts are vectors, COUNT(DISTINCT …) of numbers is one hash table for all groups. Others are one accumulator of DataFusion for each group, if it can take back what was added in any
//! order; if not, the values themselves are kept with their counts, and the result is computed from them when it is asked for.

mod boxed;
mod distinct;
mod multiset;
mod numbers;
mod tallies;
mod texts;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int32Type, Int64Type, UInt64Type};
use datafusion_common::{Result, internal_err};

use super::call::Call;
use crate::state::fits_a_word;
use boxed::Boxed;
use distinct::Distinct;
use multiset::Multiset;
use numbers::{Average, Count, Extreme, Sum};
use texts::TextExtreme;

/// Rows for one call.
pub(super) struct Change<'a> {
    /// The arguments.
    pub(super) values: &'a [ArrayRef],
    /// Which rows count; all if there is none.
    pub(super) mask: Option<&'a BooleanArray>,
    /// The group of each row.
    pub(super) groups: &'a [u32],
    /// Which rows are added; the others are taken back. All are added if there is none.
    pub(super) additions: Option<&'a BooleanArray>,
}

impl Change<'_> {
    pub(super) fn counts(&self, row: usize) -> bool {
        self.mask.is_none_or(|mask| mask.value(row))
    }

    pub(super) fn adds(&self, row: usize) -> bool {
        self.additions.is_none_or(|additions| additions.value(row))
    }
}

/// The state of one aggregate, to be put into columns: row `n` is group `n`.
pub(super) type SharedState = Box<dyn FnOnce() -> Result<Vec<ArrayRef>> + Send>;

/// One aggregate for groups by number.
pub(super) trait Cells: Send {
    /// Makes room for groups below `total`; new ones are as if nothing had been added.
    fn grow(&mut self, total: usize) -> Result<()>;
    /// Adds rows, and takes rows back.
    fn update(&mut self, change: &Change<'_>) -> Result<()>;
    /// Adds all that one group has to another. What is left of it is to be [reset](Cells::reset).
    fn merge(&mut self, into: u32, from: u32) -> Result<()>;
    /// The results of some groups. Changes nothing.
    fn evaluate(&mut self, groups: &[u32]) -> Result<ArrayRef>;
    /// Makes groups as if nothing had been added.
    fn reset(&mut self, groups: &[u32]) -> Result<()>;
    /// Forgets the groups for which `keep` is false; the others move up.
    fn retain(&mut self, keep: &BooleanArray);
    /// The state of all groups as it is now, whatever comes later; it becomes columns where there is time for it. Changes nothing.
    fn share(&mut self) -> Result<SharedState>;
    /// Takes back what [`Cells::share`] gave: row `n` is group `n`. There are no groups yet.
    fn restore(&mut self, state: &[ArrayRef]) -> Result<()>;
    /// Adds what [`Cells::share`] of others gave: row `n` to group `groups[n]`. Only where the state has one size and rows come in any order.
    fn merge_states(&mut self, _groups: &[u32], _states: &[ArrayRef]) -> Result<()> {
        internal_err!("states of this aggregate cannot be merged")
    }
    fn memory_bytes(&self) -> usize;
}

/// Functions whose accumulators take back values in any order.
const RETRACTABLE: [&str; 10] =
    ["avg", "bit_xor", "corr", "count", "covar_pop", "covar_samp", "median", "percentile_cont", "sum", "var_pop"];

/// The cells of a call. `retracts`: whether rows may be taken back.
pub(super) fn cells(call: &Call, retracts: bool) -> Result<Box<dyn Cells>> {
    let function = &call.function;
    let arguments = call.types();
    let result = function.field().data_type().clone();
    let name = function.fun().name();
    if !function.is_distinct() && function.order_bys().is_empty() {
        match (name, arguments.as_slice(), &result) {
            ("count", ..) => return Ok(Box::new(Count::new())),
            ("sum", [DataType::Int64], DataType::Int64) => return Ok(Box::new(Sum::<Int64Type>::new(result, retracts))),
            ("sum", [DataType::UInt64], DataType::UInt64) => return Ok(Box::new(Sum::<UInt64Type>::new(result, retracts))),
            ("sum", [DataType::Float64], DataType::Float64) => return Ok(Box::new(Sum::<Float64Type>::new(result, retracts))),
            ("sum", [DataType::Decimal128(..)], DataType::Decimal128(..)) => {
                return Ok(Box::new(Sum::<Decimal128Type>::new(result, retracts)));
            }
            ("avg", [DataType::Float64], DataType::Float64) => return Ok(Box::new(Average::new())),
            ("min" | "max", [argument], _) if !retracts && *argument == result => {
                let largest = name == "max";
                match result {
                    DataType::Int32 => return Ok(Box::new(Extreme::<Int32Type>::new(result, largest))),
                    DataType::Int64 => return Ok(Box::new(Extreme::<Int64Type>::new(result, largest))),
                    DataType::UInt64 => return Ok(Box::new(Extreme::<UInt64Type>::new(result, largest))),
                    DataType::Float64 => return Ok(Box::new(Extreme::<Float64Type>::new(result, largest))),
                    DataType::Decimal128(..) => return Ok(Box::new(Extreme::<Decimal128Type>::new(result, largest))),
                    DataType::Timestamp(unit, _) => return Ok(numbers::extreme_timestamp(unit, result, largest)),
                    DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => return Ok(Box::new(TextExtreme::new(result, largest))),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    if let ("count", [argument]) = (name, arguments.as_slice())
        && function.is_distinct()
        && !retracts
        && fits_a_word(argument)
    {
        return Ok(Box::new(Distinct::new(argument.clone())));
    }
    let retractable = RETRACTABLE.contains(&name) || name.starts_with("stddev") || name.starts_with("var") || name.starts_with("regr_");
    if !retracts {
        return Ok(Box::new(Boxed::new(Arc::clone(function), false)));
    }
    if retractable && !function.is_distinct() && function.create_sliding_accumulator().is_ok() {
        return Ok(Box::new(Boxed::new(Arc::clone(function), true)));
    }
    Ok(Box::new(Multiset::new(Arc::clone(function), &arguments)?))
}
