//! The contract of sources, checked: nothing lost, nothing twice, nothing acknowledged early, an end to draining. It knows no source.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millrace_engine::batch::{RejectCode, Rejected};
use millrace_engine::connector::Health;
use millrace_engine::source::{OpenSplit, Records, Shared, Source, SourceEvent, SplitReader};
use object_store::memory::InMemory;
use object_store::path::Path;
use serde_json::Value;
use tokio::time::timeout;

use super::{Checked, DEADLINE, Violation, ensure, values};

/// A source and the system behind it.
#[async_trait]
pub trait SourceFixture: Send + Sync {
    /// The source: records of [`super::format`].
    fn source(&self) -> Arc<dyn Source>;

    /// The split that is read.
    fn split(&self) -> String;

    /// Makes the records `values`, in order, available, as one input (a file, an object, a few messages).
    async fn produce(&self, values: Range<i64>);

    /// Makes something available that holds `good`, then bytes that are no record, then `good + 1`.
    async fn produce_bad(&self, good: i64);

    /// How many inputs the system keeps for us because we have not acknowledged them. `None` if it does not keep account.
    async fn kept(&self) -> Option<u64>;
}

/// A reader under check, and what a task around it would know.
struct Run<'a> {
    fixture: &'a dyn SourceFixture,
    source: Arc<dyn Source>,
    shared: Shared,
    generation: u64,
    /// Position of the last durable epoch.
    durable: Option<Value>,
    /// Records in durable epochs.
    committed: Vec<i64>,
    rejected: Vec<Rejected>,
}

/// Records that were read since the last epoch.
#[derive(Default)]
struct Unsaved {
    values: Vec<i64>,
    rejected: Vec<Rejected>,
}

impl Unsaved {
    fn add(&mut self, records: Records) {
        if let Some(batch) = records.batch {
            self.values.extend(values(&batch.records));
        }
        self.rejected.extend(records.rejected);
    }
}

impl<'a> Run<'a> {
    fn new(fixture: &'a dyn SourceFixture) -> Self {
        let shared = Shared::of(Arc::new(InMemory::new()), &Path::ROOT, "uid", "input");
        let source = fixture.source();
        Self { fixture, source, shared, generation: 0, durable: None, committed: Vec::new(), rejected: Vec::new() }
    }

    /// The next owner of the task.
    async fn open(&mut self) -> Result<Box<dyn SplitReader>, Violation> {
        self.generation += 1;
        let open = OpenSplit {
            split: self.fixture.split(),
            position: self.durable.clone(),
            projection: vec!["n".to_owned()],
            generation: self.generation,
            shared: self.shared.clone(),
            health: Health::default(),
        };
        self.source.open(open).await.map_err(|error| Violation(format!("open failed: {error}")))
    }

    /// An epoch is durable.
    fn save(&mut self, position: Value, unsaved: &mut Unsaved) {
        self.durable = Some(position);
        self.committed.append(&mut unsaved.values);
        self.rejected.append(&mut unsaved.rejected);
    }

    fn all(&self, expected: &Range<i64>) -> bool {
        self.committed.len() >= expected.clone().count()
    }

    fn check_exactly_once(&self, expected: Range<i64>) -> Checked {
        let distinct: BTreeSet<_> = self.committed.iter().copied().collect();
        ensure(distinct.len() == self.committed.len(), || {
            let mut sorted = self.committed.clone();
            sorted.sort_unstable();
            let twice: Vec<_> = sorted.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).take(5).collect();
            format!("records were delivered twice: {twice:?} …")
        })?;
        let missing: Vec<_> = expected.clone().filter(|n| !distinct.contains(n)).take(5).collect();
        ensure(missing.is_empty(), || format!("records were lost: {missing:?} …"))?;
        ensure(distinct.iter().all(|n| expected.contains(n)), || "records appeared that were never produced".to_owned())
    }
}

/// The next event, or a violation after the deadline.
async fn next(reader: &mut dyn SplitReader) -> Result<SourceEvent, Violation> {
    match timeout(DEADLINE, reader.next()).await {
        Ok(event) => event.map_err(|error| Violation(format!("next failed: {error}"))),
        Err(_) => Err(Violation("records that are there are not delivered".to_owned())),
    }
}

async fn acknowledge(reader: &mut dyn SplitReader, position: &Value) -> Checked {
    reader.acknowledge(position).await.map_err(|error| Violation(format!("acknowledge failed: {error}")))
}

