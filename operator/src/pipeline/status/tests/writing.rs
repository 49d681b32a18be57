//! When a status is written, and what of it: numbers now and then, conditions at once, words never by themselves.

use super::*;

#[test]
fn the_first_status_knows_nothing_and_says_so() {
    let pipeline = edge();
    assert!(is_new(&pipeline));
    let status = pending(&pipeline, Timestamp::UNIX_EPOCH);
    assert_eq!(status.conditions.len(), PipelineCondition::ALL.len());
    assert!(status.conditions.iter().all(|condition| condition.status == "Unknown" && condition.observed_generation == Some(3)));
}

#[test]
fn a_new_operator_leaves_alone_what_it_does_not_know_yet() {
    let mut world = World::healthy();
    world.pipeline.status = Some(world.derive().0);
    let before = world.pipeline.status.clone();
    world.reports = Snapshot::default();
    world.settled = false;
    world.now = "2026-01-01T00:01:05Z".parse().unwrap();
    let after = world.derive().0;
    assert_eq!(after.conditions, before.unwrap().conditions);
    world.settled = true;
    assert_eq!(condition::find(&world.derive().0.conditions, "DataFlowing").unwrap().reason, "NoReports");
}

#[test]
fn an_unchanged_world_is_written_once() {
    let mut world = World::healthy();
    world.pipeline.status = Some(world.derive().0);
    world.now = "2026-01-01T02:00:00Z".parse().unwrap();
    assert_eq!(Some(world.derive().0), world.pipeline.status);
}

#[test]
fn other_words_are_no_other_status() {
    let down = |message: &str| {
        let mut world = World::with(|w| w.trouble(trouble(TroublePart::Sink, "search", ErrorReason::AccessDenied, 0)));
        world.reports.workers[0].troubles[0].trouble.message = message.to_owned();
        world.derive().0
    };
    assert!(differ_in_words_only(&down("attempt 1"), &down("attempt 2")));
    assert!(!differ_in_words_only(&down("attempt 1"), &down("attempt 1")));
    assert!(!differ_in_words_only(&World::healthy().derive().0, &down("attempt 1")));
}

#[test]
fn numbers_move_every_thirty_seconds_conditions_at_once() {
    let mut world = World::healthy();
    let first = world.derive().0;
    world.pipeline.status = Some(first.clone());
    world.reports.workers[0].tasks[0].report.lag_records = Some(5000);
    world.reports.workers[0].tasks[0].report.epoch_at_millis = Some(1_767_225_610_000);
    world.reports.workers[1].tasks[0].report.epoch_at_millis = Some(1_767_225_620_000);
    world.now = "2026-01-01T00:01:29Z".parse().unwrap();
    assert_eq!(world.derive().0, first, "not yet");
    world.trouble(trouble(TroublePart::Sink, "search", ErrorReason::AccessDenied, 0));
    assert_eq!(condition::find(&world.derive().0.conditions, "Ready").unwrap().status, "False");
    world.now = "2026-01-01T00:01:30Z".parse().unwrap();
    let status = world.derive().0;
    assert_eq!(status.lag.unwrap().records, Some(5000));
    assert_eq!(status.checkpoint.unwrap().last_completed_time.unwrap().0, "2026-01-01T00:00:10Z".parse().unwrap());
}

#[test]
fn numbers_that_were_not_known_are_told_at_once() {
    let mut world = World::healthy();
    let report = |world: &mut World| {
        let tasks = world.reports.workers.iter_mut().flat_map(|worker| &mut worker.tasks);
        tasks.map(|task| (task.report.lag_records.take(), task.report.epoch_at_millis.take())).collect::<Vec<_>>()
    };
    let known = report(&mut world);
    let first = world.derive().0;
    assert_eq!(first.lag.as_ref().unwrap().records, None);
    world.pipeline.status = Some(first);
    for (task, (records, epoch)) in world.reports.workers.iter_mut().flat_map(|worker| &mut worker.tasks).zip(known) {
        (task.report.lag_records, task.report.epoch_at_millis) = (records, epoch);
    }
    let second = world.derive().0;
    assert!(second.lag.unwrap().records.is_some() && second.checkpoint.unwrap().last_completed_time.is_some());
}

#[test]
fn as_long_as_no_worker_looks_objects_speak_for_themselves() {
    let world = World::with(|w| {
        w.no_workers();
        let message = "403".to_owned();
        w.unwell = vec![Unwell { kind: TroublePart::Sink, name: "archive".into(), reason: "AccessDenied".into(), message }];
    });
    assert!(world.says().contains("SinksReady:F:AccessDenied"), "{}", world.says());
    assert_eq!(world.message("SinksReady"), "Sink \"archive\": 403");
}

#[test]
fn no_message_is_longer_than_the_api_server_takes() {
    let world = World::with(|w| {
        let mut long = trouble(TroublePart::Sink, "search", ErrorReason::AccessDenied, 0);
        long.trouble.message = "ü".repeat(5000);
        w.trouble(long);
    });
    let status = world.derive().0;
    assert!(status.conditions.iter().all(|condition| condition.message.chars().count() <= 1024));
    assert!(status.outputs.iter().filter_map(|end| end.message.as_ref()).all(|message| message.chars().count() <= 1024));
}

/// The rollout decides what the status is given: the two fit together for a Pipeline that is new.
#[test]
fn a_new_pipeline_is_on_its_way() {
    let world = World::with(|w| {
        w.running = None;
        w.deployment = None;
        w.reports = Snapshot::default();
        let target = Version { revision: revision(), image: settings().worker_image, tests: None };
        w.decision = rollout::decide(Some(&target), None, rollout::Check::Absent, &w.consent);
    });
    assert_eq!(
        world.says(),
        "Ready:F:Progressing Reconciling:T:RollingOut Accepted:U:Pending SourcesReady:U:NotProbed SinksReady:U:NotProbed SecretsResolved:U:NotProbed \
         WorkloadAvailable:U:Pending DataFlowing:U:NoReports CheckpointHealthy:U:NoReports"
    );
}
