//! The unit of data: a record batch whose rows know where they came from. Nothing here looks at column values.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch, UInt64Array};
use base64::Engine as _;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::row_kind::{RowKind, RowKinds};

/// Where rows come from: one object, file or partition. Cheap to clone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin(Arc<OriginInner>);

#[derive(Debug, Eq, PartialEq)]
struct OriginInner {
    key: [u8; 16],
    name: String,
}

impl Origin {
    /// Makes an origin from `identity`, which MUST be the same in every replay and different for every object, file version or
    /// partition (`bucket/key/etag`, `topic id/partition`), and a `name` for people.
    #[must_use]
    pub fn new(identity: &str, name: impl Into<String>) -> Self {
        let digest = Sha256::digest(identity.as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(Arc::new(OriginInner { key, name: name.into() }))
    }

    /// The origin with this [`Origin::key`], as another task knows it.
    #[must_use]
    pub fn with_key(key: [u8; 16], name: impl Into<String>) -> Self {
        Self(Arc::new(OriginInner { key, name: name.into() }))
    }

    /// First 16 bytes of the SHA-256 of the identity.
    #[must_use]
    pub fn key(&self) -> &[u8; 16] {
        &self.0.key
    }

    /// Name for people: `s3://bucket/key`, `topic/3`, a path.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

/// Rows of one origin.
///
/// `ordinals` has one entry for each row: its number in the origin (row, offset). The triple of origin, ordinal and branch is
/// the row's *coordinate*: unique within an output, and the same in every replay. Rows that an operator makes out of many (an aggregate, a join)
/// have the operator as their origin, and an ordinal that follows from what they are about.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The columns.
    pub records: RecordBatch,
    /// Where all the rows come from.
    pub origin: Origin,
    /// Number of each row in its origin; as many as `records` has rows. Ascending where the origin is a source's.
    pub ordinals: UInt64Array,
    /// Which way through the plan the rows took: 0 unless a UNION ALL made several rows of one. Operators that multiply rows MUST mix into it with [`branch`].
    pub branch: u64,
    /// What each row says in a changelog; `None` if all are insertions.
    pub kinds: Option<RowKinds>,
}

/// The branch that rows of `parent` get when they pass input `index` of an operator with several inputs. Input 0 of branch 0 stays 0.
#[must_use]
pub fn branch(parent: u64, index: usize) -> u64 {
    parent.wrapping_mul(31).wrapping_add(index as u64)
}

impl Batch {
    /// Rows as a source delivers them: on the first branch, all insertions.
    #[must_use]
    pub fn new(records: RecordBatch, origin: Origin, ordinals: UInt64Array) -> Self {
        Self { records, origin, ordinals, branch: 0, kinds: None }
    }

    /// Number of rows.
    #[must_use]
    pub fn num_rows(&self) -> usize {
        self.records.num_rows()
    }

    /// Bytes of memory that the batch holds on to, for back-pressure.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.records.get_array_memory_size() + self.ordinals.get_array_memory_size()
    }

    /// Rows `offset` to `offset + length`, without a copy.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self {
            records: self.records.slice(offset, length),
            origin: self.origin.clone(),
            ordinals: self.ordinals.slice(offset, length),
            branch: self.branch,
            kinds: self.kinds.as_ref().map(|kinds| kinds.slice(offset, length)),
        }
    }

    /// What a row says in a changelog.
    ///
    /// # Panics
    /// If `row` is not below [`Batch::num_rows`].
    #[must_use]
    pub fn kind(&self, row: usize) -> RowKind {
        self.kinds.as_ref().map_or(RowKind::Insert, |kinds| kinds.get(row))
    }

    /// The coordinate of row `row` as text: 22 base64url characters for origin and branch, `-`, the ordinal in decimal. At most 43 bytes.
    ///
    /// # Panics
    /// If `row` is not below [`Batch::num_rows`].
    #[must_use]
    pub fn coordinate(&self, row: usize) -> String {
        coordinate(&self.origin, self.branch, self.ordinals.value(row))
    }
}

/// The coordinate of one record as text, see [`Batch::coordinate`].
///
/// # Panics
/// Never: a coordinate is ASCII.
#[must_use]
pub fn coordinate(origin: &Origin, branch: u64, ordinal: u64) -> String {
    let mut coordinates = Coordinates::new(origin, branch);
    String::from_utf8(coordinates.of(ordinal).to_vec()).expect("a coordinate is ASCII")
}

