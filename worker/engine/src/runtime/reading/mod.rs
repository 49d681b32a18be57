//! The splits that a task reads: one reader task each, one queue in which they tell what they have read. It processes nothing.
//!
//! ```text
//!  split a ─▶ reader task ─┐
//!  split b ─▶ reader task ─┼─▶ queue, bounded by bytes ─▶ driver ─▶ commands back to each: acknowledge, drain, stop
//!  search for new splits ──┘
//! ```

mod ahead;
mod reader;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use millrace_crds::report::{Distribution, ErrorReason};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use self::ahead::Ahead;
use self::reader::{Command, SplitTask, Start, Tell};
use super::config::{InputBinding, Splits, TaskConfig};
use super::driver::Failure;
use super::observed::{Observed, Part};
use crate::checkpoint::position_key;
use crate::connector::ConnectorError;
use crate::source::{Lag, OpenSplit, Shared};

pub(super) use self::reader::Said;

/// Time between two searches for new splits.
const SEARCH_EVERY: Duration = Duration::from_secs(5);
/// Most bytes that are read ahead, of all splits: enough for some batches of each of a few.
const MOST_AHEAD: usize = 4 << 20;
/// The split of a queue that a task reads for itself; what is in the others was left unfinished by somebody.
const OWN_SPLIT: &str = "0";

/// What of the bytes in flight may be read ahead.
pub(super) fn ahead_of(in_flight_bytes: usize) -> usize {
    (in_flight_bytes / 4).clamp(1, MOST_AHEAD)
}

/// What happens to a task's splits.
pub(super) enum Event {
    /// The reader of a split, by number, says something.
    Split(usize, Said),
    /// The splits of an input, by number, that there are now.
    Found(usize, Vec<String>),
}

/// All splits of a task.
pub(super) struct Reading {
    config: Arc<TaskConfig>,
    observed: Arc<Observed>,
    generation: u64,
    splits: Vec<Split>,
    known: BTreeMap<(usize, String), usize>,
    said: mpsc::UnboundedSender<(usize, Said)>,
    heard: mpsc::UnboundedReceiver<(usize, Said)>,
    search: Option<Search>,
    ahead: Ahead,
    draining: bool,
    stopped: bool,
}

struct Search {
    found: mpsc::Receiver<(usize, Vec<String>)>,
    _task: AbortOnDropHandle<()>,
}

/// One split.
struct Split {
    input: usize,
    key: String,
    commands: mpsc::UnboundedSender<Command>,
    task: AbortOnDropHandle<()>,
    lag: Arc<Mutex<Lag>>,
    /// Left unfinished by somebody else: drained at once.
    left_over: bool,
    ended: bool,
    stopped: bool,
    acknowledged: Option<Value>,
}

impl Reading {
    pub(super) fn new(config: &Arc<TaskConfig>, observed: &Arc<Observed>, generation: u64) -> Self {
        let (said, heard) = mpsc::unbounded_channel();
        Self {
            config: Arc::clone(config),
            observed: Arc::clone(observed),
            generation,
            splits: Vec::new(),
            known: BTreeMap::new(),
            said,
            heard,
            search: None,
            ahead: Ahead::new(ahead_of(config.in_flight_bytes)),
            draining: false,
            stopped: false,
        }
    }

    /// Finds the splits that there are, opens them at their positions, and goes on searching. All are open when it returns.
    pub(super) async fn open(&mut self, positions: &BTreeMap<String, Value>) -> Result<(), Failure> {
        for (index, input) in Arc::clone(&self.config).inputs.iter().enumerate() {
            let found = match &input.splits {
                Splits::One(split) => vec![split.clone()],
                Splits::All => splits_of(&self.config, input).await.map_err(|error| self.failure(index, error))?,
            };
            let opening = found.into_iter().map(|split| {
                let open = self.open_split(index, &split, positions);
                async move {
                    let position = open.position.clone();
                    let health = open.health.clone();
                    input.source.open(open).await.map(|reader| (split, position, health, reader))
                }
            });
            let opening: Vec<_> = opening.collect();
            for (split, position, health, reader) in try_join_all(opening).await.map_err(|error| self.failure(index, error))? {
                self.start(index, split, position, health, Start::Opened(reader));
            }
        }
        self.search = Search::start(&self.config);
        Ok(())
    }

