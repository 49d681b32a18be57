//! Deciding on probes, what is said of them, and the pod that makes them.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use millrace_crds::report::{ErrorReason, ProbeResult};
use millrace_crds::source::ProbeMode;
use millrace_crds::{Sink, Source};
use serde_json::{Value, json};

use super::decide::{Decision, Observed, OneShotProbe, decide};
use super::*;
use crate::pipeline::build::tests::{assert_hardened, golden};
use crate::pipeline::fixtures::references;
use crate::settings::tests::settings;

fn ok() -> ProbeResult {
    ProbeResult::Ok { detail: "read".into() }
}

fn failed(reason: ErrorReason) -> ProbeResult {
    ProbeResult::Failed { reason, message: "the system said no".into() }
}

fn observed(change: impl FnOnce(&mut Observed)) -> Decision {
    let mut observed = Observed {
        mode: ProbeMode::Full,
        interval: Duration::from_mins(5),
        can_be_probed_alone: true,
        served: false,
        reported: None,
        pod: OneShotProbe::Absent,
        known: None,
        seen: Duration::from_mins(1),
        tried: None,
    };
    change(&mut observed);
    decide(&observed)
}

#[test]
fn who_probes() {
    let underway = |age| OneShotProbe::Underway { age, waits_for: None };
    let ended = |age| OneShotProbe::Failed { age, message: "evicted".into() };
    let broken = |again| Decision::Broken { message: "evicted".into(), again };
    let seconds = Duration::from_secs;
    let cases: [(&str, Decision, Decision); 17] = [
        ("nobody has looked", observed(|_| {}), Decision::Start),
        ("a Pipeline may still come", observed(|o| o.seen = seconds(9)), Decision::Grace),
        ("the user does not want it", observed(|o| o.mode = ProbeMode::Off), Decision::Off),
        ("workers know best", observed(|o| (o.reported, o.pod) = (Some(ok()), underway(1))), Decision::Reported(ok())),
        ("workers will look", observed(|o| o.served = true), Decision::AwaitWorkers),
        ("workers will look again", observed(|o| (o.served, o.known) = (true, Some(false))), Decision::Keep),
        ("a directory of a volume", observed(|o| o.can_be_probed_alone = false), Decision::Alone),
        ("on its way", observed(|o| o.pod = underway(179)), Decision::AwaitPod(None)),
        (
            "too long on its way",
            observed(|o| o.pod = underway(180)),
            Decision::Broken { message: "the probe pod waited 180 s for its end".into(), again: true },
        ),
        ("it has looked", observed(|o| o.pod = OneShotProbe::Answered(ok())), Decision::Read(ok())),
        ("it broke", observed(|o| o.pod = ended(59)), broken(false)),
        ("it broke a while ago", observed(|o| o.pod = ended(60)), broken(true)),
        ("well", observed(|o| o.known = Some(true)), Decision::Keep),
        ("not well, probed lately", observed(|o| (o.known, o.tried) = (Some(false), Some(seconds(299)))), Decision::Keep),
        ("not well, due again", observed(|o| (o.known, o.tried) = (Some(false), Some(seconds(300)))), Decision::Start),
        ("not well, and we have just started", observed(|o| o.known = Some(false)), Decision::Start),
        ("just read, the status is on its way", observed(|o| o.tried = Some(seconds(1))), Decision::Keep),
    ];
    for (name, decision, expected) in cases {
        assert_eq!(decision, expected, "{name}");
    }
}

fn source() -> Source {
    let spec = serde_json::to_value(&references().sources["edge-logs"]).unwrap();
    let metadata = json!({"name": "edge-logs", "namespace": "shop", "uid": "s", "generation": 2});
    serde_json::from_value(json!({"apiVersion": "millrace.dev/v1alpha1", "kind": "Source", "metadata": metadata, "spec": spec})).unwrap()
}

/// `Ready Reachable Authorized SecretsResolved Reconciling Stalled` as `status:reason`.
fn says(decision: &Decision) -> String {
    let source = source();
    let before = status::pending(&source, Timestamp::UNIX_EPOCH);
    let status = status::derive(&source, &before, decision, 1, Timestamp::UNIX_EPOCH, None);
    let one = |type_: &str| {
        let condition = millrace_crds::condition::find(&status.conditions, type_).unwrap();
        assert_eq!(condition.observed_generation, Some(2));
        format!("{}:{}", &condition.status[..1], condition.reason)
    };
    ["Ready", "Reachable", "Authorized", "SecretsResolved", "Reconciling", "Stalled"].map(one).join(" ")
}

