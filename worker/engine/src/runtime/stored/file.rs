//! The bytes of a state file: the tables of one operator, or what has changed in them, as Arrow streams, compressed. It knows no store, and whether the bytes
//! are those that were written is checked by whoever reads them.
//!
//! ```text
//! millrace-state 1\n
//! zstd( {"formatVersion":1,"minReaderVersion":1,"operator":…,"signature":…,"tables":["keys",…]}\n
//!       one Arrow IPC stream for each table; its first column is the key group )
//!
//! millrace-state 1\n
//! zstd( {"formatVersion":2,"minReaderVersion":2,"operator":…,"signature":…,"tables":["keys",…],"changes":true}\n
//!       two Arrow IPC streams for each table: runs (start, length) over the rows of before followed by those added; the rows added )
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, UInt16Type, UInt32Type};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::changes::Changes;
use crate::operators::{OperatorState, StateTable};
use crate::state::owned;

const MAGIC: &[u8] = b"millrace-state 1\n";
/// The version of a whole state.
const WHOLE: u32 = 1;
/// The version of changes, and the newest that this code reads.
const CHANGES: u32 = 2;
/// Name of the column that holds key groups.
const GROUP: &str = "millrace.group";
/// Names of the columns of runs.
const RUNS: [&str; 2] = ["start", "length"];
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
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    changes: bool,
}

/// What a state file holds.
#[derive(Debug, PartialEq)]
pub(in crate::runtime) enum Content {
    /// All of a state.
    Whole(OperatorState),
    /// What has changed since the file before, by table. Other tables are gone.
    Changes(BTreeMap<String, Changes>),
}

pub(in crate::runtime) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The file for the state of one operator.
pub(in crate::runtime) fn encode(operator: &str, state: &OperatorState) -> Result<Bytes, Failed> {
    let tables = state.tables.keys().cloned().collect();
    let header = header(operator, &state.signature, tables, WHOLE);
    encoded(&header, |encoder| state.tables.values().try_for_each(|table| write(encoder, &with_groups(table)?)))
}

/// The file for what has changed in it.
pub(super) fn encode_changes(operator: &str, signature: &str, changes: &BTreeMap<String, Changes>) -> Result<Bytes, Failed> {
    let header = header(operator, signature, changes.keys().cloned().collect(), CHANGES);
    encoded(&header, |encoder| {
        changes.values().try_for_each(|changes| {
            let [starts, lengths] = changes.columns();
            let runs: [(&str, ArrayRef); 2] = [(RUNS[0], Arc::new(starts)), (RUNS[1], Arc::new(lengths))];
            write(encoder, &RecordBatch::try_from_iter(runs)?)?;
            write(encoder, &with_groups(&changes.added)?)
        })
    })
}

fn header(operator: &str, signature: &str, tables: Vec<String>, version: u32) -> Header {
    Header {
        format_version: version,
        min_reader_version: version,
        operator: operator.to_owned(),
        signature: signature.to_owned(),
        tables,
        changes: version == CHANGES,
    }
}

type Encoder = zstd::stream::Encoder<'static, Vec<u8>>;

fn encoded(header: &Header, tables: impl FnOnce(&mut Encoder) -> Result<(), Failed>) -> Result<Bytes, Failed> {
    let mut encoder = Encoder::new(MAGIC.to_vec(), LEVEL)?;
    serde_json::to_writer(&mut encoder, header)?;
    encoder.write_all(b"\n")?;
    tables(&mut encoder)?;
    Ok(encoder.finish()?.into())
}

fn write(encoder: &mut Encoder, records: &RecordBatch) -> Result<(), Failed> {
    let mut writer = StreamWriter::try_new(encoder, records.schema_ref())?;
    writer.write(records)?;
    Ok(writer.finish()?)
}

/// Whether a file holds all of a state of `operator`, by its header alone; text for people if not.
pub(super) fn check_whole(operator: &str, bytes: &[u8]) -> Result<(), String> {
    let (header, _) = open(operator, bytes)?;
    if header.changes { Err("it holds changes of a file that the epoch does not name".to_owned()) } else { Ok(()) }
}

/// What the file of `operator` holds; text for people if it is none.
pub(in crate::runtime) fn decode(operator: &str, bytes: &[u8]) -> Result<Content, String> {
    let (header, mut reader) = open(operator, bytes)?;
    let content = if header.changes {
        Content::Changes(each(&header.tables, || changes(&mut reader))?)
    } else {
        Content::Whole(OperatorState { signature: header.signature, tables: each(&header.tables, || table(&mut reader))? })
    };
    let surplus = reader.read(&mut [0]).map_err(|error| error.to_string())?;
    if surplus > 0 { Err("it holds more than its header says".to_owned()) } else { Ok(content) }
}

