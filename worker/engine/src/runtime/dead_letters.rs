//! Bad records waiting for the end of their epoch, by dead-letter sink. It applies the policy; it writes nothing.

use std::sync::Arc;

use arrow::array::UInt64Array;
use millrace_crds::report::ErrorReason;
use sha2::{Digest, Sha256};

use super::config::{Envelopes, OnPoison};
use super::driver::Failure;
use super::observed::Part;
use crate::batch::{Batch, RejectStage, Rejected};
use crate::connector::ConnectorError;

/// Payload bytes that may wait before reading pauses until an epoch has closed.
const CAP: usize = 8 << 20;
/// What one bad record costs besides its payload.
const OVERHEAD: usize = 256;

/// What becomes of a bad record.
#[derive(Debug)]
pub(super) struct Verdicts {
    /// Counted and gone.
    pub(super) dropped: u64,
    /// On their way to a dead-letter sink; each record once, however many sinks take it.
    pub(super) dead_lettered: u64,
}

/// Bad records of the epoch that is filling, one list for each dead-letter sink.
#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    by_sink: Vec<Vec<Rejected>>,
    bytes: usize,
}

impl DeadLetters {
    pub(super) fn new(sinks: usize) -> Self {
        Self { by_sink: vec![Vec::new(); sinks], bytes: 0 }
    }

    /// Whether so much waits that an epoch should be closed before more is read.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > CAP
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_sink.iter().all(Vec::is_empty)
    }

    /// Takes what waits, for the epoch that is closed now.
    pub(super) fn take(&mut self) -> Self {
        let empty = Self::new(self.by_sink.len());
        std::mem::replace(self, empty)
    }

    /// Applies the policy to `rejected`, which would go to the dead-letter sinks `sinks`. `part` is who is in trouble if the task has to stop.
    pub(super) fn add(&mut self, rejected: Vec<Rejected>, sinks: &[usize], policy: OnPoison, part: &Part) -> Result<Verdicts, Failure> {
        let count = rejected.len() as u64;
        match policy {
            OnPoison::Drop => Ok(Verdicts { dropped: count, dead_lettered: 0 }),
            OnPoison::DeadLetter if !sinks.is_empty() => {
                for record in rejected {
                    self.bytes += record.payload.len() + record.error.len() + OVERHEAD;
                    for sink in sinks {
                        self.by_sink[*sink].push(record.clone());
                    }
                }
                Ok(Verdicts { dropped: 0, dead_lettered: count })
            }
            OnPoison::DeadLetter | OnPoison::Fail => match rejected.first() {
                None => Ok(Verdicts { dropped: 0, dead_lettered: 0 }),
                Some(first) => Err(Failure::new(part.clone(), poison(first))),
            },
        }
    }

    /// The envelopes for dead-letter sink `sink`, one batch for each origin in a row.
    pub(super) fn batches(
        &self,
        sink: usize,
        envelopes: &Arc<dyn Envelopes>,
        pipeline: &str,
        task: &str,
        generation: u64,
    ) -> Result<Vec<Batch>, String> {
        self.by_sink[sink]
            .chunk_by(|a, b| a.origin == b.origin && a.stage == b.stage)
            .map(|run| {
                let records = envelopes.encode(run, pipeline, task, generation)?;
                let ordinals = UInt64Array::from_iter_values(run.iter().map(|record| record.ordinal));
                Ok(Batch { records, origin: run[0].origin.clone(), ordinals, branch: stage_branch(&run[0]), kinds: None })
            })
            .collect()
    }
}

/// Keeps apart the envelopes of one record that several parts refused.
fn stage_branch(record: &Rejected) -> u64 {
    if record.stage == RejectStage::Decode {
        return 0;
    }
    let digest = Sha256::digest(record.error.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

fn poison(record: &Rejected) -> ConnectorError {
    ConnectorError::new(
        ErrorReason::PoisonRecord,
        format!(
            "record {} of {} was refused ({}, {}): {}; the policy is to stop before it: correct the data, or set errorPolicy.onPoison to DeadLetter (with a deadLetter sink on the output) or Drop",
            record.ordinal,
            record.origin.name(),
            record.stage.as_str(),
            record.code.as_str(),
            record.error,
        ),
    )
}
