//! State back into the operators: whether it fits the plan, known before anything is claimed, and its files after. It never goes on without state that
//! an epoch has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use millrace_crds::report::{EXCHANGE, ErrorReason, TaskRef};

use super::file::{self, Content};
use super::increments::Increments;
use super::parts::{AT_ONCE, Parts};
use crate::checkpoint::{EpochRecord, KnownBucket, Owner, PipelineUid, StageName, StateRef, TaskId, list_tasks, operator_of};
use crate::connector::ConnectorError;
use crate::exchange::Replay;
use crate::operators::{ExecuteError, KEY_GROUPS, OperatorState, Snapshot};
use crate::plan::stages::merged;
use crate::runtime::buckets::{Aside, Broken, Known};
use crate::runtime::closing::state_failure;
use crate::runtime::config::{InputBinding, TaskConfig};
use crate::runtime::driver::Failure;
use crate::runtime::lanes::{Cut, Operators, Spilling};
use crate::runtime::observed::Part;
use crate::runtime::processing::broken;
use crate::runtime::stage::Stage;
use crate::runtime::tier::{SpillSpace, Spilled};

const WHAT_TO_DO: &str = "take the change back, or create a Pipeline with another name, which starts without state";
/// How much more memory state takes than its files, at most, nearly always.
const PACKED: u64 = 8;
const OR_DROP: &str = "take the change back, allow that it is dropped by spec.upgrade.statePolicy, or create a Pipeline with another name";

/// Refuses a plan that cannot restore the state of the last epoch, unless it may be dropped. Nothing is changed, so that the plan before can go on from it.
pub(in crate::runtime) fn check_state(config: &TaskConfig, last: &EpochRecord) -> Result<(), Failure> {
    // In front of an exchange, the tasks of the splits have the names that they have without; but what they have read is in the exchange.
    if !last.positions.is_empty() && last.stage != config.stage.name() {
        let with = |stage: Option<StageName>| if stage.is_some() { "with an exchange" } else { "without an exchange" };
        let (task, now, before) = (config.task_id(), with(config.stage.name()), with(last.stage));
        let message = format!("task {task} is to run {now} and has run {before}: what it has read is not where it would be looked for");
        return Err(invalid(format!("{message}; {WHAT_TO_DO}")));
    }
    for (operator, file) in last.operators.iter().flat_map(|(key, files)| files.iter().map(move |file| (operator_of(key).0, file))) {
        match unfit(config, operator, file) {
            None => {}
            Some(what) if config.may_drop_state => tracing::warn!(operator, what, "the stored state does not fit the plan; it is dropped"),
            Some(what) => return Err(invalid(format!("the stored state of operator {operator} does not fit the plan: {what}; {OR_DROP}"))),
        }
    }
    Ok(())
}

/// Why stored state cannot be given to the plan's operator; `None` if it can.
fn unfit(config: &TaskConfig, operator: &str, file: &StateRef) -> Option<String> {
    let stored = &file.signature;
    match config.plan.state_signatures().get(operator) {
        Some(wanted) if wanted == stored => None,
        Some(wanted) => Some(format!("it is of `{stored}`, the plan now has `{wanted}` there")),
        None => Some(format!("it is of `{stored}`, and the plan has no such operator now")),
    }
}

/// Refuses to run a Pipeline that has run in tasks of the other kind: their positions are not in this task's epochs.
pub(in crate::runtime) async fn check_kind(config: &TaskConfig) -> Result<(), Failure> {
    let uid = PipelineUid::encoded(&config.pipeline_uid);
    let tasks = list_tasks(std::sync::Arc::clone(&config.store), &config.base, &uid, std::sync::Arc::clone(&config.clock));
    let tasks = tasks.await.map_err(state_failure)?;
    let whole = TaskConfig::id_of(&TaskRef::whole());
    let exchange = TaskId::encoded(&format!("{EXCHANGE}/"));
    let is_exchange = |task: &TaskId| task.as_str().starts_with(exchange.as_str());
    let shared = matches!(config.stage, Stage::Front(_) | Stage::Back(_));
    let other = tasks.iter().find(|task| {
        let of_this_kind = if config.task.is_whole() { **task == whole } else { **task != whole && (shared || !is_exchange(task)) };
        !of_this_kind
    });
    let Some(other) = other else { return Ok(()) };
    let now = match (&config.stage, config.task.is_whole()) {
        (Stage::Front(_) | Stage::Back(_), _) => "is shared through an exchange",
        (Stage::All, true) => "keeps state in one task",
        (Stage::All, false) => "has a task for each split",
    };
    let before = match other {
        other if *other == whole => "kept it in one task",
        other if is_exchange(other) => "was shared through an exchange",
        _ => "had one for each split",
    };
    Err(invalid(format!(
        "the plan {now}, and the Pipeline has run with one that {before}: its positions are those of task {other}; {WHAT_TO_DO}"
    )))
}

