//! Compressed objects, whole, cut, damaged and hostile.

use std::io::Write as _;

use bytes::Bytes;
use millrace_crds::format::Compression;
use proptest::prelude::*;

use super::super::tests::LIMITS;
use super::{CHUNK, DecompressError, Decompressor};
use crate::context::ResolvedLimits;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::encode_all(plain, 3).unwrap()
}

/// Feeds `chunks` as a caller has to.
fn run(mut decompressor: Decompressor, chunks: &[&[u8]]) -> Result<Vec<u8>, DecompressError> {
    let mut plain = Vec::new();
    for chunk in chunks {
        decompressor.push(Bytes::copy_from_slice(chunk))?;
        while let Some(bytes) = decompressor.next()? {
            assert!(decompressor.is_compressed() == Some(false) || bytes.len() <= CHUNK);
            plain.extend_from_slice(&bytes);
        }
    }
    decompressor.finish()?;
    while let Some(bytes) = decompressor.next()? {
        plain.extend_from_slice(&bytes);
    }
    Ok(plain)
}

fn auto(bytes: &[u8]) -> Result<Vec<u8>, DecompressError> {
    run(Decompressor::new(Compression::Auto, &LIMITS), &[bytes])
}

#[test]
fn the_first_bytes_tell_the_format() {
    let text = b"hello ".repeat(100_000);
    assert_eq!(auto(&gzip(&text)).unwrap(), text);
    assert_eq!(auto(&zstd(&text)).unwrap(), text);
    for plain in [&b""[..], b"\x1F", b"\x28", b"(\xB5", b"(\xB5/", b"(\xB5/x", b"\x1Fx", b"(", b"plain", &text] {
        assert_eq!(auto(plain).unwrap(), plain);
        let bytes: Vec<&[u8]> = plain.chunks(1).collect();
        assert_eq!(run(Decompressor::new(Compression::Auto, &LIMITS), &bytes).unwrap(), plain);
    }
    let mut decompressor = Decompressor::new(Compression::Auto, &LIMITS);
    assert_eq!(decompressor.is_compressed(), None);
    decompressor.push(Bytes::from_static(b"\x1F")).unwrap();
    assert!(decompressor.next().unwrap().is_none());
    assert_eq!(decompressor.is_compressed(), None);
    decompressor.push(Bytes::from_static(b"\x8B")).unwrap();
    assert!(decompressor.next().unwrap().is_none());
    assert_eq!(decompressor.is_compressed(), Some(true));
}

#[test]
fn the_declared_format_is_believed() {
    let limits = &LIMITS;
    let compressed = gzip(b"x");
    assert_eq!(run(Decompressor::new(Compression::None, limits), &[&compressed]).unwrap(), compressed);
    for wrong in [Compression::Gzip, Compression::Zstd] {
        let error = run(Decompressor::new(wrong, limits), &[b"plain text that is long enough"]).unwrap_err();
        assert!(matches!(error, DecompressError::Damaged { .. }), "{error}");
    }
    assert_eq!(run(Decompressor::new(Compression::Gzip, limits), &[]).unwrap(), b"");
}

#[test]
fn members_and_frames_follow_each_other() {
    let parts = [&b"one "[..], b"", b"two ", &b"three ".repeat(100_000)];
    let whole = parts.concat();
    assert_eq!(auto(&parts.map(gzip).concat()).unwrap(), whole);
    assert_eq!(auto(&parts.map(zstd).concat()).unwrap(), whole);
    let many = gzip(b"x").repeat(50_000);
    assert_eq!(auto(&many).unwrap().len(), 50_000);
}

/// The last input may be used up while its output does not fit one chunk.
#[test]
fn nothing_stays_inside() {
    for (first, second) in [(100_000, 200_000), (1, CHUNK), (CHUNK - 1, CHUNK), (CHUNK, CHUNK), (200_000, 400_001)] {
        let parts = [vec![b'a'; first], vec![b'b'; second]];
        for compress in [gzip, zstd] {
            let compressed = [compress(&parts[0]), compress(&parts[1])].concat();
            assert_eq!(auto(&compressed).unwrap(), parts.concat(), "{first} {second}");
        }
    }
}

#[test]
fn what_is_cut_is_an_error() {
    let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    for compressed in [gzip(&text), zstd(&text)] {
        for length in [compressed.len() - 1, compressed.len() - 9, compressed.len() / 2, 10] {
            let error = auto(&compressed[..length]).unwrap_err();
            assert!(matches!(error, DecompressError::Truncated { .. }), "{length}: {error}");
        }
    }
}

