//! From a sink's format to the encoder of its files. It opens and writes nothing.

use arrow::datatypes::SchemaRef;
use millrace_crds::format::{JsonCompression, JsonOut, ParquetOut, SinkFormat};
use millrace_engine::connector::ConnectorError;

use super::json_lines::JsonLines;
use super::parquet_out::ParquetFile;
use super::rows::RowEncoder;
use super::schema::invalid;
use super::{FileEncoder, parquet_out};

/// The one block of a [`SinkFormat`].
enum Kind<'a> {
    Json(&'a JsonOut),
    Parquet(&'a ParquetOut),
}

fn kind(format: &SinkFormat) -> Result<Kind<'_>, ConnectorError> {
    match (&format.json, &format.parquet, &format.raw) {
        (Some(json), None, None) => Ok(Kind::Json(json)),
        (None, Some(parquet), None) => Ok(Kind::Parquet(parquet)),
        _ => Err(invalid("files and objects need exactly one of json, parquet")),
    }
}

/// An encoder for one file or object of batches of `schema`.
///
/// # Errors
/// `Invalid` naming the first column that the format cannot hold.
pub fn file_encoder(format: &SinkFormat, schema: &SchemaRef) -> Result<Box<dyn FileEncoder>, ConnectorError> {
    Ok(match kind(format)? {
        Kind::Json(options) => Box::new(JsonLines::new(options.compression.unwrap_or(JsonCompression::None), schema)?),
        Kind::Parquet(options) => Box::new(ParquetFile::new(options, schema)?),
    })
}

/// Whether [`file_encoder`] would succeed. Pure, for [`millrace_engine::sink::Sink::accepts`].
///
/// # Errors
/// As [`file_encoder`].
pub fn can_encode(format: &SinkFormat, schema: &SchemaRef) -> Result<(), ConnectorError> {
    match kind(format)? {
        Kind::Json(_) => RowEncoder::new(schema).map(drop),
        Kind::Parquet(_) => parquet_out::can_encode(schema),
    }
}

/// How names of such files end, without the dot.
#[must_use]
pub fn file_extension(format: &SinkFormat) -> &'static str {
    match format.json.as_ref().map(|json| json.compression) {
        None => "parquet",
        Some(Some(JsonCompression::Gzip)) => "json.gz",
        Some(Some(JsonCompression::Zstd)) => "json.zst",
        Some(Some(JsonCompression::None) | None) => "json",
    }
}
