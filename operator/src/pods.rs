//! What a pod's status says, in our words. It knows nothing of Pipelines.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;

use crate::report::PodLife;

/// Longest message that is taken over from a container, in bytes: the end of it counts.
const MAX_MESSAGE: usize = 600;

/// Why a pod does not run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Obstacle {
    /// The image cannot be pulled.
    ImagePull(String),
    /// A Secret or ConfigMap of its environment is missing.
    Config(String),
    /// No node takes it.
    Unschedulable(String),
    /// It was killed for its memory.
    OutOfMemory(String),
    /// It ends again and again.
    CrashLoop(String),
}

/// How far a pod that runs once is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum OneShot {
    /// It has not ended.
    Underway {
        /// What it waits for, if that is known.
        obstacle: Option<Obstacle>,
    },
    /// It has ended.
    Ended {
        /// Its termination message.
        message: String,
        /// When.
        at: Option<Timestamp>,
    },
}

/// Where in its life a pod is; `None` if it has ended.
pub(crate) fn life(pod: &Pod) -> Option<PodLife> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match phase {
        Some("Succeeded" | "Failed") => None,
        _ if pod.metadata.deletion_timestamp.is_some() => Some(PodLife::Terminating),
        _ => {
            let states = || containers(pod).filter_map(|container| container.state.as_ref());
            let waits = |state: &ContainerState| {
                state.waiting.as_ref().is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"))
            };
            Some(if states().any(|state| state.running.is_some()) {
                PodLife::Running
            } else if states().any(waits) {
                PodLife::BackingOff
            } else {
                PodLife::Pending
            })
        }
    }
}

/// The first reason why a pod does not run.
pub(crate) fn obstacle(pod: &Pod) -> Option<Obstacle> {
    unschedulable(pod).or_else(|| containers(pod).find_map(container_obstacle))
}

/// How far a one-shot pod is.
pub(crate) fn one_shot(pod: &Pod) -> OneShot {
    let ended = containers(pod).find_map(|container| container.state.as_ref()?.terminated.as_ref());
    if let Some(ended) = ended {
        let message = ended.message.clone().unwrap_or_default();
        let message = if message.is_empty() { end(ended) } else { message };
        return OneShot::Ended { message, at: ended.finished_at.as_ref().map(|time| time.0) };
    }
    let status = pod.status.as_ref();
    match status.and_then(|status| status.phase.as_deref()) {
        // Evicted, or out of time, before a container ended.
        Some("Succeeded" | "Failed") => {
            let message = status.and_then(|s| s.message.clone().or_else(|| s.reason.clone()));
            OneShot::Ended { message: message.unwrap_or_else(|| "the pod ended without a message".to_owned()), at: None }
        }
        _ => OneShot::Underway { obstacle: obstacle(pod) },
    }
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten())
}

fn unschedulable(pod: &Pod) -> Option<Obstacle> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let refused = conditions.find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    Some(Obstacle::Unschedulable(refused.message.clone().unwrap_or_else(|| "no node takes the pod".to_owned())))
}

fn container_obstacle(container: &ContainerStatus) -> Option<Obstacle> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let message = || waiting.message.clone().unwrap_or_else(|| waiting.reason.clone().unwrap_or_default());
        match waiting.reason.as_deref() {
            Some(
                "ErrImagePull"
                | "ImagePullBackOff"
                | "InvalidImageName"
                | "ErrImageNeverPull"
                | "ImageInspectError"
                | "RegistryUnavailable",
            ) => {
                return Some(Obstacle::ImagePull(message()));
            }
            Some("CreateContainerConfigError") => return Some(Obstacle::Config(message())),
            Some("CreateContainerError" | "RunContainerError") => return Some(Obstacle::CrashLoop(message())),
            Some(_) | None => {}
        }
    }
    // The kubelet restarts at once, then backs off: in between the container runs for a moment, which is no health.
    let last = state.terminated.as_ref().or_else(|| container.last_state.as_ref()?.terminated.as_ref())?;
    let waits = state.running.is_none();
    match last.reason.as_deref() {
        Some("OOMKilled") if waits || !container.ready => {
            Some(Obstacle::OutOfMemory(format!("killed after {} restarts", container.restart_count)))
        }
        _ if waits && last.exit_code != 0 => Some(Obstacle::CrashLoop(end(last))),
        _ => None,
    }
}