/// Waits until the system keeps `expected` inputs for us.
async fn wait_kept(fixture: &dyn SourceFixture, expected: u64) -> Checked {
    let poll = async {
        while fixture.kept().await.is_some_and(|kept| kept != expected) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let reached = timeout(DEADLINE, poll).await.is_ok();
    let kept = fixture.kept().await;
    ensure(reached, || format!("{kept:?} inputs are kept by the system, not {expected}"))
}

/// Reads through `inputs` inputs of `records` records while its owner is killed again and again: before and after epochs, before and after
/// acknowledging, in the middle of `next`. Each record is in exactly one epoch, those of one input in order, and in the end nothing is kept.
///
/// # Errors
/// What was violated.
pub async fn resumes_exactly(fixture: &dyn SourceFixture, inputs: u32, records: u32, seed: u64) -> Checked {
    let mut random = seed | 1;
    let mut dice = move |sides: u64| {
        // Marsaglia's xorshift: a test that fails can be run again.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % sides
    };
    let inputs = i64::from(inputs);
    let records = i64::from(records);
    for input in 0..inputs {
        fixture.produce(input * records..(input + 1) * records).await;
    }
    let expected = 0..inputs * records;
    let mut run = Run::new(fixture);
    let mut owners = 0;
    while !run.all(&expected) {
        owners += 1;
        ensure(owners < 10_000, || "no progress over 10,000 owners".to_owned())?;
        let mut reader = run.open().await?;
        let mut unsaved = Unsaved::default();
        for _ in 0..dice(12) {
            if run.committed.len() + unsaved.values.len() >= expected.clone().count() {
                break;
            }
            match dice(8) {
                // A call that is dropped at once, or soon.
                0 => {
                    if let Ok(Ok(SourceEvent::Records(records))) = timeout(Duration::from_millis(dice(3)), reader.next()).await {
                        unsaved.add(records);
                    }
                }
                1 | 2 => {
                    let position = reader.position();
                    run.save(position.clone(), &mut unsaved);
                    if dice(3) > 0 {
                        acknowledge(reader.as_mut(), &position).await?;
                    }
                }
                _ => match next(reader.as_mut()).await? {
                    SourceEvent::Records(records) => unsaved.add(records),
                    SourceEvent::End | SourceEvent::Time(_) => break,
                },
            }
        }
        match dice(4) {
            0 => reader.close().await,
            1 => {
                run.save(reader.position(), &mut unsaved);
                reader.close().await;
            }
            // Killed.
            _ => drop(reader),
        }
    }
    run.check_exactly_once(expected)?;
    for input in 0..inputs {
        let of_input: Vec<_> = run.committed.iter().filter(|n| **n / records == input).collect();
        ensure(of_input.is_sorted(), || format!("the records of input {input} are out of order: {of_input:?}"))?;
    }
    // The last owner has nothing to read, and everything to acknowledge.
    let mut reader = run.open().await?;
    let until_acknowledged = async {
        loop {
            let position = reader.position();
            acknowledge(reader.as_mut(), &position).await?;
            match timeout(Duration::from_millis(200), reader.next()).await {
                Ok(Ok(SourceEvent::Records(records))) if records.batch.is_some() => {
                    return Err(Violation("records were delivered again after all were durable".to_owned()));
                }
                Ok(Err(error)) => return Err(Violation(format!("next failed: {error}"))),
                _ if fixture.kept().await.is_none_or(|kept| kept == 0) => return Ok(()),
                _ => {}
            }
        }
    };
    let done = timeout(DEADLINE, until_acknowledged).await;
    reader.close().await;
    done.unwrap_or_else(|_| Err(Violation("not everything was acknowledged upstream".to_owned())))
}

/// Nothing is acknowledged upstream before it is durable: an owner that reads everything and dies leaves everything.
///
/// # Errors
/// What was violated.
pub async fn acknowledges_only_when_told(fixture: &dyn SourceFixture) -> Checked {
    for input in 0..3 {
        fixture.produce(input * 10..input * 10 + 10).await;
    }
    let before = fixture.kept().await;
    let mut run = Run::new(fixture);
    for close in [true, false] {
        let mut reader = run.open().await?;
        let mut unsaved = Unsaved::default();
        while unsaved.values.len() < 30 {
            match next(reader.as_mut()).await? {
                SourceEvent::Records(records) => unsaved.add(records),
                SourceEvent::End | SourceEvent::Time(_) => break,
            }
        }
        ensure(unsaved.values.len() == 30, || format!("{} of 30 records were read", unsaved.values.len()))?;
        ensure(fixture.kept().await == before, || "something was acknowledged before it was durable".to_owned())?;
        if close {
            reader.close().await;
            ensure(fixture.kept().await == before, || "closing acknowledged something".to_owned())?;
        }
    }
    let mut reader = run.open().await?;
    let mut unsaved = Unsaved::default();
    while unsaved.values.len() < 30 {
        match next(reader.as_mut()).await? {
            SourceEvent::Records(records) => unsaved.add(records),
            SourceEvent::End | SourceEvent::Time(_) => break,
        }
    }
    // The end of the last input may come after its last record.
    let _quiet = timeout(Duration::from_millis(500), reader.next()).await;
    let position = reader.position();
    acknowledge(reader.as_mut(), &position).await?;
    let acknowledged = wait_kept(fixture, 0).await;
    reader.close().await;
    acknowledged
}

/// A reader that is told to drain ends, and what it leaves is read by the next owner: together everything, once.
///
/// # Errors
/// What was violated.
pub async fn drains(fixture: &dyn SourceFixture) -> Checked {
    for input in 0..4 {
        fixture.produce(input * 100..input * 100 + 100).await;
    }
    let mut run = Run::new(fixture);
    let mut unsaved = Unsaved::default();
    let mut reader = run.open().await?;
    if let SourceEvent::Records(records) = next(reader.as_mut()).await? {
        unsaved.add(records);
    }
    reader.drain();
    while let SourceEvent::Records(records) = next(reader.as_mut()).await? {
        unsaved.add(records);
    }
    run.save(reader.position(), &mut unsaved);
    reader.close().await;
    let mut reader = run.open().await?;
    while run.committed.len() + unsaved.values.len() < 400 {
        match next(reader.as_mut()).await? {
            SourceEvent::Records(records) => unsaved.add(records),
            SourceEvent::End | SourceEvent::Time(_) => break,
        }
    }
    run.save(reader.position(), &mut unsaved);
    reader.close().await;
    run.check_exactly_once(0..400)
}

/// A reader that has read everything stays where it is, and says that it is idle.
///
/// # Errors
/// What was violated.
pub async fn rests_when_all_is_read(fixture: &dyn SourceFixture) -> Checked {
    fixture.produce(0..10).await;
    let mut run = Run::new(fixture);
    let mut reader = run.open().await?;
    let mut unsaved = Unsaved::default();
    let mut ended = false;
    let until_idle = async {
        while !(ended || unsaved.values.len() == 10 && reader.lag().idle) {
            match timeout(Duration::from_millis(200), reader.next()).await {
                Ok(Ok(SourceEvent::Records(records))) => unsaved.add(records),
                Ok(Ok(SourceEvent::End | SourceEvent::Time(_))) => ended = true,
                Ok(Err(error)) => return Err(Violation(format!("next failed: {error}"))),
                Err(_) => {}
            }
        }
        Ok(())
    };
    timeout(DEADLINE, until_idle).await.unwrap_or_else(|_| Err(Violation("the reader never says that it is idle".to_owned())))?;
    let position = reader.position();
    acknowledge(reader.as_mut(), &position).await?;
    if !ended {
        let more = timeout(Duration::from_secs(2), reader.next()).await;
        ensure(more.is_err(), || format!("something came out of nothing: {more:?}"))?;
    }
    ensure(reader.position() == position, || format!("the position moved without progress: {position} to {}", reader.position()))?;
    reader.close().await;
    run.durable = Some(position.clone());
    let mut reader = run.open().await?;
    ensure(reader.position() == position, || format!("the position moved by reopening: {position} to {}", reader.position()))?;
    reader.close().await;
    Ok(())
}

/// Bytes that are no record come back as a rejected record, with the bytes, once; the records around them are delivered.
///
/// # Errors
/// What was violated.
pub async fn returns_rejected_records(fixture: &dyn SourceFixture) -> Checked {
    fixture.produce_bad(0).await;
    let mut run = Run::new(fixture);
    let mut reader = run.open().await?;
    let mut unsaved = Unsaved::default();
    while unsaved.values.len() < 2 || unsaved.rejected.is_empty() {
        match next(reader.as_mut()).await? {
            SourceEvent::Records(records) => unsaved.add(records),
            SourceEvent::End | SourceEvent::Time(_) => break,
        }
    }
    run.save(reader.position(), &mut unsaved);
    reader.close().await;
    run.check_exactly_once(0..2)?;
    let rejected = &run.rejected;
    ensure(rejected.len() == 1, || format!("one record is bad, {} were rejected", rejected.len()))?;
    ensure(rejected[0].code == RejectCode::Malformed, || format!("rejected as {:?}", rejected[0].code))?;
    ensure(!rejected[0].payload.is_empty(), || "the rejected record has lost its bytes".to_owned())
}
