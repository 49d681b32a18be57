//! Rolling out: may the revision that is wanted replace the one that runs? Pure. Nothing running is touched before the new revision was checked in its own image.

use std::collections::BTreeMap;

use millrace_crds::job::Job;
use millrace_crds::pipeline::{DesiredState, StatePolicy};
use millrace_crds::report::CheckOutcome;

/// A Job in an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Version {
    /// Revision of the Job.
    pub(crate) revision: String,
    /// Image that runs it.
    pub(crate) image: String,
    /// Hash of the tests that it has to pass, or has passed.
    pub(crate) tests: Option<String>,
}

/// What the state of a revision is made of: a digest for each operator.
pub(crate) type State = BTreeMap<String, String>;

/// What the user says about state that would be lost.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Consent {
    /// `upgrade.statePolicy`.
    pub(crate) policy: StatePolicy,
    /// Hash of the plan that was approved.
    pub(crate) approved: Option<String>,
}

impl From<&Job> for Consent {
    fn from(job: &Job) -> Self {
        Self { policy: job.state_policy, approved: job.approved_plan.clone() }
    }
}

/// What becomes of the state when the checked revision replaces the one that runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum StateVerdict {
    /// Nobody has said what the state of what runs is made of. The worker refuses what it cannot restore.
    Unknown,
    /// None is lost.
    Compatible,
    /// Some is lost, and this plan was approved.
    Approved,
    /// Some is lost, and the policy allows it.
    Reset,
    /// Some would be lost, and nobody allowed it.
    Refused,
}

/// Judges the state.
pub(crate) fn judge_state(outcome: &CheckOutcome, consent: &Consent) -> StateVerdict {
    let plan = outcome.plan.as_ref().map(|plan| plan.hash.as_str());
    match (&outcome.state, consent.policy) {
        (None, _) => StateVerdict::Unknown,
        // Nobody can allow that: the workers have nothing to go on from.
        (Some(state), _) if state.positions_lost => StateVerdict::Refused,
        (Some(state), _) if state.lost == 0 => StateVerdict::Compatible,
        (Some(_), StatePolicy::ResetState) => StateVerdict::Reset,
        (Some(_), StatePolicy::Approve) if plan.is_some() && consent.approved.as_deref() == plan => StateVerdict::Approved,
        (Some(_), StatePolicy::Approve | StatePolicy::Reject) => StateVerdict::Refused,
    }
}

/// What the state of what runs is made of: as its workers say, else as it was written down.
pub(crate) fn state_of_running<'a>(
    running: Option<&Version>,
    reported: impl IntoIterator<Item = &'a CheckOutcome>,
    written: Option<State>,
) -> Option<State> {
    let running = running?;
    let said = |outcome: &CheckOutcome| outcome.plan.as_ref()?.state.clone().filter(|_| outcome.revision == running.revision);
    reported.into_iter().find_map(said).or(written)
}

/// What is to be written down as the state of what runs after the decision.
pub(crate) fn state_to_write(decision: &Decision, running: Option<State>) -> Option<State> {
    match decision {
        Decision::Switch(outcome) => outcome.plan.as_ref()?.state.clone(),
        Decision::Start => None,
        _ => running,
    }
}

/// The pod that checks the wanted version.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Check {
    /// There is none.
    Absent,
    /// It has not ended.
    Underway {
        /// Seconds since it was made.
        age: i64,
        /// What it waits for.
        waits_for: Option<String>,
    },
    /// It has said what it found.
    Answered(CheckOutcome),
    /// It ended without saying anything.
    Failed {
        /// Seconds since then.
        age: i64,
        /// What is known.
        message: String,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// There is nothing to roll out to: what runs stays as it is.
    Hold,
    /// Nothing runs yet, and there are no tests: start. The worker checks the Job by itself and says what is wrong.
    Start,
    /// The wanted version runs: keep it so.
    Follow,
    /// Make the check pod.
    Check,
    /// The check pod has not ended.
    AwaitCheck {
        /// What it waits for.
        waits_for: Option<String>,
    },
    /// The check could not be made. The pod is removed when it is time to try again.
    CheckFailed {
        /// Why.
        message: String,
        /// Whether it is time.
        again: bool,
    },
    /// The check found nothing wrong: switch.
    Switch(CheckOutcome),
    /// The check found problems, a test failed, or state would be lost: what runs stays.
    Refuse(CheckOutcome),
}

