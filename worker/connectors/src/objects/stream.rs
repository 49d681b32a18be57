//! One file or object as decoded records, from any place in it. It finds nothing and remembers nothing.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use millrace_crds::format::{Compression, SourceFormat};
use millrace_engine::batch::{Origin, RejectCode, RejectStage, Rejected};
use millrace_engine::connector::ConnectorError;
use millrace_engine::source::Records;

use crate::context::ResolvedLimits;
use crate::formats::decompress::Decompressor;
use crate::formats::parquet_in::{ParquetReader, RangeReader, ReadError};
use crate::formats::{Decoded, PAYLOAD_CAP, StreamDecoder, StreamPosition, stream_decoder};

/// Enough bytes to tell how a stream is compressed.
const MAGIC: u64 = 16;

/// How to read the files or objects of one source.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// What the bytes are.
    pub(crate) format: SourceFormat,
    /// All columns.
    pub(crate) table: SchemaRef,
    /// Columns to decode.
    pub(crate) projection: Vec<String>,
    /// How the bytes are compressed.
    pub(crate) compression: Compression,
    /// Bounds.
    pub(crate) limits: ResolvedLimits,
    /// Bytes to ask for at a time.
    pub(crate) chunk: u64,
}

/// Records, and where to go on after them.
#[derive(Debug)]
pub(crate) struct Piece {
    /// The records.
    pub(crate) decoded: Decoded,
    /// Where to go on.
    pub(crate) position: StreamPosition,
}

/// What the end of the bytes means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AtEnd {
    /// That all is there: what is left is the last record, terminated or not.
    Complete,
    /// That more may come: a record that has no end yet is left for later.
    MayGrow,
}

/// Reads one file or object.
pub(crate) struct ObjectStream(Kind);

enum Kind {
    Bytes(ByteStream),
    Parquet(Box<ParquetReader>),
    /// Refused as a whole.
    Ended,
}

struct ByteStream {
    reader: Box<dyn RangeReader>,
    decoder: Box<dyn StreamDecoder>,
    /// `None` when the bytes are known to be plain.
    decompressor: Option<Decompressor>,
    chunk: u64,
    /// Next byte to read.
    offset: u64,
    /// Decompressed bytes that were decoded before.
    skip: u64,
    phase: Phase,
    at_end: AtEnd,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Phase {
    Reading,
    Flushing,
    Done,
}

impl ObjectStream {
    /// Opens at `start`, by default the beginning.
    pub(crate) async fn open(
        reading: &Reading,
        mut reader: Box<dyn RangeReader>,
        start: Option<StreamPosition>,
        at_end: AtEnd,
    ) -> Result<Self, ReadError> {
        if reading.format.parquet.is_some() {
            if reader.is_empty() {
                return Ok(Self(Kind::Ended));
            }
            let row = start.map_or(0, |position| position.record);
            let opened = ParquetReader::open(reader, &reading.table, &reading.projection, &reading.limits, row).await?;
            return Ok(Self(Kind::Parquet(Box::new(opened))));
        }
        let byte = start.as_ref().map_or(0, |position| position.byte);
        let plain = byte > 0 && !is_compressed(reading, reader.as_mut()).await?;
        let decoder = stream_decoder(&reading.format, &reading.table, &reading.projection, &reading.limits, start)?;
        Ok(Self(Kind::Bytes(ByteStream {
            reader,
            decoder,
            decompressor: (!plain).then(|| Decompressor::new(reading.compression, &reading.limits)),
            chunk: reading.chunk,
            offset: if plain { byte } else { 0 },
            skip: if plain { 0 } else { byte },
            phase: Phase::Reading,
            at_end,
        })))
    }

    /// The next records; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, ReadError> {
        match &mut self.0 {
            Kind::Bytes(stream) => stream.next().await,
            Kind::Parquet(reader) => Ok(reader.next().await?.map(|decoded| {
                let position = StreamPosition { record: reader.position(), ..StreamPosition::default() };
                Piece { decoded, position }
            })),
            Kind::Ended => Ok(None),
        }
    }

