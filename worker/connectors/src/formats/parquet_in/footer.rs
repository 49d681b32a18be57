//! The footer of a Parquet file, and how its columns match a table's. Nothing that it says is used before it was checked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use millrace_engine::batch::RejectCode;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::super::records::Refusal;
use super::{RangeReader, ReadError, conform, guard};

/// What a Parquet file begins and ends with.
const MAGIC: &[u8] = b"PAR1";
/// Length of the footer and magic at the end.
const TAIL: u64 = 8;
/// Bytes of a footer.
const MAX_FOOTER_BYTES: u64 = 16 << 20;
/// Reads the footer, and checks what it says.
pub(super) async fn read_footer(reader: &mut dyn RangeReader) -> Result<ArrowReaderMetadata, ReadError> {
    let length = reader.len();
    let not_parquet = |why: &str| Refusal::malformed(format!("the object is not a Parquet file: {why}"));
    if length < TAIL + MAGIC.len() as u64 {
        return Err(not_parquet("it is too short").into());
    }
    let tail = reader.read(length - TAIL..length).await?;
    let (size, magic) = tail.split_at_checked(4).ok_or_else(|| not_parquet("its end could not be read"))?;
    match magic {
        MAGIC => {}
        b"PARE" => return Err(not_parquet("its footer is encrypted").into()),
        _ => return Err(not_parquet("it does not end in PAR1").into()),
    }
    let size = size.try_into().map(u32::from_le_bytes).map_or(u64::MAX, u64::from);
    if size > MAX_FOOTER_BYTES || size > length - TAIL - MAGIC.len() as u64 {
        return Err(not_parquet(&format!("its footer would have {size} bytes")).into());
    }
    let footer = reader.read(length - TAIL - size..length - TAIL).await?;
    Ok(guarded(|| decode_footer(&footer, length))?)
}

/// The footer's content, checked: no range is outside the file, no size negative.
fn decode_footer(footer: &[u8], file_bytes: u64) -> Result<ArrowReaderMetadata, Refusal> {
    guard::check_footer(footer).map_err(Refusal::malformed)?;
    let metadata = ParquetMetaDataReader::decode_metadata(footer).map_err(|error| damaged(&error))?;
    if let Some((group, column)) = implausible_chunk(&metadata, file_bytes) {
        return Err(Refusal::malformed(format!("column {column} of row group {group} is not inside the file")));
    }
    let metadata = Arc::new(metadata);
    let plain = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let in_file = ArrowReaderMetadata::try_new(Arc::clone(&metadata), plain.clone()).map_err(|error| damaged(&error))?;
    let options = plain.with_schema(conform::read_schema(in_file.schema()));
    ArrowReaderMetadata::try_new(metadata, options).map_err(|error| damaged(&error))
}

/// The first row group and column whose numbers cannot be.
fn implausible_chunk(metadata: &ParquetMetaData, file_bytes: u64) -> Option<(usize, usize)> {
    let columns = metadata.file_metadata().schema_descr().num_columns();
    metadata.row_groups().iter().enumerate().find_map(|(number, group)| {
        let is_wrong = group.num_rows() < 0 || group.num_columns() != columns;
        let wrong = group.columns().iter().position(|column| {
            let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
            let end = start.checked_add(column.compressed_size());
            let inside = end.and_then(|end| u64::try_from(end).ok()).is_some_and(|end| end <= file_bytes);
            start < 0 || column.compressed_size() < 0 || column.uncompressed_size() < 0 || column.num_values() < 0 || !inside
        });
        if is_wrong { Some((number, 0)) } else { wrong.map(|column| (number, column)) }
    })
}

/// For each column of `schema` its root column in the file.
pub(super) fn match_columns(schema: &SchemaRef, table: &SchemaRef, in_file: &SchemaRef) -> Result<Vec<Option<usize>>, Refusal> {
    let required = table.fields().iter().filter(|field| !field.is_nullable());
    if let Some(absent) = required.clone().find(|field| in_file.column_with_name(field.name()).is_none()) {
        let names = in_file.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        return Err(Refusal::new(
            RejectCode::MissingField,
            format!("column \"{}\" is required, and not in the file, which has: {names:.512}", absent.name()),
        ));
    }
    let find = |wanted: &Arc<Field>| {
        let Some((root, found)) = in_file.column_with_name(wanted.name()) else { return Ok(None) };
        if conform::is_wider(found.data_type(), wanted.data_type()) {
            return Ok(Some(root));
        }
        Err(Refusal::new(
            RejectCode::TypeMismatch,
            format!(
                "column \"{}\" is {} in the file, which does not fit {}: correct schema.columns",
                wanted.name(),
                found.data_type(),
                wanted.data_type()
            ),
        ))
    };
    schema.fields().iter().map(find).collect()
}

pub(super) fn damaged(error: &ParquetError) -> Refusal {
    Refusal::malformed(format!("the Parquet file is damaged: {error}"))
}

/// Runs the parquet crate, in which damaged files still find asserts and index errors: a panic there is a refusal here.
pub(super) fn guarded<T>(run: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(Refusal::malformed("the Parquet file is damaged: its decoder gave up")))
}
