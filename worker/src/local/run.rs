//! The loop of a local run: find splits, hold all of them, show progress, until everything has ended or a signal comes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use millrace_connectors::aws::open_store;
use millrace_crds::job::Job;
use millrace_crds::report::{Assignment, ErrorReason, TaskRef, TaskReport};
use millrace_engine::checkpoint;
use millrace_engine::runtime::TaskEnd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::RunArgs;
use super::progress::{Progress, say, summary};
use super::secrets::SecretFiles;
use crate::assemble::{Assembled, Store, assemble, is_queue, spill_space};
use crate::clock::SystemClock;
use crate::tasks::Tasks;
use crate::{check, exit, http, logging};

/// Folder below that of the checkpoints for state that has no room in memory.
const SPILL_DIR: &str = ".spill";
/// Time between two looks at the tasks.
const TICK: Duration = Duration::from_millis(200);
/// Looks between two searches for new splits.
const TICKS_BETWEEN_SEARCHES: u32 = 25;
/// Looks between two progress lines.
const TICKS_BETWEEN_LINES: u32 = 5;

/// Runs the Pipelines of the manifests.
pub(crate) async fn run(args: RunArgs) -> anyhow::Result<u8> {
    logging::init(logging::LogFormat::Text, if args.verbose { "info" } else { "off" });
    let (jobs, manifests) = super::load_jobs(&args.manifests, &args.state_dir)?;
    let secrets = SecretFiles::write(&manifests, args.secrets_dir.as_deref())?;
    let mut locals = Vec::new();
    for job in jobs {
        let folder = secrets.folder(&job.pipeline.namespace);
        locals.push(Local::open(job, folder, &args.state_dir.join(SPILL_DIR)).await?);
    }
    let mut server = JoinSet::new();
    if let Some(address) = args.http {
        server.spawn(http::serve(address, locals.iter().map(Local::shown).collect()));
    }
    let mut progress = Progress::new(args.quiet);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stopped = tokio::select! {
        stop = watch_over(&mut locals, &mut progress) => Some(stop),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        Some(ended) = server.join_next() => return Err(ended.map_or_else(Into::into, |end| end.err().unwrap_or_else(|| anyhow::anyhow!("the HTTP server ended")))),
    };
    if stopped.is_none() {
        say("closing a last epoch; a second signal stops at once (nothing is lost, more is read again)");
    }
    let closed = tokio::select! {
        closed = close(&mut locals) => closed,
        _ = interrupt.recv() => return Ok(exit::INTERNAL),
        _ = terminate.recv() => return Ok(exit::INTERNAL),
    };
    for (name, tasks, _) in &closed {
        say(&format!("{name}: {}", summary(tasks)));
    }
    match stopped {
        Some(Stop::Refused { code, message }) => Err(exit::Failed { code, message }.into()),
        Some(Stop::Finished) | None => {
            let abandoned = closed.iter().flat_map(|(_, _, ends)| ends).any(|end| *end == TaskEnd::Abandoned);
            Ok(if abandoned { exit::INTERNAL } else { exit::DRAINED })
        }
    }
}

/// Why a run ends by itself.
enum Stop {
    /// Every input has ended and everything is durable.
    Finished,
    /// The policy says to stop, or another process has taken over.
    Refused { code: u8, message: String },
}

/// One Pipeline.
struct Local {
    name: String,
    assembled: Arc<Assembled>,
    store: Store,
    tasks: Tasks,
    wanted: Assignment,
    shown: watch::Sender<Vec<TaskReport>>,
    ready: Arc<AtomicBool>,
}

impl Local {
    async fn open(job: Job, secrets: PathBuf, spill_dir: &Path) -> anyhow::Result<Self> {
        let name = job.pipeline.name.clone();
        let state = job.state.clone();
        let assembled = assemble(job, secrets)
            .map_err(|problems| exit::bad_config(format!("pipeline {name} cannot run:{}", check::describe(&problems))))?;
        let clock = Arc::new(SystemClock);
        let (objects, base) = open_store(&state.location, state.aws.as_ref(), &assembled.context).await?;
        let nonce = format!("{:032x}", rand::random::<u128>());
        checkpoint::probe(Arc::clone(&objects), &base, &nonce, Arc::clone(&clock) as Arc<dyn checkpoint::Clock>).await?;
        let spill = spill_space(&spill_dir.join(&assembled.job.pipeline.namespace).join(&name), &assembled.job.limits);
        let store = Store { store: objects, base, clock, spill };
        let assembled = Arc::new(assembled);
        let tasks = Tasks::new(Arc::clone(&assembled), store.clone());
        let (shown, _) = watch::channel(Vec::new());
        Ok(Self { name, assembled, store, tasks, wanted: Assignment::default(), shown, ready: Arc::new(AtomicBool::new(true)) })
    }