    /// Where to go on after everything that [`ObjectStream::next`] has returned.
    pub(crate) fn position(&self) -> StreamPosition {
        match &self.0 {
            Kind::Bytes(stream) => stream.decoder.position(),
            Kind::Parquet(reader) => StreamPosition { record: reader.position(), ..StreamPosition::default() },
            Kind::Ended => StreamPosition::default(),
        }
    }
}

/// Whether the stream is compressed: as configured, or by its first bytes.
async fn is_compressed(reading: &Reading, reader: &mut dyn RangeReader) -> Result<bool, ReadError> {
    match reading.compression {
        Compression::None => Ok(false),
        Compression::Gzip | Compression::Zstd => Ok(true),
        Compression::Auto => {
            let magic = reader.read(0..reader.len().min(MAGIC)).await?;
            let mut decompressor = Decompressor::new(Compression::Auto, &reading.limits);
            // Damage will be found again, and reported, when the stream is read.
            let _found_later = decompressor.push(magic).and_then(|()| decompressor.next());
            Ok(decompressor.is_compressed().unwrap_or(false))
        }
    }
}

impl ByteStream {
    async fn next(&mut self) -> Result<Option<Piece>, ReadError> {
        loop {
            if let Some(decoded) = self.decoder.next() {
                return Ok(Some(Piece { decoded, position: self.decoder.position() }));
            }
            if self.phase == Phase::Done {
                return Ok(None);
            }
            self.fill().await?;
        }
    }

    /// Brings more bytes to the decoder, or ends it.
    async fn fill(&mut self) -> Result<(), ReadError> {
        if let Some(decompressor) = &mut self.decompressor
            && let Some(bytes) = decompressor.next().map_err(damaged)?
        {
            self.decode(bytes);
            return Ok(());
        }
        let end = self.reader.len();
        match self.phase {
            Phase::Reading if self.offset < end => {
                let range = self.offset..end.min(self.offset + self.chunk);
                let bytes = self.reader.read(range.clone()).await?;
                self.offset = range.end;
                match &mut self.decompressor {
                    Some(decompressor) => decompressor.push(bytes).map_err(damaged)?,
                    None => self.decode(bytes),
                }
            }
            Phase::Reading => {
                self.phase = Phase::Flushing;
                if let Some(decompressor) = &mut self.decompressor {
                    decompressor.finish().map_err(damaged)?;
                }
            }
            Phase::Flushing | Phase::Done => {
                self.phase = Phase::Done;
                if self.at_end == AtEnd::Complete {
                    self.decoder.finish();
                }
            }
        }
        Ok(())
    }

    fn decode(&mut self, mut bytes: Bytes) {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        // At most the length, which is a usize.
        let _decoded_before = bytes.split_to(skipped as usize);
        if !bytes.is_empty() {
            self.decoder.push(bytes);
        }
    }
}

fn damaged(error: crate::formats::decompress::DecompressError) -> ReadError {
    ReadError::Refused { code: RejectCode::BadCompression, error: error.to_string() }
}

/// One rejected record that stands for all of `origin` from record `ordinal` on.
pub(crate) fn rest_of(origin: &Origin, ordinal: u64, code: RejectCode, error: String, payload: Bytes) -> Records {
    let payload_bytes = payload.len() as u64;
    let rejected = Rejected {
        origin: origin.clone(),
        ordinal,
        stage: RejectStage::Decode,
        code,
        error,
        payload: payload.slice(..payload.len().min(PAYLOAD_CAP)),
        payload_bytes,
        attempts: 1,
    };
    Records { batch: None, rejected: vec![rejected], bytes: payload_bytes }
}

/// A schema and how to read it, for sources to hold.
impl Reading {
    /// The same with the columns of one reader.
    pub(crate) fn of(&self, projection: Vec<String>) -> Arc<Self> {
        Arc::new(Self { projection, ..self.clone() })
    }
}

/// Whether an error says that the bytes can never be read again.
pub(crate) fn is_lost(error: &ConnectorError) -> bool {
    error.reason == millrace_crds::report::ErrorReason::DataLost
}
