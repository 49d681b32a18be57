//! Decompressing the records of a batch, in each of the ways that Kafka has. It never makes more bytes than it was allowed to.

use std::io::{self, Read};

use bytes::Bytes;

use super::RecordsError;

/// What Java's snappy writes in front of its blocks, before two version numbers of four bytes each.
const XERIAL: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEAD: usize = 16;
/// Room that is made at first, as a multiple of the compressed size.
const GUESS: usize = 4;

/// The bytes that were compressed as `codec` says.
pub(super) fn open(offset: i64, codec: i16, payload: Bytes, most: usize) -> Result<Bytes, RecordsError> {
    let (name, opened) = match codec {
        0 => return Ok(payload),
        1 => ("gzip", drain(flate2::bufread::MultiGzDecoder::new(payload.as_ref()), payload.len(), most)),
        2 => ("snappy", snappy(&payload, most)),
        3 => ("lz4", drain(lz4_flex::frame::FrameDecoder::new(payload.as_ref()), payload.len(), most)),
        4 => ("zstd", zstd::Decoder::with_buffer(payload.as_ref()).and_then(|decoder| drain(decoder, payload.len(), most))),
        _ => return Err(RecordsError::UnknownCompression { offset, codec }),
    };
    match opened {
        Ok(Some(plain)) => Ok(plain.into()),
        Ok(None) => Err(RecordsError::TooLarge { offset, codec: name, most }),
        Err(error) => Err(RecordsError::Compression { offset, codec: name, message: error.to_string() }),
    }
}

/// All that a decompressor has; `None` if that is too much.
fn drain(decoder: impl Read, compressed: usize, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut plain = Vec::with_capacity(compressed.saturating_mul(GUESS).min(most));
    decoder.take(most as u64 + 1).read_to_end(&mut plain)?;
    Ok((plain.len() <= most).then_some(plain))
}

/// Blocks with their lengths in front, as Java writes them, or one block by itself.
fn snappy(payload: &[u8], most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut plain = Vec::new();
    if !payload.starts_with(XERIAL) {
        return Ok(block(payload, &mut plain, most)?.then_some(plain));
    }
    let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "a block is cut");
    let mut rest = payload.get(XERIAL_HEAD..).ok_or_else(cut)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk().ok_or_else(cut)?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| cut())?;
        let (compressed, after) = after.split_at_checked(length).ok_or_else(cut)?;
        rest = after;
        if !block(compressed, &mut plain, most)? {
            return Ok(None);
        }
    }
    Ok(Some(plain))
}

/// Appends what is in a block; `false` if that is too much.
fn block(compressed: &[u8], plain: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    let (start, length) = (plain.len(), snap::raw::decompress_len(compressed)?);
    // A block of snappy does not grow by more than a factor of 22 or so: a length beyond that is a lie for which no room is made.
    if length > compressed.len().saturating_mul(64) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its length cannot be"));
    }
    if length > most - start {
        return Ok(false);
    }
    plain.resize(start + length, 0);
    snap::raw::Decoder::new().decompress(compressed, &mut plain[start..])?;
    Ok(true)
}
