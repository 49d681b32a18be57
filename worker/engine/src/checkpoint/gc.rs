//! Garbage collection of one task: old epochs, and state files that no kept epoch refers to.
//! It never deletes anything while a kept record is unreadable, and nothing whose name it does not recognise.

use std::collections::BTreeSet;

use super::decide::{self, CollectFacts, CollectStep, Garbage};
use super::log::{EpochLog, Stored};
use super::{Epoch, Error};

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Epoch records deleted.
    pub records: usize,
    /// Commit marks deleted.
    pub marks: usize,
    /// State files deleted.
    pub state_files: usize,
    /// Set if nothing was deleted as this epoch, which is to be kept, is unreadable.
    pub held_by: Option<Epoch>,
}

pub(super) async fn collect(log: &EpochLog) -> Result<Collected, Error> {
    let mut facts = CollectFacts::default();
    let mut referenced = BTreeSet::new();
    let mut collected = Collected::default();
    loop {
        match decide::collect(&facts, log.retained) {
            CollectStep::List => facts.listing = Some(log.objects.epochs(&log.layout.epochs(), None).await?),
            CollectStep::Check(epoch) => {
                let stored = log.read(epoch).await?;
                facts.readable.insert(epoch, matches!(stored, Stored::Intact(_)));
                if let Stored::Intact(record) = stored {
                    referenced.extend(record.operators.into_values().flatten().map(|file| file.path));
                }
            }
            CollectStep::LookLater(epoch) => facts.later = Some(log.has_later(epoch).await?),
            CollectStep::Overtaken => return Ok(collected),
            CollectStep::Delete(garbage) => {
                match garbage {
                    Garbage::Record(epoch) => {
                        log.objects.delete(&log.layout.record(epoch)).await?;
                        collected.records += 1;
                    }
                    Garbage::Committed(epoch) => {
                        log.objects.delete(&log.layout.committed(epoch)).await?;
                        collected.marks += 1;
                    }
                }
                facts.deleted.insert(garbage);
            }
            CollectStep::Hold(epoch) => {
                tracing::warn!(task = %log.task, %epoch, "garbage collection waits: this epoch cannot be read");
                return Ok(Collected { held_by: Some(epoch), ..collected });
            }
            CollectStep::Done { oldest } => {
                if let Some(oldest) = oldest {
                    collected.state_files = collect_state(log, &referenced, oldest).await?;
                }
                return Ok(collected);
            }
        }
    }
}

async fn collect_state(log: &EpochLog, referenced: &BTreeSet<String>, oldest: Epoch) -> Result<usize, Error> {
    let mut deleted = 0;
    for path in log.objects.paths(&log.layout.states(), None).await? {
        let is_referenced = log.layout.relative(&path).is_none_or(|name| referenced.contains(&name));
        if decide::is_dead_state(log.layout.epoch_of_state(&path), is_referenced, oldest) {
            log.objects.delete(&path).await?;
            deleted += 1;
        }
    }
    Ok(deleted)
}
