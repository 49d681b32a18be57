//! Values to Arrow columns: one typed builder for each projected column. Rows that turn out bad half-way never reach the batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, BooleanArray, BooleanBufferBuilder, BooleanBuilder, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use millrace_engine::batch::RejectCode;

use super::fixed::Fixed;
use super::instants::{parse_date, parse_timestamp};
use super::records::Refusal;
use super::texts::Texts;
use super::values::{parse_decimal, parse_double, parse_float, parse_int};

/// Builds one column.
#[derive(Debug)]
pub(super) enum Column {
    Boolean(BooleanBuilder),
    Int(Fixed<Int32Type>),
    Long(Fixed<Int64Type>),
    Float(Fixed<Float32Type>),
    Double(Fixed<Float64Type>),
    Decimal(Fixed<Decimal128Type>, u8, i8),
    /// Copied out of the chunk: what is used is usually a small part of a line, and a view into the chunk would keep all of it in memory. Only what is used
    /// as a whole is left where it lies, in memory that was lent for that.
    Text(Texts),
    Binary(BinaryBuilder),
    Date(Fixed<Date32Type>),
    Timestamp(Fixed<TimestampMicrosecondType>),
}

/// Does the same to the builder of whatever type.
macro_rules! each {
    ($column:expr, $builder:ident => $action:expr) => {
        match $column {
            Column::Boolean($builder) => $action,
            Column::Int($builder) => $action,
            Column::Long($builder) => $action,
            Column::Float($builder) => $action,
            Column::Double($builder) => $action,
            Column::Decimal($builder, _, _) => $action,
            Column::Text($builder) => $action,
            Column::Binary($builder) => $action,
            Column::Date($builder) => $action,
            Column::Timestamp($builder) => $action,
        }
    };
}

/// Whether a value fitted its column. If it did not, nothing was appended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub(super) enum Fit {
    Yes,
    No,
}

impl Column {
    /// A builder for a type that [`super::table_schema`] makes; `None` for any other.
    fn new(data_type: &DataType, rows: usize) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::Int32 => Self::Int(Fixed::new(data_type, rows)),
            DataType::Int64 => Self::Long(Fixed::new(data_type, rows)),
            DataType::Float32 => Self::Float(Fixed::new(data_type, rows)),
            DataType::Float64 => Self::Double(Fixed::new(data_type, rows)),
            DataType::Decimal128(precision, scale) => Self::Decimal(Fixed::new(data_type, rows), *precision, *scale),
            DataType::Utf8View => Self::Text(Texts::with_capacity(rows)),
            DataType::Binary => Self::Binary(BinaryBuilder::with_capacity(rows, 0)),
            DataType::Date32 => Self::Date(Fixed::new(data_type, rows)),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Self::Timestamp(Fixed::new(data_type, rows)),
            _ => return None,
        })
    }

    /// Appends NULL.
    #[inline]
    pub(super) fn push_null(&mut self) {
        each!(self, builder => builder.append_null());
    }

    /// Appends a value of this column's type written as text.
    #[inline]
    pub(super) fn push_text(&mut self, text: &str) -> Fit {
        if let Self::Text(builder) = self {
            builder.append_value(text);
            return Fit::Yes;
        }
        self.push_bytes(text.as_bytes())
    }

    /// As [`Column::push_text`], for what need not be UTF-8.
    #[inline]
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) -> Fit {
        match self {
            Self::Text(builder) => match std::str::from_utf8(bytes) {
                Ok(text) => builder.append_value(text),
                Err(_) => return Fit::No,
            },
            Self::Long(builder) => match parse_int(bytes) {
                Some(value) => builder.append_value(value),
                None => return Fit::No,
            },
            Self::Int(builder) => match parse_int(bytes).and_then(|v| i32::try_from(v).ok()) {
                Some(value) => builder.append_value(value),
                None => return Fit::No,
            },
            Self::Double(builder) => match parse_double(bytes) {
                Some(value) => builder.append_value(value),
                None => return Fit::No,
            },
            Self::Float(builder) => match parse_float(bytes) {
                Some(value) => builder.append_value(value),
                None => return Fit::No,
            },
            Self::Boolean(builder) => match bytes {
                b"true" | b"TRUE" | b"True" | b"t" | b"1" => builder.append_value(true),
                b"false" | b"FALSE" | b"False" | b"f" | b"0" => builder.append_value(false),
                _ => return Fit::No,
            },
            Self::Decimal(builder, precision, scale) => match parse_decimal(bytes, *precision, *scale) {
                Some(value) => builder.append_value(value),
                None => return Fit::No,
            },
            Self::Date(builder) => match parse_date(bytes) {
                Some(value) => builder.append_value(value),
                None => return Fit::No,
            },
            Self::Timestamp(builder) => match parse_timestamp(bytes) {
                Some(value) => builder.append_value(value),
                None => return Fit::No,
            },
            Self::Binary(builder) => match BASE64.decode(bytes) {
                Ok(value) => builder.append_value(value),
                Err(_) => return Fit::No,
            },
        }
        Fit::Yes
    }

    /// As [`Column::push_bytes`], for a whole record: a text is not copied if it lies in memory that was [lent](Columns::lend).
    #[inline]
    pub(super) fn push_record(&mut self, record: &[u8]) -> Fit {
        match self {
            Self::Text(builder) => {
                if builder.append_record(record) {
                    Fit::Yes
                } else {
                    Fit::No
                }
            }
            _ => self.push_bytes(record),
        }
    }

    /// Appends an instant, in microseconds since 1970.
    #[inline]
    pub(super) fn push_instant(&mut self, micros: i64) -> Fit {
        let Self::Timestamp(builder) = self else { return Fit::No };
        builder.append_value(micros);
        Fit::Yes
    }

    fn rows(&self) -> usize {
        use arrow::array::ArrayBuilder as _;
        each!(self, builder => builder.len())
    }

    fn finish(&mut self) -> ArrayRef {
        each!(self, builder => Arc::new(builder.finish()))
    }
}

