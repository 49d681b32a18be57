//! The loop of a worker pod: report, follow the answer, until a signal comes; then a last epoch for every task.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millrace_connectors::aws::open_store;
use millrace_crds::job::Job;
use millrace_crds::report::{
    Assignment, CheckOutcome, InputSplits, ProbeReport, Problem, REPORT_VERSION, Report, TaskReport, Trouble, TroublePart, WorkerPhase,
};
use millrace_engine::checkpoint::{self, Clock};
use millrace_engine::connector::{Backoff, ConnectorError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::WorkerArgs;
use super::edges::Edges;
use super::operator::Operator;
use crate::assemble::{Assembled, Store, assemble, spill_space};
use crate::clock::SystemClock;
use crate::tasks::Tasks;
use crate::{check, exit, http, logging};

/// Time between two looks at the tasks; a change is reported at the next look.
const TICK: Duration = Duration::from_millis(200);
/// Looks between two reports without a change.
const TICKS_BETWEEN_REPORTS: u32 = 10;

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
    let mut worker = Worker { reporter: Reporter::new(&args, &job, operator), tasks, ready, spill_dir: args.spill_dir.clone() };
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
    tasks: watch::Sender<Vec<TaskReport>>,
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
        let store = self.open_store(&assembled).await;
        let edges = Edges::start(&assembled, &store);
        self.reporter.tasks = Some(Tasks::new(Arc::clone(&assembled), store));
        self.reporter.phase = WorkerPhase::Running;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut since_report = TICKS_BETWEEN_REPORTS;
        let mut told = Vec::new();
        loop {
            tick.tick().await;
            let tasks = self.reporter.task_reports();
            since_report += 1;
            let signature = signature(&tasks);
            self.tasks.send_replace(tasks);
            if since_report < TICKS_BETWEEN_REPORTS && signature == told {
                continue;
            }
            since_report = 0;
            told = signature;
            let found = if self.reporter.enumerates { Some(edges.known()) } else { None };
            match self.reporter.report(found).await {
                Ok(assignment) => {
                    self.reporter.enumerates = assignment.enumerate;
                    if let Some(tasks) = &mut self.reporter.tasks {
                        tasks.follow(&assignment).await;
                    }
                    self.ready.store(true, Ordering::Relaxed);
                }
                Err(error) => tracing::warn!(error = format!("{error:#}"), "the operator does not answer; what runs keeps running"),
            }
        }
    }

    /// The Job cannot run. Exiting would only make the kubelet restart us, so we stay and say why.
    async fn refused(&mut self, problems: Vec<Problem>) -> anyhow::Result<()> {
        tracing::error!(problems = check::describe(&problems), "the Job cannot run");
        self.reporter.check.problems = problems;
        self.reporter.phase = WorkerPhase::Failed;
        loop {
            if let Err(error) = self.reporter.report(None).await {
                tracing::warn!(error = format!("{error:#}"), "the operator does not answer");
            }
            tokio::time::sleep(TICK * TICKS_BETWEEN_REPORTS).await;
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
            if let Err(error) = self.reporter.report(None).await {
                tracing::warn!(error = format!("{error:#}"), "the operator does not answer");
            }
            tokio::time::sleep(backoff.delay(rand::random())).await;
        }
    }

    /// Closes a last epoch of every task, while the operator is told.
    async fn close(mut self) -> anyhow::Result<u8> {
        tracing::info!("closing a last epoch");
        self.reporter.phase = WorkerPhase::Draining;
        let Some(mut tasks) = self.reporter.tasks.take() else { return Ok(exit::DRAINED) };
        let ends = tasks.close().await;
        // The last report lets the operator hand the tasks on at once.
        if let Err(error) = self.reporter.report(None).await {
            tracing::info!(error = format!("{error:#}"), "the operator does not answer the last report");
        }
        let abandoned = ends.contains(&millrace_engine::runtime::TaskEnd::Abandoned);
        tracing::info!(tasks = ends.len(), abandoned, "closed");
        Ok(if abandoned { exit::INTERNAL } else { exit::DRAINED })
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
    operator: Operator,
    namespace: String,
    pipeline: String,
    pipeline_uid: String,
    worker: String,
    sequence: u64,
    phase: WorkerPhase,
    check: CheckOutcome,
    tasks: Option<Tasks>,
    enumerates: bool,
    troubles: Vec<Trouble>,
}

impl Reporter {
    fn new(args: &WorkerArgs, job: &Job, operator: Operator) -> Self {
        Self {
            operator,
            namespace: job.pipeline.namespace.clone(),
            pipeline: job.pipeline.name.clone(),
            pipeline_uid: job.pipeline.uid.clone(),
            worker: args.name.clone(),
            sequence: 0,
            phase: WorkerPhase::Starting,
            check: CheckOutcome { revision: job.revision(), ..CheckOutcome::default() },
            tasks: None,
            enumerates: false,
            troubles: Vec::new(),
        }
    }

    fn state_trouble(&mut self, location: String, error: &ConnectorError, now: i64) {
        let since_millis = self.troubles.first().map_or(now, |trouble| trouble.since_millis);
        let (reason, message) = (error.reason, error.message.clone());
        self.troubles = vec![Trouble { part: TroublePart::State, name: location, reason, message, since_millis }];
    }

    fn task_reports(&self) -> Vec<TaskReport> {
        self.tasks.as_ref().map(Tasks::report).unwrap_or_default()
    }

    async fn report(&mut self, found: Option<(Vec<InputSplits>, Vec<ProbeReport>)>) -> anyhow::Result<Assignment> {
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
            tasks: self.task_reports(),
            troubles: self.troubles.clone(),
            probes,
        };
        self.operator.report(&report).await
    }
}
