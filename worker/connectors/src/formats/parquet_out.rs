//! Parquet files. Row groups are bounded in rows and in bytes, so that a file that is open for long does not fill the memory; what is encoded is never moved.

use std::io;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, IntervalUnit, SchemaRef};
use bytes::Bytes;
use millrace_crds::format::{ParquetCompression, ParquetOut};
use millrace_engine::connector::ConnectorError;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::schema::invalid;
use super::{EncodeError, FileEncoder};

/// Rows of one row group, if the sink does not say.
const ROW_GROUP_ROWS: usize = 1_048_576;
/// Encoded bytes of one row group, all of which are in memory until it ends.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// Encodes one file.
pub(super) struct ParquetFile {
    schema: SchemaRef,
    writer: ArrowWriter<Pieces>,
    finished: bool,
}

/// Bytes of a piece.
const PIECE: usize = 1 << 20;

/// Takes bytes in pieces of [`PIECE`]: one vector for all of them would be copied again and again while it grows to the size of a row group.
#[derive(Default)]
struct Pieces {
    full: Vec<Bytes>,
    last: Vec<u8>,
}

impl Pieces {
    fn take(&mut self) -> Vec<Bytes> {
        let mut all = std::mem::take(&mut self.full);
        if !self.last.is_empty() {
            all.push(std::mem::take(&mut self.last).into());
        }
        all
    }
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A file that is small does not take a whole piece.
        let wanted = self.last.len().saturating_add(bytes.len()).min(PIECE);
        if wanted > self.last.capacity() {
            let more = if self.full.is_empty() { wanted.max(2 * self.last.capacity()).min(PIECE) } else { PIECE };
            self.last.reserve_exact(more - self.last.len());
        }
        let taken = bytes.len().min(PIECE - self.last.len());
        self.last.extend_from_slice(&bytes[..taken]);
        if self.last.len() == PIECE {
            self.full.push(std::mem::take(&mut self.last).into());
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ParquetFile {
    pub(super) fn new(options: &ParquetOut, schema: &SchemaRef) -> Result<Self, ConnectorError> {
        can_encode(schema)?;
        let compression = match options.compression.unwrap_or(ParquetCompression::Zstd) {
            ParquetCompression::None => Compression::UNCOMPRESSED,
            ParquetCompression::Snappy => Compression::SNAPPY,
            // Level 1 is the default level.
            ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        };
        let rows = options.row_group_rows.and_then(|rows| usize::try_from(rows).ok()).filter(|rows| *rows > 0);
        let properties = WriterProperties::builder()
            .set_created_by("millrace".to_owned())
            .set_compression(compression)
            .set_dictionary_enabled(true)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_max_row_group_row_count(Some(rows.unwrap_or(ROW_GROUP_ROWS)))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .build();
        let writer =
            ArrowWriter::try_new(Pieces::default(), SchemaRef::clone(schema), Some(properties)).map_err(|error| not_parquet(&error))?;
        Ok(Self { schema: SchemaRef::clone(schema), writer, finished: false })
    }
}

/// Whether Parquet can hold these columns.
pub(super) fn can_encode(schema: &SchemaRef) -> Result<(), ConnectorError> {
    if schema.fields().is_empty() {
        return Err(invalid("a Parquet file needs at least one column: select one in the last step"));
    }
    if let Some(field) = schema.fields().iter().find(|field| !is_supported(field.data_type())) {
        return Err(invalid(format!(
            "column \"{}\" of type {} cannot be written to Parquet: cast it in the last step, for example to VARCHAR",
            field.name(),
            field.data_type()
        )));
    }
    ArrowSchemaConverter::new().convert(schema).map(drop).map_err(|error| not_parquet(&error))
}

fn is_supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(IntervalUnit::MonthDayNano)
        | DataType::Union(..)
        | DataType::RunEndEncoded(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_) => false,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::Map(item, _) => {
            is_supported(item.data_type())
        }
        DataType::Struct(fields) => !fields.is_empty() && fields.iter().all(|field| is_supported(field.data_type())),
        DataType::Dictionary(_, values) => !values.is_nested() && is_supported(values),
        _ => true,
    }
}

impl FileEncoder for ParquetFile {
    fn write(&mut self, records: &RecordBatch) -> Result<(), EncodeError> {
        if records.schema_ref() != &self.schema {
            let message = format!("the batch has the columns {}, the file {}", records.schema(), self.schema);
            return Err(EncodeError { format: "Parquet", message });
        }
        self.writer.write(records).map_err(|error| failed(&error))
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.writer.inner_mut().take()
    }

    fn estimated_bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    fn finish(&mut self) -> Result<Vec<Bytes>, EncodeError> {
        if !self.finished {
            self.writer.finish().map_err(|error| failed(&error))?;
            self.finished = true;
        }
        Ok(self.take())
    }
}

fn not_parquet(error: &ParquetError) -> ConnectorError {
    invalid(format!("the columns cannot be written to Parquet: {error}"))
}

fn failed(error: &ParquetError) -> EncodeError {
    EncodeError { format: "Parquet", message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_written_comes_out_in_order_and_in_pieces() {
        let bytes: Vec<u8> = (0..2 * PIECE + 300).map(|n| (n % 251) as u8).collect();
        let mut pieces = Pieces::default();
        assert!(pieces.take().is_empty());
        for part in [&bytes[..7], &bytes[7..PIECE], &bytes[PIECE..2 * PIECE + 100]] {
            pieces.write_all(part).unwrap();
        }
        let mut taken = pieces.take();
        assert_eq!(taken.iter().map(Bytes::len).collect::<Vec<_>>(), [PIECE, PIECE, 100]);
        pieces.write_all(&bytes[2 * PIECE + 100..]).unwrap();
        taken.extend(pieces.take());
        assert!(taken.concat() == bytes);
        assert!(pieces.take().is_empty());
    }
}
