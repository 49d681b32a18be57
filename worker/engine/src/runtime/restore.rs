//! State back into the operators: whether it fits the plan, known before anything is claimed, and its files after. It never goes on without state that
//! an epoch has.

use millrace_crds::report::{ErrorReason, TaskRef};

use super::closing::state_failure;
use super::config::TaskConfig;
use super::driver::Failure;
use super::observed::Part;
use super::state_file;
use crate::checkpoint::{EpochRecord, Owner, PipelineUid, StateRef, list_tasks};
use crate::connector::ConnectorError;
use crate::operators::{Executor, OperatorState, Snapshot};

const WHAT_TO_DO: &str = "take the change back, or create a Pipeline with another name, which starts without state";

/// Refuses a plan that cannot restore the state of the last epoch. Nothing is changed, so that the plan before can go on from it.
pub(super) fn check_state(config: &TaskConfig, last: &EpochRecord) -> Result<(), Failure> {
    let wanted = config.plan.state_signatures();
    for (operator, stored) in last.operators.iter().flat_map(|(operator, files)| files.iter().map(move |file| (operator, &file.signature)))
    {
        let what = match wanted.get(operator.as_str()) {
            Some(wanted) if wanted == stored => continue,
            Some(wanted) => format!("it is of `{stored}`, the plan now has `{wanted}` there"),
            None => format!("it is of `{stored}`, and the plan has no such operator now"),
        };
        return Err(invalid(format!("the stored state of operator {operator} does not fit the plan: {what}; {WHAT_TO_DO}")));
    }
    Ok(())
}

/// Refuses to run a Pipeline that has run in tasks of the other kind: their positions are not in this task's epochs.
pub(super) async fn check_kind(config: &TaskConfig) -> Result<(), Failure> {
    let uid = PipelineUid::encoded(&config.pipeline_uid);
    let tasks = list_tasks(std::sync::Arc::clone(&config.store), &config.base, &uid, std::sync::Arc::clone(&config.clock));
    let tasks = tasks.await.map_err(state_failure)?;
    let whole = TaskConfig::id_of(&TaskRef::whole());
    let mut others = tasks.iter().filter(|task| (**task == whole) != config.task.is_whole());
    let Some(other) = others.next() else { return Ok(()) };
    let (now, before) = if config.task.is_whole() { ("keeps state", "kept none") } else { ("keeps no state", "kept some") };
    Err(invalid(format!(
        "the plan {now}, and the Pipeline has run with one that {before}: its positions are those of task {other}; {WHAT_TO_DO}"
    )))
}

/// Reads the state of the last epoch and gives it to the operators. After the claim only: until then its files may be deleted.
pub(super) async fn restore(owner: &Owner, executor: &mut Executor) -> Result<(), Failure> {
    let mut snapshot = Snapshot::new();
    for (operator, files) in &owner.last().operators {
        let [file] = &files[..] else {
            return Err(invalid(format!("the state of operator {operator} has {} files, this version reads one", files.len())));
        };
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