/// A check pod that has not ended after so many seconds has failed.
const CHECK_DEADLINE: i64 = 180;
/// Seconds until a check that could not be made is tried again.
const CHECK_AGAIN: i64 = 30;

/// Decides.
pub(crate) fn decide(target: Option<&Version>, running: Option<&Version>, check: Check, consent: &Consent) -> Decision {
    let Some(target) = target else { return Decision::Hold };
    match running {
        None if target.tests.is_none() => return Decision::Start,
        Some(running) if target == running => return Decision::Follow,
        None | Some(_) => {}
    }
    match check {
        Check::Absent => Decision::Check,
        Check::Underway { age, waits_for } if age >= CHECK_DEADLINE => {
            let waits_for = waits_for.unwrap_or_else(|| "its end".to_owned());
            Decision::CheckFailed { message: format!("the check pod waited {age} s for {waits_for}"), again: true }
        }
        Check::Underway { waits_for, .. } => Decision::AwaitCheck { waits_for },
        Check::Answered(outcome) if outcome.revision != target.revision => {
            let message = format!("the check pod speaks of revision {}, not of {}", outcome.revision, target.revision);
            Decision::CheckFailed { message, again: true }
        }
        Check::Answered(outcome) if !outcome.problems.is_empty() => Decision::Refuse(outcome),
        Check::Answered(outcome) if target.tests.is_some() && outcome.tests.is_none() => {
            let message = "the check pod has run no tests: its image is older than the operator".to_owned();
            Decision::CheckFailed { message, again: false }
        }
        Check::Answered(outcome) => {
            let passed = outcome.tests.as_ref().is_none_or(|tests| tests.failed == 0);
            if passed && judge_state(&outcome, consent) != StateVerdict::Refused {
                Decision::Switch(outcome)
            } else {
                Decision::Refuse(outcome)
            }
        }
        Check::Failed { age, message } => Decision::CheckFailed { message, again: age >= CHECK_AGAIN },
    }
}

/// How many workers there should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Workers {
    /// Their number.
    pub(crate) replicas: i32,
    /// Whether there are none because everything in flight was finished.
    pub(crate) drained: bool,
    /// Whether they are to finish what is in flight.
    pub(crate) draining: bool,
}

/// Decides how many workers there should be. `started`: there is a Deployment. `drained`: it says so. `finished`: the workers say so.
pub(crate) fn workers(desired: DesiredState, replicas: i32, started: bool, drained: bool, finished: bool) -> Workers {
    match desired {
        DesiredState::Running => Workers { replicas, drained: false, draining: false },
        DesiredState::Paused => Workers { replicas: 0, drained, draining: false },
        DesiredState::Drained if !started || drained || finished => Workers { replicas: 0, drained: true, draining: false },
        // Somebody has to finish it, also if it was scaled to zero or paused.
        DesiredState::Drained => Workers { replicas: replicas.max(1), drained: false, draining: true },
    }
}

#[cfg(test)]
mod tests {
    use millrace_crds::report::{LostState, PlanReport, Problem, StateReport, TestsReport};

    use super::*;

    fn version(revision: &str, image: &str) -> Version {
        Version { revision: revision.into(), image: image.into(), tests: None }
    }

    fn outcome(revision: &str, problems: usize) -> CheckOutcome {
        let problem = Problem { reason: "PlanInvalid".into(), location: "step a".into(), message: "m".into(), hint: None };
        CheckOutcome { revision: revision.into(), problems: vec![problem; problems], ..CheckOutcome::default() }
    }

