//! Pipelines: dereference → validate → rollout → build → apply → status. This file is the table of contents; it holds no rule of its own.

pub(crate) mod apply;
pub(crate) mod build;
pub(crate) mod dereference;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod freshness;
pub(crate) mod rollout;
pub(crate) mod status;
pub(crate) mod validate;

use std::sync::Arc;
use std::time::Duration;

use kube::Resource as _;
use kube::runtime::controller::Action;
use millrace_crds::Pipeline;

use self::dereference::Found;
use self::rollout::Version;
use self::validate::Validated;
use crate::names::{Key, Owner};
use crate::report::Facts;
use crate::scope::Context;
use crate::{apply as write, clock, events, pods};

/// Until a cache has seen what we wrote.
const CATCH_UP: Duration = Duration::from_millis(100);

/// Why a Pipeline could not be reconciled; it is tried again with back-off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server could not be read.
    #[error("cannot read what the Pipeline owns")]
    Read(#[source] Box<kube::Error>),
    /// An object could not be written.
    #[error("cannot write what the Pipeline needs")]
    Write(#[source] write::Error),
    /// The status could not be written.
    #[error("cannot write the status")]
    Status(#[source] write::Error),
}

impl Error {
    /// The reason as metric label: a closed set.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Read(_) => "Read",
            Self::Write(error) | Self::Status(error) => error.label(),
        }
    }
}

/// Makes one Pipeline so.
pub(crate) async fn reconcile(pipeline: Arc<Pipeline>, context: Arc<Context>) -> Result<Action, Error> {
    // Deletion needs nothing from us: what is owned is collected, and there is no finalizer.
    let Some(owner) = Owner::of(&*pipeline).filter(|_| pipeline.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    if status::is_new(&pipeline) {
        write_status(&pipeline, &context, status::pending(&pipeline, clock::wall())).await?;
    }
    let key = owner.key.clone();
    let found = dereference::dereference(&key, &context.stores, &context.client).await.map_err(|error| Error::Read(Box::new(error)))?;
    if context.freshness.is_stale(&key, found.deployment.as_deref()) {
        return Ok(Action::requeue(CATCH_UP));
    }
    let validated = validate::validate(&pipeline, owner, &found.references, &context.settings);

    let target = version(&validated);
    let deployment = found.own_deployment(&validated.owner);
    let running = deployment.and_then(|_| found.running());
    let check = target.as_ref().map_or(rollout::Check::Absent, |target| found.check(&key.name, target, clock::wall()));
    let consent = validated.target.ready().map(|ready| rollout::Consent::from(&ready.job)).unwrap_or_default();
    let decision = rollout::decide(target.as_ref(), running.as_ref(), check, &consent);
    let reports = context.registry.snapshot(&key, clock::monotonic());
    let checks = reports.workers.iter().map(|worker| &worker.report.check);
    let state = rollout::state_to_write(&decision, rollout::state_of_running(running.as_ref(), checks, found.written_state()));
    let finished = reports.finished;
    let workers = rollout::workers(validated.desired, validated.replicas, deployment.is_some(), found.drained(), finished);

    context.registry.observe(&key, facts(&pipeline, &found, target.as_ref(), workers), clock::monotonic());
    let built = build::build(&validated, &decision, workers, state.as_ref());
    let wrote = |version: Option<&str>| context.freshness.wrote(&key, version);
    let applied = apply::apply(&context.writer, &validated, &built, &found, &decision, workers, wrote).await;

    let observed = status::Observed {
        pipeline: &pipeline,
        now: clock::wall(),
        settled: context.leadership.age(clock::monotonic()) >= status::SETTLE,
        validated: &validated,
        decision: &decision,
        workers,
        consent: &consent,
        running: running.as_ref(),
        workload: status::Workload::of(deployment, &found.pods),
        reports: &context.registry.snapshot(&key, clock::monotonic()),
        unwell: &found.unwell,
        problem: applied.as_ref().err(),
    };
    let (status, again) = status::derive(&observed);
    write_status(&pipeline, &context, status).await?;
    finish(applied, again)
}

/// What is left to do by itself.
fn finish(applied: Result<(), write::Error>, again: Duration) -> Result<Action, Error> {
    match applied {
        Ok(()) => Ok(Action::requeue(again)),
        // Everything of this namespace will be gone soon, this Pipeline too.
        Err(write::Error::NamespaceTerminating { .. }) => Ok(Action::requeue(status::SLOW)),
        // The status says so; the user's change to the other object is not watched.
        Err(error) if error.needs_a_human().is_some() => Ok(Action::requeue(status::NEEDS_A_HUMAN)),
        Err(error) => Err(Error::Write(error)),
    }
}

fn version(validated: &Validated) -> Option<Version> {
    let ready = validated.target.ready()?;
    Some(Version { revision: ready.revision.clone(), image: validated.shell.image.clone(), tests: ready.tests.clone() })
}

fn facts(pipeline: &Pipeline, found: &Found, target: Option<&Version>, workers: rollout::Workers) -> Facts {
    Facts {
        uid: pipeline.metadata.uid.clone().unwrap_or_default(),
        revision: target.map(|target| target.revision.clone()),
        drain: workers.draining,
        pods: found.pods.iter().filter_map(|pod| Some((pod.metadata.name.clone()?, pods::life(pod)?))).collect(),
    }
}

/// Writes a status that differs, then tells of transitions.
async fn write_status(pipeline: &Pipeline, context: &Context, status: millrace_crds::PipelineStatus) -> Result<(), Error> {
    let before = pipeline.status.clone().unwrap_or_default();
    let (key, now) = (Key::of(&pipeline.metadata), clock::monotonic());
    if before == status || status::differ_in_words_only(&before, &status) && !context.pace.allows_words(&key, now) {
        return Ok(());
    }
    context.writer.status(pipeline, &status).await.map_err(Error::Status)?;
    context.pace.wrote(&key, now);
    let transitions = events::transitions(&before.conditions, &status.conditions);
    context.events.publish(&pipeline.object_ref(&()), &transitions).await;
    Ok(())
}

/// The Sources and Sinks that a Pipeline refers to.
pub(crate) fn refers_to(pipeline: &Pipeline) -> impl Iterator<Item = (millrace_crds::report::TroublePart, Key)> + '_ {
    use millrace_crds::report::TroublePart::{Sink, Source};
    use millrace_crds::resolve::{sink_names, source_names};
    let namespace = pipeline.metadata.namespace.clone().unwrap_or_default();
    let sources = source_names(&pipeline.spec).into_iter().map(|name| (Source, name));
    let sinks = sink_names(&pipeline.spec).into_iter().map(|name| (Sink, name));
    sources.chain(sinks).map(move |(kind, name)| (kind, Key::new(&namespace, name)))
}