/// Operators with the state of the last epoch, and what its files have, so that the next ones can add to it.
pub(in crate::runtime) struct Opened {
    pub(in crate::runtime) operators: Operators,
    pub(in crate::runtime) increments: Increments,
    pub(in crate::runtime) parts: Parts,
}

/// Reads the state of the last epoch and opens the operators with it, beside them what the next epochs can add to. `room`: bytes that lanes may hold. After the claim only:
/// until then the files may be deleted.
pub(in crate::runtime) async fn open(config: &TaskConfig, owner: &Owner, room: usize, replay: &Replay) -> Result<Opened, Failure> {
    if let (true, Some(spilling), Some(cut)) = (is_large(config, owner.last()), config.spilling(), config.cut()) {
        return open_aside(config, owner, room, &spilling, cut).await;
    }
    let (mut increments, mut snapshot) = (Increments::default(), Snapshot::new());
    for (operator, keys) in by_operator(config, owner.last()) {
        let mut states = Vec::new();
        for (_, files) in &keys {
            states.extend(read(owner, operator, files).await?);
        }
        let files = if let [(key, files)] = keys[..] { (key == operator).then(|| files.clone()) } else { None };
        let (name, known) = (operator.to_owned(), increments);
        let merged = beside(move || {
            let mut increments = known;
            let state = if states.len() == 1 { states.pop() } else { merged(states)? };
            if let (Some(state), Some(files)) = (&state, files) {
                increments.restored(&name, state, &files);
            }
            Ok::<_, ExecuteError>((increments, state))
        });
        let merged = merged.await.map_err(|panic| invalid(format!("reading state panicked: {panic}")))?;
        let (after, state) = merged.map_err(|error| unrestorable(&error))?;
        increments = after;
        snapshot.extend(state.map(|state| (operator.into(), state)));
    }
    let operators = match &config.stage {
        Stage::All => {
            let names: Vec<&str> = config.inputs.iter().map(|input| input.name.as_str()).collect();
            Operators::open(&config.plan, &names, config.lanes, room, config.at_once, snapshot)
        }
        Stage::Front(_) | Stage::Back(_) => Operators::whole(config.executor(replay), snapshot),
    };
    let operators = operators.map_err(|error| unrestorable(&error))?;
    Ok(Opened { operators, increments, parts: Parts::default() })
}

/// The same for state that may have no room in memory: file after file is put aside, by bucket. What the same plan has stored, shared in the same way, goes there as
/// it is.
async fn open_aside(config: &TaskConfig, owner: &Owner, room: usize, spilling: &Spilling, cut: Cut) -> Result<Opened, Failure> {
    let last = owner.last();
    let told = |input: &InputBinding| last.event_times.as_ref().is_some_and(|times| times.inputs.contains_key(&input.name));
    let mut aside = Aside::new(cut.exchange.clone(), Arc::clone(&spilling.space), config.inputs.iter().all(told));
    let mut parts = Parts::default();
    let known = last.buckets.as_ref().filter(|buckets| buckets.shape == cut.exchange.shape());
    // Buckets that the last epoch has in files of theirs alone, under the keys that the next one would give them.
    let (mut own, mut shared) = (BTreeSet::new(), BTreeSet::new());
    let (mut alone, mut others) = (Vec::new(), Vec::new());
    for (operator, keys) in by_operator(config, last) {
        for (key, files) in keys {
            let bucket = operator_of(key).1.filter(|bucket| *bucket < KEY_GROUPS && known.is_some());
            match (bucket, &files[..]) {
                (Some(bucket), [file]) => alone.push((bucket, operator, key, file)),
                _ => others.push((operator, key, files)),
            }
        }
    }
    // In boxes, because a stream of the futures themselves is not known to go from thread to thread.
    let stored = alone.iter().map(|(_, operator, _, file)| as_stored(owner, &spilling.space, operator, file).boxed());
    let stored: Vec<_> = stored.collect();
    let stored: Vec<Spilled> = stream::iter(stored).buffered(AT_ONCE).try_collect().await?;
    for ((bucket, operator, key, file), spilled) in alone.into_iter().zip(stored) {
        aside.add_part(bucket, operator, &file.signature, spilled);
        parts.restored(bucket, key, std::slice::from_ref(file));
        own.insert(bucket);
    }
    for (operator, key, files) in others {
        let Some(state) = read(owner, operator, files).await? else { continue };
        let name: Arc<str> = operator.into();
        let added = beside(move || {
            let of = aside.add(&name, &state)?;
            Ok::<_, Broken>((aside, of))
        });
        let added = added.await.map_err(|panic| invalid(format!("putting state aside panicked: {panic}")))?;
        let of;
        (aside, of) = added.map_err(|error| broken(&error))?;
        match (operator_of(key).1, &of[..]) {
            (Some(bucket), [only]) if bucket == *only => {
                parts.restored(bucket, key, files);
                own.insert(bucket);
            }
            _ => shared.extend(of),
        }
    }
    let back = cut.exchange.back();
    for bucket in own {
        if shared.contains(&bucket) {
            parts.forget(bucket);
            continue;
        }
        aside.is_stored(bucket);
        if let Some(KnownBucket { dues, state_bytes }) = known.and_then(|buckets| buckets.known.get(&bucket))
            && let Some(dues) = back.stored_dues(dues)
        {
            aside.is_known(bucket, Known { dues, state_bytes: usize::try_from(*state_bytes).unwrap_or(usize::MAX) });
        }
    }
    let lanes = if matches!(config.stage, Stage::All) { config.lanes } else { 1 };
    Ok(Opened { operators: Operators::spilled(cut, lanes, room, aside, spilling.limit), increments: Increments::default(), parts })
}

