//! Conditions: the closed sets of types and reasons of each kind, and the one way to set them. It reads no clock.

mod names;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub use names::{EndpointCondition, EndpointReason, PipelineCondition, PipelineReason};

/// Most characters of a condition's message; longer ones are cut.
pub const MAX_MESSAGE: usize = 1024;

/// A condition's status.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Status {
    /// The statement holds.
    True,
    /// The statement does not hold.
    False,
    /// Nobody knows.
    Unknown,
}

impl Status {
    /// The name as it stands in the object.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition as just found out, before it is known since when it holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Condition type.
    pub type_: &'static str,
    /// Whether it holds.
    pub status: Status,
    /// Why.
    pub reason: &'static str,
    /// What was seen, for people. Cut to [`MAX_MESSAGE`] characters when it is set.
    pub message: String,
}

impl Finding {
    /// A finding about a Pipeline.
    #[must_use]
    pub fn pipeline(type_: PipelineCondition, status: impl Into<Status>, reason: PipelineReason, message: impl Into<String>) -> Self {
        Self { type_: type_.as_str(), status: status.into(), reason: reason.as_str(), message: message.into() }
    }

    /// A finding about a Source or Sink.
    #[must_use]
    pub fn endpoint(type_: EndpointCondition, status: impl Into<Status>, reason: EndpointReason, message: impl Into<String>) -> Self {
        Self { type_: type_.as_str(), status: status.into(), reason: reason.as_str(), message: message.into() }
    }
}

/// Puts a finding into the conditions and returns whether the status changed (a new condition counts as changed): only then is an Event worth sending.
///
/// `lastTransitionTime` becomes `now` when the status changes and stays otherwise; order of the list stays, a new type goes to its end.
pub fn set(conditions: &mut Vec<Condition>, finding: Finding, generation: Option<i64>, now: &Time) -> bool {
    let existing = conditions.iter_mut().find(|c| c.type_ == finding.type_);
    let changed = existing.as_ref().is_none_or(|c| c.status != finding.status.as_str());
    let since = existing.as_ref().filter(|_| !changed).map_or_else(|| now.clone(), |c| c.last_transition_time.clone());
    let condition = Condition {
        type_: finding.type_.to_owned(),
        status: finding.status.as_str().to_owned(),
        reason: finding.reason.to_owned(),
        message: truncate(finding.message),
        observed_generation: generation,
        last_transition_time: since,
    };
    match existing {
        Some(slot) => *slot = condition,
        None => conditions.push(condition),
    }
    changed
}

/// The condition of a type, if it was ever set.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether a condition is known to hold.
#[must_use]
pub fn holds(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == Status::True.as_str())
}

fn truncate(message: String) -> String {
    if message.chars().nth(MAX_MESSAGE).is_none() {
        return message;
    }
    message.chars().take(MAX_MESSAGE - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn ready(status: Status, reason: PipelineReason, message: &str) -> Finding {
        Finding::pipeline(PipelineCondition::Ready, status, reason, message)
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        assert!(set(&mut conditions, ready(Status::Unknown, PipelineReason::Pending, ""), Some(1), &at(10)));
        assert!(!set(&mut conditions, ready(Status::Unknown, PipelineReason::Progressing, "x"), Some(2), &at(20)));
        assert_eq!(conditions[0].last_transition_time, at(10));
        assert_eq!((conditions[0].reason.as_str(), conditions[0].message.as_str()), ("Progressing", "x"));
        assert_eq!(conditions[0].observed_generation, Some(2));
        assert!(set(&mut conditions, ready(Status::True, PipelineReason::Running, ""), Some(2), &at(30)));
        assert_eq!(conditions[0].last_transition_time, at(30));
        assert!(holds(&conditions, "Ready"));
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn other_conditions_stay_in_place() {
        let mut conditions = Vec::new();
        for type_ in PipelineCondition::ALL {
            set(&mut conditions, Finding::pipeline(*type_, Status::Unknown, PipelineReason::Pending, ""), None, &at(1));
        }
        let before: Vec<_> = conditions.iter().map(|c| c.type_.clone()).collect();
        set(&mut conditions, ready(Status::True, PipelineReason::Running, ""), None, &at(2));
        let after: Vec<_> = conditions.iter().map(|c| c.type_.clone()).collect();
        assert_eq!(before, after);
        assert_eq!(conditions.iter().filter(|c| c.last_transition_time == at(2)).count(), 1);
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let mut conditions = Vec::new();
        set(&mut conditions, ready(Status::False, PipelineReason::Degraded, &"ü".repeat(2000)), None, &at(1));
        assert_eq!(conditions[0].message.chars().count(), MAX_MESSAGE);
        assert!(conditions[0].message.ends_with("ü…"));
        let exact = "x".repeat(MAX_MESSAGE);
        set(&mut conditions, ready(Status::False, PipelineReason::Degraded, &exact), None, &at(1));
        assert_eq!(conditions[0].message, exact);
    }

    #[test]
    fn names_are_what_the_api_server_accepts() {
        let reasons = PipelineReason::ALL.iter().map(|r| r.as_str()).chain(EndpointReason::ALL.iter().map(|r| r.as_str()));
        for name in reasons {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()) && name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
        }
    }
}
