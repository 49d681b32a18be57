//! Parquet by ranges: the footer, then of each row group only the columns that are used. It never reads or decodes what the footer promises without having checked it.
//!
//! Columns are matched by name. A column that the file has not is NULL; one whose type does not fit refuses the whole object, since that is
//! a matter of the file and not of a row.

mod conform;
mod footer;
mod guard;
#[cfg(test)]
pub(super) mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::filter;
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use millrace_engine::batch::RejectCode;
use millrace_engine::connector::ConnectorError;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use parquet::file::metadata::RowGroupMetaData;

use super::records::{Refusal, project};
use super::rows::RowEncoder;
use super::schema::invalid;
use super::{Decoded, PAYLOAD_CAP, RejectedRecord};
use crate::context::ResolvedLimits;
use footer::{damaged, guarded, match_columns, read_footer};

/// Compressed bytes of the used columns of one row group: they are in memory together.
const MAX_ROW_GROUP_BYTES: u64 = 256 << 20;
/// Rows of a batch.
const BATCH_ROWS: u64 = 8192;
/// About so many bytes of a batch.
const BATCH_BYTES: u64 = 1 << 20;
/// The ratio is not looked at below this many decompressed bytes.
const RATIO_GRACE: u64 = 64 << 20;

/// Reads ranges of one object that does not change.
#[async_trait]
pub trait RangeReader: Send {
    /// Exactly the bytes of `range`.
    async fn read(&mut self, range: Range<u64>) -> Result<Bytes, ConnectorError>;

    /// Length of the object in bytes.
    fn len(&self) -> u64;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes could not be read.
    #[error(transparent)]
    Read(#[from] ConnectorError),
    /// The rest of the object can never be decoded: one bad record stands for it, with the ordinal [`ParquetReader::position`] (or the row to
    /// resume at, if the object could not be opened).
    #[error("{error}")]
    Refused {
        /// Why, from a closed set.
        code: RejectCode,
        /// Why, for people.
        error: String,
    },
}

impl From<Refusal> for ReadError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { code: refusal.code, error: refusal.error }
    }
}

/// Reads one object.
pub struct ParquetReader {
    reader: Box<dyn RangeReader>,
    metadata: ArrowReaderMetadata,
    /// The columns to deliver.
    schema: SchemaRef,
    /// For each of them its root column in the file.
    roots: Vec<Option<usize>>,
    limits: ResolvedLimits,
    /// The row group that is read next.
    group: usize,
    /// The first row of `group` that is wanted.
    skip: u64,
    decoder: Option<ParquetPushDecoder>,
    /// What was decoded and not delivered.
    pending: Option<RecordBatch>,
    row: u64,
    /// Decompressed bytes of a row of the row group being read, on average.
    row_bytes: u64,
    compressed: u64,
    decompressed: u64,
    /// Bytes of texts and bytes delivered.
    delivered: u64,
}

impl ParquetReader {
    /// Reads the footer. `projection` are names of columns of `table`; reading starts at row `resume_row`.
    ///
    /// # Errors
    /// [`ReadError::Refused`] if the object is no Parquet file, or has a column of a type that does not fit.
    pub async fn open(
        mut reader: Box<dyn RangeReader>,
        table: &SchemaRef,
        projection: &[String],
        limits: &ResolvedLimits,
        resume_row: u64,
    ) -> Result<Self, ReadError> {
        let schema = project(table, projection).ok_or_else(|| invalid("a column is not in the source's schema"))?;
        let metadata = read_footer(reader.as_mut()).await?;
        let roots = match_columns(&schema, table, metadata.schema())?;
        let mut opened = Self {
            reader,
            metadata,
            schema,
            roots,
            limits: *limits,
            group: 0,
            skip: resume_row,
            decoder: None,
            pending: None,
            row: resume_row,
            row_bytes: 0,
            compressed: 0,
            decompressed: 0,
            delivered: 0,
        };
        opened.skip_row_groups();
        Ok(opened)
    }

    /// The next rows; `None` at the end.
    ///
    /// Cancel-safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// See [`ReadError`]. After a refusal nothing more can be read.
    pub async fn next(&mut self) -> Result<Option<Decoded>, ReadError> {
        loop {
            if let Some(batch) = self.pending.take() {
                return self.deliver(&batch).map(Some);
            }
            if self.decoder.is_none() {
                match self.begin_row_group()? {
                    Some(decoder) => self.decoder = Some(decoder),
                    None => return Ok(None),
                }
            }
            let Some(decoder) = &mut self.decoder else { continue };
            match guarded(|| decoder.try_decode().map_err(|error| damaged(&error)))? {
                DecodeResult::Data(batch) => self.pending = (batch.num_rows() > 0).then_some(batch),
                DecodeResult::Finished => {
                    self.decoder = None;
                    self.group += 1;
                    self.skip = 0;
                }
                DecodeResult::NeedsData(ranges) => {
                    let pages = self.fetch(&ranges).await?;
                    let Some(decoder) = &mut self.decoder else { continue };
                    guarded(|| decoder.push_ranges(ranges, pages).map_err(|error| damaged(&error)))?;
                }
            }
        }
    }

