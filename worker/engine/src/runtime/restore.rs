//! State back into the operators: whether it fits the plan, known before anything is claimed, and its files after. It never goes on without state that
//! an epoch has.

use millrace_crds::report::{EXCHANGE, ErrorReason, TaskRef};

use super::closing::state_failure;
use super::config::TaskConfig;
use super::driver::Failure;
use super::observed::Part;
use super::stage::Stage;
use super::state_file;
use crate::checkpoint::{EpochRecord, Owner, PipelineUid, StageName, StateRef, TaskId, list_tasks};
use crate::connector::ConnectorError;
use crate::operators::{Executor, OperatorState, Snapshot};

const WHAT_TO_DO: &str = "take the change back, or create a Pipeline with another name, which starts without state";
const OR_DROP: &str = "take the change back, allow that it is dropped by spec.upgrade.statePolicy, or create a Pipeline with another name";

/// Refuses a plan that cannot restore the state of the last epoch, unless it may be dropped. Nothing is changed, so that the plan before can go on from it.
pub(super) fn check_state(config: &TaskConfig, last: &EpochRecord) -> Result<(), Failure> {
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
pub(super) async fn check_kind(config: &TaskConfig) -> Result<(), Failure> {
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
        (Stage::All, false) => "keeps no state",
    };
    let before = match other {
        other if *other == whole => "kept it in one task",
        other if is_exchange(other) => "was shared through an exchange",
        _ => "kept none",
    };
    Err(invalid(format!(
        "the plan {now}, and the Pipeline has run with one that {before}: its positions are those of task {other}; {WHAT_TO_DO}"
    )))
}

/// Reads the state of the last epoch and gives it to the operators. After the claim only: until then its files may be deleted.
pub(super) async fn restore(config: &TaskConfig, owner: &Owner, executor: &mut Executor) -> Result<(), Failure> {
    let mut snapshot = Snapshot::new();
    for (operator, files) in &owner.last().operators {
        let [file] = &files[..] else {
            return Err(invalid(format!("the state of operator {operator} has {} files, this version reads one", files.len())));
        };
        if config.may_drop_state && unfit(config, operator, file).is_some() {
            continue;
        }
        snapshot.insert(operator.as_str().into(), read(owner, operator, file).await?);
    }
    if snapshot.is_empty() {
        return Ok(());
    }
    executor.restore(snapshot).map_err(|error| invalid(format!("{error}; {WHAT_TO_DO}")))
}

async fn read(owner: &Owner, operator: &str, file: &StateRef) -> Result<OperatorState, Failure> {
    let bytes = owner.read_state(operator, file).await.map_err(state_failure)?;
    let name = operator.to_owned();
    let decoded = tokio::task::spawn_blocking(move || state_file::decode(&name, &bytes)).await;
    let decoded = decoded.unwrap_or_else(|panic| Err(format!("reading it panicked: {panic}")));
    decoded.map_err(|detail| state_failure(owner.state_damaged(operator, file, detail)))
}

fn invalid(message: String) -> Failure {
    Failure::new(Part::Task, ConnectorError::new(ErrorReason::Invalid, message))
}