/// The header of the file of `operator`, and what comes after it.
fn open<'a>(operator: &str, bytes: &'a [u8]) -> Result<(Header, impl BufRead + use<'a>), String> {
    let compressed = bytes.strip_prefix(MAGIC).ok_or("it is no state file")?;
    let decoder = zstd::stream::Decoder::new(compressed).map_err(|error| error.to_string())?;
    let mut reader = BufReader::new(decoder);
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
    let header: Header = serde_json::from_slice(&line).map_err(|error| format!("its header cannot be read: {error}"))?;
    if header.min_reader_version > CHANGES {
        return Err(format!(
            "it needs a reader of version {}, this one reads up to {CHANGES}: upgrade the worker",
            header.min_reader_version
        ));
    }
    if header.operator != operator {
        return Err(format!("it holds the state of operator {}", header.operator));
    }
    Ok((header, reader))
}

/// Reads what there is of each table.
fn each<T>(tables: &[String], mut read: impl FnMut() -> Result<T, Box<dyn std::error::Error>>) -> Result<BTreeMap<String, T>, String> {
    let one =
        |name: &String| read().map(|table| (name.clone(), table)).map_err(|error| format!("its table {name} cannot be read: {error}"));
    tables.iter().map(one).collect()
}

fn with_groups(table: &StateTable) -> Result<RecordBatch, arrow::error::ArrowError> {
    let schema = table.records.schema_ref();
    let mut fields = vec![Arc::new(Field::new(GROUP, DataType::UInt16, false))];
    fields.extend(schema.fields().iter().cloned());
    let mut columns: Vec<ArrayRef> = vec![Arc::new(table.groups.clone())];
    columns.extend(table.records.columns().iter().cloned());
    RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())), columns)
}

/// The changes of the next table.
fn changes(reader: &mut impl std::io::Read) -> Result<Changes, Box<dyn std::error::Error>> {
    let runs = records(reader)?;
    let column = |name| runs.column_by_name(name).and_then(|column| column.as_primitive_opt::<UInt32Type>()).ok_or("it has no runs");
    let (starts, lengths) = (column(RUNS[0])?, column(RUNS[1])?);
    let runs = starts.values().iter().copied().zip(lengths.values().iter().copied()).collect();
    Ok(Changes { runs, added: table(reader)? })
}

/// The next table.
fn table(reader: &mut impl std::io::Read) -> Result<StateTable, Box<dyn std::error::Error>> {
    let records = records(reader)?;
    let groups =
        records.columns().first().and_then(|column| column.as_primitive_opt::<UInt16Type>()).ok_or("it has no key groups")?.clone();
    let schema = records.schema_ref();
    let fields: Vec<_> = schema.fields().iter().skip(1).cloned().collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    let options = RecordBatchOptions::new().with_row_count(Some(groups.len()));
    let columns = records.columns()[1..].iter().map(owned).collect();
    let records = RecordBatch::try_new_with_options(schema, columns, &options)?;
    Ok(StateTable { groups, records })
}

/// The rows of the next stream. Reads exactly as far as it goes.
fn records(reader: &mut impl std::io::Read) -> Result<RecordBatch, Box<dyn std::error::Error>> {
    let mut stream = StreamReader::try_new(reader, None)?;
    let records = stream.next().ok_or("it has no rows")??;
    if stream.next().is_some() {
        return Err("it has several batches".into());
    }
    Ok(records)
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
        assert_eq!(decode("step/window/0", &bytes).unwrap(), Content::Whole(state.clone()));
        assert_eq!(bytes, encode("step/window/0", &state).unwrap(), "equal state has equal bytes: it is not uploaded again");
    }

    fn some_changes() -> BTreeMap<String, Changes> {
        let change = |(name, added)| (name, Changes { runs: vec![(3, 4), (0, 1)], added });
        state().tables.into_iter().map(change).collect()
    }

    #[test]
    fn changes_that_were_encoded_decode_equal() {
        let changes = some_changes();
        let bytes = encode_changes("step/window/0", "count(*)", &changes).unwrap();
        assert_eq!(decode("step/window/0", &bytes).unwrap(), Content::Changes(changes));
    }

    #[test]
    fn what_is_cut_or_foreign_is_refused() {
        let bytes = encode("op", &state()).unwrap();
        for bytes in [&bytes, &encode_changes("op", "count(*)", &some_changes()).unwrap()] {
            for length in 0..bytes.len() {
                assert!(decode("op", &bytes[..length]).is_err(), "cut at {length} of {}", bytes.len());
            }
        }
        assert!(decode("other", &bytes).unwrap_err().contains("operator op"));
        let header = r#"{"formatVersion":3,"minReaderVersion":3,"operator":"op","signature":"s","tables":[]}"#;
        let newer = [MAGIC, &zstd::encode_all(format!("{header}\n").as_bytes(), 1).unwrap()].concat();
        assert!(decode("op", &newer).unwrap_err().contains("upgrade"));
        assert!(check_whole("op", &newer).unwrap_err().contains("upgrade"));
        let changes = encode_changes("op", "count(*)", &some_changes()).unwrap();
        assert!(check_whole("op", &bytes).is_ok() && check_whole("op", &changes).is_err() && check_whole("other", &bytes).is_err());
    }
}