    fn shown(&self) -> http::Shown {
        let identity = &self.assembled.job.pipeline;
        http::Shown {
            pipeline: format!("{}/{}", identity.namespace, identity.name).into(),
            ready: Arc::clone(&self.ready),
            tasks: self.shown.subscribe(),
        }
    }

    /// Adds splits that have appeared, and all partitions of an exchange. Where one task reads everything, it searches by itself. A queue has one task here, and those that another set of workers has left unfinished.
    async fn search(&mut self) {
        if self.assembled.is_whole() {
            self.wanted.tasks = vec![TaskRef::whole()];
            return;
        }
        if self.wanted.tasks.is_empty() {
            self.wanted.tasks.extend(self.assembled.exchange_tasks());
        }
        for input in &self.assembled.inputs {
            let task = |split: String| TaskRef { input: input.name.clone(), split };
            let found = match self.assembled.splits(input, &self.store).await {
                Ok(splits) => splits,
                Err(error) => {
                    say(&format!("{}: Source \"{}\" cannot be searched for splits: {}", self.name, input.source_name, error.message));
                    Vec::new()
                }
            };
            let own = is_queue(input).then(|| "0".to_owned());
            for split in own.iter().cloned().chain(found) {
                let task = task(split);
                if !self.wanted.tasks.contains(&task) {
                    if own.as_ref().is_some_and(|own| *own != task.split) {
                        self.wanted.draining.push(task.clone());
                    }
                    self.wanted.tasks.push(task);
                }
            }
        }
    }

    /// Whether the run has to end because of this Pipeline.
    fn stop(&self, tasks: &[TaskReport]) -> Option<Stop> {
        use millrace_crds::report::TaskPhase;
        for task in tasks {
            if task.phase == TaskPhase::Fenced {
                let what = if task.task.is_whole() {
                    "it".to_owned()
                } else if task.task.is_exchange() {
                    format!("partition {} of its exchange", task.task.split)
                } else {
                    format!("split {} of {}", task.task.split, task.task.input)
                };
                let message = format!("pipeline {}: another process has taken over {what}", self.name);
                return Some(Stop::Refused { code: exit::FENCED, message });
            }
            // One that runs has gone on behind what was lost, as its policy says.
            let is_running = matches!(task.phase, TaskPhase::Running | TaskPhase::Draining | TaskPhase::Finished);
            for trouble in task.troubles.iter().filter(|_| !is_running) {
                if matches!(trouble.reason, ErrorReason::PoisonRecord | ErrorReason::DataLost) {
                    let message = format!("pipeline {}: {}", self.name, trouble.message);
                    return Some(Stop::Refused { code: exit::DATA_LOSS_POLICY, message });
                }
            }
        }
        None
    }
}

/// Looks after all Pipelines until the run has to end.
async fn watch_over(locals: &mut [Local], progress: &mut Progress) -> Stop {
    let mut tick = tokio::time::interval(TICK);
    for round in 0_u32.. {
        tick.tick().await;
        let mut finished = true;
        for local in locals.iter_mut() {
            if round.is_multiple_of(TICKS_BETWEEN_SEARCHES) {
                local.search().await;
            }
            local.tasks.follow(&local.wanted);
            let tasks = local.tasks.report();
            if round.is_multiple_of(TICKS_BETWEEN_LINES) && round > 0 {
                progress.show(&local.name, &tasks);
            }
            if let Some(stop) = local.stop(&tasks) {
                return stop;
            }
            finished &= local.tasks.all_finished();
            local.shown.send_replace(tasks);
        }
        if finished {
            break;
        }
    }
    Stop::Finished
}

/// Closes all Pipelines at once; what each had done, and how its tasks ended.
async fn close(locals: &mut [Local]) -> Vec<(String, Vec<TaskReport>, Vec<TaskEnd>)> {
    futures::future::join_all(locals.iter_mut().map(|local| async {
        let before = local.tasks.report();
        let ends = local.tasks.close().await;
        (local.name.clone(), before, ends)
    }))
    .await
}