    /// Opens what has not been known of an input. What goes wrong is told as of any split.
    pub(super) fn add(&mut self, input: usize, found: Vec<String>, positions: &BTreeMap<String, Value>) -> Vec<usize> {
        let source = Arc::clone(&self.config.inputs[input].source);
        let new = found.into_iter().filter(|split| !self.stopped && !self.known.contains_key(&(input, split.clone()))).collect::<Vec<_>>();
        let add = |split: String| {
            let open = self.open_split(input, &split, positions);
            let (position, health) = (open.position.clone(), open.health.clone());
            tracing::info!(input = %self.config.inputs[input].name, %split, "a split has appeared");
            self.start(input, split, position, health, Start::Open(Arc::clone(&source), Box::new(open)))
        };
        new.into_iter().map(add).collect()
    }

    fn open_split(&self, input: usize, split: &str, positions: &BTreeMap<String, Value>) -> OpenSplit {
        let binding = &self.config.inputs[input];
        OpenSplit {
            split: split.to_owned(),
            position: positions.get(&position_key(&binding.name, split)).cloned(),
            projection: self.config.projection(input),
            generation: self.generation,
            shared: shared(&self.config, binding),
            health: self.observed.health(self.part(input)),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the handle is joined in `close` and aborted on drop")]
    fn start(&mut self, input: usize, name: String, position: Option<Value>, health: crate::connector::Health, start: Start) -> usize {
        let number = self.splits.len();
        let binding = &self.config.inputs[input];
        let (commands, receiver) = mpsc::unbounded_channel();
        let lag = Arc::new(Mutex::new(Lag::default()));
        let task = SplitTask {
            tell: Tell { split: number, said: self.said.clone(), over: false },
            commands: receiver,
            ahead: self.ahead.clone(),
            lag: Arc::clone(&lag),
            health,
            idle_after: (self.config.keeps_time() && !binding.source.carries_time()).then_some(self.config.idle_timeout),
            told: position.clone(),
        };
        let left_over = binding.is_queue() && matches!(binding.splits, Splits::All) && name != OWN_SPLIT;
        let split = Split {
            input,
            key: position_key(&binding.name, &name),
            commands,
            task: AbortOnDropHandle::new(tokio::spawn(task.run(start))),
            lag,
            left_over,
            ended: false,
            stopped: false,
            acknowledged: position,
        };
        if left_over || self.draining {
            split.tell(Command::Drain);
        }
        self.splits.push(split);
        self.known.insert((input, name), number);
        number
    }

    /// The next event. A dropped call loses nothing.
    pub(super) async fn next(&mut self) -> Event {
        let search = async {
            match &mut self.search {
                Some(search) => search.found.recv().await,
                None => None,
            }
        };
        tokio::select! {
            biased;
            Some((split, said)) = self.heard.recv() => {
                match said {
                    Said::Ended => self.splits[split].ended = true,
                    Said::Stopped => self.splits[split].stopped = true,
                    _ => {}
                }
                Event::Split(split, said)
            }
            Some((input, found)) = search => Event::Found(input, found),
            else => std::future::pending().await,
        }
    }

    /// The input of a split.
    pub(super) fn input_of(&self, split: usize) -> usize {
        self.splits[split].input
    }

    /// Under which a split's position is stored.
    pub(super) fn key_of(&self, split: usize) -> &str {
        &self.splits[split].key
    }

    /// Numbers of the splits.
    pub(super) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.splits.len()
    }

    /// Take nothing new, finish what is held.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.search = None;
        self.splits.iter().for_each(|split| split.tell(Command::Drain));
    }

