//! `TestsPassed` and `status.tests`: what became of the tests of this spec. It runs none.

use millrace_crds::condition::{Finding, PipelineCondition, PipelineReason, Status};
use millrace_crds::pipeline::TestsStatus;
use millrace_crds::report::{CheckOutcome, TestsReport};

use super::super::rollout::Decision;
use super::Observed;

/// The condition.
pub(super) fn finding(observed: &Observed<'_>) -> Finding {
    let of = |status: Status, reason, message: String| Finding::pipeline(PipelineCondition::TestsPassed, status, reason, message);
    let later = || of(Status::Unknown, PipelineReason::Pending, "the tests run once the spec can be planned".to_owned());
    if observed.pipeline.spec.tests.is_empty() {
        return of(Status::True, PipelineReason::NotNeeded, "there are no tests".to_owned());
    }
    let Some(ready) = observed.validated.target.ready() else {
        return observed.as_before(PipelineCondition::TestsPassed).unwrap_or_else(later);
    };
    match observed.decision {
        Decision::Refuse(CheckOutcome { tests: Some(tests), .. }) | Decision::Switch(CheckOutcome { tests: Some(tests), .. }) => {
            judged(tests)
        }
        // Only what has passed its tests is rolled out.
        Decision::Follow => judged(&TestsReport { passed: number(ready.job.tests.len()), ..TestsReport::default() }),
        Decision::Check | Decision::AwaitCheck { .. } => of(Status::Unknown, PipelineReason::Checking, "a pod runs the tests".to_owned()),
        Decision::CheckFailed { message, .. } => of(Status::Unknown, PipelineReason::CheckFailed, message.clone()),
        Decision::Refuse(_) | Decision::Switch(_) | Decision::Hold | Decision::Start => later(),
    }
}

fn judged(tests: &TestsReport) -> Finding {
    let all = tests.passed.saturating_add(tests.failed);
    if tests.failed == 0 {
        let message = format!("{all} test{} passed", if all == 1 { "" } else { "s" });
        return Finding::pipeline(PipelineCondition::TestsPassed, true, PipelineReason::Passed, message);
    }
    let first = tests.first_failure.as_deref().unwrap_or("the check pod names none");
    let message = format!("{} of {all} tests failed; {first}", tests.failed);
    Finding::pipeline(PipelineCondition::TestsPassed, false, PipelineReason::TestsFailed, message)
}

/// The numbers; `None` if there are no tests.
pub(super) fn status(observed: &Observed<'_>) -> Option<TestsStatus> {
    let before = || observed.previous()?.tests.clone();
    let Some(ready) = observed.validated.target.ready() else { return before() };
    ready.tests.as_ref()?;
    let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    match observed.decision {
        Decision::Refuse(CheckOutcome { tests: Some(tests), .. }) | Decision::Switch(CheckOutcome { tests: Some(tests), .. }) => {
            Some(TestsStatus {
                passed: count(tests.passed),
                failed: count(tests.failed),
                first_failure: tests.first_failure.as_ref().map(|failure| failure.chars().take(1024).collect()),
            })
        }
        Decision::Follow => Some(TestsStatus { passed: count(number(ready.job.tests.len())), ..TestsStatus::default() }),
        _ => before(),
    }
}

fn number(tests: usize) -> u32 {
    u32::try_from(tests).unwrap_or(u32::MAX)
}
