//! `millrace plan OLD NEW`: what applying changed manifests would do, field by field, and what becomes of state. It applies nothing and connects to nothing.

mod fields;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use millrace_crds::Pipeline;
use millrace_crds::job::Job;
use millrace_crds::manifest::{Manifests, refused_changes};
use millrace_engine::plan::compatibility::{StateDiff, StateFate, compare};

use crate::assemble::Assembled;
use crate::{check, exit, local};
use fields::{Change, Effect, Part};

/// Arguments of `millrace plan`.
#[derive(Args, Debug)]
pub(crate) struct PlanArgs {
    /// File or directory of the manifests as they are applied now.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// File or directory of the manifests to apply.
    #[arg(value_name = "NEW")]
    new: PathBuf,
}

/// Manifests with a Pipeline each of whose Jobs is planned.
struct Side {
    manifests: Manifests,
    pipelines: Vec<(Pipeline, Assembled)>,
}

/// Prints it for every Pipeline. Exit code 64 if something is refused.
pub(crate) fn run(args: &PlanArgs) -> anyhow::Result<u8> {
    let (old, new) = (Side::load(&args.old)?, Side::load(&args.new)?);
    let mut refused = false;
    for (pipeline, assembled) in &new.pipelines {
        let identity = &assembled.job.pipeline;
        let name = format!("pipeline {}/{}", identity.namespace, identity.name);
        match old.pipelines.iter().find(|(_, before)| is_same(&before.job, &assembled.job)) {
            None => exit::print_line(&format!("{name}: new")),
            Some((before, planned)) => {
                let change = Comparison::new((&old, before, planned), (&new, pipeline, assembled))?;
                exit::print_line(&format!("{name}{}", change.text()));
                refused |= change.is_refused();
            }
        }
    }
    for (_, before) in old.pipelines.iter().filter(|(_, before)| !new.pipelines.iter().any(|(_, after)| is_same(&before.job, &after.job))) {
        let identity = &before.job.pipeline;
        exit::print_line(&format!(
            "pipeline {}/{}: not in the new manifests; applying them deletes nothing",
            identity.namespace, identity.name
        ));
    }
    Ok(if refused { exit::BAD_CONFIG } else { exit::DRAINED })
}

fn is_same(one: &Job, other: &Job) -> bool {
    (&one.pipeline.namespace, &one.pipeline.name) == (&other.pipeline.namespace, &other.pipeline.name)
}

impl Side {
    fn load(path: &PathBuf) -> anyhow::Result<Self> {
        let (resolved, manifests) = local::resolve(std::slice::from_ref(path), &std::env::temp_dir())?;
        let planned = resolved.into_iter().map(|(pipeline, job)| Ok((pipeline, check::assembled(job)?)));
        Ok(Self { manifests, pipelines: planned.collect::<anyhow::Result<_>>()? })
    }
}

/// One Pipeline, before and after.
struct Comparison {
    /// Revision and plan hash, before and after.
    revisions: [(String, String); 2],
    changes: Vec<Change>,
    state: StateDiff,
}

impl Comparison {
    fn new(old: (&Side, &Pipeline, &Assembled), new: (&Side, &Pipeline, &Assembled)) -> anyhow::Result<Self> {
        let (before, after) = (old.2, new.2);
        let state = compare(&before.signatures(), &after.signatures());
        let mut changes = fields::changes(old.1, new.1, &before.job, &after.job)?;
        let allowed = after.job.may_drop_state(&after.plan.hash());
        let steps: Vec<String> = state.lost().map(|(id, _)| id.split('/').next().unwrap_or_default().to_owned()).collect();
        let explained = |step: &String| changes.iter().any(|change| change.part == Part::Step(step.clone()));
        let all_explained = steps.iter().all(explained);
        for change in &mut changes {
            let loses = match &change.part {
                Part::Step(_) | Part::Query if state.positions_lost => true,
                Part::Step(step) => steps.contains(step) || !all_explained,
                Part::Query => !all_explained,
                Part::Pods | Part::Live => false,
            };
            if loses {
                change.effect = if allowed && !state.positions_lost { Effect::StateReset } else { Effect::Forbidden };
            } else if matches!(change.part, Part::Step(_) | Part::Query) && before.plan.is_stateful() {
                change.effect = Effect::RestoreFromCheckpoint;
            }
        }
        changes.extend(refusals(old, new)?);
        let revision = |side: &Assembled| (side.job.revision(), side.plan.hash());
        Ok(Self { revisions: [revision(before), revision(after)], changes, state })
    }

