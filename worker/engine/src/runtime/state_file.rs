//! The bytes of a state file: the tables of one operator as Arrow streams, compressed. It knows no store, and whether the bytes are those that were
//! written is checked by whoever reads them.
//!
//! ```text
//! millrace-state 1\n
//! zstd( {"formatVersion":1,"minReaderVersion":1,"operator":…,"signature":…,"tables":["keys",…]}\n
//!       one Arrow IPC stream for each table; its first column is the key group )
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, UInt16Type};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::operators::{OperatorState, StateTable};

const MAGIC: &[u8] = b"millrace-state 1\n";
/// The version this code writes, and the newest that it reads.
const VERSION: u32 = 1;
/// Name of the column that holds key groups.
const GROUP: &str = "millrace.group";
/// Fast rather than small: an epoch waits for it.
const LEVEL: i32 = 1;

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    format_version: u32,
    min_reader_version: u32,
    operator: String,
    signature: String,
    tables: Vec<String>,
}

/// The file for the state of one operator.
pub(super) fn encode(operator: &str, state: &OperatorState) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let header = Header {
        format_version: VERSION,
        min_reader_version: VERSION,
        operator: operator.to_owned(),
        signature: state.signature.clone(),
        tables: state.tables.keys().cloned().collect(),
    };
    let mut encoder = zstd::stream::Encoder::new(MAGIC.to_vec(), LEVEL)?;
    serde_json::to_writer(&mut encoder, &header)?;
    encoder.write_all(b"\n")?;
    for table in state.tables.values() {
        let records = with_groups(table)?;
        let mut writer = StreamWriter::try_new(&mut encoder, records.schema_ref())?;
        writer.write(&records)?;
        writer.finish()?;
    }
    Ok(encoder.finish()?.into())
}

/// The state in the file of `operator`; text for people if there is none.
pub(super) fn decode(operator: &str, bytes: &[u8]) -> Result<OperatorState, String> {
    let compressed = bytes.strip_prefix(MAGIC).ok_or("it is no state file")?;
    let decoder = zstd::stream::Decoder::new(compressed).map_err(|error| error.to_string())?;
    let mut reader = BufReader::new(decoder);
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
    let header: Header = serde_json::from_slice(&line).map_err(|error| format!("its header cannot be read: {error}"))?;
    if header.min_reader_version > VERSION {
        return Err(format!(
            "it needs a reader of version {}, this one reads up to {VERSION}: upgrade the worker",
            header.min_reader_version
        ));
    }
    if header.operator != operator {
        return Err(format!("it holds the state of operator {}", header.operator));
    }
    let mut tables = BTreeMap::new();
    for name in header.tables {
        let table = table(&mut reader).map_err(|error| format!("its table {name} cannot be read: {error}"))?;
        tables.insert(name, table);
    }
    let surplus = reader.read(&mut [0]).map_err(|error| error.to_string())?;
    if surplus > 0 {
        Err("it holds more than its header says".to_owned())
    } else {
        Ok(OperatorState { signature: header.signature, tables })
    }
}

fn with_groups(table: &StateTable) -> Result<RecordBatch, arrow::error::ArrowError> {
    let schema = table.records.schema_ref();
    let mut fields = vec![Arc::new(Field::new(GROUP, DataType::UInt16, false))];
    fields.extend(schema.fields().iter().cloned());
    let mut columns: Vec<ArrayRef> = vec![Arc::new(table.groups.clone())];
    columns.extend(table.records.columns().iter().cloned());
    RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())), columns)
}

/// The next table. Reads exactly as far as it goes.
fn table(reader: &mut impl std::io::Read) -> Result<StateTable, Box<dyn std::error::Error>> {
    let mut stream = StreamReader::try_new(reader, None)?;
    let records = stream.next().ok_or("it has no rows")??;
    if stream.next().is_some() {
        return Err("it has several batches".into());
    }
    let groups =
        records.columns().first().and_then(|column| column.as_primitive_opt::<UInt16Type>()).ok_or("it has no key groups")?.clone();
    let schema = records.schema_ref();
    let fields: Vec<_> = schema.fields().iter().skip(1).cloned().collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    let options = RecordBatchOptions::new().with_row_count(Some(groups.len()));
    let records = RecordBatch::try_new_with_options(schema, records.columns()[1..].to_vec(), &options)?;
    Ok(StateTable { groups, records })
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int64Array, ListArray, StringArray, StringViewArray, UInt16Array};
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;

    fn state() -> OperatorState {
        let columns: [(&str, ArrayRef); 4] = [
            ("key", Arc::new(StringArray::from(vec![Some("a"), None, Some("é")]))),
            ("view", Arc::new(StringViewArray::from(vec!["a view that is longer than twelve bytes", "", "x"]))),
            ("kind", Arc::new(DictionaryArray::<Int32Type>::from_iter([Some("x"), Some("y"), Some("x")]))),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]))),
        ];
        let keys = StateTable { groups: UInt16Array::from(vec![0, 127, 5]), records: RecordBatch::try_from_iter(columns).unwrap() };
        let nothing = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(Vec::<i64>::new())) as ArrayRef)]).unwrap();
        let empty = StateTable { groups: UInt16Array::from(Vec::<u16>::new()), records: nothing };
        let bare = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &RecordBatchOptions::new().with_row_count(Some(2)));
        let bare = StateTable { groups: UInt16Array::from(vec![1, 2]), records: bare.unwrap() };
        OperatorState { signature: "count(*)".to_owned(), tables: [("a".into(), keys), ("b".into(), empty), ("c".into(), bare)].into() }
    }

    #[test]
    fn what_was_encoded_decodes_equal() {
        let state = state();
        let bytes = encode("step/window/0", &state).unwrap();
        assert_eq!(decode("step/window/0", &bytes).unwrap(), state);
        assert_eq!(bytes, encode("step/window/0", &state).unwrap(), "equal state has equal bytes: it is not uploaded again");
    }

    #[test]
    fn what_is_cut_or_foreign_is_refused() {
        let bytes = encode("op", &state()).unwrap();
        for length in 0..bytes.len() {
            assert!(decode("op", &bytes[..length]).is_err(), "cut at {length} of {}", bytes.len());
        }
        assert!(decode("other", &bytes).unwrap_err().contains("operator op"));
        let header = r#"{"formatVersion":2,"minReaderVersion":2,"operator":"op","signature":"s","tables":[]}"#;
        let newer = [MAGIC, &zstd::encode_all(format!("{header}\n").as_bytes(), 1).unwrap()].concat();
        assert!(decode("op", &newer).unwrap_err().contains("upgrade"));
    }
}
