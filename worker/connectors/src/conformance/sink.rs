//! The contract of sinks, checked: visible when committed and not before, once however often. It knows no sink.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::plan::Changelog;
use millrace_engine::row_kind::RowKind::{self, Delete, Insert, UpdateAfter, UpdateBefore};
use millrace_engine::row_kind::RowKinds;
use millrace_engine::sink::{Commit, OpenSink, Prepared, Sink, SinkWriter, WriterIdentity};

use super::{Checked, Violation, batch, ensure, schema};

/// A sink and the system behind it.
#[async_trait]
pub trait SinkFixture: Send + Sync {
    /// The sink: takes [`super::schema`].
    fn sink(&self) -> Arc<dyn Sink>;

    /// What a conforming reader sees now, in any order.
    async fn visible(&self) -> Vec<i64>;

    /// Whether what was prepared is visible only when it is committed. If not, the sink writes at once and every row has one place.
    fn is_transactional(&self) -> bool;
}

/// A sink that keeps one row for each key, and the system behind it.
#[async_trait]
pub trait TableFixture: Send + Sync {
    /// The sink: takes changelogs of `k` and `n`, both BigInt, whose key is `k`.
    fn sink(&self) -> Arc<dyn Sink>;

    /// `n` of each `k`, as a conforming reader sees the table now.
    async fn table(&self) -> BTreeMap<i64, i64>;
}

/// One generation of one task.
struct Owner {
    identity: WriterIdentity,
    sink: Arc<dyn Sink>,
    writer: Box<dyn SinkWriter>,
}

fn failed(what: &str) -> impl Fn(ConnectorError) -> Violation {
    move |error| Violation(format!("{what} failed: {error}"))
}

impl Owner {
    async fn new(fixture: &dyn SinkFixture, generation: u64, epoch: u64) -> Result<Self, Violation> {
        Self::with(fixture.sink(), schema(), Changelog::Append, generation, epoch).await
    }

    async fn of_table(fixture: &dyn TableFixture, generation: u64, epoch: u64) -> Result<Self, Violation> {
        let changelog = Changelog::Updating { key: vec!["k".to_owned()] };
        Self::with(fixture.sink(), changes(&[]).records.schema(), changelog, generation, epoch).await
    }

    async fn with(sink: Arc<dyn Sink>, schema: SchemaRef, changelog: Changelog, generation: u64, epoch: u64) -> Result<Self, Violation> {
        let identity = WriterIdentity {
            pipeline_uid: "6b1f5a3e-conformance".to_owned(),
            output: "out".to_owned(),
            task: "in-0".to_owned(),
            generation,
        };
        sink.accepts(&schema, None).map_err(failed("accepts"))?;
        sink.accepts_changelog(&changelog).map_err(failed("accepts_changelog"))?;
        let open = OpenSink { writer: identity.clone(), schema, event_time: None, changelog, epoch, health: Health::default() };
        let writer = sink.open(open).await.map_err(failed("open"))?;
        Ok(Self { identity, sink, writer })
    }

    /// Writes `values`; the ordinal of each is the value itself, so that the same value always has the same coordinate.
    async fn write(&mut self, values: &[i64]) -> Checked {
        let ordinals = values.iter().map(|value| value.unsigned_abs()).collect::<Vec<_>>();
        let batch = Batch::new(batch(values), Origin::new("conformance", "conformance"), UInt64Array::from(ordinals));
        self.writer.write(batch).await.map_err(failed("write"))
    }

    async fn revise(&mut self, rows: &[(RowKind, i64, i64)]) -> Checked {
        self.writer.write(changes(rows)).await.map_err(failed("write"))
    }

    async fn prepare(&mut self, epoch: u64) -> Result<Prepared, Violation> {
        let prepared = self.writer.prepare(epoch).await.map_err(failed("prepare"))?;
        ensure(prepared.rejected.is_empty(), || format!("good rows were refused: {:?}", prepared.rejected))?;
        Ok(prepared)
    }

    async fn commit(&self, epoch: u64, prepared: &Prepared) -> Checked {
        let health = Health::default();
        let commit = Commit { writer: &self.identity, epoch, committables: &prepared.committables, health: &health };
        self.sink.commit(commit).await.map_err(failed("commit"))
    }
}

/// A batch of changes; the coordinate of each is its own, as it would be in a replay.
fn changes(rows: &[(RowKind, i64, i64)]) -> Batch {
    let column = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
    let keys = column(rows.iter().map(|(_, key, _)| *key).collect());
    let numbers = column(rows.iter().map(|(_, _, number)| *number).collect());
    let records = RecordBatch::try_from_iter_with_nullable([("k", keys, true), ("n", numbers, true)]).expect("two columns of one length");
    let ordinals = rows.iter().map(|(_, key, number)| (key * 1000 + number).unsigned_abs());
    let mut batch = Batch::new(records, Origin::new("conformance", "conformance"), UInt64Array::from_iter_values(ordinals));
    batch.kinds = Some(RowKinds::new(rows.iter().map(|(kind, ..)| *kind)));
    batch
}

async fn expect(fixture: &dyn SinkFixture, expected: &[i64], when: &str) -> Checked {
    let mut visible = fixture.visible().await;
    visible.sort_unstable();
    ensure(visible == expected, || format!("{when}: {visible:?} is visible, not {expected:?}"))
}