#[test]
fn what_is_damaged_is_an_error_and_stays_one() {
    let text = b"some text, some more text".repeat(1000);
    let mut flipped = gzip(&text);
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    let garbage = [gzip(&text), b"garbage".to_vec()].concat();
    for bytes in [flipped, garbage] {
        let mut decompressor = Decompressor::new(Compression::Auto, &LIMITS);
        decompressor.push(Bytes::from(bytes)).unwrap();
        let error = loop {
            match decompressor.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the damage was not seen"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, DecompressError::Damaged { .. }), "{error}");
        assert!(decompressor.next().is_err());
        assert!(decompressor.push(Bytes::from_static(b"x")).is_err());
        assert!(decompressor.finish().is_err());
    }
}

/// E-IN-3: 1,030 to 1.
#[test]
fn a_gzip_bomb_is_stopped() {
    let bomb = gzip(&vec![0; 64 << 20]);
    assert!(bomb.len() < 70_000);
    let error = auto(&bomb).unwrap_err();
    assert!(matches!(error, DecompressError::Ratio { limit: 200, .. }), "{error}");
    let lenient = ResolvedLimits { decompression_ratio: 2000, ..LIMITS };
    assert_eq!(run(Decompressor::new(Compression::Auto, &lenient), &[&bomb]).unwrap().len(), 64 << 20);
}

/// E-IN-3: 65 KB to 2 GiB.
#[test]
fn a_zstd_bomb_is_stopped() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..2048 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 300_000, "{}", bomb.len());
    let mut decompressor = Decompressor::new(Compression::Auto, &LIMITS);
    decompressor.push(Bytes::from(bomb)).unwrap();
    let mut bytes = 0;
    let error = loop {
        match decompressor.next() {
            Ok(chunk) => bytes += chunk.unwrap().len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, DecompressError::Ratio { .. }), "{error}");
    assert!(bytes < 80 << 20, "{bytes}");
}

#[test]
fn little_data_may_be_as_repetitive_as_it_likes() {
    let zeros = vec![0; 4 << 20];
    assert_eq!(auto(&gzip(&zeros)).unwrap(), zeros);
}

#[test]
fn an_object_may_not_be_larger_than_allowed() {
    let limits = ResolvedLimits { object_bytes: 1_000_000, ..LIMITS };
    let fits = vec![1; 1_000_000];
    let beyond = vec![1; 1_000_001];
    for compress in [gzip, zstd] {
        assert_eq!(run(Decompressor::new(Compression::Auto, &limits), &[&compress(&fits)]).unwrap(), fits);
        let error = run(Decompressor::new(Compression::Auto, &limits), &[&compress(&beyond)]).unwrap_err();
        assert!(matches!(error, DecompressError::ObjectSize { limit: 1_000_000 }), "{error}");
    }
    assert_eq!(run(Decompressor::new(Compression::Auto, &limits), &[&beyond]).unwrap(), beyond);
}

/// A frame header that asks for a window of 2 to the `log`.
fn zstd_with_window(log: u8) -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, (log - 10) << 3];
    // One last, raw block of one byte.
    frame.extend([0x09, 0x00, 0x00, b'x']);
    frame
}

#[test]
fn windows_above_128_mebibytes_are_refused() {
    assert_eq!(auto(&zstd_with_window(27)).unwrap(), b"x");
    let error = auto(&zstd_with_window(28)).unwrap_err();
    assert!(matches!(error, DecompressError::Damaged { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_make_no_difference(plain in prop::collection::vec(any::<u8>(), 0..5000), repeat in 1..200_usize, size in 1..3000_usize) {
        let plain = plain.repeat(repeat);
        for compressed in [gzip(&plain), zstd(&plain), [gzip(&plain), gzip(b"end")].concat()] {
            let chunks: Vec<&[u8]> = compressed.chunks(size).collect();
            let ours = run(Decompressor::new(Compression::Auto, &LIMITS), &chunks).unwrap();
            prop_assert!(ours.starts_with(&plain));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500), magic in 0..3_usize) {
        let magic = [&b""[..], b"\x1F\x8B\x08", b"\x28\xB5\x2F\xFD"][magic];
        let _result = auto(&[magic, &bytes].concat());
    }
}
