//! One JSON document for each row. Values are written exactly: nothing is rounded, and a row never becomes a tree in memory.
//!
//! | Arrow | JSON |
//! |---|---|
//! | NULL | left out (in lists and maps: `null`) |
//! | Boolean, integers, floats | `true`, number; NaN and the infinities, which JSON has not, are `null` |
//! | Decimal | number with all its digits |
//! | Utf8, LargeUtf8, Utf8View | text |
//! | Binary kinds | base64 |
//! | Date, Time, Timestamp | `2019-12-04`, `21:02:31.5`, RFC 3339 in UTC |
//! | List kinds, Struct, Map, Dictionary | array, object, object (keys are texts), the value |

mod nested;
mod values;

#[cfg(test)]
mod tests;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use millrace_engine::connector::ConnectorError;

use super::EncodeError;
use super::schema::invalid;
use values::{Value, is_supported, value, write_text};

/// Writes rows of one schema as JSON documents.
#[derive(Clone, Debug)]
pub struct RowEncoder {
    schema: SchemaRef,
    /// `,"name":` for each column.
    keys: Vec<Vec<u8>>,
}

impl RowEncoder {
    /// An encoder for batches of `schema`.
    ///
    /// # Errors
    /// `Invalid` naming the first column whose type has no JSON form.
    pub fn new(schema: &SchemaRef) -> Result<Self, ConnectorError> {
        if let Some(field) = schema.fields().iter().find(|field| !is_supported(field.data_type())) {
            return Err(no_json(field.name(), field.data_type()));
        }
        let keys = schema.fields().iter().map(|field| key(field.name())).collect();
        Ok(Self { schema: SchemaRef::clone(schema), keys })
    }

    /// Appends one document for each row to `out`, without anything in between, and where each ends in `out` to `ends`.
    ///
    /// # Errors
    /// If `records` has other columns than the schema; then nothing is appended.
    pub fn encode(&mut self, records: &RecordBatch, out: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<(), EncodeError> {
        ends.reserve(records.num_rows());
        self.each_row(records, out, |out| ends.push(out.len()))
    }

    /// Appends one line for each row to `out`.
    ///
    /// # Errors
    /// As [`RowEncoder::encode`].
    pub fn encode_lines(&mut self, records: &RecordBatch, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.each_row(records, out, |out| out.push(b'\n'))
    }

    fn each_row(&mut self, records: &RecordBatch, out: &mut Vec<u8>, mut after: impl FnMut(&mut Vec<u8>)) -> Result<(), EncodeError> {
        let columns: Option<Vec<Box<dyn Value + '_>>> = records.columns().iter().map(|array| value(array.as_ref())).collect();
        let same_types = records.columns().iter().map(|c| c.data_type()).eq(self.schema.fields().iter().map(|f| f.data_type()));
        let Some(columns) = columns.filter(|_| same_types) else {
            return Err(EncodeError {
                format: "JSON",
                message: format!("the batch has the columns {}, the encoder was made for {}", records.schema(), self.schema),
            });
        };
        for row in 0..records.num_rows() {
            write_object(&columns, &self.keys, row, out);
            after(out);
        }
        Ok(())
    }
}

/// `,"name":`
fn key(name: &str) -> Vec<u8> {
    let mut key = vec![b','];
    write_text(name, &mut key);
    key.push(b':');
    key
}

/// Appends an object of the values that are not NULL. `keys` are as [`key`] makes them.
fn write_object(columns: &[Box<dyn Value + '_>], keys: &[Vec<u8>], row: usize, out: &mut Vec<u8>) {
    let start = out.len();
    for (column, key) in columns.iter().zip(keys) {
        if !column.is_null(row) {
            out.extend_from_slice(key);
            column.write(row, out);
        }
    }
    if out.len() == start {
        out.push(b'{');
    } else {
        // The comma in front of the first name.
        out[start] = b'{';
    }
    out.push(b'}');
}

fn no_json(column: &str, data_type: &DataType) -> ConnectorError {
    invalid(format!("column \"{column}\" of type {data_type} cannot be written as JSON: cast it in the last step, for example to VARCHAR"))
}
