//! The epoch record: what one epoch of one task consists of, and its bytes.
//! A record whose bytes differ in any bit from what was written never decodes.
//!
//! ```text
//! millrace-epoch 1 <sha256 of the payload, 64 hex> <length of the payload, 20 digits>\n
//! {"formatVersion":1,"minReaderVersion":1, ...}                                          payload
//! ```
//! The header is a function of the payload, so decoding recomputes it and compares all of it.
//! The header's form is frozen; what changes between versions is inside the payload, under the checksum.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::identity::sha256_hex;
use super::{Epoch, Error, Generation, PipelineUid, TaskId};

/// The version this code writes: 2 has state and event times, 3 state of an operator in parts, 4 the place in an exchange, 5 what is
/// known of state in buckets: a reader of before goes on without, and reads them to know it.
pub const FORMAT_VERSION: u32 = 5;
/// The newest `minReaderVersion` this code can read.
pub const READER_VERSION: u32 = 4;
/// Who reads a record without state or event times.
const STATELESS_READER: u32 = 1;
/// Who reads a record with them: to an older reader they would be absent, and the task would go on without.
const STATEFUL_READER: u32 = 2;
/// Who reads a record that has state of an operator in parts: an older reader would take each for that of an operator that the plan does not have.
const PARTS_READER: u32 = 3;
/// Who reads a record with a place in an exchange: an older reader would write rows again that are there.
const PLACE_READER: u32 = 4;
/// Between the operator and the part in [`EpochRecord::operators`]. No operator's id has it.
const PART: char = '#';

const MAGIC: &str = "millrace-epoch 1 ";
const HEADER: usize = MAGIC.len() + 64 + 1 + 20 + 1;

/// One epoch of one task. Immutable once stored; the stored one is *the* epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochRecord {
    /// Version of the writer.
    pub format_version: u32,
    /// Readers older than this must not interpret the record.
    pub min_reader_version: u32,
    /// The pipeline.
    pub pipeline_uid: PipelineUid,
    /// The task.
    pub task: TaskId,
    /// The epoch's number.
    pub epoch: Epoch,
    /// The owner's generation.
    pub generation: Generation,
    /// The owner's random nonce: tells our own record, whose reply was lost, from a rival's.
    pub owner: String,
    /// Hash of the plan that `operators` belongs to.
    pub plan_hash: String,
    /// When it was written, milliseconds since 1970 UTC; for people, never compared.
    pub created_at_millis: i64,
    /// Set on a claim that had to skip this damaged epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regressed_from: Option<Epoch>,
    /// Next position to read, by [`position_key`](super::position_key); the source defines the value.
    #[serde(default)]
    pub positions: BTreeMap<String, Value>,
    /// State files by operator id; where its state is in parts, by [`part_key`].
    #[serde(default)]
    pub operators: BTreeMap<String, Vec<StateRef>>,
    /// What is known of state in buckets without reading it; absent where state is in one piece, and where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<KnownBuckets>,
    /// How far event time has come; absent from tasks that keep no state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_times: Option<EventTimes>,
    /// Which side of an exchange the task is on; absent from tasks of plans without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageName>,
    /// Where the exchange ended with this epoch, of a task in front of one: whoever goes on reads it back from there. The connector defines the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Value>,
    /// Committables by output name: all that another worker needs to commit this epoch.
    #[serde(default)]
    pub sinks: BTreeMap<String, Vec<Value>>,
    /// Records of this epoch alone, by what became of them (in, out, filtered, dead-lettered).
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

/// A side of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StageName {
    /// In front of it: what the task has read is in the exchange.
    Front,
    /// Behind it: the task has the state.
    Back,
}

/// How far event time has come, in microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventTimes {
    /// Latest time seen in each split, by [`position_key`](super::position_key).
    pub splits: BTreeMap<String, i64>,
    /// What the operators were told of each input.
    pub inputs: BTreeMap<String, InputTime>,
    /// The watermark over all inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<i64>,
    /// Processing time as the operators were last told, where they go by it: whoever goes on is not behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processing_time: Option<i64>,
}

/// What the operators were told of the time of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InputTime {
    /// Its last watermark.
    pub watermark: i64,
    /// Whether it was idle since.
    #[serde(default)]
    pub idle: bool,
}

/// What is known of state in buckets without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownBuckets {
    /// How the plan was shared. Of one that is shared in another way nothing is known.
    pub shape: String,
    /// By bucket; others have to be read.
    pub known: BTreeMap<u16, KnownBucket>,
}

/// What is known of the state of a bucket without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownBucket {
    /// From which watermark on something comes out of an operator, by id; of others nothing does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dues: BTreeMap<String, i64>,
    /// Bytes of memory that it takes, about.
    pub state_bytes: u64,
}

