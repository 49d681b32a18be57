//! The loop of a worker pod: report, follow the answer, until a signal comes; then a last epoch for every task.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millrace_connectors::aws::open_store;
use millrace_crds::job::Job;
use millrace_crds::report::{
    Assignment, CheckOutcome, InputSplits, Poll, ProbeReport, Problem, REPORT_VERSION, Report, TaskReport, Trouble, TroublePart,
    WorkerPhase,
};
use millrace_engine::checkpoint::{self, Clock};
use millrace_engine::connector::{Backoff, ConnectorError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::WorkerArgs;
use super::edges::Edges;
use super::listener::Listener;
use super::operator::Operator;
use crate::assemble::{Assembled, Store, assemble, spill_space};
use crate::clock::SystemClock;
use crate::tasks::Tasks;
use crate::{check, exit, http, logging};

/// Time between two reports without a change.
const REPORT_EVERY: Duration = Duration::from_secs(2);
/// Time between two looks at troubles. What a task does is told by it.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Shortest time between two reports, so that what happens together is reported together.
const PAUSE: Duration = Duration::from_millis(10);
/// Pause after a report that was not answered, at first.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// For how long the operator is waited for where work goes on meanwhile: at the start and at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs the worker until it is told to stop.
pub(crate) async fn run(args: WorkerArgs) -> anyhow::Result<u8> {
    logging::init(logging::LogFormat::Json, "info");
    let job = check::read_job(&args.job)?;
    let operator = Operator::new(&args.operator_url, args.token_file.clone())?;
    let (tasks, shown) = watch::channel(Vec::new());
    let ready = Arc::new(AtomicBool::new(false));
    let identity = &job.pipeline;
    let show =
        http::Shown { pipeline: format!("{}/{}", identity.namespace, identity.name).into(), ready: Arc::clone(&ready), tasks: shown };
    let mut server = JoinSet::new();
    server.spawn(http::serve(args.http, vec![show]));

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let reporter = Reporter::new(&args, &job, operator);
    let mut worker = Worker { reporter, tasks: None, listener: None, shown: tasks, ready, spill_dir: args.spill_dir.clone() };
    let secrets = args.secrets_dir.clone();
    tokio::select! {
        ended = worker.work(job, secrets) => ended?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        Some(ended) = server.join_next() => ended??,
    }
    worker.close().await
}

struct Worker {
    reporter: Reporter,
    tasks: Option<Tasks>,
    /// Kept until the end: without it, the operator would give up a worker that closes its tasks.
    listener: Option<Listener>,
    shown: watch::Sender<Vec<TaskReport>>,
    ready: Arc<AtomicBool>,
    spill_dir: PathBuf,
}

impl Worker {
    /// Never returns, except with an error that a restart may cure.
    async fn work(&mut self, job: Job, secrets: std::path::PathBuf) -> anyhow::Result<()> {
        let assembled = match assemble(job, secrets) {
            Ok(assembled) => Arc::new(assembled),
            Err(problems) => return self.refused(problems).await,
        };
        self.reporter.check = assembled.outcome();
        // Where this is not the pod's first process, others take over at once what the one before held.
        self.reporter.say(Vec::new()).await;
        let store = self.open_store(&assembled).await;
        let edges = Edges::start(&assembled, &store);
        let listener = Listener::start(Arc::clone(&self.reporter.operator), self.reporter.poll());
        let listener = self.listener.insert(listener);
        let tasks = self.tasks.insert(Tasks::new(Arc::clone(&assembled), store));
        self.reporter.phase = WorkerPhase::Running;
        let mut backoff = Backoff::new(FIRST_PAUSE, REPORT_EVERY);
        loop {
            tasks.notice();
            let seen = tasks.report();
            self.shown.send_replace(seen.clone());
            let told = signature(&seen);
            let found = if self.reporter.enumerates { Some(edges.known()) } else { None };
            let wait = match self.reporter.report(seen, found).await {
                Ok(assignment) => {
                    listener.answered(self.reporter.sequence);
                    self.reporter.enumerates = assignment.enumerate;
                    tasks.follow(&assignment);
                    self.ready.store(true, Ordering::Relaxed);
                    backoff = Backoff::new(FIRST_PAUSE, REPORT_EVERY);
                    REPORT_EVERY
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "the operator does not answer; what runs keeps running");
                    backoff.delay(rand::random())
                }
            };
            let due = tokio::time::Instant::now() + wait;
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = listener.rung() => {}
                () = edges.other_splits(), if self.reporter.enumerates => {}
                () = news(tasks, &told, &self.shown) => {}
            }
        }
    }

    /// The Job cannot run. Exiting would only make the kubelet restart us, so we stay and say why.
    async fn refused(&mut self, problems: Vec<Problem>) -> anyhow::Result<()> {
        tracing::error!(problems = check::describe(&problems), "the Job cannot run");
        self.reporter.check.problems = problems;
        self.reporter.phase = WorkerPhase::Failed;
        loop {
            if let Err(error) = self.reporter.report(Vec::new(), None).await {
                tracing::warn!(error = format!("{error:#}"), "the operator does not answer");
            }
            tokio::time::sleep(REPORT_EVERY).await;
        }
    }

    /// Opens the checkpoint store, as often as it takes; meanwhile the trouble is reported.
    async fn open_store(&mut self, assembled: &Assembled) -> Store {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let state = &assembled.job.state;
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        loop {
            let error = match open_store(&state.location, state.aws.as_ref(), &assembled.context).await {
                Ok((store, base)) => {
                    let nonce = format!("{:032x}", rand::random::<u128>());
                    match checkpoint::probe(Arc::clone(&store), &base, &nonce, Arc::clone(&clock)).await {
                        Ok(()) => {
                            self.reporter.troubles.clear();
                            let spill = spill_space(&self.spill_dir, &assembled.job.limits);
                            return Store { store, base, clock, spill };
                        }
                        Err(error) => millrace_engine::runtime::store_error(&error),
                    }
                }
                Err(error) => error,
            };
            tracing::error!(reason = ?error.reason, error = %error.message, "the checkpoint store cannot be used");
            self.reporter.state_trouble(state.location.clone(), &error, clock.now_millis());
            if let Err(error) = self.reporter.report(Vec::new(), None).await {
                tracing::warn!(error = format!("{error:#}"), "the operator does not answer");
            }
            tokio::time::sleep(backoff.delay(rand::random())).await;
        }
    }

    /// Closes a last epoch of every task. The operator hears of each one that is closed, so that it goes on elsewhere while others are being closed.
    async fn close(mut self) -> anyhow::Result<u8> {
        tracing::info!("closing a last epoch");
        self.reporter.phase = WorkerPhase::Draining;
        let Some(mut tasks) = self.tasks.take() else { return Ok(exit::DRAINED) };
        let mut ends = tasks.let_go();
        loop {
            // The first report says that there is nothing to be given to this worker any more, the last one that all is closed.
            let left = tasks.report();
            let last = left.is_empty();
            self.reporter.say(left).await;
            self.listener.iter().for_each(|listener| listener.answered(self.reporter.sequence));
            if last {
                break;
            }
            ends.extend(tasks.next_ends().await);
        }
        let abandoned = ends.contains(&millrace_engine::runtime::TaskEnd::Abandoned);
        tracing::info!(tasks = ends.len(), abandoned, "closed");
        Ok(if abandoned { exit::INTERNAL } else { exit::DRAINED })
    }
}

