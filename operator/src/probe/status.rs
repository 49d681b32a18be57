//! The status of a Source or Sink, from what was decided. It never says that a system answers unless somebody saw it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use millrace_crds::condition::{self, EndpointCondition, EndpointReason, Finding, Status};
use millrace_crds::report::{ErrorReason, ProbeResult};

use super::decide::Decision;
use super::endpoint::{Endpoint, EndpointStatus};
use crate::apply;

/// The status of an object that nobody has looked at.
pub(super) fn pending<E: Endpoint>(object: &E, now: Timestamp) -> EndpointStatus {
    let generation = object.meta().generation;
    let mut status = EndpointStatus { observed_generation: generation, ..EndpointStatus::default() };
    for type_ in EndpointCondition::ALL {
        let finding = Finding::endpoint(*type_, Status::Unknown, EndpointReason::Pending, "not looked at yet");
        condition::set(&mut status.conditions, finding, generation, &Time(now));
    }
    status
}

/// What a status says of a generation: `None` nothing, else whether the object is well.
pub(super) fn known(status: &EndpointStatus, generation: i64) -> Option<bool> {
    let ready = condition::find(&status.conditions, EndpointCondition::Ready.as_str())?;
    match ready.status.as_str() {
        _ if ready.observed_generation != Some(generation) => None,
        "True" if [EndpointReason::ProbeOff, EndpointReason::ProbeUnsupported].iter().any(|reason| reason.as_str() == ready.reason) => None,
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

/// The status.
pub(super) fn derive<E: Endpoint>(
    object: &E,
    before: &EndpointStatus,
    decision: &Decision,
    used_by: i32,
    now: Timestamp,
    problem: Option<&apply::Error>,
) -> EndpointStatus {
    let generation = object.meta().generation;
    let mut status = EndpointStatus { observed_generation: generation, used_by, ..before.clone() };
    let has_secrets = !object.secrets().is_empty();
    for finding in findings(decision, has_secrets, problem) {
        condition::set(&mut status.conditions, finding, generation, &Time(now));
    }
    status
}

fn findings(decision: &Decision, has_secrets: bool, problem: Option<&apply::Error>) -> Vec<Finding> {
    use EndpointCondition::{Authorized, Reachable, Ready, Reconciling, SecretsResolved, Stalled};
    let idle = || Finding::endpoint(Reconciling, false, EndpointReason::UpToDate, "no probe is under way");
    let calm = || Finding::endpoint(Stalled, false, EndpointReason::UpToDate, "no human is needed");
    let not_looked_at = |ready: Status, reason, message: &str| {
        let secrets = if has_secrets {
            Finding::endpoint(SecretsResolved, Status::Unknown, reason, message)
        } else {
            Finding::endpoint(SecretsResolved, true, EndpointReason::NotNeeded, "no Secret is referred to")
        };
        vec![
            Finding::endpoint(Ready, ready, reason, message),
            Finding::endpoint(Reachable, Status::Unknown, reason, message),
            Finding::endpoint(Authorized, Status::Unknown, reason, message),
            secrets,
        ]
    };
    let mut findings = match (problem, decision) {
        (Some(problem), _) => vec![Finding::endpoint(Ready, Status::Unknown, EndpointReason::ProbeFailed, problem.to_string())],
        (None, Decision::Off) => not_looked_at(Status::True, EndpointReason::ProbeOff, "not probed: spec.probe.mode is Off"),
        (None, Decision::Alone) => not_looked_at(
            Status::True,
            EndpointReason::ProbeUnsupported,
            "not probed: only the workers of a Pipeline that uses it can see it",
        ),
        (None, Decision::Reported(result) | Decision::Read(result)) => seen(result, has_secrets),
        (None, Decision::AwaitWorkers) => {
            not_looked_at(Status::Unknown, EndpointReason::Probing, "the workers of a Pipeline that uses it will probe it")
        }
        (None, Decision::Broken { message, .. }) => not_looked_at(Status::Unknown, EndpointReason::ProbeFailed, message),
        // While a probe is under way, what was known stays.
        (None, Decision::Grace | Decision::Start | Decision::AwaitPod(_) | Decision::Keep) => Vec::new(),
    };
    findings.push(match decision {
        Decision::Grace | Decision::Start | Decision::AwaitPod(None) => {
            Finding::endpoint(Reconciling, true, EndpointReason::Probing, "a pod probes it")
        }
        Decision::AwaitPod(Some(waits_for)) => {
            Finding::endpoint(Reconciling, true, EndpointReason::Probing, format!("the probe pod waits for {waits_for}"))
        }
        Decision::AwaitWorkers => Finding::endpoint(Reconciling, true, EndpointReason::Probing, "workers will probe it"),
        Decision::Broken { message, .. } => {
            Finding::endpoint(Reconciling, true, EndpointReason::ProbeFailed, format!("tried again: {message}"))
        }
        Decision::Off | Decision::Alone | Decision::Reported(_) | Decision::Read(_) | Decision::Keep => idle(),
    });
    findings.push(match decision {
        Decision::Reported(ProbeResult::Failed { reason: ErrorReason::Invalid, message })
        | Decision::Read(ProbeResult::Failed { reason: ErrorReason::Invalid, message }) => {
            Finding::endpoint(Stalled, true, EndpointReason::Invalid, message.clone())
        }
        _ => calm(),
    });
    findings
}

/// What a probe says of each condition.
fn seen(result: &ProbeResult, has_secrets: bool) -> Vec<Finding> {
    use EndpointCondition::{Authorized, Reachable, Ready, SecretsResolved};
    let secrets = |holds: bool, message: &str| match (holds, has_secrets) {
        (false, _) => Finding::endpoint(SecretsResolved, false, EndpointReason::SecretMissing, message),
        (true, true) => Finding::endpoint(SecretsResolved, true, EndpointReason::Resolved, "no Secret is missing"),
        (true, false) => Finding::endpoint(SecretsResolved, true, EndpointReason::NotNeeded, "no Secret is referred to"),
    };
    match result {
        ProbeResult::Ok { detail } => vec![
            Finding::endpoint(Ready, true, EndpointReason::ProbeSucceeded, detail.clone()),
            Finding::endpoint(Reachable, true, EndpointReason::ProbeSucceeded, detail.clone()),
            Finding::endpoint(Authorized, true, EndpointReason::ProbeSucceeded, detail.clone()),
            secrets(true, ""),
        ],
        ProbeResult::Unsupported => {
            let message = "this connector cannot be probed: nothing was looked at";
            let unknown = |type_| Finding::endpoint(type_, Status::Unknown, EndpointReason::ProbeUnsupported, message);
            vec![
                Finding::endpoint(Ready, true, EndpointReason::ProbeUnsupported, message),
                unknown(Reachable),
                unknown(Authorized),
                secrets(true, ""),
            ]
        }
        ProbeResult::Failed { reason, message } => {
            let why = endpoint_reason(*reason);
            let (reachable, authorized) = answers(*reason);
            let of = |type_, status| match status {
                Status::True => Finding::endpoint(type_, status, EndpointReason::ProbeSucceeded, "the system answers"),
                Status::False => Finding::endpoint(type_, status, why, message.clone()),
                Status::Unknown => Finding::endpoint(type_, status, EndpointReason::NotObserved, "the probe did not get that far"),
            };
            vec![
                Finding::endpoint(Ready, false, why, message.clone()),
                of(Reachable, reachable),
                of(Authorized, authorized),
                secrets(*reason != ErrorReason::SecretMissing, message),
            ]
        }
    }
}

/// Whether the system answered, and let us in.
fn answers(reason: ErrorReason) -> (Status, Status) {
    match reason {
        ErrorReason::Unreachable => (Status::False, Status::Unknown),
        ErrorReason::AccessDenied => (Status::True, Status::False),
        ErrorReason::NotFound | ErrorReason::Throttled | ErrorReason::ServerError => (Status::True, Status::Unknown),
        ErrorReason::Invalid
        | ErrorReason::SecretMissing
        | ErrorReason::DataLost
        | ErrorReason::PoisonRecord
        | ErrorReason::Corrupt
        | ErrorReason::Internal => (Status::Unknown, Status::Unknown),
    }
}

fn endpoint_reason(reason: ErrorReason) -> EndpointReason {
    match reason {
        ErrorReason::Unreachable => EndpointReason::Unreachable,
        ErrorReason::AccessDenied => EndpointReason::AccessDenied,
        ErrorReason::NotFound => EndpointReason::NotFound,
        ErrorReason::Throttled => EndpointReason::Throttled,
        ErrorReason::ServerError => EndpointReason::ServerError,
        ErrorReason::SecretMissing => EndpointReason::SecretMissing,
        ErrorReason::Invalid | ErrorReason::DataLost | ErrorReason::PoisonRecord | ErrorReason::Corrupt => EndpointReason::Invalid,
        ErrorReason::Internal => EndpointReason::ProbeFailed,
    }
}
