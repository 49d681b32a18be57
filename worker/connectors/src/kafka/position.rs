//! Where a reader of one partition goes on. Data only; nothing is asked here.

use millrace_crds::connectors::kafka::OnPositionLost;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a checkpoint holds of one partition.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Position {
    /// Id of the topic that the offset belongs to; `None` before the first record, or if the brokers have no ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) topic_id: Option<String>,
    /// The next offset to read; `None` while nothing is known but the configured start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<i64>,
    /// Of the leader that took the record before the offset: brokers compare it with their log, and say if what was read is no longer there. `None` if no record
    /// was read, or by a version that did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leader_epoch: Option<i32>,
}

impl Position {
    /// At an offset of whatever topic has the name, before which nothing was read.
    pub(crate) fn at(offset: i64) -> Self {
        Self { offset: Some(offset), ..Self::default() }
    }

    pub(crate) fn read(value: &Value) -> Result<Self, ConnectorError> {
        serde_json::from_value(value.clone()).map_err(|error| {
            let message = format!("the checkpoint holds {value} as the position in a partition, which this version cannot read");
            ConnectorError::new(ErrorReason::Corrupt, message).caused_by(error)
        })
    }

    pub(crate) fn write(&self) -> Value {
        let mut fields = serde_json::Map::new();
        if let Some(id) = &self.topic_id {
            fields.insert("topicId".to_owned(), id.clone().into());
        }
        if let Some(offset) = self.offset {
            fields.insert("offset".to_owned(), offset.into());
        }
        if let Some(epoch) = self.leader_epoch {
            fields.insert("leaderEpoch".to_owned(), epoch.into());
        }
        Value::Object(fields)
    }
}

/// One partition, as a split: `topic/partition`. Names of topics hold no slash.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Partition {
    pub(crate) topic: String,
    pub(crate) number: i32,
}

impl Partition {
    pub(crate) fn parse(split: &str) -> Result<Self, ConnectorError> {
        let parsed = split.rsplit_once('/').and_then(|(topic, number)| {
            let number = number.parse().ok().filter(|number: &i32| *number >= 0)?;
            Some(Self { topic: topic.to_owned(), number })
        });
        parsed.ok_or_else(|| {
            ConnectorError::new(ErrorReason::Internal, format!("\"{split}\" is not a split of a Kafka source: topic/partition"))
        })
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.topic, self.number)
    }
}

/// How a position got lost.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Lost {
    /// The brokers do not have its offset, and say why.
    OutOfRange(String),
    /// The topic was deleted and created again.
    Recreated {
        /// Its id now.
        id: String,
    },
    /// A replica that had less became the leader.
    Truncated {
        /// Where the log that was read ended in the log there is now.
        end: i64,
    },
}

/// What was lost, for people. `position` is what was to be read next, `low` the oldest offset there is and `high` the end.
pub(crate) fn describe(partition: &Partition, position: &Position, lost: &Lost, low: i64, high: i64) -> String {
    let Some(next) = position.offset else {
        return format!("partition {partition}: the start is gone; the topic now holds offsets {low} to {high}");
    };
    match lost {
        Lost::Recreated { id } => format!(
            "partition {partition}: the topic was deleted and created again (id {} is now {id}): whatever it held from offset {next} on is gone",
            position.topic_id.as_deref().unwrap_or("unknown")
        ),
        Lost::OutOfRange(_) if next < low => {
            format!("partition {partition}: offsets {next} to {} are gone (retention): {} records at most", low - 1, low - next)
        }
        Lost::OutOfRange(_) if next > high => format!(
            "partition {partition}: the next offset {next} is beyond the end {high}: the topic was re-created or its log truncated, \
             and offsets {high} to {} have been read that are no longer there",
            next - 1
        ),
        Lost::Truncated { end } => format!(
            "partition {partition}: its log was truncated at offset {end}: offsets {end} to {} have been read that are no longer there, \
             and others may stand in their place",
            next - 1
        ),
        Lost::OutOfRange(said) => format!("partition {partition}: offset {next} cannot be read ({said}); the topic holds {low} to {high}"),
    }
}

/// Where to go on after a loss, with `low` the oldest offset there is and `high` the end; `None` if the policy is to stop. What stands before the place where a
/// log was cut has been read, and is not read again.
pub(crate) fn after_loss(policy: OnPositionLost, lost: &Lost, low: i64, high: i64) -> Option<i64> {
    match (policy, lost) {
        (OnPositionLost::Fail, _) => None,
        (OnPositionLost::Earliest, Lost::Truncated { end }) => Some((*end).max(low)),
        (OnPositionLost::Earliest, _) => Some(low),
        (OnPositionLost::Latest, _) => Some(high),
    }
}
