//! State back into the operators: whether it fits the plan, known before anything is claimed, and its files after. It never goes on without state that
//! an epoch has.

use millrace_crds::report::{EXCHANGE, ErrorReason, TaskRef};

use super::file::{self, Content};
use super::increments::Increments;
use crate::checkpoint::{EpochRecord, Owner, PipelineUid, StageName, StateRef, TaskId, list_tasks};
use crate::connector::ConnectorError;
use crate::operators::{OperatorState, Snapshot};
use crate::runtime::closing::state_failure;
use crate::runtime::config::TaskConfig;
use crate::runtime::driver::Failure;
use crate::runtime::lanes::Operators;
use crate::runtime::observed::Part;
use crate::runtime::stage::Stage;

const WHAT_TO_DO: &str = "take the change back, or create a Pipeline with another name, which starts without state";
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
    for (operator, file) in last.operators.iter().flat_map(|(operator, files)| files.iter().map(move |file| (operator, file))) {
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

/// Reads the state of the last epoch and opens the operators with it, beside them what the next epochs can add to. `room`: bytes that lanes may hold. After the claim only:
/// until then the files may be deleted.
pub(in crate::runtime) async fn open(config: &TaskConfig, owner: &Owner, room: usize) -> Result<(Operators, Increments), Failure> {
    let (mut increments, mut snapshot) = (Increments::default(), Snapshot::new());
    for (operator, files) in &owner.last().operators {
        if config.may_drop_state && files.iter().any(|file| unfit(config, operator, file).is_some()) {
            continue;
        }
        let mut state = None;
        for file in files {
            state = Some(follow(owner, operator, file, state).await?);
        }
        if let Some(state) = state {
            let (name, files) = (operator.clone(), files.clone());
            let known = beside(move || {
                increments.restored(&name, &state, &files);
                (increments, state)
            });
            let (increments_after, state) = known.await.map_err(|panic| invalid(format!("reading state panicked: {panic}")))?;
            increments = increments_after;
            snapshot.insert(operator.as_str().into(), state);
        }
    }
    let operators = match &config.stage {
        Stage::All => {
            let names: Vec<&str> = config.inputs.iter().map(|input| input.name.as_str()).collect();
            Operators::open(&config.plan, &names, config.lanes, room, snapshot)
        }
        Stage::Front(_) | Stage::Back(_) => Operators::whole(config.executor(), snapshot),
    };
    Ok((operators.map_err(|error| invalid(format!("{error}; {WHAT_TO_DO}")))?, increments))
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
