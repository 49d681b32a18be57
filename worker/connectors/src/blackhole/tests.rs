//! The part of the contract that a sink without a reader can keep: it takes everything, in any epoch, and leaves nothing to commit.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, Schema};
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::connector::Health;
use millrace_engine::plan::Changelog;
use millrace_engine::row_kind::{RowKind, RowKinds};
use millrace_engine::sink::{Commit, OpenSink, Sink, WriterIdentity};

use super::BlackholeSink;
use crate::conformance;

#[tokio::test]
async fn everything_is_taken_and_nothing_is_left() {
    let identity = WriterIdentity { pipeline_uid: "p".to_owned(), output: "out".to_owned(), task: "in-0".to_owned(), generation: 1 };
    let odd = Arc::new(Schema::new(vec![Field::new("i", DataType::Interval(IntervalUnit::DayTime), true)]));
    BlackholeSink.accepts(&odd, None).unwrap();
    let open = OpenSink {
        writer: identity.clone(),
        schema: conformance::schema(),
        event_time: None,
        changelog: Changelog::Append,
        epoch: 1,
        health: Health::default(),
    };
    let mut writer = BlackholeSink.open(open).await.unwrap();
    let mut batch = Batch::new(conformance::batch(&[1, 2]), Origin::new("o", "o"), vec![0, 1].into());
    batch.kinds = Some(RowKinds::new([RowKind::UpdateBefore, RowKind::UpdateAfter]));
    writer.write(batch).await.unwrap();
    for epoch in 1..=2 {
        let prepared = writer.prepare(epoch).await.unwrap();
        assert!(prepared.committables.is_empty() && prepared.rejected.is_empty());
        let commit = Commit { writer: &identity, epoch, committables: &prepared.committables, health: &Health::default() };
        BlackholeSink.commit(commit).await.unwrap();
        BlackholeSink.commit(commit).await.unwrap();
    }
    writer.close().await;
}