/// A state file that an epoch consists of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateRef {
    /// Path relative to the task's folder: `state/<generation>/<epoch>/<file>`.
    pub path: String,
    /// Length in bytes.
    pub length: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// What the state in it is made of, as in [`OperatorState::signature`](crate::operators::OperatorState::signature): whether a plan can restore it
    /// is known without reading it.
    #[serde(default)]
    pub signature: String,
}

/// What a task puts into an epoch; the log adds who, when and which number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpochContent {
    /// See [`EpochRecord::positions`].
    pub positions: BTreeMap<String, Value>,
    /// See [`EpochRecord::operators`].
    pub operators: BTreeMap<String, Vec<StateRef>>,
    /// See [`EpochRecord::buckets`].
    pub buckets: Option<KnownBuckets>,
    /// See [`EpochRecord::event_times`].
    pub event_times: Option<EventTimes>,
    /// See [`EpochRecord::stage`].
    pub stage: Option<StageName>,
    /// See [`EpochRecord::exchange`].
    pub exchange: Option<Value>,
    /// See [`EpochRecord::sinks`].
    pub sinks: BTreeMap<String, Vec<Value>>,
    /// See [`EpochRecord::counters`].
    pub counters: BTreeMap<String, u64>,
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not what was written: damaged, cut short, or not ours.
    #[error("damaged: {0}")]
    Corrupt(String),
    /// Intact, but for newer readers.
    #[error("needs a reader of format {needed}, this one reads up to {READER_VERSION}")]
    Newer {
        /// The lowest reader version it accepts.
        needed: u32,
    },
}

/// The key of a part of an operator's state in [`EpochRecord::operators`]: a bucket of its keys, and a number within, where it has several.
#[must_use]
pub fn part_key(operator: &str, bucket: u16, number: usize) -> String {
    if number == 0 { format!("{operator}{PART}{bucket:03}") } else { format!("{operator}{PART}{bucket:03}.{number}") }
}

/// The operator that a key of [`EpochRecord::operators`] is of, and the bucket, if it is of a part.
#[must_use]
pub fn operator_of(key: &str) -> (&str, Option<u16>) {
    match key.split_once(PART) {
        None => (key, None),
        Some((operator, part)) => (operator, part.split('.').next().and_then(|bucket| bucket.parse().ok())),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    min_reader_version: u32,
}

impl EpochContent {
    /// Who can read a record of this.
    pub(super) fn min_reader_version(&self) -> u32 {
        if self.exchange.is_some() {
            return PLACE_READER;
        }
        if self.operators.keys().any(|key| key.contains(PART)) {
            return PARTS_READER;
        }
        if self.operators.is_empty() && self.event_times.is_none() && self.stage.is_none() { STATELESS_READER } else { STATEFUL_READER }
    }

    /// Whether writing this after `last` would say nothing new: an idle task skips the epoch.
    #[must_use]
    pub fn is_same_progress(&self, last: &EpochRecord) -> bool {
        self.positions == last.positions
            && self.operators == last.operators
            && self.sinks.values().all(Vec::is_empty)
            && self.counters.values().all(|count| *count == 0)
    }
}

impl EpochRecord {
    /// Whether a sink has something to commit. An epoch without needs no `committed` object.
    #[must_use]
    pub fn has_committables(&self) -> bool {
        self.sinks.values().any(|committables| !committables.is_empty())
    }

    /// The bytes to store.
    ///
    /// # Errors
    /// [`Error::Encode`] if the content could not be read back, such as JSON nested too deeply.
    pub fn encode(&self) -> Result<Bytes, Error> {
        let refuse = |detail: String| Error::Encode { task: self.task.clone(), epoch: self.epoch, detail };
        let payload = serde_json::to_vec(self).map_err(|error| refuse(error.to_string()))?;
        let mut bytes = header(&payload).into_bytes();
        bytes.extend_from_slice(&payload);
        Self::decode(&bytes).map_err(|error| refuse(error.to_string()))?;
        Ok(bytes.into())
    }

    /// Reads what [`EpochRecord::encode`] wrote, in this or a compatible version.
    ///
    /// # Errors
    /// [`DecodeError::Corrupt`] for anything but the very bytes that were written;
    /// [`DecodeError::Newer`] for an intact record of an incompatible newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let corrupt = |detail: String| DecodeError::Corrupt(detail);
        let (head, payload) =
            bytes.split_at_checked(HEADER).ok_or_else(|| corrupt(format!("{} bytes, shorter than a header", bytes.len())))?;
        if head != header(payload).as_bytes() {
            return Err(corrupt(format!("the checksum does not match the {} bytes of the payload", payload.len())));
        }
        let versions: Versions = serde_json::from_slice(payload).map_err(|error| corrupt(error.to_string()))?;
        if versions.min_reader_version > READER_VERSION {
            return Err(DecodeError::Newer { needed: versions.min_reader_version });
        }
        serde_json::from_slice(payload).map_err(|error| corrupt(error.to_string()))
    }
}

fn header(payload: &[u8]) -> String {
    format!("{MAGIC}{} {:020}\n", sha256_hex(payload), payload.len())
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
