//! From a sink's format to the values of single records: a row as JSON, or the bytes of one column as they are. It knows no topic.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use millrace_crds::format::SinkFormat;
use millrace_engine::connector::ConnectorError;

use super::EncodeError;
use super::rows::RowEncoder;
use super::schema::invalid;

/// Writes rows of one schema as values of records.
#[derive(Clone, Debug)]
pub(crate) enum ValueEncoder {
    /// One JSON object for each row.
    Json(RowEncoder),
    /// The bytes of the column at this place.
    Raw(usize),
}

impl ValueEncoder {
    /// An encoder for batches of `schema`. Of the columns in `keys` raw values need nothing: they are in the records' keys.
    ///
    /// # Errors
    /// `Invalid` if the format is none for single records, or cannot hold these columns.
    pub(crate) fn new(format: &SinkFormat, schema: &SchemaRef, keys: &[String]) -> Result<Self, ConnectorError> {
        match (&format.json, &format.raw, &format.parquet) {
            (Some(_), None, None) => Ok(Self::Json(RowEncoder::new(schema)?)),
            (None, Some(_), None) => raw_column(schema, keys).map(Self::Raw),
            _ => Err(invalid("the values of records need exactly one of json, raw")),
        }
    }

    /// Appends the value of each row to `out`, without anything in between, and where each ends in `out` to `ends`. NULL, for which
    /// [`ValueEncoder::is_null`] has to be asked, appends nothing.
    ///
    /// # Errors
    /// If `records` has other columns than the schema.
    pub(crate) fn encode(&mut self, records: &RecordBatch, out: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<(), EncodeError> {
        match self {
            Self::Json(rows) => rows.encode(records, out, ends),
            Self::Raw(column) => raw(records, *column, out, ends),
        }
    }

    /// Whether a row has no value at all, not even an empty one.
    pub(crate) fn is_null(&self, records: &RecordBatch, row: usize) -> bool {
        matches!(self, Self::Raw(column) if records.columns().get(*column).is_some_and(|column| column.is_null(row)))
    }
}

/// The one column that is in no key.
fn raw_column(schema: &SchemaRef, keys: &[String]) -> Result<usize, ConnectorError> {
    let all = schema.fields().iter().enumerate();
    let columns: Vec<_> =
        if schema.fields().len() == 1 { all.collect() } else { all.filter(|(_, field)| !keys.contains(field.name())).collect() };
    match columns.as_slice() {
        [(column, only)] if is_bytes(only.data_type()) => Ok(*column),
        [(_, only)] => Err(invalid(format!(
            "format raw writes the bytes of a text or of a Varbinary, and column \"{}\" is {}: cast it to VARCHAR, or write json",
            only.name(),
            only.data_type()
        ))),
        columns => {
            let names: Vec<&str> = columns.iter().map(|(_, field)| field.name().as_str()).collect();
            Err(invalid(format!(
                "format raw writes one column besides those of the key, and there are {} ({}): select the one, or write json",
                columns.len(),
                names.join(", ")
            )))
        }
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
    matches!(data_type, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView)
}

fn raw(records: &RecordBatch, column: usize, out: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<(), EncodeError> {
    let wrong = || EncodeError { format: "raw", message: format!("the batch has the columns {}", records.schema()) };
    let column = records.columns().get(column).ok_or_else(wrong)?;
    match column.data_type() {
        DataType::Utf8 => append(column.as_string::<i32>().iter(), out, ends),
        DataType::LargeUtf8 => append(column.as_string::<i64>().iter(), out, ends),
        DataType::Utf8View => append(column.as_string_view().iter(), out, ends),
        DataType::Binary => append(column.as_binary::<i32>().iter(), out, ends),
        DataType::LargeBinary => append(column.as_binary::<i64>().iter(), out, ends),
        DataType::BinaryView => append(column.as_binary_view().iter(), out, ends),
        _ => return Err(wrong()),
    }
    Ok(())
}

fn append<T: AsRef<[u8]>>(values: impl Iterator<Item = Option<T>>, out: &mut Vec<u8>, ends: &mut Vec<usize>) {
    for value in values {
        out.extend_from_slice(value.as_ref().map_or(&[], AsRef::as_ref));
        ends.push(out.len());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::compute::cast;
    use arrow::datatypes::{Field, Schema};
    use millrace_crds::format::{JsonOut, RawOut};

    use super::*;

    fn format(raw: bool) -> SinkFormat {
        if raw {
            SinkFormat { raw: Some(RawOut {}), ..SinkFormat::default() }
        } else {
            SinkFormat { json: Some(JsonOut::default()), ..SinkFormat::default() }
        }
    }

    fn values(raw: bool, column: &ArrayRef) -> Vec<Option<String>> {
        let records = RecordBatch::try_from_iter([("line", Arc::clone(column))]).unwrap();
        let mut encoder = ValueEncoder::new(&format(raw), &records.schema(), &[]).unwrap();
        let (mut out, mut ends, mut start) = (Vec::new(), Vec::new(), 0);
        encoder.encode(&records, &mut out, &mut ends).unwrap();
        let each = ends.into_iter().enumerate().map(|(row, end)| {
            let value = String::from_utf8(out[std::mem::replace(&mut start, end)..end].to_vec()).unwrap();
            (!encoder.is_null(&records, row)).then_some(value)
        });
        each.collect()
    }

    #[test]
    fn one_column_is_written_as_it_is() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a\n\"b\""), None, Some("")]));
        for data_type in
            [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, DataType::Binary, DataType::LargeBinary, DataType::BinaryView]
        {
            let expected = [Some("a\n\"b\"".to_owned()), None, Some(String::new())];
            assert_eq!(values(true, &cast(&texts, &data_type).unwrap()), expected, "{data_type}");
        }
        assert_eq!(values(false, &texts)[1..], [Some("{}".to_owned()), Some("{\"line\":\"\"}".to_owned())]);
    }

    #[test]
    fn what_cannot_be_written_as_it_is_is_refused() {
        let refused =
            |fields: Vec<Field>| ValueEncoder::new(&format(true), &Arc::new(Schema::new(fields)), &["k".to_owned()]).unwrap_err().message;
        let number = Field::new("n", DataType::Int64, true);
        assert!(refused(vec![number.clone()]).contains("column \"n\" is Int64: cast it to VARCHAR"));
        assert!(refused(vec![number, Field::new("line", DataType::Utf8, true)]).contains("there are 2 (n, line): select the one"));
        assert!(refused(Vec::new()).contains("there are 0"));
        let none = ValueEncoder::new(&SinkFormat::default(), &Arc::new(Schema::empty()), &[]).unwrap_err();
        assert!(none.message.contains("exactly one of json, raw"));
        let numbers = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        assert!(ValueEncoder::Raw(0).encode(&numbers, &mut Vec::new(), &mut Vec::new()).is_err());
    }

    #[test]
    fn what_is_in_the_key_is_not_in_the_value() {
        let fields = ["k", "line"].map(|name| Field::new(name, DataType::Utf8, true));
        let schema = Arc::new(Schema::new(fields.to_vec()));
        let of = |keys: &[&str]| ValueEncoder::new(&format(true), &schema, &keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>());
        assert!(matches!(of(&["k"]), Ok(ValueEncoder::Raw(1))));
        assert!(of(&[]).unwrap_err().message.contains("there are 2 (k, line)"));
        assert!(of(&["k", "line"]).unwrap_err().message.contains("there are 0"));
        let line = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true)]));
        assert!(ValueEncoder::new(&format(true), &line, &["k".to_owned()]).is_ok(), "a value may be its own key");
    }
}
