//! How functions read their arguments: the same value for all rows, or one for each. Never converts what the signature should have.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::ColumnarValue;

/// Texts.
pub(super) enum Texts {
    Same(Option<String>),
    Each(StringViewArray),
}

impl Texts {
    pub(super) fn new(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Scalar(scalar) => Self::Same(scalar.try_as_str().flatten().map(str::to_owned)),
            ColumnarValue::Array(array) => Self::Each(as_views(array)?.as_string_view().clone()),
        })
    }

    pub(super) fn get(&self, row: usize) -> Option<&str> {
        match self {
            Self::Same(text) => text.as_deref(),
            Self::Each(texts) => texts.is_valid(row).then(|| texts.value(row)),
        }
    }
}

fn as_views(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(if *array.data_type() == DataType::Utf8View { ArrayRef::clone(array) } else { cast(array, &DataType::Utf8View)? })
}

/// Integers of 64 bits.
pub(super) enum Integers {
    Same(Option<i64>),
    Each(Int64Array),
}

impl Integers {
    pub(super) fn new(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Scalar(scalar) => match scalar.cast_to(&DataType::Int64)? {
                ScalarValue::Int64(number) => Self::Same(number),
                other => return plan_err!("{other} is not an integer"),
            },
            ColumnarValue::Array(array) => Self::Each(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone()),
        })
    }

    pub(super) fn get(&self, row: usize) -> Option<i64> {
        match self {
            Self::Same(number) => *number,
            Self::Each(numbers) => numbers.is_valid(row).then(|| numbers.value(row)),
        }
    }
}

/// The type of a text argument as it is; anything else is refused. Literals stay literals, so that they can be looked at when the plan is made.
pub(super) fn text_type(function: &str, argument: &str, given: &DataType) -> Result<DataType> {
    match given {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(given.clone()),
        DataType::Null => Ok(DataType::Utf8),
        other => plan_err!("{function}() takes a text as {argument}, not {other}: cast it to VARCHAR"),
    }
}

/// BIGINT for any integer; anything else is refused.
pub(super) fn integer_type(function: &str, argument: &str, given: &DataType) -> Result<DataType> {
    match given {
        given if given.is_integer() || *given == DataType::Null => Ok(DataType::Int64),
        other => plan_err!("{function}() takes an integer as {argument}, not {other}"),
    }
}

/// The text of a literal argument: `None` if it is none or NULL.
pub(super) fn literal<'a>(scalars: &[Option<&'a ScalarValue>], position: usize) -> Option<&'a str> {
    scalars.get(position).copied().flatten().and_then(|scalar| scalar.try_as_str().flatten())
}