/// What is prepared becomes visible when it is committed, not before, and once if it is committed three times, twice at the same time.
///
/// # Errors
/// What was violated.
pub async fn commits_once(fixture: &dyn SinkFixture) -> Checked {
    let mut owner = Owner::new(fixture, 1, 1).await?;
    owner.write(&[1, 2]).await?;
    owner.write(&[3]).await?;
    let first = owner.prepare(1).await?;
    owner.write(&[4]).await?;
    if fixture.is_transactional() {
        expect(fixture, &[], "before the commit").await?;
    }
    let (a, b) = tokio::join!(owner.commit(1, &first), owner.commit(1, &first));
    a.and(b)?;
    owner.commit(1, &first).await?;
    if fixture.is_transactional() {
        expect(fixture, &[1, 2, 3], "after three commits").await?;
    }
    let second = owner.prepare(2).await?;
    owner.commit(2, &second).await?;
    expect(fixture, &[1, 2, 3, 4], "after the second epoch").await?;
    owner.writer.close().await;
    expect(fixture, &[1, 2, 3, 4], "after closing").await
}

/// An epoch without rows changes nothing.
///
/// # Errors
/// What was violated.
pub async fn takes_empty_epochs(fixture: &dyn SinkFixture) -> Checked {
    let mut owner = Owner::new(fixture, 1, 1).await?;
    let empty = owner.prepare(1).await?;
    if !empty.committables.is_empty() {
        owner.commit(1, &empty).await?;
    }
    owner.write(&[7]).await?;
    let second = owner.prepare(2).await?;
    owner.commit(2, &second).await?;
    owner.writer.close().await;
    expect(fixture, &[7], "after an empty epoch and one of one row").await
}

/// Closing throws away what was not prepared, and nothing else; what was prepared can still be committed.
///
/// # Errors
/// What was violated.
pub async fn closing_leaves_what_was_prepared(fixture: &dyn SinkFixture) -> Checked {
    let mut owner = Owner::new(fixture, 1, 1).await?;
    owner.write(&[1]).await?;
    let first = owner.prepare(1).await?;
    if fixture.is_transactional() {
        owner.write(&[2]).await?;
    }
    owner.writer.close().await;
    owner.commit(1, &first).await?;
    expect(fixture, &[1], "after closing and committing").await
}

/// A generation that is replaced before its epoch is durable leaves nothing behind: its successor writes the rows again. One that is
/// replaced after it is durable has its commit rolled forward by the successor.
///
/// # Errors
/// What was violated.
pub async fn survives_replacement(fixture: &dyn SinkFixture) -> Checked {
    let mut first = Owner::new(fixture, 1, 1).await?;
    first.write(&[1, 2]).await?;
    let durable = first.prepare(1).await?;
    first.write(&[3]).await?;
    let lost = first.prepare(2).await?;
    first.write(&[4]).await?;
    // Killed. The successor finds epoch 1 durable and uncommitted; epoch 2 is not durable.
    drop(first.writer);
    let rolled = Commit { writer: &first.identity, epoch: 1, committables: &durable.committables, health: &Health::default() };
    first.sink.commit(rolled).await.map_err(failed("commit"))?;
    let mut second = Owner::new(fixture, 2, 2).await?;
    second.write(&[3, 4]).await?;
    let again = second.prepare(2).await?;
    second.commit(2, &again).await?;
    drop(lost);
    second.writer.close().await;
    expect(fixture, &[1, 2, 3, 4], "after a replacement").await
}

/// What is there is there once, as it was last; what is gone is gone; a successor that does an epoch again leaves the same.
///
/// # Errors
/// What was violated.
pub async fn keeps_a_table(fixture: &dyn TableFixture) -> Checked {
    let mut first = Owner::of_table(fixture, 1, 1).await?;
    first.revise(&[(Insert, 1, 10), (Insert, 2, 20), (Insert, 3, 30)]).await?;
    let prepared = first.prepare(1).await?;
    first.commit(1, &prepared).await?;
    expect_table(fixture, &[(1, 10), (2, 20), (3, 30)], "after insertions").await?;
    let revisions = [
        (UpdateBefore, 1, 10),
        (UpdateAfter, 1, 11),
        (Delete, 2, 20),
        (Insert, 4, 40),
        (Delete, 4, 40),
        (Delete, 3, 30),
        (Insert, 3, 31),
        (Insert, 6, 51),
    ];
    let revised = [(1, 11), (3, 31), (6, 51)];
    first.revise(&revisions).await?;
    // Killed before the epoch is durable: done again.
    drop(first);
    let mut second = Owner::of_table(fixture, 2, 2).await?;
    second.revise(&revisions).await?;
    let prepared = second.prepare(2).await?;
    second.commit(2, &prepared).await?;
    expect_table(fixture, &revised, "after revisions, written again by a successor").await?;
    second.revise(&[(UpdateBefore, 6, 51), (UpdateAfter, 6, 52), (Delete, 1, 11)]).await?;
    let prepared = second.prepare(3).await?;
    second.commit(3, &prepared).await?;
    second.writer.close().await;
    expect_table(fixture, &[(3, 31), (6, 52)], "after the last epoch").await
}

async fn expect_table(fixture: &dyn TableFixture, expected: &[(i64, i64)], when: &str) -> Checked {
    let table = fixture.table().await;
    let expected: BTreeMap<_, _> = expected.iter().copied().collect();
    ensure(table == expected, || format!("{when}: {table:?} is there, not {expected:?}"))
}
