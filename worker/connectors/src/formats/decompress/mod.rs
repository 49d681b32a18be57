//! gzip and Zstandard, as a stream, with limits: bytes in, bounded chunks out. It never holds more than one chunk besides what the format needs
//! (gzip 32 KiB, Zstandard its window, of at most 128 MiB).

use std::collections::VecDeque;
use std::{fmt, io};

use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};
use millrace_crds::format::Compression;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::context::ResolvedLimits;

/// Bytes of one decompressed chunk.
const CHUNK: usize = 256 * 1024;
/// The ratio is not looked at below this many decompressed bytes: so little is harmless, and short runs compress well.
const RATIO_GRACE: u64 = 8 << 20;
/// Largest window that a Zstandard frame may ask for, as a power of two.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Window of gzip, as a power of two.
const GZIP_WINDOW_LOG: u8 = 15;

const GZIP_MAGIC: &[u8] = &[0x1F, 0x8B];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];

/// Why an object cannot be decompressed. It stays so: the rest of the object is lost.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// The compressed data is not what it says.
    #[error("the {format} data is damaged after {bytes} decompressed bytes: {message}")]
    Damaged {
        /// `gzip` or `zstd`.
        format: &'static str,
        /// Decompressed so far.
        bytes: u64,
        /// What the decompressor said.
        message: String,
    },
    /// The data ends in the middle.
    #[error("the {format} data ends too early, after {bytes} decompressed bytes: was the object cut when it was written?")]
    Truncated {
        /// `gzip` or `zstd`.
        format: &'static str,
        /// Decompressed so far.
        bytes: u64,
    },
    /// More bytes out for each byte in than allowed.
    #[error(
        "{compressed} bytes of {format} data became more than {limit} times as many: raise limits.maxDecompressionRatio if that is right"
    )]
    Ratio {
        /// `gzip` or `zstd`.
        format: &'static str,
        /// Compressed bytes so far.
        compressed: u64,
        /// `limits.maxDecompressionRatio`.
        limit: u64,
    },
    /// The object is larger than allowed.
    #[error("the object has more than {limit} bytes when decompressed: raise limits.maxObjectBytes if that is right")]
    ObjectSize {
        /// `limits.maxObjectBytes`.
        limit: u64,
    },
}

/// Decompresses one object.
///
/// ```text
/// loop {  push(chunk);  while let Some(plain) = next()? { … }  }
/// finish()?;            while let Some(plain) = next()? { … }     // an object too short to be recognised is only now known to be plain
/// ```
/// After an error only errors follow. Objects that are not compressed pass through, without limits.
#[derive(Debug)]
pub struct Decompressor {
    format: Format,
    input: VecDeque<Bytes>,
    compressed: u64,
    decompressed: u64,
    ratio: u64,
    object_bytes: u64,
    ended: bool,
}

enum Format {
    /// To be told by the first bytes.
    Unknown,
    Plain,
    Gzip(Gzip),
    Zstd(Zstd),
    /// An error was returned.
    Broken,
}

struct Gzip {
    member: Decompress,
    between_members: bool,
}

struct Zstd {
    decoder: Decoder<'static>,
    between_frames: bool,
}

impl Decompressor {
    /// For one object of the given compression.
    #[must_use]
    pub fn new(compression: Compression, limits: &ResolvedLimits) -> Self {
        let format = match compression {
            Compression::Auto => Format::Unknown,
            Compression::None => Format::Plain,
            Compression::Gzip => Format::Gzip(Gzip::new()),
            Compression::Zstd => Format::zstd(),
        };
        Self {
            format,
            input: VecDeque::new(),
            compressed: 0,
            decompressed: 0,
            ratio: limits.decompression_ratio,
            object_bytes: limits.object_bytes,
            ended: false,
        }
    }

    /// Takes the next compressed bytes. Nothing is decompressed yet.
    ///
    /// # Errors
    /// The decompressor is broken.
    pub fn push(&mut self, compressed: Bytes) -> Result<(), DecompressError> {
        if !compressed.is_empty() {
            self.input.push_back(compressed);
        }
        if matches!(self.format, Format::Broken) { Err(self.broken()) } else { Ok(()) }
    }

    /// The next decompressed bytes, at most 256 KiB if they were compressed; `None` if that needs more input.
    ///
    /// # Errors
    /// The data is damaged or breaks a limit.
    #[expect(clippy::should_implement_trait, reason = "there may be more after None")]
    pub fn next(&mut self) -> Result<Option<Bytes>, DecompressError> {
        if matches!(self.format, Format::Unknown) {
            match self.recognise() {
                Some(format) => self.format = format,
                None => return Ok(None),
            }
        }
        let result = match &mut self.format {
            Format::Plain => return Ok(self.input.pop_front()),
            Format::Gzip(gzip) => gzip.next(&mut self.input),
            Format::Zstd(zstd) => zstd.next(&mut self.input),
            Format::Unknown | Format::Broken => return Err(self.broken()),
        };
        let result = result.map_err(|error| self.damaged(&error)).and_then(|step| self.check(step));
        if result.is_err() {
            self.format = Format::Broken;
            self.input.clear();
        }
        result
    }

    /// There are no more compressed bytes. MUST be called after [`Decompressor::next`] has returned `None`, and [`Decompressor::next`] once more after it.
    ///
    /// # Errors
    /// The compressed data ends in the middle.
    pub fn finish(&mut self) -> Result<(), DecompressError> {
        self.ended = true;
        let (format, complete) = match &self.format {
            Format::Unknown | Format::Plain => return Ok(()),
            Format::Gzip(gzip) => ("gzip", gzip.between_members),
            Format::Zstd(zstd) => ("zstd", zstd.between_frames),
            Format::Broken => return Err(self.broken()),
        };
        if complete { Ok(()) } else { Err(DecompressError::Truncated { format, bytes: self.decompressed }) }
    }

