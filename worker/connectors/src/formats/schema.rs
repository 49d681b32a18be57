//! Which columns a source delivers: from its format and its schema to Arrow. It looks at no data.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit};
use millrace_crds::format::{Column, ColumnType, Csv, Debezium, Presence, Schema, SourceFormat};
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;

use super::{cloudfront, csv, raw, vpc_flow};

/// The one block of a [`SourceFormat`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    Json,
    Csv(&'a Csv),
    Raw,
    Parquet,
    CloudFront,
    VpcFlow,
    Debezium(&'a Debezium),
}

impl Kind<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv(_) => "csv",
            Self::Raw => "raw",
            Self::Parquet => "parquet",
            Self::CloudFront => "cloudFront",
            Self::VpcFlow => "vpcFlow",
            Self::Debezium(_) => "debezium",
        }
    }
}

/// The columns that a source with this format and schema delivers.
///
/// | column type | Arrow |
/// |---|---|
/// | Boolean, Integer, BigInt, Real, Double | Boolean, Int32, Int64, Float32, Float64 |
/// | Decimal | Decimal128 |
/// | Varchar, Varbinary | Utf8View, Binary |
/// | Date, Timestamp | Date32, Timestamp(Microsecond, UTC) |
///
/// # Errors
/// `Invalid` if the format needs a schema and there is none, or the other way round, or the schema contradicts itself.
pub fn table_schema(format: &SourceFormat, schema: Option<&Schema>) -> Result<SchemaRef, ConnectorError> {
    let kind = kind(format)?;
    let defined: Vec<Field> = match kind {
        Kind::Json | Kind::Csv(_) | Kind::Parquet | Kind::Debezium(_) => {
            let Some(schema) = schema else {
                return Err(invalid(format!("the format {} needs schema.columns: name the columns and their types", kind.name())));
            };
            return declared(schema);
        }
        Kind::Raw => vec![Field::new(raw::COLUMN, DataType::Utf8View, false)],
        Kind::CloudFront => cloudfront::columns().map(|(name, data_type)| Field::new(name, data_type, true)).collect(),
        Kind::VpcFlow => vpc_flow::columns().map(|(name, data_type)| Field::new(name, data_type, true)).collect(),
    };
    if schema.is_some() {
        return Err(invalid(format!("the format {} defines its own columns: remove schema", kind.name())));
    }
    Ok(Arc::new(ArrowSchema::new(defined)))
}

/// The type of every Timestamp column.
pub(super) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The one block of `format`.
pub(super) fn kind(format: &SourceFormat) -> Result<Kind<'_>, ConnectorError> {
    let blocks = [
        format.json.as_ref().map(|_| Kind::Json),
        format.csv.as_ref().map(Kind::Csv),
        format.raw.as_ref().map(|_| Kind::Raw),
        format.parquet.as_ref().map(|_| Kind::Parquet),
        format.cloud_front.as_ref().map(|_| Kind::CloudFront),
        format.vpc_flow.as_ref().map(|_| Kind::VpcFlow),
        format.debezium.as_ref().map(Kind::Debezium),
    ];
    let mut blocks = blocks.into_iter().flatten();
    match (blocks.next(), blocks.next()) {
        (Some(kind), None) => Ok(kind),
        _ => Err(invalid("a source's format needs exactly one of json, csv, raw, parquet, cloudFront, vpcFlow, debezium")),
    }
}

/// The options of delimited text, with defaults.
pub(super) fn csv_options(csv: &Csv) -> Result<csv::Options, ConnectorError> {
    let delimiter = match csv.delimiter.as_deref() {
        None => b',',
        Some("\\t") => b'\t',
        Some(text) => match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => *byte,
            _ => {
                return Err(invalid(format!(
                    "format.csv.delimiter is {text:?}: give one ASCII character other than the quote, or \\t for a tab"
                )));
            }
        },
    };
    Ok(csv::Options { delimiter, header: csv.header, null: csv.null.clone().unwrap_or_default() })
}

fn declared(schema: &Schema) -> Result<SchemaRef, ConnectorError> {
    let mut names = HashSet::new();
    for column in &schema.columns {
        if !names.insert(&column.name) {
            return Err(invalid(format!("schema.columns names \"{}\" twice: remove one of them", column.name)));
        }
    }
    if schema.columns.is_empty() {
        return Err(invalid("schema.columns is empty: name the columns and their types"));
    }
    let fields: Result<Vec<Field>, ConnectorError> = schema.columns.iter().map(field).collect();
    Ok(Arc::new(ArrowSchema::new(fields?)))
}

fn field(column: &Column) -> Result<Field, ConnectorError> {
    let data_type = match column.type_ {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Integer => DataType::Int32,
        ColumnType::BigInt => DataType::Int64,
        ColumnType::Real => DataType::Float32,
        ColumnType::Double => DataType::Float64,
        ColumnType::Decimal => decimal(column)?,
        ColumnType::Varchar => DataType::Utf8View,
        ColumnType::Varbinary => DataType::Binary,
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamp => timestamp(),
    };
    Ok(Field::new(&column.name, data_type, column.presence == Presence::Nullable))
}

fn decimal(column: &Column) -> Result<DataType, ConnectorError> {
    let precision = column.precision.and_then(|p| u8::try_from(p).ok()).filter(|p| (1..=38).contains(p));
    let Some(precision) = precision else {
        return Err(invalid(format!("column \"{}\" of type Decimal needs a precision of 1 to 38", column.name)));
    };
    match i8::try_from(column.scale.unwrap_or(0)) {
        Ok(scale) if scale >= 0 && scale.unsigned_abs() <= precision => Ok(DataType::Decimal128(precision, scale)),
        _ => Err(invalid(format!("column \"{}\": scale must be 0 to precision ({precision})", column.name))),
    }
}

/// An error in what the user wrote.
pub(super) fn invalid(message: impl Into<String>) -> ConnectorError {
    ConnectorError::new(ErrorReason::Invalid, message)
}