    /// The row to go on at after everything that [`ParquetReader::next`] has returned.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.row
    }

    /// Steps over the row groups in front of the first wanted row.
    fn skip_row_groups(&mut self) {
        while let Some(group) = self.metadata.metadata().row_groups().get(self.group) {
            let rows = rows(group);
            if self.skip < rows {
                break;
            }
            self.skip -= rows;
            self.group += 1;
        }
    }

    /// A decoder for the next row group, after checking what the footer says of it.
    fn begin_row_group(&mut self) -> Result<Option<ParquetPushDecoder>, ReadError> {
        let metadata = Arc::clone(self.metadata.metadata());
        let Some(group) = metadata.row_groups().get(self.group) else { return Ok(None) };
        let roots: Vec<usize> = self.roots.iter().flatten().copied().collect();
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), roots);
        let used = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf)).map(|(_, column)| column);
        let (compressed, decompressed) = used.fold((0, 0), |(compressed, decompressed): (u64, u64), column| {
            let size = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
            (compressed.saturating_add(size(column.compressed_size())), decompressed.saturating_add(size(column.uncompressed_size())))
        });
        if compressed > MAX_ROW_GROUP_BYTES {
            return Err(Refusal::new(
                RejectCode::TooLarge,
                format!(
                    "row group {} takes {compressed} bytes for the columns that are used, {MAX_ROW_GROUP_BYTES} are allowed: write smaller row groups",
                    self.group
                ),
            )
            .into());
        }
        self.row_bytes = decompressed / rows(group).max(1);
        let batch_rows = (BATCH_BYTES / self.row_bytes.max(1)).clamp(64, BATCH_ROWS) as usize;
        let (group, skip) = (self.group, self.skip);
        let metadata = self.metadata.clone();
        let decoder = guarded(move || {
            let builder = ParquetPushDecoderBuilder::new_with_metadata(metadata)
                .with_row_groups(vec![group])
                .with_projection(mask)
                .with_batch_size(batch_rows);
            let builder = if skip > 0 { builder.with_offset(skip as usize) } else { builder };
            builder.build().map_err(|error| damaged(&error))
        })?;
        Ok(Some(decoder))
    }

    /// Reads ranges, those that touch each other in one go, and checks the pages in them.
    async fn fetch(&mut self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ReadError> {
        let mut pages = vec![Bytes::new(); ranges.len()];
        let mut order: Vec<usize> = (0..ranges.len()).collect();
        order.sort_by_key(|index| ranges[*index].start);
        let mut order: VecDeque<usize> = order.into();
        let (mut compressed, mut decompressed) = (0, 0);
        while let Some(first) = order.pop_front() {
            let mut together = vec![first];
            while let Some(next) = order.front().filter(|next| ranges[**next].start == ranges[together[together.len() - 1]].end) {
                together.push(*next);
                order.pop_front();
            }
            let start = ranges[first].start;
            let end = ranges[together[together.len() - 1]].end;
            let bytes = self.reader.read(start..end).await?;
            if bytes.len() as u64 != end - start {
                return Err(Refusal::malformed(format!("{} bytes were read of the range {start}..{end}", bytes.len())).into());
            }
            for index in together {
                let range = &ranges[index];
                pages[index] = bytes.slice((range.start - start) as usize..(range.end - start) as usize);
                compressed += range.end - range.start;
                decompressed += self.check_chunk(range, &pages[index])?;
            }
        }
        self.compressed += compressed;
        self.decompressed += decompressed;
        let limits = &self.limits;
        if self.decompressed > limits.object_bytes
            || self.decompressed > RATIO_GRACE && self.decompressed > self.compressed.saturating_mul(limits.decompression_ratio)
        {
            return Err(Refusal::new(
                RejectCode::BadCompression,
                format!(
                    "{} bytes of pages become {}: raise limits.maxObjectBytes or limits.maxDecompressionRatio if that is right",
                    self.compressed, self.decompressed
                ),
            )
            .into());
        }
        Ok(pages)
    }

    /// Decompressed bytes of the pages of a column chunk.
    fn check_chunk(&self, range: &Range<u64>, bytes: &[u8]) -> Result<u64, Refusal> {
        let group = self.metadata.metadata().row_groups().get(self.group);
        let column = group.and_then(|group| group.columns().iter().find(|column| column.byte_range().0 == range.start));
        let Some(column) = column else {
            return Err(Refusal::malformed(format!("the range {range:?} is not a column of row group {}", self.group)));
        };
        let values = u64::try_from(column.num_values()).unwrap_or(0);
        guard::check_pages(bytes, values).map_err(Refusal::malformed)
    }

    /// Makes the table's columns of the first rows of `batch`, and keeps the rest.
    fn deliver(&mut self, batch: &RecordBatch) -> Result<Decoded, ReadError> {
        let lengths = conform::variable_lengths(batch.columns(), batch.num_rows());
        let mut bytes = 0;
        let more = lengths.iter().take_while(|length| {
            bytes += **length;
            bytes <= 8 * BATCH_BYTES
        });
        let rows = more.count().max(1).min(batch.num_rows());
        let rest = batch.num_rows() - rows;
        let head = batch.slice(0, rows);
        let decoded = self.decode(&head, &lengths[..rows])?;
        self.delivered += lengths[..rows].iter().sum::<u64>();
        if self.delivered > self.limits.object_bytes {
            return Err(Refusal::new(
                RejectCode::BadCompression,
                format!("the values take more than {} bytes: raise limits.maxObjectBytes if that is right", self.limits.object_bytes),
            )
            .into());
        }
        self.pending = (rest > 0).then(|| batch.slice(rows, rest));
        self.row += rows as u64;
        Ok(decoded)
    }

    fn decode(&self, batch: &RecordBatch, lengths: &[u64]) -> Result<Decoded, ReadError> {
        let rows = batch.num_rows();
        let record_bytes = self.limits.record_bytes as u64;
        let source = |root: usize| batch.column_by_name(self.metadata.schema().field(root).name());
        let sources: Vec<Option<&ArrayRef>> = self.roots.iter().map(|root| root.and_then(source)).collect();
        let too_large = |row: usize| lengths[row] > record_bytes;
        let missing = |row: usize| {
            let required = self.schema.fields().iter().zip(&sources).filter(|(field, _)| !field.is_nullable());
            required.filter(|(_, column)| column.is_some_and(|c| c.is_null(row))).map(|(field, _)| field.name()).next()
        };
        let mut rejected = Vec::new();
        let mut keep = vec![true; rows];
        for row in 0..rows {
            let refusal = if too_large(row) {
                let error = format!("the row has {} bytes, {record_bytes} are allowed: raise limits.maxRecordBytes", lengths[row]);
                Refusal::new(RejectCode::TooLarge, error)
            } else if let Some(column) = missing(row) {
                Refusal::new(RejectCode::MissingField, format!("column \"{column}\" is required, and NULL"))
            } else {
                continue;
            };
            keep[row] = false;
            let payload = if refusal.code == RejectCode::TooLarge { Vec::new() } else { as_json(&batch.slice(row, 1)) };
            rejected.push(RejectedRecord {
                ordinal: self.row + row as u64,
                code: refusal.code,
                error: refusal.error,
                payload_bytes: lengths[row].max(payload.len() as u64),
                payload: Bytes::copy_from_slice(&payload[..payload.len().min(PAYLOAD_CAP)]),
            });
        }
        let keep = BooleanArray::from(keep);
        let good = rows - rejected.len();
        let all = rejected.is_empty();
        let convert = |(field, column): (&Arc<Field>, Option<&ArrayRef>)| -> Result<ArrayRef, Refusal> {
            let column = match column {
                Some(column) if !all => Some(filter(column, &keep).map_err(|error| Refusal::malformed(error.to_string()))?),
                column => column.cloned(),
            };
            conform::conform(column.as_ref(), field.data_type(), good)
                .map_err(|error| Refusal::new(RejectCode::TypeMismatch, format!("column \"{}\" of the file: {error}", field.name())))
        };
        let columns: Vec<ArrayRef> = self.schema.fields().iter().zip(sources).map(convert).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(good));
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|error| Refusal::malformed(error.to_string()))?;
        let ordinals = (0..rows).filter(|row| keep.value(*row)).map(|row| self.row + row as u64);
        Ok(Decoded {
            records,
            ordinals: UInt64Array::from_iter_values(ordinals),
            rejected,
            bytes: self.row_bytes.saturating_mul(rows as u64).max(lengths.iter().sum()),
            kinds: None,
        })
    }
}

/// One row as JSON, as far as its columns can be.
fn as_json(row: &RecordBatch) -> Vec<u8> {
    let mut out = Vec::new();
    let fields: Vec<Field> = row.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    if let Ok(mut encoder) = RowEncoder::new(&Arc::new(Schema::new(fields))) {
        // A row that cannot be shown is refused without its text.
        let _shown = encoder.encode(row, &mut out, &mut Vec::new());
    }
    out
}

fn rows(group: &RowGroupMetaData) -> u64 {
    u64::try_from(group.num_rows()).unwrap_or(0)
}
