//! Listens to the operator: one request at a time that waits until another report is worth while. It carries no assignment, and nothing depends on it: without it,
//! the next report in turn gets the same answer.

use std::sync::Arc;
use std::time::Duration;

use millrace_crds::report::Poll;
use millrace_engine::connector::Backoff;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::operator::{Heard, Operator};

/// First pause after a request that failed: an operator that is there is heard again long before it gives us up.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Pause after an operator that has no such endpoint: it may be replaced by a newer one.
const OLD_OPERATOR: Duration = Duration::from_secs(30);

/// Listens while it lives.
pub(super) struct Listener {
    bell: Arc<Notify>,
    answered: watch::Sender<u64>,
    _listening: JoinSet<()>,
}

impl Listener {
    /// Starts listening once a report has been answered. `poll` says for whom.
    pub(super) fn start(operator: Arc<Operator>, poll: Poll) -> Self {
        let bell = Arc::new(Notify::new());
        let (answered, reports) = watch::channel(0);
        let mut listening = JoinSet::new();
        let ask = move |sequence| {
            let (operator, poll) = (Arc::clone(&operator), Poll { sequence, ..poll.clone() });
            async move { operator.poll(&poll).await }
        };
        listening.spawn(listen(ask, reports, Arc::clone(&bell)));
        Self { bell, answered, _listening: listening }
    }

    /// A report was answered.
    pub(super) fn answered(&self, sequence: u64) {
        self.answered.send_replace(sequence);
    }

    /// Resolves when the operator wants another report.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }
}

/// `ask` waits for the operator's answer, given the last report that was answered.
async fn listen<F, Fut>(ask: F, mut reports: watch::Receiver<u64>, bell: Arc<Notify>)
where
    F: Fn(u64) -> Fut,
    Fut: Future<Output = anyhow::Result<Heard>>,
{
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut old = false;
    if reports.wait_for(|answered| *answered > 0).await.is_err() {
        return;
    }
    loop {
        let sequence = *reports.borrow_and_update();
        let pause = match ask(sequence).await {
            Ok(heard @ (Heard::Changed | Heard::Unchanged)) => {
                backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
                old = false;
                if heard == Heard::Changed {
                    bell.notify_one();
                    // Until it was answered, the operator would only say so again. An error means that the process is going down.
                    if reports.changed().await.is_err() {
                        return;
                    }
                }
                continue;
            }
            Ok(Heard::NoSuchEndpoint) => {
                if !old {
                    tracing::info!(
                        "the operator is older than this worker: what it wants is heard with its answers to reports only, within two seconds"
                    );
                }
                old = true;
                OLD_OPERATOR
            }
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "not heard by the operator");
                backoff.delay(rand::random())
            }
        };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    /// An operator that answers as written down, then never again; and when it was asked, after which report.
    #[derive(Clone, Default)]
    struct Scripted {
        answers: Arc<Mutex<VecDeque<Option<Heard>>>>,
        asked: Arc<Mutex<Vec<(Duration, u64)>>>,
    }

    impl Scripted {
        fn listener(answers: &[Option<Heard>]) -> (Self, Listener) {
            let scripted = Self { answers: Arc::new(Mutex::new(answers.iter().copied().collect())), asked: Arc::default() };
            let (bell, (answered, reports)) = (Arc::new(Notify::new()), watch::channel(0));
            let (script, since) = (scripted.clone(), Instant::now());
            let ask = move |sequence| {
                script.asked.lock().unwrap().push((since.elapsed(), sequence));
                let answer = script.answers.lock().unwrap().pop_front();
                async move {
                    match answer {
                        Some(answer) => answer.ok_or_else(|| anyhow::anyhow!("refused")),
                        None => std::future::pending().await,
                    }
                }
            };
            let mut listening = JoinSet::new();
            listening.spawn(listen(ask, reports, Arc::clone(&bell)));
            (scripted, Listener { bell, answered, _listening: listening })
        }

        /// Reports after which it was asked.
        fn sequences(&self) -> Vec<u64> {
            self.asked.lock().unwrap().iter().map(|(_, sequence)| *sequence).collect()
        }
    }

    async fn pass(time: Duration) {
        tokio::time::sleep(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_bell_is_answered_by_a_report_before_it_is_listened_for_again() {
        let (operator, listener) = Scripted::listener(&[Some(Heard::Unchanged), Some(Heard::Changed)]);
        pass(Duration::from_secs(10)).await;
        assert_eq!(operator.sequences(), [0; 0], "nothing is told before the first answer");
        listener.answered(3);
        listener.rung().await;
        pass(Duration::from_secs(10)).await;
        assert_eq!(operator.sequences(), [3, 3], "not asked again before the report");
        listener.answered(4);
        pass(Duration::from_secs(10)).await;
        assert_eq!(operator.sequences(), [3, 3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_operator_without_the_endpoint_is_asked_again_when_it_may_be_a_newer_one() {
        let (operator, listener) = Scripted::listener(&[Some(Heard::NoSuchEndpoint), Some(Heard::NoSuchEndpoint), Some(Heard::Changed)]);
        listener.answered(1);
        pass(OLD_OPERATOR.saturating_sub(Duration::from_secs(1))).await;
        assert_eq!(operator.sequences(), [1]);
        listener.answered(9);
        listener.rung().await;
        assert_eq!(operator.sequences(), [1, 9, 9]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_refuses_is_asked_again_soon_then_less_often() {
        let (operator, listener) = Scripted::listener(&[None; 20]);
        listener.answered(1);
        pass(Duration::from_millis(400)).await;
        assert!(operator.sequences().len() >= 3, "well within the time after which the operator gives a worker up");
        pass(Duration::from_mins(2)).await;
        let asked = operator.asked.lock().unwrap().clone();
        assert!(asked.windows(2).all(|pair| pair[1].0.saturating_sub(pair[0].0) <= LONGEST_PAUSE));
        assert_eq!(asked.len(), 21);
    }
}