    fn is_refused(&self) -> bool {
        self.changes.iter().any(|change| change.effect == Effect::Forbidden)
    }

    /// For people, after the name.
    fn text(&self) -> String {
        if self.changes.is_empty() {
            return ": nothing changes".to_owned();
        }
        let [(old, old_plan), (new, new_plan)] = &self.revisions;
        let mut text = format!("\n  revision {old} → {new}, plan {old_plan} → {new_plan}");
        let width = self.changes.iter().map(|change| change.path.chars().count()).max().unwrap_or_default();
        for Change { path, what, effect, note, .. } in &self.changes {
            let note = note.as_deref().unwrap_or(effect.meaning());
            let _ = write!(text, "\n  {path:width$}  {what:7}  {effect:21}  {note}", effect = effect.as_str());
        }
        for (id, fate) in &self.state.operators {
            let _ = match fate {
                StateFate::Kept { .. } => write!(text, "\n  state of {id}: kept"),
                StateFate::Started { .. } => write!(text, "\n  state of {id}: new, starts with none"),
                StateFate::Removed { signature } => write!(text, "\n  state of {id}: lost (OperatorRemoved)\n    was {signature}"),
                StateFate::Changed { old, new } => write!(text, "\n  state of {id}: lost (KeyChanged)\n    was {old}\n    is  {new}"),
            };
        }
        if self.state.positions_lost {
            text.push_str(
                "\n  positions of the inputs: lost, because only one of the plans keeps state in one task for all splits, or is shared through such an exchange; create a Pipeline with another name instead",
            );
        } else if !self.state.is_compatible() {
            let _ = write!(
                text,
                "\n  to allow it: spec.upgrade.statePolicy ResetState, or Approve with the annotation {}: \"{new_plan}\"",
                millrace_crds::pipeline::APPROVE_PLAN
            );
        }
        text
    }
}

/// What the API server refuses of the Pipeline and of the Sources and Sinks that it refers to.
fn refusals(old: (&Side, &Pipeline, &Assembled), new: (&Side, &Pipeline, &Assembled)) -> anyhow::Result<Vec<Change>> {
    let mut refused: Vec<(String, String)> = Vec::new();
    let mut add = |kind: String, found: Vec<millrace_crds::manifest::RefusedChange>| {
        refused.extend(found.into_iter().map(|change| (format!("{kind}{}", change.field), change.message)));
    };
    add(String::new(), refused_changes(old.1, new.1)?);
    let namespace = &new.2.job.pipeline.namespace;
    let here = |object: &Option<String>| object.as_deref() == Some(namespace);
    for input in &new.2.job.inputs {
        let find = |side: &'_ Side| {
            let mut sources = side.manifests.sources.iter().map(|loaded| loaded.object.clone());
            sources.find(|source| here(&source.metadata.namespace) && source.metadata.name.as_ref() == Some(&input.source_name))
        };
        if let (Some(before), Some(after)) = (find(old.0), find(new.0)) {
            add(format!("Source {}: ", input.source_name), refused_changes(&before, &after)?);
        }
    }
    for name in new.2.job.sinks.keys() {
        let find = |side: &'_ Side| {
            let mut sinks = side.manifests.sinks.iter().map(|loaded| loaded.object.clone());
            sinks.find(|sink| here(&sink.metadata.namespace) && sink.metadata.name.as_ref() == Some(name))
        };
        if let (Some(before), Some(after)) = (find(old.0), find(new.0)) {
            add(format!("Sink {name}: "), refused_changes(&before, &after)?);
        }
    }
    let change = |(path, note)| Change { path, what: "changed", part: Part::Live, effect: Effect::Forbidden, note: Some(note) };
    Ok(refused.into_iter().map(change).collect())
}
