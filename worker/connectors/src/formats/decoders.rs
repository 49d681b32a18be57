//! From a source's format to the decoder of its bytes. The formats know nothing of each other; this is the one list.

use arrow::datatypes::SchemaRef;
use millrace_crds::format::{CsvHeader, SourceFormat};

use millrace_engine::connector::ConnectorError;

use super::cloudfront::CloudFront;
use super::columns::Columns;
use super::csv::Csv;
use super::frames::Separator;
use super::json::Json;
use super::raw::Raw;
use super::records::{Messages, Refusal, RowFormat, Stream, project};
use super::schema::{Kind, csv_options, invalid, kind};
use super::vpc_flow::VpcFlow;
use super::{RecordDecoder, StreamDecoder, StreamPosition};
use crate::context::ResolvedLimits;

/// A decoder for one file or object of a line format, from its start or from where another decoder of the same table stopped.
///
/// `projection` are names of columns of `table`; the decoder delivers exactly these.
///
/// # Errors
/// `Invalid` for Parquet (see [`super::parquet_in`]), for a column that is not in `table`, and for a header in `resume` that no decoder made.
pub fn stream_decoder(
    format: &SourceFormat,
    table: &SchemaRef,
    projection: &[String],
    limits: &ResolvedLimits,
    resume: Option<StreamPosition>,
) -> Result<Box<dyn StreamDecoder>, ConnectorError> {
    let projected = projected(table, projection)?;
    let resume = resume.unwrap_or_default();
    let header = resume.header.as_deref();
    let place = Place { projected: &projected, limits, resume: &resume };
    match kind(format)? {
        Kind::Json => place.stream(Json::new(table, &projected), Separator::Newline),
        Kind::Csv(options) => {
            let options = csv_options(options)?;
            let separator = Separator::NewlineOutsideQuotes(options.delimiter);
            place.stream(Csv::new(table, &projected, options, resume.record > 0, header), separator)
        }
        Kind::Raw => place.stream(Raw, Separator::Newline),
        Kind::CloudFront => place.stream(CloudFront::new(&projected, header).map_err(|refusal| bad_header(&refusal))?, Separator::Newline),
        Kind::VpcFlow => place.stream(VpcFlow::new(&projected, header).map_err(|refusal| bad_header(&refusal))?, Separator::Newline),
        Kind::Parquet => Err(invalid("Parquet is not read as a stream")),
        Kind::Debezium(_) => Err(invalid("the format debezium is for topics: use json for files and objects")),
    }
}

/// A decoder for messages that are one record each.
///
/// # Errors
/// `Invalid` for formats that only files and objects have, for CSV with a header, and for a column that is not in `table`.
pub fn record_decoder(
    format: &SourceFormat,
    table: &SchemaRef,
    projection: &[String],
    limits: &ResolvedLimits,
) -> Result<Box<dyn RecordDecoder>, ConnectorError> {
    let projected = projected(table, projection)?;
    let columns = columns(&projected)?;
    Ok(match kind(format)? {
        Kind::Json => Box::new(Messages::new(Json::new(table, &projected), columns, limits.record_bytes)),
        Kind::Raw => Box::new(Messages::new(Raw, columns, limits.record_bytes)),
        Kind::Csv(options) if options.header == CsvHeader::Absent => {
            let csv = Csv::new(table, &projected, csv_options(options)?, false, None);
            Box::new(Messages::new(csv, columns, limits.record_bytes))
        }
        Kind::Csv(_) => return Err(invalid("messages have no header line: set format.csv.header to Absent")),
        Kind::Parquet | Kind::CloudFront | Kind::VpcFlow => {
            return Err(invalid("the formats parquet, cloudFront and vpcFlow are for files and objects: use json, csv or raw"));
        }
        Kind::Debezium(_) => return Err(invalid("records in the format debezium are changes, and only read as such")),
    })
}

/// Whether an uncompressed file or object can be gone on with by reading it from [`StreamPosition::byte`].
#[must_use]
pub fn is_stream_seekable(format: &SourceFormat) -> bool {
    format.parquet.is_none()
}

/// What all stream decoders are made of.
struct Place<'a> {
    projected: &'a SchemaRef,
    limits: &'a ResolvedLimits,
    resume: &'a StreamPosition,
}

impl Place<'_> {
    fn stream<F: RowFormat + 'static>(&self, format: F, separator: Separator) -> Result<Box<dyn StreamDecoder>, ConnectorError> {
        let columns = columns(self.projected)?;
        Ok(Box::new(Stream::new(format, separator, columns, self.limits.record_bytes, self.resume)))
    }
}

pub(super) fn projected(table: &SchemaRef, projection: &[String]) -> Result<SchemaRef, ConnectorError> {
    project(table, projection).ok_or_else(|| invalid(format!("the columns {} are not all in the source's schema", projection.join(", "))))
}

pub(super) fn columns(projected: &SchemaRef) -> Result<Columns, ConnectorError> {
    Columns::new(SchemaRef::clone(projected)).ok_or_else(|| invalid("the schema has a type that no format delivers"))
}

fn bad_header(refusal: &Refusal) -> ConnectorError {
    invalid(format!("the header in the checkpoint cannot be used: {}", refusal.error))
}