/// Puts the file of a part aside as it is.
async fn as_stored(owner: &Owner, space: &Arc<SpillSpace>, operator: &str, file: &StateRef) -> Result<Spilled, Failure> {
    let bytes = owner.read_state(operator, file).await.map_err(state_failure)?;
    file::check_whole(operator, &bytes).map_err(|detail| state_failure(owner.state_damaged(operator, file, detail)))?;
    let space = Arc::clone(space);
    let put = beside(move || space.put(&bytes)).await.map_err(|panic| invalid(format!("putting state aside panicked: {panic}")))?;
    put.map_err(|error| broken(&error.into()))
}

/// Whether state was in buckets, and is not so small meanwhile that it has room in memory for certain.
fn is_large(config: &TaskConfig, last: &EpochRecord) -> bool {
    let in_parts = last.operators.keys().any(|key| operator_of(key).1.is_some());
    let bytes: u64 = last.operators.values().flatten().map(|file| file.length).sum();
    in_parts && bytes.saturating_mul(PACKED) > config.state_bytes as u64
}

/// The keys of each operator's state with their files, without what is dropped.
fn by_operator<'a>(config: &TaskConfig, last: &'a EpochRecord) -> BTreeMap<&'a str, Vec<(&'a String, &'a Vec<StateRef>)>> {
    let mut by_operator: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (key, files) in &last.operators {
        let operator = operator_of(key).0;
        if !config.may_drop_state || files.iter().all(|file| unfit(config, operator, file).is_none()) {
            by_operator.entry(operator).or_default().push((key, files));
        }
    }
    by_operator
}

/// The state that a chain of files holds.
async fn read(owner: &Owner, operator: &str, files: &[StateRef]) -> Result<Option<OperatorState>, Failure> {
    let mut state = None;
    for file in files {
        state = Some(follow(owner, operator, file, state).await?);
    }
    Ok(state)
}

fn unrestorable(error: &ExecuteError) -> Failure {
    invalid(format!("{error}; {WHAT_TO_DO}"))
}

/// The state after a file: all of it if the file is whole, `before` with its changes if not.
async fn follow(owner: &Owner, operator: &str, file: &StateRef, before: Option<OperatorState>) -> Result<OperatorState, Failure> {
    let bytes = owner.read_state(operator, file).await.map_err(state_failure)?;
    let name = operator.to_owned();
    let followed = beside(move || match (file::decode(&name, &bytes)?, before) {
        (Content::Whole(state), _) => Ok(state),
        (Content::Changes(_), None) => Err("it holds changes of a file that the epoch does not name".to_owned()),
        (Content::Changes(changes), Some(mut state)) => {
            let empty = |name: &str| format!("it changes table {name}, which was not there");
            let each = changes.into_iter().map(|(name, changes)| {
                let table = changes.apply(&state.tables.remove(&name).ok_or_else(|| empty(&name))?)?;
                Ok((name, table))
            });
            state.tables = each.collect::<Result<_, String>>()?;
            Ok(state)
        }
    })
    .await;
    let followed = followed.unwrap_or_else(|panic| Err(format!("reading it panicked: {panic}")));
    followed.map_err(|detail| state_failure(owner.state_damaged(operator, file, detail)))
}

/// Runs what takes long where the state is large.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(work).await
}

fn invalid(message: String) -> Failure {
    Failure::new(Part::Task, ConnectorError::new(ErrorReason::Invalid, message))
}