    #[test]
    fn the_running_revision_is_touched_only_after_a_check_that_found_nothing() {
        let (old, new) = (version("old", "i"), version("new", "i"));
        let underway = |age| Check::Underway { age, waits_for: None };
        let cases = [
            (None, None, Check::Absent, Decision::Hold),
            (None, Some(&old), Check::Absent, Decision::Hold),
            (Some(&new), None, Check::Absent, Decision::Start),
            (Some(&old), Some(&old), Check::Absent, Decision::Follow),
            (Some(&old), Some(&old), Check::Answered(outcome("old", 1)), Decision::Follow),
            (Some(&new), Some(&old), Check::Absent, Decision::Check),
            (Some(&new), Some(&old), underway(5), Decision::AwaitCheck { waits_for: None }),
            (
                Some(&new),
                Some(&old),
                underway(180),
                Decision::CheckFailed { message: "the check pod waited 180 s for its end".into(), again: true },
            ),
            (Some(&new), Some(&old), Check::Answered(outcome("new", 0)), Decision::Switch(outcome("new", 0))),
            (Some(&new), Some(&old), Check::Answered(outcome("new", 1)), Decision::Refuse(outcome("new", 1))),
            (
                Some(&new),
                Some(&old),
                Check::Answered(outcome("another", 0)),
                Decision::CheckFailed { message: "the check pod speaks of revision another, not of new".into(), again: true },
            ),
            (
                Some(&new),
                Some(&old),
                Check::Failed { age: 29, message: "evicted".into() },
                Decision::CheckFailed { message: "evicted".into(), again: false },
            ),
            (
                Some(&new),
                Some(&old),
                Check::Failed { age: 30, message: "evicted".into() },
                Decision::CheckFailed { message: "evicted".into(), again: true },
            ),
        ];
        for (target, running, check, decision) in cases {
            let decided = decide(target, running, check.clone(), &Consent::default());
            assert_eq!(decided, decision, "{target:?} {running:?} {check:?}");
        }
    }

    #[test]
    fn another_image_is_checked_too() {
        let decision = decide(Some(&version("same", "new")), Some(&version("same", "old")), Check::Absent, &Consent::default());
        assert_eq!(decision, Decision::Check);
    }

    #[test]
    fn tests_must_have_passed_before_anything_starts_or_is_replaced() {
        let tested = |tests: &str| Version { tests: Some(tests.into()), ..version("new", "i") };
        let answered = |passed, failed| {
            let tests = Some(TestsReport { passed, failed, first_failure: None });
            CheckOutcome { tests, ..outcome("new", 0) }
        };
        let decide = |running: Option<&Version>, check| decide(Some(&tested("t")), running, check, &Consent::default());
        for running in [None, Some(&version("old", "i")), Some(&tested("other"))] {
            assert_eq!(decide(running, Check::Absent), Decision::Check);
            assert_eq!(decide(running, Check::Answered(answered(2, 0))), Decision::Switch(answered(2, 0)));
            assert_eq!(decide(running, Check::Answered(answered(1, 1))), Decision::Refuse(answered(1, 1)));
            let old_image = decide(running, Check::Answered(outcome("new", 0)));
            assert!(matches!(old_image, Decision::CheckFailed { again: false, .. }), "{old_image:?}");
        }
        assert_eq!(decide(Some(&tested("t")), Check::Absent), Decision::Follow);
    }

