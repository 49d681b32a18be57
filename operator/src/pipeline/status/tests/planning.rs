//! Conditions of what is decided before anything runs: the plan, its tests, the state that it would restore.

use super::*;

#[test]
fn planning() {
    check(&[
        (
            "the first revision is invalid: its worker says so",
            |w| {
                w.no_workers();
                let mut worker = worker("edge-0", "0");
                let check = CheckOutcome { problems: vec![problem("UnknownColumn")], plan: None, ..outcome() };
                worker.report = Arc::new(Report { check, phase: WorkerPhase::Failed, ..(*worker.report).clone() });
                worker.tasks.clear();
                w.reports.workers = vec![worker];
            },
            "Ready:F:UnknownColumn Stalled:T:UnknownColumn Reconciling:T:Restoring Accepted:F:UnknownColumn SourcesReady:U:NotProbed SinksReady:U:NotProbed \
             SecretsResolved:U:NotProbed WorkloadAvailable:F:Unavailable DataFlowing:U:Restoring CheckpointHealthy:U:NoCheckpointYet",
        ),
        (
            "a later revision is invalid: the check says so, what runs stays",
            |w| {
                w.running = Some(older());
                w.decision =
                    Decision::Refuse(CheckOutcome { problems: vec![problem("SyntaxError"), problem("Cycle")], plan: None, ..outcome() });
            },
            "Ready:F:SyntaxError Stalled:T:SyntaxError Accepted:F:SyntaxError StateCompatible:U:Pending",
        ),
        (
            "it is being checked: what runs is as ready as before",
            |w| {
                w.running = Some(older());
                w.decision = Decision::AwaitCheck { waits_for: None };
            },
            "Reconciling:T:Checking Accepted:U:Checking StateCompatible:U:Checking",
        ),
        (
            "the check cannot be made",
            |w| {
                w.running = Some(older());
                w.decision = Decision::CheckFailed { message: "evicted".into(), again: false };
            },
            "Reconciling:T:CheckFailed Accepted:U:CheckFailed StateCompatible:U:CheckFailed",
        ),
        (
            "the check found nothing: it rolls",
            |w| w.decision = Decision::Switch(outcome()),
            "Reconciling:T:RollingOut StateCompatible:U:Pending",
        ),
        (
            "spec.workload is refused before anything is made",
            |w| {
                let env = json!({"env": [{"name": "MILLRACE_X", "value": "1"}]});
                w.pipeline.spec.workload = Some(serde_json::from_value(env).unwrap());
                w.decision = Decision::Hold;
            },
            "Ready:F:PlanInvalid Stalled:T:PlanInvalid Accepted:F:PlanInvalid StateCompatible:U:Pending",
        ),
    ]);
    let refused = World::with(|w| {
        w.running = Some(older());
        w.decision = Decision::Refuse(CheckOutcome { problems: vec![problem("SyntaxError"), problem("Cycle")], plan: None, ..outcome() });
    });
    assert_eq!(
        refused.message("Accepted"),
        "step errors, line 1, column 8: no column sc_state; did you mean sc_status? (and 1 more problem)"
    );
    assert!(refused.message("Ready").ends_with("; revision older stays as it is"));
}

/// The Pipeline with two tests; its revision is the same.
fn with_tests(world: &mut World) {
    let test =
        |name: &str| json!({"name": name, "given": [{"input": "logs", "rows": [{"c_ip": "1.2.3.4"}]}], "expect": [{"output": "search"}]});
    world.pipeline.spec.tests = serde_json::from_value(json!([test("a"), test("b")])).unwrap();
}

fn tests(passed: u32, failed: u32) -> CheckOutcome {
    let first_failure = (failed > 0).then(|| "late rows: output search: 1 missing".to_owned());
    CheckOutcome { tests: Some(TestsReport { passed, failed, first_failure }), ..outcome() }
}