    /// Whether the object is compressed; `None` until its first bytes are known.
    #[must_use]
    pub fn is_compressed(&self) -> Option<bool> {
        match self.format {
            Format::Unknown => None,
            Format::Plain => Some(false),
            Format::Gzip(_) | Format::Zstd(_) | Format::Broken => Some(true),
        }
    }

    /// The format by the first bytes, if they suffice.
    fn recognise(&self) -> Option<Format> {
        let first: Vec<u8> = self.input.iter().flatten().copied().take(ZSTD_MAGIC.len()).collect();
        let may_be = |magic: &[u8]| first.len() < magic.len() && magic.starts_with(&first) && !self.ended;
        if first.starts_with(GZIP_MAGIC) {
            Some(Format::Gzip(Gzip::new()))
        } else if first.starts_with(ZSTD_MAGIC) {
            Some(Format::zstd())
        } else if may_be(GZIP_MAGIC) || may_be(ZSTD_MAGIC) {
            None
        } else {
            Some(Format::Plain)
        }
    }

    fn check(&mut self, step: Step) -> Result<Option<Bytes>, DecompressError> {
        self.compressed += step.consumed;
        self.decompressed += step.produced.len() as u64;
        if self.decompressed > self.object_bytes {
            return Err(DecompressError::ObjectSize { limit: self.object_bytes });
        }
        if self.decompressed > RATIO_GRACE && self.decompressed > self.compressed.saturating_mul(self.ratio) {
            return Err(DecompressError::Ratio { format: self.format.name(), compressed: self.compressed, limit: self.ratio });
        }
        Ok((!step.produced.is_empty()).then(|| Bytes::from(step.produced)))
    }

    fn damaged(&self, error: &io::Error) -> DecompressError {
        DecompressError::Damaged { format: self.format.name(), bytes: self.decompressed, message: error.to_string() }
    }

    fn broken(&self) -> DecompressError {
        let message = "it was refused before".to_owned();
        DecompressError::Damaged { format: "compressed", bytes: self.decompressed, message }
    }
}

impl Format {
    fn zstd() -> Self {
        Zstd::new().map_or(Self::Broken, Self::Zstd)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Gzip(_) => "gzip",
            Self::Zstd(_) => "zstd",
            Self::Unknown | Self::Plain | Self::Broken => "compressed",
        }
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one call did. Nothing produced means that all input is used up.
struct Step {
    produced: Vec<u8>,
    consumed: u64,
}

/// The first chunk that has bytes left.
fn next_chunk(input: &mut VecDeque<Bytes>) -> Option<&mut Bytes> {
    while input.front().is_some_and(Bytes::is_empty) {
        input.pop_front();
    }
    input.front_mut()
}

impl Gzip {
    fn new() -> Self {
        Self { member: Decompress::new_gzip(GZIP_WINDOW_LOG), between_members: true }
    }

    fn next(&mut self, input: &mut VecDeque<Bytes>) -> io::Result<Step> {
        let mut step = Step { produced: Vec::with_capacity(CHUNK), consumed: 0 };
        while step.produced.len() < CHUNK {
            let chunk = next_chunk(input);
            if chunk.is_none() && self.between_members {
                break;
            }
            if self.between_members && self.member.total_in() > 0 {
                self.member.reset(true);
            }
            self.between_members = false;
            let (total_in, total_out) = (self.member.total_in(), self.member.total_out());
            // Without input too: the decompressor may hold output that did not fit the last chunk.
            let source = chunk.as_deref().map_or(&[][..], |chunk| &chunk[..]);
            let status = self.member.decompress_vec(source, &mut step.produced, FlushDecompress::None)?;
            self.between_members = status == Status::StreamEnd;
            let consumed = self.member.total_in() - total_in;
            step.consumed += consumed;
            let stuck = consumed == 0 && self.member.total_out() == total_out && !self.between_members;
            match chunk {
                Some(_) if stuck => return Err(io::Error::other("the decompressor makes no progress")),
                Some(chunk) => chunk.advance(usize::try_from(consumed).map_err(io::Error::other)?),
                None if stuck => break,
                None => {}
            }
        }
        Ok(step)
    }
}

impl Zstd {
    fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
        Ok(Self { decoder, between_frames: true })
    }

    fn next(&mut self, input: &mut VecDeque<Bytes>) -> io::Result<Step> {
        let mut produced = vec![0; CHUNK];
        let mut out = OutBuffer::around(produced.as_mut_slice());
        let mut total = 0;
        while out.pos() < CHUNK {
            let chunk = next_chunk(input);
            if chunk.is_none() && self.between_frames {
                break;
            }
            let before = out.pos();
            // Without input too: the decompressor may hold output that did not fit the last chunk.
            let mut source = InBuffer::around(chunk.as_deref().map_or(&[][..], |chunk| &chunk[..]));
            let hint = self.decoder.run(&mut source, &mut out)?;
            let consumed = source.pos();
            self.between_frames = hint == 0;
            total += consumed as u64;
            let stuck = consumed == 0 && out.pos() == before && !self.between_frames;
            match chunk {
                Some(_) if stuck => return Err(io::Error::other("the decompressor makes no progress")),
                Some(chunk) => chunk.advance(consumed),
                None if stuck => break,
                None => {}
            }
        }
        let length = out.pos();
        produced.truncate(length);
        Ok(Step { produced, consumed: total })
    }
}

#[cfg(test)]
mod tests;