/// Resolves when a task does something else than was told, or is in other trouble. Meanwhile what is shown stays fresh.
async fn news(tasks: &mut Tasks, told: &[String], shown: &watch::Sender<Vec<TaskReport>>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // The first look is at once: something may have happened during the last report.
        tokio::select! {
            () = tasks.changed() => {}
            _ = look.tick() => {}
        }
        let seen = tasks.report();
        let news = signature(&seen) != told;
        shown.send_replace(seen);
        if news {
            return;
        }
    }
}

/// What makes a report urgent: phases and troubles, not counters.
fn signature(tasks: &[TaskReport]) -> Vec<String> {
    tasks
        .iter()
        .map(|task| {
            let troubles: Vec<_> = task.troubles.iter().map(|t| (t.part, &t.name, t.reason)).collect();
            format!("{:?} {:?} {troubles:?}", task.task, task.phase)
        })
        .collect()
}

/// Makes and sends reports.
struct Reporter {
    operator: Arc<Operator>,
    namespace: String,
    pipeline: String,
    pipeline_uid: String,
    worker: String,
    sequence: u64,
    phase: WorkerPhase,
    check: CheckOutcome,
    enumerates: bool,
    troubles: Vec<Trouble>,
}

impl Reporter {
    fn new(args: &WorkerArgs, job: &Job, operator: Operator) -> Self {
        Self {
            operator: Arc::new(operator),
            namespace: job.pipeline.namespace.clone(),
            pipeline: job.pipeline.name.clone(),
            pipeline_uid: job.pipeline.uid.clone(),
            worker: args.name.clone(),
            sequence: 0,
            phase: WorkerPhase::Starting,
            check: CheckOutcome { revision: job.revision(), ..CheckOutcome::default() },
            enumerates: false,
            troubles: Vec::new(),
        }
    }

    fn state_trouble(&mut self, location: String, error: &ConnectorError, now: i64) {
        let since_millis = self.troubles.first().map_or(now, |trouble| trouble.since_millis);
        let (reason, message) = (error.reason, error.message.clone());
        self.troubles = vec![Trouble { part: TroublePart::State, name: location, reason, message, since_millis }];
    }

    /// For whom the operator is listened to.
    fn poll(&self) -> Poll {
        Poll {
            version: REPORT_VERSION,
            namespace: self.namespace.clone(),
            pipeline: self.pipeline.clone(),
            pipeline_uid: self.pipeline_uid.clone(),
            worker: self.worker.clone(),
            sequence: 0,
        }
    }

    /// Sends a report whose answer does not matter, without waiting for it for long.
    async fn say(&mut self, tasks: Vec<TaskReport>) {
        match tokio::time::timeout(PATIENCE, self.report(tasks, None)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::info!(error = format!("{error:#}"), "the operator does not answer"),
            Err(_) => tracing::info!("the operator does not answer in time"),
        }
    }

    async fn report(&mut self, tasks: Vec<TaskReport>, found: Option<(Vec<InputSplits>, Vec<ProbeReport>)>) -> anyhow::Result<Assignment> {
        self.sequence += 1;
        let (splits, probes) = found.unwrap_or_default();
        let report = Report {
            version: REPORT_VERSION,
            namespace: self.namespace.clone(),
            pipeline: self.pipeline.clone(),
            pipeline_uid: self.pipeline_uid.clone(),
            worker: self.worker.clone(),
            revision: self.check.revision.clone(),
            sequence: self.sequence,
            phase: self.phase,
            check: self.check.clone(),
            splits,
            tasks,
            troubles: self.troubles.clone(),
            probes,
        };
        self.operator.report(&report).await
    }
}
