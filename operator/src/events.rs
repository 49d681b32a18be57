//! Events about Pipelines, Sources and Sinks: one for each condition whose status changed. Nothing depends on whether they arrive.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::lease::chain;
use crate::names::MANAGER;

/// Longest note that the API server takes, in bytes.
const NOTE_BYTES: usize = 1024;

/// Condition types that are good when False.
const ABNORMAL: [&str; 3] = ["Reconciling", "Stalled", "DeadLettering"];
/// Condition types whose changes are not worth an Event: the others tell the same.
const SILENT: [&str; 1] = ["Reconciling"];

/// Publishes Events.
#[derive(Clone)]
pub(crate) struct Events(Recorder);

impl Events {
    /// Events reported by the pod of this name.
    pub(crate) fn new(client: Client, pod: &str) -> Self {
        Self(Recorder::new(client, Reporter { controller: format!("millrace.dev/{MANAGER}"), instance: Some(pod.to_owned()) }))
    }

    /// Publishes an Event for each transition.
    pub(crate) async fn publish(&self, about: &ObjectReference, transitions: &[Condition]) {
        for event in transitions.iter().filter_map(event) {
            if let Err(error) = self.0.publish(&event, about).await {
                tracing::debug!(error = %chain(&error), "an Event could not be published");
            }
        }
    }
}

/// The Event for a condition that changed. A condition that became Unknown, or that is as it should be from the start, is no news.
fn event(condition: &Condition) -> Option<Event> {
    let abnormal = ABNORMAL.contains(&condition.type_.as_str());
    if SILENT.contains(&condition.type_.as_str()) || condition.status == "Unknown" {
        return None;
    }
    let good = (condition.status == "True") != abnormal;
    if good && abnormal {
        return None;
    }
    let mut note = format!("{} is {}: {}", condition.type_, condition.status, condition.message);
    note.truncate(note.floor_char_boundary(NOTE_BYTES));
    Some(Event {
        // What is on its way is not wrong.
        type_: if good || condition.reason == "Progressing" { EventType::Normal } else { EventType::Warning },
        reason: condition.reason.clone(),
        note: Some(note),
        action: condition.type_.clone(),
        secondary: None,
    })
}

/// The conditions of `after` whose status differs from that in `before`.
pub(crate) fn transitions(before: &[Condition], after: &[Condition]) -> Vec<Condition> {
    let changed = |condition: &&Condition| before.iter().find(|b| b.type_ == condition.type_).is_none_or(|b| b.status != condition.status);
    after.iter().filter(changed).cloned().collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn condition(type_: &str, status: &str) -> Condition {
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: "Reason".into(),
            message: "ü".repeat(1000),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn only_news_becomes_an_event() {
        let kind = |type_, status| event(&condition(type_, status)).map(|event| event.type_);
        assert_eq!(kind("Ready", "True"), Some(EventType::Normal));
        assert_eq!(kind("Ready", "False"), Some(EventType::Warning));
        assert_eq!(kind("Ready", "Unknown"), None);
        assert_eq!(kind("Stalled", "True"), Some(EventType::Warning));
        assert_eq!(kind("Stalled", "False"), None);
        assert_eq!(kind("Reconciling", "True"), None);
        assert!(event(&condition("Ready", "True")).unwrap().note.unwrap().len() <= NOTE_BYTES);
    }

    #[test]
    fn a_changed_reason_is_no_transition() {
        let before = [condition("Ready", "True"), condition("Accepted", "Unknown")];
        let after = [
            Condition { reason: "Idle".into(), ..condition("Ready", "True") },
            condition("Accepted", "True"),
            condition("Stalled", "False"),
        ];
        let types: Vec<_> = transitions(&before, &after).into_iter().map(|c| c.type_).collect();
        assert_eq!(types, ["Accepted", "Stalled"]);
    }
}
