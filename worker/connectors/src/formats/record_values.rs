//! From a sink's format to the values of single records: a row as JSON, or the bytes of one column as they are. It knows no topic.

use arrow::array::{
    Array, AsArray, BinaryArray, BinaryViewArray, LargeBinaryArray, LargeStringArray, RecordBatch, StringArray, StringViewArray,
};
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

    /// The value of each row. What has to be encoded goes to `room`, whose contents are of no use.
    ///
    /// # Errors
    /// If `records` has other columns than the schema.
    pub(crate) fn encode<'a>(&mut self, records: &'a RecordBatch, room: &'a mut Room) -> Result<Values<'a>, EncodeError> {
        match self {
            Self::Json(rows) => {
                room.bytes.clear();
                room.ends.clear();
                rows.encode(records, &mut room.bytes, &mut room.ends)?;
                Ok(Values::Encoded(room))
            }
            Self::Raw(column) => raw(records, *column),
        }
    }
}

/// Memory for values that are encoded; to be used again.
#[derive(Debug, Default)]
pub(crate) struct Room {
    bytes: Vec<u8>,
    /// Where each value ends.
    ends: Vec<usize>,
}

/// Values of the rows of one batch.
#[derive(Debug)]
pub(crate) enum Values<'a> {
    /// One behind the other.
    Encoded(&'a Room),
    /// Where they lie in their column.
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    TextView(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
}

impl<'a> Values<'a> {
    /// The value of a row; `None` if it has no value at all, not even an empty one.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Self::Encoded(room) => {
                let start = if row == 0 { 0 } else { room.ends[row - 1] };
                Some(&room.bytes[start..room.ends[row]])
            }
            Self::Text(texts) => texts.is_valid(row).then(|| texts.value(row).as_bytes()),
            Self::LargeText(texts) => texts.is_valid(row).then(|| texts.value(row).as_bytes()),
            Self::TextView(texts) => texts.is_valid(row).then(|| texts.value(row).as_bytes()),
            Self::Binary(values) => values.is_valid(row).then(|| values.value(row)),
            Self::LargeBinary(values) => values.is_valid(row).then(|| values.value(row)),
            Self::BinaryView(values) => values.is_valid(row).then(|| values.value(row)),
        }
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

fn raw(records: &RecordBatch, column: usize) -> Result<Values<'_>, EncodeError> {
    let wrong = || EncodeError { format: "raw", message: format!("the batch has the columns {}", records.schema()) };
    let column = records.columns().get(column).ok_or_else(wrong)?;
    Ok(match column.data_type() {
        DataType::Utf8 => Values::Text(column.as_string()),
        DataType::LargeUtf8 => Values::LargeText(column.as_string()),
        DataType::Utf8View => Values::TextView(column.as_string_view()),
        DataType::Binary => Values::Binary(column.as_binary()),
        DataType::LargeBinary => Values::LargeBinary(column.as_binary()),
        DataType::BinaryView => Values::BinaryView(column.as_binary_view()),
        _ => return Err(wrong()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
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
        let mut room = Room::default();
        // Room that was used before is as good as new.
        let _before = encoder.encode(&records, &mut room).unwrap();
        let values = encoder.encode(&records, &mut room).unwrap();
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        (0..records.num_rows()).map(|row| values.get(row).map(text)).collect()
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
        assert!(ValueEncoder::Raw(0).encode(&numbers, &mut Room::default()).is_err());
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