#[test]
fn tests_of_the_pipeline() {
    check(&[
        ("a revision that runs has passed", |w| with_tests(w), "TestsPassed:T:Passed"),
        (
            "a test fails: what runs stays",
            |w| {
                with_tests(w);
                w.running = Some(older());
                w.decision = Decision::Refuse(tests(1, 1));
            },
            "Ready:F:TestsFailed Stalled:T:TestsFailed TestsPassed:F:TestsFailed StateCompatible:U:Pending",
        ),
        (
            "all pass: it rolls",
            |w| {
                with_tests(w);
                w.decision = Decision::Switch(tests(2, 0));
            },
            "Reconciling:T:RollingOut TestsPassed:T:Passed StateCompatible:U:Pending",
        ),
        (
            "they run before the first start",
            |w| {
                with_tests(w);
                w.running = None;
                w.deployment = None;
                w.reports = Snapshot::default();
                w.decision = Decision::Check;
            },
            "Ready:F:Progressing Reconciling:T:Checking Accepted:U:Checking TestsPassed:U:Checking StateCompatible:U:Checking SourcesReady:U:NotProbed \
             SinksReady:U:NotProbed SecretsResolved:U:NotProbed WorkloadAvailable:U:Pending DataFlowing:U:NoReports CheckpointHealthy:U:NoReports",
        ),
        (
            "the SQL is invalid: tests say nothing",
            |w| {
                with_tests(w);
                w.running = Some(older());
                w.decision = Decision::Refuse(CheckOutcome { problems: vec![problem("SyntaxError")], plan: None, ..outcome() });
            },
            "Ready:F:SyntaxError Stalled:T:SyntaxError Accepted:F:SyntaxError TestsPassed:U:Pending StateCompatible:U:Pending",
        ),
    ]);
    let failing = World::with(|w| {
        with_tests(w);
        w.running = Some(older());
        w.decision = Decision::Refuse(tests(1, 1));
    });
    assert_eq!(failing.message("TestsPassed"), "1 of 2 tests failed; late rows: output search: 1 missing");
    assert!(failing.message("Ready").ends_with("; revision older stays as it is"));
    let status = failing.derive().0.tests.unwrap();
    assert_eq!((status.passed, status.failed), (1, 1));
    assert!(status.first_failure.unwrap().starts_with("late rows"));
    assert_eq!(World::with(with_tests).derive().0.tests, Some(TestsStatus { passed: 2, failed: 0, first_failure: None }));
    assert_eq!(World::healthy().derive().0.tests, None);
}

fn lost(reason: &str) -> CheckOutcome {
    let first_lost = vec![LostState { operator: "per_client/aggregate/0".into(), reason: reason.into() }];
    CheckOutcome { state: Some(StateReport { kept: 1, lost: 3, first_lost, ..StateReport::default() }), ..outcome() }
}

#[test]
fn state_of_the_running_revision() {
    fn rolls(world: &mut World, outcome: CheckOutcome) {
        world.running = Some(older());
        let target = Version { revision: revision(), image: settings().worker_image, tests: None };
        world.decision = rollout::decide(Some(&target), world.running.as_ref(), rollout::Check::Answered(outcome), &world.consent);
    }
    check(&[
        (
            "an operator is removed",
            |w| rolls(w, lost("OperatorRemoved")),
            "Ready:F:StateIncompatible Stalled:T:StateIncompatible StateCompatible:F:OperatorRemoved",
        ),
        (
            "an operator has another key",
            |w| rolls(w, lost("KeyChanged")),
            "Ready:F:StateIncompatible Stalled:T:StateIncompatible StateCompatible:F:KeyChanged",
        ),
        (
            "the same, approved",
            |w| {
                w.consent = Consent { policy: StatePolicy::Approve, approved: Some("abc".into()) };
                rolls(w, lost("KeyChanged"));
            },
            "Reconciling:T:RollingOut StateCompatible:T:Approved",
        ),
        (
            "the same, and the policy is to reset",
            |w| {
                w.consent = Consent { policy: StatePolicy::ResetState, approved: None };
                rolls(w, lost("KeyChanged"));
            },
            "Reconciling:T:RollingOut StateCompatible:T:StateReset",
        ),
        (
            "all state is taken over",
            |w| rolls(w, CheckOutcome { state: Some(StateReport { kept: 2, ..StateReport::default() }), ..outcome() }),
            "Reconciling:T:RollingOut",
        ),
        (
            "only the new plan keeps state",
            |w| {
                rolls(
                    w,
                    CheckOutcome { state: Some(StateReport { started: 1, positions_lost: true, ..StateReport::default() }), ..outcome() },
                )
            },
            "Ready:F:StateIncompatible Stalled:T:StateIncompatible StateCompatible:F:PositionsLost",
        ),
        ("nobody knows", |w| rolls(w, outcome()), "Reconciling:T:RollingOut StateCompatible:U:Pending"),
        (
            "what was approved stays approved",
            |w| {
                w.consent = Consent { policy: StatePolicy::Approve, approved: Some("abc".into()) };
                rolls(w, lost("KeyChanged"));
                w.pipeline.status = Some(w.derive().0);
                w.decision = Decision::Follow;
            },
            "StateCompatible:T:Approved",
        ),
    ]);
    let refused = World::with(|w| rolls(w, lost("KeyChanged")));
    assert_eq!(
        refused.message("StateCompatible"),
        "operator per_client/aggregate/0 loses its state (it keeps other state now); 2 more operators lose theirs; keep these operators, or allow it: \
         set upgrade.statePolicy to ResetState, or to Approve and annotate the Pipeline with millrace.dev/approve-plan=abc"
    );
    assert!(refused.message("Ready").ends_with("; revision older stays as it is"));
}
