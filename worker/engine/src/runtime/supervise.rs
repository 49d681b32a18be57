//! Keeps a task running: opens it again after a failure, with back-off, until it is told to close. It never hides why.

use std::sync::Arc;
use std::time::Duration;

use millrace_crds::report::TaskPhase;
use tokio::sync::watch;

use super::config::{Control, TaskConfig};
use super::driver::{self, TaskEnd};
use super::observed::Observed;
use crate::connector::Backoff;

/// First pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two runs.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A run that lasted this long starts the back-off anew.
const GOOD_RUN: Duration = Duration::from_mins(1);

/// Runs a task until it has ended. `random` gives random numbers: for owner nonces (which must be unique) and for spreading retries.
///
/// Told to [`Control::Close`], it ends within the drain budget: with a last epoch if there is time for one.
pub async fn supervise(
    config: TaskConfig,
    observed: Arc<Observed>,
    mut control: watch::Receiver<Control>,
    random: impl Fn() -> u128 + Send,
) -> TaskEnd {
    let config = Arc::new(config);
    let mut overrun = control.clone();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        observed.restart();
        let started = tokio::time::Instant::now();
        let run = driver::run(&config, &observed, &mut control, format!("{:032x}", random()));
        let ended = tokio::select! {
            ended = Box::pin(run) => ended,
            () = over_budget(&mut overrun, config.drain_budget) => Ok(TaskEnd::Abandoned),
        };
        match ended {
            Ok(end) => {
                match end {
                    TaskEnd::Finished => observed.set_phase(TaskPhase::Finished),
                    TaskEnd::Fenced => observed.set_phase(TaskPhase::Fenced),
                    // The split may hold more work for the next owner: only the list of held tasks says that this one is let go.
                    TaskEnd::Released | TaskEnd::Abandoned => {}
                }
                return end;
            }
            Err(failure) if failure.fenced => {
                tracing::warn!(error = %failure.error, "another worker has claimed this task");
                observed.set_phase(TaskPhase::Fenced);
                return TaskEnd::Fenced;
            }
            Err(failure) => {
                tracing::error!(part = ?failure.part, reason = ?failure.error.reason, error = %failure.error.message, "the task failed; it is opened again at its last epoch");
                observed.failed(failure.part, &failure.error);
                observed.set_phase(TaskPhase::Failed);
            }
        }
        if started.elapsed() > GOOD_RUN {
            backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        }
        let pause = backoff.delay(random() as u32);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = closing(&mut control) => return TaskEnd::Abandoned,
        }
    }
}

/// Resolves when the task has been told to close.
async fn closing(control: &mut watch::Receiver<Control>) {
    // An error means that the controller is gone: the process is going down.
    let _gone = control.wait_for(|wanted| *wanted == Control::Close).await;
}

/// Resolves when the task has been told to close `budget` ago.
async fn over_budget(control: &mut watch::Receiver<Control>, budget: Duration) {
    closing(control).await;
    tokio::time::sleep(budget).await;
}