/// Builds a batch of the projected columns, a row at a time.
#[derive(Debug)]
pub(super) struct Columns {
    schema: SchemaRef,
    builders: Vec<Column>,
    rows: usize,
    /// Rows that were begun and given up, or withdrawn; they are in the builders, padded with NULL.
    bad: Vec<usize>,
}

impl Columns {
    /// `None` if a column has a type that no format delivers.
    pub(super) fn new(schema: SchemaRef) -> Option<Self> {
        let builders = build(&schema, 0)?;
        Some(Self { schema, builders, rows: 0, bad: Vec::new() })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    #[inline]
    pub(super) fn column(&mut self, index: usize) -> &mut Column {
        &mut self.builders[index]
    }

    /// The next rows are made of records that lie in `memory`, which the batch may hold on to.
    pub(super) fn lend(&mut self, memory: &[Bytes]) {
        for builder in &mut self.builders {
            if let Column::Text(texts) = builder {
                texts.lend(memory);
            }
        }
    }

    /// The row is complete: each column has got exactly one value since the last row.
    #[inline]
    pub(super) fn end_row(&mut self) {
        self.rows += 1;
        debug_assert!(self.builders.iter().all(|c| c.rows() == self.rows), "a column has more or fewer values than rows");
    }

    /// The row is bad; each column has got at most one value since the last row.
    pub(super) fn abandon_row(&mut self) {
        if self.builders.iter().all(|column| column.rows() == self.rows) {
            return;
        }
        for column in &mut self.builders {
            if column.rows() == self.rows {
                column.push_null();
            }
        }
        self.bad.push(self.rows);
        self.rows += 1;
    }

    /// Number of the next row, for [`Columns::withdraw_row`].
    pub(super) fn next_row(&self) -> usize {
        self.rows
    }

    /// A complete row is bad after all.
    pub(super) fn withdraw_row(&mut self, row: usize) {
        self.bad.push(row);
    }

    /// Why `text` was refused by column `index`.
    pub(super) fn mismatch(&self, index: usize, text: &str) -> Refusal {
        let field = self.schema.field(index);
        Refusal::new(
            RejectCode::TypeMismatch,
            format!("column \"{}\": {} is not a valid {}", field.name(), excerpt(text), sql_type(field.data_type())),
        )
    }

    /// The complete rows since the last call.
    pub(super) fn take(&mut self) -> RecordBatch {
        let good = self.rows - self.bad.len();
        let mut arrays: Vec<ArrayRef> = self.builders.iter_mut().map(Column::finish).collect();
        if !self.bad.is_empty() {
            let mut keep = BooleanBufferBuilder::new(self.rows);
            keep.append_n(self.rows, true);
            for row in self.bad.drain(..) {
                keep.set_bit(row, false);
            }
            let keep = BooleanArray::new(keep.finish(), None);
            for array in &mut arrays {
                *array = arrow::compute::filter(array, &keep).expect("the mask is as long as each column");
            }
        }
        self.builders = build(&self.schema, self.rows).expect("the same types were built before");
        self.rows = 0;
        let options = RecordBatchOptions::new().with_row_count(Some(good));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .expect("the builders were made from the schema, and no complete row lacks a required value")
    }
}

fn build(schema: &SchemaRef, rows: usize) -> Option<Vec<Column>> {
    schema.fields().iter().map(|field| Column::new(field.data_type(), rows)).collect()
}

/// The name of a column's type as users write it.
fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "Boolean".to_owned(),
        DataType::Int32 => "Integer".to_owned(),
        DataType::Int64 => "BigInt".to_owned(),
        DataType::Float32 => "Real".to_owned(),
        DataType::Float64 => "Double".to_owned(),
        DataType::Decimal128(precision, scale) => format!("Decimal({precision}, {scale})"),
        DataType::Utf8View => "Varchar".to_owned(),
        DataType::Binary => "Varbinary (base64)".to_owned(),
        DataType::Date32 => "Date (yyyy-MM-dd)".to_owned(),
        DataType::Timestamp(..) => "Timestamp".to_owned(),
        other => other.to_string(),
    }
}

/// At most 64 characters of a value, quoted and without control characters.
pub(super) fn excerpt(text: &str) -> String {
    const MOST: usize = 64;
    match text.char_indices().nth(MOST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}
