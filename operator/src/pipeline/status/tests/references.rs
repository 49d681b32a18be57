//! Conditions of what a Pipeline refers to: Sources, Sinks, Secrets.

use super::*;

#[test]
fn sinks() {
    check(&[
        (
            "a sink is down",
            |w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::Unreachable, 6)),
            "Ready:F:SinkStalled SinksReady:F:Unreachable DataFlowing:F:SinkStalled",
        ),
        ("for a moment only", |w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::Unreachable, 4)), ""),
        (
            "wrong credentials count at once",
            |w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::AccessDenied, 0)),
            "Ready:F:AccessDenied SinksReady:F:AccessDenied DataFlowing:F:SinkStalled",
        ),
        (
            "the dead-letter sink is down",
            |w| w.trouble(trouble(TroublePart::Sink, "bad-lines", ErrorReason::ServerError, 6)),
            "Ready:F:SinkStalled SinksReady:F:Unreachable DataFlowing:F:SinkStalled",
        ),
        (
            "slow",
            |w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::Throttled, 6)),
            "Ready:F:Backpressured DataFlowing:F:Backpressured",
        ),
        (
            "a probe fails though records flow: it may be over in a moment",
            |w| w.reports.probes[1].result = ProbeResult::Failed { reason: ErrorReason::Unreachable, message: "refused".into() },
            "",
        ),
    ]);
    let down = World::with(|w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::Unreachable, 6)));
    assert_eq!(down.message("Ready"), "Sink \"search\": the system said no");
    let ends = down.derive().0.outputs;
    assert_eq!(ends.iter().map(|end| end.ready.as_str()).collect::<Vec<_>>(), ["False", "True"]);
    assert_eq!(down.derive().1, SOON);
}

#[test]
fn sources() {
    check(&[
        (
            "wrong credentials, seen by a probe",
            |w| w.reports.probes[0].result = ProbeResult::Failed { reason: ErrorReason::AccessDenied, message: "403".into() },
            "Ready:F:AccessDenied SourcesReady:F:AccessDenied",
        ),
        (
            "wrong credentials, seen by a task",
            |w| w.trouble(trouble(TroublePart::Source, "edge-logs", ErrorReason::AccessDenied, 0)),
            "Ready:F:AccessDenied SourcesReady:F:AccessDenied DataFlowing:F:SourceStalled",
        ),
        (
            "the Source is deleted: what runs stays and is judged as before",
            |w| {
                w.pipeline.status = Some(w.derive().0);
                w.references.sources.clear();
                w.decision = Decision::Hold;
            },
            "Ready:F:NotFound SourcesReady:F:NotFound",
        ),
        (
            "it never existed",
            |w| {
                w.references.sources.clear();
                w.decision = Decision::Hold;
                w.running = None;
                w.deployment = None;
                w.reports = Snapshot::default();
            },
            "Ready:F:NotFound Accepted:U:Pending StateCompatible:U:Pending SourcesReady:F:NotFound SinksReady:U:NotProbed SecretsResolved:U:NotProbed \
             WorkloadAvailable:U:Pending DataFlowing:U:NoReports CheckpointHealthy:U:NoReports",
        ),
        (
            "a source that slows us down still gives",
            |w| w.trouble(trouble(TroublePart::Source, "edge-logs", ErrorReason::Throttled, 60)),
            "",
        ),
        (
            "records are gone",
            |w| w.trouble(trouble(TroublePart::Source, "edge-logs", ErrorReason::DataLost, 0)),
            "Ready:F:DataLost Stalled:T:DataLost DataFlowing:F:DataLost",
        ),
    ]);
    let deleted = World::with(|w| {
        w.references.sources.clear();
        w.decision = Decision::Hold;
    });
    let message = deleted.message("SourcesReady");
    assert!(message.contains("inputs[logs].sourceRef") && message.contains("\"edge-logs\""), "{message}");
}

#[test]
fn secrets() {
    check(&[
        (
            "missing, seen by a task",
            |w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::SecretMissing, 0)),
            "Ready:F:SecretMissing SinksReady:F:SecretMissing SecretsResolved:F:SecretMissing DataFlowing:F:SinkStalled",
        ),
        (
            "missing, of the checkpoint store: the worker cannot start",
            |w| {
                w.trouble(trouble(TroublePart::State, "s3://state/edge", ErrorReason::SecretMissing, 0));
                w.reports.workers.truncate(1);
                w.reports.workers[0].tasks.clear();
                w.deployment = Some(deployment(2, 0));
            },
            "Ready:F:SecretMissing Reconciling:T:Restoring SecretsResolved:F:SecretMissing WorkloadAvailable:F:Unavailable DataFlowing:U:Restoring \
             CheckpointHealthy:F:StoreUnavailable",
        ),
        (
            "missing, of the environment: the container cannot start",
            |w| {
                w.no_workers();
                let message = json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"other\" not found"}});
                w.pods = vec![pod(&message, &json!({}))];
            },
            "Ready:F:SecretMissing SourcesReady:U:NotProbed SinksReady:U:NotProbed SecretsResolved:F:SecretMissing WorkloadAvailable:F:SecretMissing \
             DataFlowing:U:NoReports CheckpointHealthy:U:NoReports Accepted:U:Pending",
        ),
    ]);
    let missing = World::with(|w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::SecretMissing, 0)));
    assert_eq!(missing.message("SecretsResolved"), "Sink \"search\": the system said no");
}
