//! `hour(timestamp)` and its relatives: parts of timestamps (in UTC) and dates as BIGINT, numbered as Flink does. They never look at a time zone.

use arrow::compute::{DatePart, cast, date_part};
use arrow::datatypes::DataType;
use datafusion_common::{Result, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// Name, part, and whether a date has it.
const PARTS: [(&str, DatePart, bool); 10] = [
    ("year", DatePart::Year, true),
    ("quarter", DatePart::Quarter, true),
    ("month", DatePart::Month, true),
    // Weeks of ISO 8601: they start on Monday, and week 1 has the year's first Thursday.
    ("week", DatePart::WeekISO, true),
    ("dayofyear", DatePart::DayOfYear, true),
    ("dayofmonth", DatePart::Day, true),
    // Sunday is 1.
    ("dayofweek", DatePart::DayOfWeekSunday1, true),
    ("hour", DatePart::Hour, false),
    ("minute", DatePart::Minute, false),
    ("second", DatePart::Second, false),
];

/// All of them.
pub(super) fn all() -> impl Iterator<Item = Part> {
    (0..PARTS.len()).map(|nth| Part { nth, signature: Signature::user_defined(Volatility::Immutable) })
}

/// One function.
#[derive(Debug, Eq, Hash, PartialEq)]
pub(super) struct Part {
    /// Position in [`PARTS`].
    nth: usize,
    signature: Signature,
}

impl ScalarUDFImpl for Part {
    fn name(&self) -> &'static str {
        PARTS[self.nth].0
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let (name, _, of_dates) = PARTS[self.nth];
        match given {
            [DataType::Timestamp(..)] => Ok(given.to_vec()),
            [DataType::Date32 | DataType::Date64] if of_dates => Ok(given.to_vec()),
            [other] => plan_err!("{name}() takes a timestamp{}, not {other}", if of_dates { " or a date" } else { "" }),
            _ => plan_err!("{name}() takes one argument"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(cast(&date_part(&times, PARTS[self.nth].1)?, &DataType::Int64)?))
    }
}