/// The end of a container in words: its code and the end of its last message.
fn end(ended: &ContainerStateTerminated) -> String {
    let message = ended.message.as_deref().unwrap_or_default().trim();
    let start = message.ceil_char_boundary(message.len().saturating_sub(MAX_MESSAGE));
    let message = &message[start..];
    let reason = ended.reason.as_deref().unwrap_or("Error");
    if message.is_empty() {
        format!("{reason}, exit code {}", ended.exit_code)
    } else {
        format!("{reason}, exit code {}: {message}", ended.exit_code)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A pod with a status.
    pub(crate) fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap()
    }

    fn with_state(state: &Value, last: &Value) -> Pod {
        let container =
            json!({"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 3, "state": state, "lastState": last});
        pod(&json!({"phase": "Running", "containerStatuses": [container]}))
    }

    #[test]
    fn life_of_a_pod() {
        let running = with_state(&json!({"running": {}}), &json!({}));
        assert_eq!(life(&running), Some(PodLife::Running));
        let ended = json!({"terminated": {"exitCode": 137}});
        assert_eq!(life(&with_state(&json!({"waiting": {"reason": "CrashLoopBackOff"}}), &ended)), Some(PodLife::BackingOff));
        // It is started again at once.
        assert_eq!(life(&with_state(&ended, &json!({}))), Some(PodLife::Pending));
        assert_eq!(life(&with_state(&json!({"waiting": {"reason": "ContainerCreating"}}), &json!({}))), Some(PodLife::Pending));
        assert_eq!(life(&pod(&json!({"phase": "Pending"}))), Some(PodLife::Pending));
        assert_eq!(life(&pod(&json!({"phase": "Failed"}))), None);
        let mut going = running;
        going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        assert_eq!(life(&going), Some(PodLife::Terminating));
    }

    #[test]
    fn obstacles() {
        let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "why"}});
        let ended = |reason: &str, code: i32| json!({"terminated": {"exitCode": code, "reason": reason, "message": "last words"}});
        let none = json!({});
        assert_eq!(obstacle(&with_state(&waiting("ImagePullBackOff"), &none)), Some(Obstacle::ImagePull("why".into())));
        assert_eq!(obstacle(&with_state(&waiting("CreateContainerConfigError"), &none)), Some(Obstacle::Config("why".into())));
        assert_eq!(obstacle(&with_state(&waiting("ContainerCreating"), &none)), None);
        assert_eq!(
            obstacle(&with_state(&waiting("CrashLoopBackOff"), &ended("Error", 70))),
            Some(Obstacle::CrashLoop("Error, exit code 70: last words".into()))
        );
        assert_eq!(
            obstacle(&with_state(&waiting("CrashLoopBackOff"), &ended("OOMKilled", 137))),
            Some(Obstacle::OutOfMemory("killed after 3 restarts".into()))
        );
        assert_eq!(obstacle(&with_state(&json!({"running": {}}), &ended("Error", 70))), None);
        let unschedulable =
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]});
        assert_eq!(obstacle(&pod(&unschedulable)), Some(Obstacle::Unschedulable("0/1 nodes".into())));
    }

    #[test]
    fn the_end_of_a_one_shot_pod() {
        let ended = with_state(&json!({"terminated": {"exitCode": 0, "message": "{}", "finishedAt": "2026-01-01T00:00:00Z"}}), &json!({}));
        assert_eq!(one_shot(&ended), OneShot::Ended { message: "{}".into(), at: Some("2026-01-01T00:00:00Z".parse().unwrap()) });
        let evicted = pod(&json!({"phase": "Failed", "reason": "Evicted"}));
        assert_eq!(one_shot(&evicted), OneShot::Ended { message: "Evicted".into(), at: None });
        assert_eq!(one_shot(&pod(&json!({"phase": "Pending"}))), OneShot::Underway { obstacle: None });
    }
}