    #[test]
    fn state_is_lost_only_where_somebody_allowed_it() {
        let (old, new) = (version("old", "i"), version("new", "i"));
        let with_state = |lost: u32| {
            let first_lost = vec![LostState { operator: "a/aggregate/0".into(), reason: "KeyChanged".into() }];
            let plan = PlanReport { hash: "abc".into(), operators: 1, inputs: Vec::new(), outputs: Vec::new(), state: None, whole: None };
            CheckOutcome {
                plan: Some(plan),
                state: Some(StateReport { kept: 1, lost, first_lost, ..StateReport::default() }),
                ..outcome("new", 0)
            }
        };
        let consent = |policy, approved: Option<&str>| Consent { policy, approved: approved.map(str::to_owned) };
        let cases = [
            (consent(StatePolicy::Reject, None), 0, StateVerdict::Compatible),
            (consent(StatePolicy::Reject, None), 1, StateVerdict::Refused),
            (consent(StatePolicy::Reject, Some("abc")), 1, StateVerdict::Refused),
            (consent(StatePolicy::Approve, None), 1, StateVerdict::Refused),
            (consent(StatePolicy::Approve, Some("another")), 1, StateVerdict::Refused),
            (consent(StatePolicy::Approve, Some("abc")), 1, StateVerdict::Approved),
            (consent(StatePolicy::ResetState, None), 1, StateVerdict::Reset),
        ];
        for (consent, lost, verdict) in cases {
            let outcome = with_state(lost);
            assert_eq!(judge_state(&outcome, &consent), verdict, "{consent:?} {lost}");
            let decision = decide(Some(&new), Some(&old), Check::Answered(outcome.clone()), &consent);
            let refused = verdict == StateVerdict::Refused;
            assert_eq!(decision, if refused { Decision::Refuse(outcome) } else { Decision::Switch(outcome) }, "{consent:?} {lost}");
        }
        assert_eq!(judge_state(&outcome("new", 0), &Consent::default()), StateVerdict::Unknown);
        let mut positions = with_state(0);
        positions.state.as_mut().unwrap().positions_lost = true;
        assert_eq!(judge_state(&positions, &consent(StatePolicy::ResetState, None)), StateVerdict::Refused, "whatever the policy");
    }

    #[test]
    fn what_the_state_of_the_running_revision_is_made_of() {
        let state = |digest: &str| Some(State::from([("a/aggregate/0".to_owned(), digest.to_owned())]));
        let reported = |revision: &str, state| {
            let plan = PlanReport { hash: "abc".into(), operators: 1, inputs: Vec::new(), outputs: Vec::new(), state, whole: None };
            CheckOutcome { plan: Some(plan), ..outcome(revision, 0) }
        };
        let running = version("old", "i");
        let reports = [reported("new", state("n")), reported("old", state("o"))];
        assert_eq!(state_of_running(Some(&running), &reports, state("w")), state("o"));
        assert_eq!(state_of_running(Some(&running), &reports[..1], state("w")), state("w"));
        assert_eq!(state_of_running(None, &reports, state("w")), None);
        assert_eq!(state_to_write(&Decision::Switch(reported("new", state("n"))), state("o")), state("n"));
        assert_eq!(state_to_write(&Decision::Switch(reported("new", None)), state("o")), None);
        assert_eq!(state_to_write(&Decision::Follow, state("o")), state("o"));
        assert_eq!(state_to_write(&Decision::Start, state("o")), None);
    }

    #[test]
    fn numbers_of_workers() {
        use DesiredState::{Drained, Paused, Running};
        let told = |replicas, drained, draining| Workers { replicas, drained, draining };
        //    desired, replicas, started, drained, finished
        let cases = [
            ((Running, 3, true, false, false), told(3, false, false)),
            ((Running, 3, true, true, false), told(3, false, false)),
            ((Running, 0, true, false, false), told(0, false, false)),
            ((Paused, 3, true, false, false), told(0, false, false)),
            ((Paused, 3, true, true, false), told(0, true, false)),
            ((Drained, 3, true, false, false), told(3, false, true)),
            ((Drained, 0, true, false, false), told(1, false, true)),
            ((Drained, 3, true, false, true), told(0, true, false)),
            ((Drained, 3, true, true, false), told(0, true, false)),
            ((Drained, 3, false, false, false), told(0, true, false)),
        ];
        for ((desired, replicas, started, drained, finished), expected) in cases {
            assert_eq!(
                workers(desired, replicas, started, drained, finished),
                expected,
                "{desired:?} {replicas} {started} {drained} {finished}"
            );
        }
    }
}
