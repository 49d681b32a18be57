//! Options of the `blackhole` connector: rows that nobody wants.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Takes every row and drops it. What it took is counted, as for every Sink: for measuring, and for trying a Pipeline without its Sink.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlackholeSink {}
