//! Which fields differ between two versions of a Pipeline, and what each of them touches. It plans nothing.

use std::collections::BTreeSet;

use millrace_crds::Pipeline;
use millrace_crds::job::Job;
use serde_json::Value;

/// A field that differs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Change {
    /// Path below `spec`, or the object that is referred to.
    pub(super) path: String,
    /// `added`, `removed` or `changed`.
    pub(super) what: &'static str,
    /// What it touches.
    pub(super) part: Part,
    /// What applying it does.
    pub(super) effect: Effect,
    /// What is said instead of the effect's meaning.
    pub(super) note: Option<String>,
}

/// What a field touches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Part {
    /// Nothing that a worker would have to be replaced for.
    Live,
    /// How workers run, not what they compute.
    Pods,
    /// What is computed, anywhere.
    Query,
    /// What this step computes.
    Step(String),
}

/// What applying a change does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    HotReload,
    RollingRestart,
    RestoreFromCheckpoint,
    StateReset,
    Forbidden,
}

impl Effect {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::HotReload => "HotReload",
            Self::RollingRestart => "RollingRestart",
            Self::RestoreFromCheckpoint => "RestoreFromCheckpoint",
            Self::StateReset => "StateReset",
            Self::Forbidden => "Forbidden",
        }
    }

    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Self::HotReload => "workers that run are not replaced for it",
            Self::RollingRestart => "workers are replaced one after the other; each goes on at the positions of the last checkpoint",
            Self::RestoreFromCheckpoint => {
                "workers are replaced one after the other; each takes over state and positions of the last checkpoint"
            }
            Self::StateReset => "as RestoreFromCheckpoint, but operators named below start with no state",
            Self::Forbidden => "refused: what runs stays as it is",
        }
    }
}

/// All fields that differ.
pub(super) fn changes(old: &Pipeline, new: &Pipeline, old_job: &Job, new_job: &Job) -> serde_json::Result<Vec<Change>> {
    let mut changes = Vec::new();
    let (before, after) = (serde_json::to_value(&old.spec)?, serde_json::to_value(&new.spec)?);
    for field in keys(&before).union(&keys(&after)) {
        let (before, after) = (&before[field.as_str()], &after[field.as_str()]);
        if before == after {
            continue;
        }
        let names = names(before).union(&names(after)).cloned().collect::<Vec<_>>();
        if names.is_empty() {
            changes.push(change(field.clone(), what(before, after), part(field, None)));
        }
        for name in names {
            let (before, after) = (named(before, &name), named(after, &name));
            if before != after {
                changes.push(change(format!("{field}[{name}]"), what(before, after), part(field, Some(&name))));
            }
        }
    }
    if old_job.approved_plan != new_job.approved_plan {
        changes.push(change("the approved plan".to_owned(), "changed", Part::Pods));
    }
    for input in &new_job.inputs {
        let before = old_job.inputs.iter().find(|before| before.source_name == input.source_name);
        if before.is_some_and(|before| before.source != input.source) {
            changes.push(change(format!("Source {}", input.source_name), "changed", Part::Query));
        }
    }
    for (name, sink) in &new_job.sinks {
        if old_job.sinks.get(name).is_some_and(|before| before != sink) {
            changes.push(change(format!("Sink {name}"), "changed", Part::Pods));
        }
    }
    changes.dedup_by(|one, other| one.path == other.path);
    Ok(changes)
}

fn change(path: String, what: &'static str, part: Part) -> Change {
    let effect = if part == Part::Live { Effect::HotReload } else { Effect::RollingRestart };
    let note = path.starts_with("tests[").then(|| "the tests run again; workers are not replaced for it".to_owned());
    Change { path, what, part, effect, note }
}

/// What a field of the spec touches. What is not known here is at least the workers' business.
fn part(field: &str, name: Option<&str>) -> Part {
    match (field, name) {
        ("scale" | "desiredState" | "tests", _) => Part::Live,
        ("steps", Some(step)) => Part::Step(step.to_owned()),
        ("inputs" | "steps" | "outputs" | "state" | "time" | "exchange", _) => Part::Query,
        _ => Part::Pods,
    }
}

fn what(before: &Value, after: &Value) -> &'static str {
    match (before, after) {
        (Value::Null, _) => "added",
        (_, Value::Null) => "removed",
        _ => "changed",
    }
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().into_iter().flat_map(|object| object.keys().cloned()).collect()
}

/// Names of the entries of a list.
fn names(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().filter_map(|entry| Some(entry["name"].as_str()?.to_owned())).collect()
}

fn named<'a>(value: &'a Value, name: &str) -> &'a Value {
    let mut entries = value.as_array().into_iter().flatten();
    entries.find(|entry| entry["name"] == name).unwrap_or(&Value::Null)
}
