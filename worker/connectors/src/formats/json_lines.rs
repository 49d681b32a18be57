//! Files of JSON lines, plain or compressed. The same rows always make the same bytes: nothing of the time or machine is in them.

use std::fmt;
use std::io::{self, Write as _};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use flate2::write::GzEncoder;
use millrace_crds::format::JsonCompression;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;

use super::rows::RowEncoder;
use super::{EncodeError, FileEncoder};

/// Zstandard's own default.
const ZSTD_LEVEL: i32 = 3;

/// Encodes one file.
#[derive(Debug)]
pub(super) struct JsonLines {
    rows: RowEncoder,
    lines: Vec<u8>,
    output: Output,
    taken: u64,
}

enum Output {
    Plain(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

impl JsonLines {
    pub(super) fn new(compression: JsonCompression, schema: &SchemaRef) -> Result<Self, ConnectorError> {
        let output = match compression {
            JsonCompression::None => Output::Plain(Vec::new()),
            JsonCompression::Gzip => Output::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default())),
            JsonCompression::Zstd => Output::Zstd(
                zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)
                    .map_err(|error| ConnectorError::new(ErrorReason::Internal, "the zstd compressor cannot be made").caused_by(error))?,
            ),
        };
        Ok(Self { rows: RowEncoder::new(schema)?, lines: Vec::new(), output, taken: 0 })
    }
}

impl Output {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.write_all(lines),
            Self::Gzip(out) => out.write_all(lines),
            Self::Zstd(out) => out.write_all(lines),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Gzip(out) => out.try_finish(),
            Self::Zstd(out) => out.do_finish(),
        }
    }

    fn encoded(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Plain(out) => out,
            Self::Gzip(out) => out.get_mut(),
            Self::Zstd(out) => out.get_mut(),
        }
    }

    fn encoded_bytes(&self) -> usize {
        match self {
            Self::Plain(out) => out.len(),
            Self::Gzip(out) => out.get_ref().len(),
            Self::Zstd(out) => out.get_ref().len(),
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
    }
}

impl FileEncoder for JsonLines {
    fn write(&mut self, records: &RecordBatch) -> Result<(), EncodeError> {
        if let Output::Plain(out) = &mut self.output {
            return self.rows.encode_lines(records, out);
        }
        self.lines.clear();
        self.rows.encode_lines(records, &mut self.lines)?;
        self.output.write(&self.lines).map_err(|error| failed(&error))
    }

    fn take(&mut self) -> Vec<Bytes> {
        let encoded = std::mem::take(self.output.encoded());
        self.taken += encoded.len() as u64;
        if encoded.is_empty() { Vec::new() } else { vec![Bytes::from(encoded)] }
    }

    fn estimated_bytes(&self) -> u64 {
        self.taken + self.output.encoded_bytes() as u64
    }

    fn finish(&mut self) -> Result<Vec<Bytes>, EncodeError> {
        self.output.finish().map_err(|error| failed(&error))?;
        Ok(self.take())
    }
}

fn failed(error: &io::Error) -> EncodeError {
    EncodeError { format: "JSON lines", message: error.to_string() }
}
