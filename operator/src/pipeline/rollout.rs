//! Rolling out: may the revision that is wanted replace the one that runs? Pure. Nothing running is touched before the new revision was checked in its own image.

use millrace_crds::pipeline::DesiredState;
use millrace_crds::report::CheckOutcome;

/// A Job in an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Version {
    /// Revision of the Job.
    pub(crate) revision: String,
    /// Image that runs it.
    pub(crate) image: String,
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
    /// Nothing runs yet: start. The worker checks the Job by itself and says what is wrong.
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
    /// The check found problems: what runs stays.
    Refuse(CheckOutcome),
}

/// A check pod that has not ended after so many seconds has failed.
const CHECK_DEADLINE: i64 = 180;
/// Seconds until a check that could not be made is tried again.
const CHECK_AGAIN: i64 = 30;

/// Decides.
pub(crate) fn decide(target: Option<&Version>, running: Option<&Version>, check: Check) -> Decision {
    let Some(target) = target else { return Decision::Hold };
    let Some(running) = running else { return Decision::Start };
    if target == running {
        return Decision::Follow;
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
        Check::Answered(outcome) if outcome.problems.is_empty() => Decision::Switch(outcome),
        Check::Answered(outcome) => Decision::Refuse(outcome),
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
    use millrace_crds::report::Problem;

    use super::*;

    fn version(revision: &str, image: &str) -> Version {
        Version { revision: revision.into(), image: image.into() }
    }

    fn outcome(revision: &str, problems: usize) -> CheckOutcome {
        let problem = Problem { reason: "PlanInvalid".into(), location: "step a".into(), message: "m".into(), hint: None };
        CheckOutcome { revision: revision.into(), problems: vec![problem; problems], plan: None }
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
            assert_eq!(decide(target, running, check.clone()), decision, "{target:?} {running:?} {check:?}");
        }
    }

    #[test]
    fn another_image_is_checked_too() {
        let decision = decide(Some(&version("same", "new")), Some(&version("same", "old")), Check::Absent);
        assert_eq!(decision, Decision::Check);
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