#[test]
fn what_is_said() {
    let read = |result| Decision::Read(result);
    let cases = [
        (read(ok()), "T:ProbeSucceeded T:ProbeSucceeded T:ProbeSucceeded T:Resolved F:UpToDate F:UpToDate"),
        (read(failed(ErrorReason::Unreachable)), "F:Unreachable F:Unreachable U:NotObserved T:Resolved F:UpToDate F:UpToDate"),
        (read(failed(ErrorReason::AccessDenied)), "F:AccessDenied T:ProbeSucceeded F:AccessDenied T:Resolved F:UpToDate F:UpToDate"),
        (read(failed(ErrorReason::NotFound)), "F:NotFound T:ProbeSucceeded U:NotObserved T:Resolved F:UpToDate F:UpToDate"),
        (read(failed(ErrorReason::SecretMissing)), "F:SecretMissing U:NotObserved U:NotObserved F:SecretMissing F:UpToDate F:UpToDate"),
        (read(failed(ErrorReason::Invalid)), "F:Invalid U:NotObserved U:NotObserved T:Resolved F:UpToDate T:Invalid"),
        (read(ProbeResult::Unsupported), "T:ProbeUnsupported U:ProbeUnsupported U:ProbeUnsupported T:Resolved F:UpToDate F:UpToDate"),
        (Decision::Off, "T:ProbeOff U:ProbeOff U:ProbeOff U:ProbeOff F:UpToDate F:UpToDate"),
        (Decision::Alone, "T:ProbeUnsupported U:ProbeUnsupported U:ProbeUnsupported U:ProbeUnsupported F:UpToDate F:UpToDate"),
        (Decision::AwaitWorkers, "U:Probing U:Probing U:Probing U:Probing T:Probing F:UpToDate"),
        (Decision::Start, "U:Pending U:Pending U:Pending U:Pending T:Probing F:UpToDate"),
        (
            Decision::Broken { message: "evicted".into(), again: false },
            "U:ProbeFailed U:ProbeFailed U:ProbeFailed U:ProbeFailed T:ProbeFailed F:UpToDate",
        ),
    ];
    for (decision, expected) in cases {
        assert_eq!(says(&decision), expected, "{decision:?}");
    }
}

#[test]
fn a_result_holds_for_its_generation_only() {
    let source = source();
    let before = status::pending(&source, Timestamp::UNIX_EPOCH);
    assert_eq!(status::known(&before, 2), None);
    let well = status::derive(&source, &before, &Decision::Read(ok()), 0, Timestamp::UNIX_EPOCH, None);
    assert_eq!((status::known(&well, 2), status::known(&well, 3)), (Some(true), None));
    let off = status::derive(&source, &before, &Decision::Off, 0, Timestamp::UNIX_EPOCH, None);
    assert_eq!(status::known(&off, 2), None, "nobody has looked");
}

#[test]
fn the_pod_and_what_belongs_to_it() {
    let source = source();
    let built = build::build(&Owner::of(&source).unwrap(), &source, &settings());
    let named = |kind: &str, api: &str, mut object: Value| {
        object["kind"] = kind.into();
        object["apiVersion"] = api.into();
        object
    };
    let objects = [
        named("ConfigMap", "v1", serde_json::to_value(&built.config_map).unwrap()),
        named("NetworkPolicy", "networking.k8s.io/v1", serde_json::to_value(&built.network_policy).unwrap()),
        named("Pod", "v1", serde_json::to_value(&built.pod).unwrap()),
    ];
    golden("probe.yaml", &objects);
    assert_hardened(&objects[2]["spec"]);
    assert_eq!(objects[2]["metadata"]["ownerReferences"][0]["kind"], "Source");
}

#[test]
fn directories_and_terminals_are_not_probed_alone() {
    let sink = |spec: Value| -> Sink { serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap() };
    assert!(!sink(json!({"stdout": {}})).can_be_probed_alone());
    assert!(!sink(json!({"files": {"path": "/data", "format": {"json": {}}}})).can_be_probed_alone());
    assert!(sink(json!({"opensearch": {"endpoint": "https://search", "index": "i"}})).can_be_probed_alone());
    assert!(source().can_be_probed_alone());
    assert_eq!(source().secrets(), ["aws-keys".to_owned()].into());
}