    /// Read nothing more. What has been read still comes.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.search = None;
        self.splits.iter().for_each(|split| split.tell(Command::Stop));
    }

    /// Whether everything that was read has come, and nothing more will.
    pub(super) fn is_quiet(&self) -> bool {
        self.splits.iter().all(|split| split.ended || split.stopped)
    }

    /// Whether every split of every input has ended.
    pub(super) fn has_ended(&self) -> bool {
        let has_splits = |input: usize| self.splits.iter().any(|split| split.input == input);
        self.splits.iter().all(|split| split.ended) && (self.draining || (0..self.config.inputs.len()).all(has_splits))
    }

    /// Whether a split that has ended may have more another time: it was told to drain, and it is not one that somebody else has left unfinished.
    pub(super) fn goes_on_later(&self, split: usize) -> bool {
        self.draining && !self.splits[split].left_over
    }

    /// Whether the inputs ended by themselves: more of what is held would never come.
    pub(super) fn ended_by_itself(&self) -> bool {
        self.has_ended() && !self.draining
    }

    /// Acknowledges what has moved since the last time.
    pub(super) async fn acknowledge(&mut self, positions: &BTreeMap<String, Value>) -> Result<(), Failure> {
        let mut answers = Vec::new();
        for (number, split) in self.splits.iter_mut().enumerate() {
            let Some(position) = positions.get(&split.key).filter(|position| split.acknowledged.as_ref() != Some(position)) else {
                continue;
            };
            let (answer, receiver) = oneshot::channel();
            split.tell(Command::Acknowledge(position.clone(), answer));
            split.acknowledged = Some(position.clone());
            answers.push((number, receiver));
        }
        for (number, answer) in answers {
            match answer.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(self.failure(self.splits[number].input, error)),
                Err(_gone) => return Err(self.cause_of(number)),
            }
        }
        Ok(())
    }

    /// Why the reader of a split has ended.
    fn cause_of(&mut self, number: usize) -> Failure {
        while let Ok((split, said)) = self.heard.try_recv() {
            if let Said::Failed(error) = said
                && split == number
            {
                return self.failure(self.splits[number].input, error);
            }
        }
        self.failure(self.splits[number].input, ConnectorError::new(ErrorReason::Internal, "the reader of the split has ended"))
    }

    /// An error of an input's source as the failure of the task.
    pub(super) fn failure(&self, input: usize, error: ConnectorError) -> Failure {
        Failure::new(self.part(input), error)
    }

    /// An input's source as a part of the task.
    pub(super) fn part(&self, input: usize) -> Part {
        Part::Source(self.config.inputs[input].source_name.clone())
    }

    /// How far behind the task is. Readers of one queue see the same queue, the splits of others add up.
    pub(super) fn lag(&self) -> Lag {
        let mut sum = Lag { idle: !self.splits.is_empty(), ..Lag::default() };
        for (index, input) in self.config.inputs.iter().enumerate() {
            let mut records: Option<u64> = None;
            for split in self.splits.iter().filter(|split| split.input == index) {
                let lag = *split.lag.lock().unwrap_or_else(PoisonError::into_inner);
                let ended = split.ended;
                sum.idle &= lag.idle || ended;
                sum.seconds = sum.seconds.max(lag.seconds);
                if let Some(more) = lag.records {
                    let so_far = records.unwrap_or(0);
                    records = Some(if input.is_queue() { so_far.max(more) } else { so_far.saturating_add(more) });
                }
            }
            if let Some(records) = records {
                sum.records = Some(sum.records.unwrap_or(0).saturating_add(records));
            }
        }
        sum
    }

    /// Lets go of all splits.
    pub(super) async fn close(self) {
        let Self { splits, search, .. } = self;
        drop(search);
        let tasks: Vec<_> = splits.into_iter().map(|Split { commands, task, .. }| (drop(commands), task).1).collect();
        for task in tasks {
            let _ended = task.await;
        }
    }
}

impl Split {
    fn tell(&self, command: Command) {
        // A reader that has ended has told why, or does so soon.
        let _unheard = self.commands.send(command);
    }
}

impl Search {
    /// `None` if no input may get new splits.
    #[expect(clippy::disallowed_methods, reason = "the handle aborts on drop")]
    fn start(config: &Arc<TaskConfig>) -> Option<Self> {
        if config.inputs.iter().all(|input| matches!(input.splits, Splits::One(_))) {
            return None;
        }
        let (sender, found) = mpsc::channel(1);
        let task = tokio::spawn(search(Arc::clone(config), sender));
        Some(Self { found, _task: AbortOnDropHandle::new(task) })
    }
}

async fn search(config: Arc<TaskConfig>, found: mpsc::Sender<(usize, Vec<String>)>) {
    loop {
        tokio::time::sleep(SEARCH_EVERY).await;
        for (index, input) in config.inputs.iter().enumerate().filter(|(_, input)| matches!(input.splits, Splits::All)) {
            match splits_of(&config, input).await {
                Ok(splits) => {
                    if found.send((index, splits)).await.is_err() {
                        return;
                    }
                }
                // The probe tells users; what was found before is read on.
                Err(error) => {
                    tracing::warn!(input = %input.name, reason = ?error.reason, error = %error.message, "cannot search for splits")
                }
            }
        }
    }
}

/// All splits of an input that a task has to read: those of a queue are its own and what others have left.
async fn splits_of(config: &TaskConfig, input: &InputBinding) -> Result<Vec<String>, ConnectorError> {
    let mut splits = input.source.splits(&shared(config, input)).await?;
    if input.source.distribution() == Distribution::Competing && !splits.iter().any(|split| split == OWN_SPLIT) {
        splits.push(OWN_SPLIT.to_owned());
    }
    splits.sort();
    splits.dedup();
    Ok(splits)
}

fn shared(config: &TaskConfig, input: &InputBinding) -> Shared {
    Shared::of(Arc::clone(&config.store), &config.base, &config.pipeline_uid, &input.name)
}