/// Characters of origin and branch in a coordinate.
const COORDINATE_PREFIX: usize = 22;
/// Decimal digits of an ordinal at most.
const ORDINAL_DIGITS: usize = 20;

/// Coordinates of the records of one origin on one branch, one after the other in the same room: for those who write one for each record.
#[derive(Clone, Debug)]
pub struct Coordinates {
    text: [u8; COORDINATE_PREFIX + 1 + ORDINAL_DIGITS],
}

impl Coordinates {
    /// Of this origin and branch.
    ///
    /// # Panics
    /// Never: a key of 16 bytes has 22 characters in base64.
    #[must_use]
    pub fn new(origin: &Origin, branch: u64) -> Self {
        let mut key = *origin.key();
        for (byte, mix) in key.iter_mut().rev().zip(branch.to_le_bytes()) {
            *byte ^= mix;
        }
        let mut text = [b'-'; COORDINATE_PREFIX + 1 + ORDINAL_DIGITS];
        let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode_slice(key, &mut text[..COORDINATE_PREFIX]);
        encoded.expect("16 bytes are 22 characters");
        Self { text }
    }

    /// The coordinate with this ordinal: ASCII, as [`coordinate`] has it.
    pub fn of(&mut self, ordinal: u64) -> &[u8] {
        let digits = ordinal.checked_ilog10().unwrap_or(0) as usize + 1;
        let end = COORDINATE_PREFIX + 1 + digits;
        let mut rest = ordinal;
        for place in self.text[COORDINATE_PREFIX + 1..end].iter_mut().rev() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        &self.text[..end]
    }
}

/// A record that could not be decoded, or that a sink refused for good.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// Where it came from.
    pub origin: Origin,
    /// Its number there.
    pub ordinal: u64,
    /// Which part refused it.
    pub stage: RejectStage,
    /// Why, from a closed set: the metric label.
    pub code: RejectCode,
    /// Why, for people; holds no more of the data than is needed.
    pub error: String,
    /// The record as it was (decode) or as it would have been written (sink). May be cut, see `payload_bytes`.
    pub payload: Bytes,
    /// Length of the record before it was cut.
    pub payload_bytes: u64,
    /// How often it was tried.
    pub attempts: u32,
}

/// Which part refused a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RejectStage {
    /// The decoder of the source's format.
    Decode,
    /// An expression of a step.
    Transform,
    /// The sink's encoder or the system behind it.
    Sink,
}

/// Why a record was refused.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RejectCode {
    /// Not of the format: syntax, number of fields, encoding.
    Malformed,
    /// A value does not fit its column's type.
    TypeMismatch,
    /// A required field is missing.
    MissingField,
    /// Its event time is further in the future than any clock can be wrong: it would end all windows until then.
    ImplausibleTime,
    /// Longer than `limits.maxRecordBytes`.
    TooLarge,
    /// Nested deeper than 64.
    TooDeep,
    /// Decompression broke a limit or the compressed data is damaged; stands for the rest of the object.
    BadCompression,
    /// The object is gone or has changed and can never be read again.
    ObjectLost,
    /// The sink refuses this record, whatever is retried.
    RefusedBySink,
}

impl RejectCode {
    /// The code as it stands in envelopes and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "Malformed",
            Self::TypeMismatch => "TypeMismatch",
            Self::MissingField => "MissingField",
            Self::ImplausibleTime => "ImplausibleTime",
            Self::TooLarge => "TooLarge",
            Self::TooDeep => "TooDeep",
            Self::BadCompression => "BadCompression",
            Self::ObjectLost => "ObjectLost",
            Self::RefusedBySink => "RefusedBySink",
        }
    }
}

impl RejectStage {
    /// The stage as it stands in envelopes and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "Decode",
            Self::Transform => "Transform",
            Self::Sink => "Sink",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinate_is_the_same_text_wherever_it_is_written() {
        let origin = Origin::new("bucket/key/etag", "s3://bucket/key");
        let mut coordinates = Coordinates::new(&origin, 3);
        for ordinal in [u64::MAX, 0, 9, 10, 99, 100, 12_345_678_901_234_567_890] {
            let text = coordinate(&origin, 3, ordinal);
            let (head, tail) = text.split_at(COORDINATE_PREFIX);
            assert_eq!((tail, head.len()), (format!("-{ordinal}").as_str(), COORDINATE_PREFIX));
            assert_eq!(coordinates.of(ordinal), text.as_bytes());
        }
        assert_ne!(coordinate(&origin, 0, 1), coordinate(&origin, 1, 1));
    }
}
