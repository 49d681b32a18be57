//! Decoders of bytes from outside that connectors keep to themselves, for fuzzing. Each takes anything; what it makes of it is of no interest here.

use serde_json::Value;

use crate::kafka::ledger::Entry;
use crate::kafka::position::{Partition, Position};
use crate::kafka::records;
use crate::opensearch::response;
use crate::s3::announcement as announcements;

/// A message of a queue that announces objects.
pub fn announcement(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(announcements::parse(text));
    }
}

/// What OpenSearch answers to a bulk request, well or not.
pub fn opensearch_answer(bytes: &[u8]) {
    for status in [200, 400, 403, 503] {
        drop(response::read(status, bytes, 3));
    }
}

/// The position of a partition in a checkpoint, and the name of its split.
pub fn kafka_position(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<Value>(bytes)
        && let Ok(position) = Position::read(&value)
    {
        drop(position.write());
    }
    drop(std::str::from_utf8(bytes).map(Partition::parse));
}

/// An entry of the ledger, which others may write to.
pub fn kafka_ledger(bytes: &[u8]) {
    drop(serde_json::from_slice::<Entry>(bytes));
}

/// What a broker sends of a partition: as it is, and as if its first checksum were right, which keeps almost everything else out.
pub fn kafka_records(bytes: &[u8]) {
    records::exhaust(bytes);
    records::exhaust(&records::intact(bytes));
}
