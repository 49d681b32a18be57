//! Conditions of what runs: workers, records, checkpoints, and what has been stopped on purpose or cannot be written.

use super::*;

#[test]
fn workers() {
    check(&[
        ("three of four are enough", |w| (w.workers.replicas, w.deployment) = (4, Some(deployment(4, 3))), ""),
        (
            "two of four are not",
            |w| (w.workers.replicas, w.deployment) = (4, Some(deployment(4, 2))),
            "Ready:F:Progressing Reconciling:T:Progressing WorkloadAvailable:F:Unavailable",
        ),
        (
            "a plan that keeps state needs one of two",
            |w| {
                for worker in &mut w.reports.workers {
                    let plan = Arc::make_mut(&mut worker.report).check.plan.as_mut().unwrap();
                    plan.inputs[0].distribution = Distribution::Whole;
                }
            },
            "WorkloadAvailable:T:NeedsExchange",
        ),
        (
            "the image cannot be pulled",
            |w| {
                w.deployment = Some(deployment(2, 0));
                w.pods = vec![pod(&json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}), &json!({}))];
            },
            "Ready:F:ImagePullBackOff WorkloadAvailable:F:ImagePullBackOff",
        ),
        (
            "out of memory",
            |w| {
                w.deployment = Some(deployment(2, 0));
                let last = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
                w.pods = vec![pod(&json!({"waiting": {"reason": "CrashLoopBackOff"}}), &last)];
            },
            "Ready:F:OOMKilled WorkloadAvailable:F:OOMKilled",
        ),
        (
            "it ends again and again",
            |w| {
                w.deployment = Some(deployment(2, 0));
                let last = json!({"terminated": {"exitCode": 70, "reason": "Error", "message": "boom"}});
                w.pods = vec![pod(&json!({"waiting": {"reason": "CrashLoopBackOff"}}), &last)];
            },
            "Ready:F:CrashLoopBackOff WorkloadAvailable:F:CrashLoopBackOff",
        ),
        (
            "a quota is exhausted",
            |w| {
                let mut deployment = deployment(2, 0);
                let failure = json!([{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"}]);
                deployment.status.as_mut().unwrap().conditions = serde_json::from_value(failure).unwrap();
                w.deployment = Some(deployment);
            },
            "Ready:F:QuotaExceeded Stalled:T:QuotaExceeded WorkloadAvailable:F:QuotaExceeded",
        ),
        ("it rolls", |w| w.deployment.as_mut().unwrap().status.as_mut().unwrap().updated_replicas = Some(1), "Reconciling:T:RollingOut"),
        (
            "the controller has not seen it yet",
            |w| w.deployment.as_mut().unwrap().metadata.generation = Some(5),
            "Reconciling:T:RollingOut",
        ),
        (
            "nobody reports",
            |w| w.reports = Snapshot::default(),
            "Ready:F:Progressing Reconciling:T:Progressing Accepted:U:Pending SourcesReady:U:NotProbed SinksReady:U:NotProbed SecretsResolved:U:NotProbed DataFlowing:U:NoReports \
             CheckpointHealthy:U:NoReports",
        ),
    ]);
}

#[test]
fn flow_and_checkpoints() {
    fn every(world: &mut World, change: fn(&mut TaskFact)) {
        world.reports.workers.iter_mut().flat_map(|worker| &mut worker.tasks).for_each(change);
    }
    check(&[
        ("idle for a while", |w| every(w, |t| (t.report.idle, t.still) = (true, seconds(30))), "Ready:T:Idle DataFlowing:T:SourceIdle"),
        ("idle for a moment", |w| every(w, |t| (t.report.idle, t.still) = (true, seconds(29))), ""),
        ("stuck", |w| every(w, |t| t.still = seconds(60)), "Ready:F:NoProgress DataFlowing:F:NoProgress"),
        ("every input has ended", |w| every(w, |t| t.report.phase = TaskPhase::Finished), "Ready:T:Completed DataFlowing:T:Completed"),
        (
            "restoring",
            |w| every(w, |t| t.report.phase = TaskPhase::Claiming),
            "Ready:F:Progressing Reconciling:T:Restoring DataFlowing:U:Restoring",
        ),
        (
            "a bad record, and the policy is to stop",
            |w| w.trouble(trouble(TroublePart::Task, "", ErrorReason::PoisonRecord, 0)),
            "Ready:F:PoisonRecord Stalled:T:PoisonRecord DataFlowing:F:PoisonRecord",
        ),
        ("epochs are late", |w| every(w, |t| t.epoch_age = seconds(121)), "Ready:F:Timeout CheckpointHealthy:F:Timeout"),
        ("no epoch yet", |w| every(w, |t| t.report.epoch_at_millis = None), "CheckpointHealthy:U:NoCheckpointYet"),
        (
            "the store is down",
            |w| w.trouble(trouble(TroublePart::State, "", ErrorReason::Unreachable, 6)),
            "Ready:F:StoreUnavailable CheckpointHealthy:F:StoreUnavailable",
        ),
        (
            "a checkpoint is damaged",
            |w| w.trouble(trouble(TroublePart::State, "", ErrorReason::Corrupt, 0)),
            "Ready:F:Corrupt Stalled:T:Corrupt CheckpointHealthy:F:Corrupt",
        ),
        ("dead letters lately", |w| w.reports.workers[1].dead_lettered = Some(seconds(299)), "DeadLettering:T:RecordsDeadLettered"),
        ("dead letters a while ago", |w| w.reports.workers[1].dead_lettered = Some(seconds(300)), ""),
    ]);
}

#[test]
fn stopped_on_purpose() {
    let quiet = "SourcesReady:U:NotProbed SinksReady:U:NotProbed SecretsResolved:U:NotProbed";
    for (desired, reason) in [(DesiredState::Paused, "Paused"), (DesiredState::Drained, "Drained"), (DesiredState::Running, "ScaledToZero")]
    {
        let world = World::with(|w| {
            w.pipeline.status = Some(w.derive().0);
            w.stop(desired, 0);
        });
        let expected = format!("Ready:T:{reason} {quiet} WorkloadAvailable:T:{reason} DataFlowing:U:{reason} CheckpointHealthy:U:{reason}");
        assert_eq!(world.says(), expected);
        assert_eq!(world.derive().1, SLOW);
        let status = world.derive().0;
        assert_eq!(status.lag, None);
        assert!(status.checkpoint.unwrap().last_completed_time.is_some(), "the last checkpoint is still the last one");
    }
    let closing = World::with(|w| w.stop(DesiredState::Paused, 1));
    assert!(closing.says().contains("Ready:T:Paused Reconciling:T:Draining"), "{}", closing.says());
    let draining = World::with(|w| w.workers.draining = true);
    assert_eq!(draining.says(), "Reconciling:T:Draining");
}

#[test]
fn what_cannot_be_written() {
    let conflict = || apply::Error::NameConflict { kind: "Service".into(), name: "edge".into() };
    let terminating = || apply::Error::NamespaceTerminating { kind: "Service".into(), name: "edge".into() };
    assert_eq!(World::with(|w| w.problem = Some(conflict())).says(), "Ready:F:NameConflict Stalled:T:NameConflict");
    assert_eq!(World::with(|w| w.problem = Some(terminating())).says(), "Ready:F:Terminating Reconciling:T:Progressing");
}
