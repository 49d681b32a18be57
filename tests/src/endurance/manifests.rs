//! The Pipeline: a sum for each key and second, from a topic through an exchange to a topic. It is one text, of which only the query changes.

use super::{IN, MAX_DELAY, OUT, PARTITIONS, PIPELINE};
use crate::servers::{Kafka, Moto};

/// The query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Query {
    /// As it is at first.
    First,
    /// With one more column, made of what the state holds: all of it is taken over.
    Compatible,
    /// That one, with another aggregate: of its state nothing is there.
    Incompatible,
}

impl Query {
    fn steps(self) -> String {
        let aggregate = if self == Self::Incompatible { "max" } else { "sum" };
        let more = if self == Self::First { "" } else { ", total * 2 AS doubled" };
        format!(
            "
  - name: counts
    sql: |
      SELECT window_start, k, count(*) AS n, {aggregate}(v) AS total FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(at), INTERVAL '1' SECOND))
      GROUP BY window_start, window_end, k
  - name: results
    sql: SELECT window_start, k, n, total{more} FROM counts"
        )
    }
}

/// Source, Sink and Pipeline.
pub(super) fn manifests(kafka: &Kafka, moto: &Moto, replicas: usize, query: Query) -> String {
    let brokers = kafka.bootstrap();
    let variables: String = moto.env().iter().map(|(name, value)| format!("\n    - {{name: {name}, value: \"{value}\"}}")).collect();
    format!(
        "
apiVersion: millrace.dev/v1alpha1
kind: Source
metadata: {{name: events}}
spec:
  kafka: {{bootstrapServers: \"{brokers}\", topics: [{IN}]}}
  format: {{json: {{}}}}
  schema: {{columns: [{{name: k, type: Varchar}}, {{name: v, type: BigInt}}, {{name: at, type: Timestamp}}]}}
  eventTime: {{column: at, maxDelaySeconds: {MAX_DELAY}}}
---
apiVersion: millrace.dev/v1alpha1
kind: Sink
metadata: {{name: windows}}
spec:
  kafka: {{bootstrapServers: \"{brokers}\", topic: {OUT}, keyFrom: [k], transactional: Auto, format: {{json: {{}}}}}}
---
apiVersion: millrace.dev/v1alpha1
kind: Pipeline
metadata: {{name: {PIPELINE}}}
spec:
  inputs: [{{name: events, sourceRef: {{name: events}}}}]
  steps:{steps}
  outputs: [{{name: results, from: results, sinkRef: {{name: windows}}}}]
  exchange: {{kafka: {{bootstrapServers: \"{brokers}\", partitions: {PARTITIONS}}}}}
  delivery: {{required: ExactlyOnce}}
  state: {{location: \"s3://state/endurance\"}}
  checkpoint: {{intervalSeconds: 1}}
  # No partition is ever idle here: whatever dies holds time back, however long.
  time: {{idleTimeoutSeconds: 3600}}
  scale: {{replicas: {replicas}}}
  workload:
    env:{variables}
",
        steps = query.steps()
    )
}
