//! From the columns of a Parquet file to the columns of a table. Values are widened, never narrowed or rounded (except that instants are cut to the microsecond).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};

/// The type that a column of a file is read as: texts and bytes as views, which share what repeats.
pub(super) fn read_type(in_file: &DataType) -> DataType {
    match in_file {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        other => other.clone(),
    }
}

/// `in_file` with each column of [`read_type`].
pub(super) fn read_schema(in_file: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| field.as_ref().clone().with_data_type(read_type(field.data_type()));
    Arc::new(Schema::new(in_file.fields().iter().map(field).collect::<Vec<_>>()))
}

/// Whether every value of a column of type `from` (as read) is a value of type `to`. For text of bytes it depends on the bytes.
pub(super) fn is_wider(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, Decimal32, Decimal64, Decimal128, FixedSizeBinary, Float16, Float32, Float64, Int8, Int16,
        Int32, Int64, Timestamp, UInt8, UInt16, UInt32, Utf8View,
    };
    match (from, to) {
        (Boolean, Boolean)
        | (Int8 | Int16 | Int32 | UInt8 | UInt16, Int32)
        | (Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32, Int64)
        | (Float16 | Float32, Float32)
        | (Float16 | Float32 | Float64, Float64)
        | (Utf8View | BinaryView, Utf8View)
        | (Utf8View | BinaryView | FixedSizeBinary(_), Binary)
        | (Date32, Date32)
        | (Timestamp(..), Timestamp(..)) => true,
        (Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s), Decimal128(precision, scale)) => {
            s <= scale && i16::from(*p) - i16::from(*s) <= i16::from(*precision) - i16::from(*scale)
        }
        _ => false,
    }
}

/// `column` as type `to`; without a column as many NULLs as `rows`.
///
/// # Errors
/// Text for people: bytes that should be text are not, an instant is too far away.
pub(super) fn conform(column: Option<&ArrayRef>, to: &DataType, rows: usize) -> Result<ArrayRef, String> {
    let Some(column) = column else { return Ok(new_null_array(to, rows)) };
    let failing = CastOptions { safe: false, ..CastOptions::default() };
    let cast = |column: &dyn Array, to: &DataType| cast_with_options(column, to, &failing).map_err(|error| error.to_string());
    match to {
        DataType::Timestamp(_, zone) => {
            // Without its zone first: an instant is one whatever zone it is displayed in.
            let local = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            Ok(Arc::new(local.as_primitive::<TimestampMicrosecondType>().clone().with_timezone_opt(zone.clone())))
        }
        to => cast(column, to),
    }
}

/// Bytes of the texts and bytes of each row.
pub(super) fn variable_lengths(columns: &[ArrayRef], rows: usize) -> Vec<u64> {
    let mut lengths = vec![0; rows];
    for column in columns {
        let mut add = |row: usize, length: u32| lengths[row] += u64::from(length);
        match column.data_type() {
            DataType::Utf8View => column.as_string_view().lengths().enumerate().for_each(|(row, length)| add(row, length)),
            DataType::BinaryView => column.as_binary_view().lengths().enumerate().for_each(|(row, length)| add(row, length)),
            _ => {}
        }
    }
    lengths
}
