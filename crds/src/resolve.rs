//! From a Pipeline and what it refers to, to the `Job` that workers run. Pure: who calls it has read the objects; nothing is looked up here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::job::{JOB_VERSION, Job, JobInput, JobOutput, PipelineIdentity, StateLocation};
use crate::pipeline::{APPROVE_PLAN, StatePolicy};
use crate::sink::SinkConnector;
use crate::source::SourceConnector;
use crate::{Pipeline, PipelineSpec, SinkSpec, SourceSpec};

/// The Sources and Sinks of a Pipeline's namespace, by object name. It may hold more than the Pipeline refers to.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// Sources by name.
    pub sources: BTreeMap<String, SourceSpec>,
    /// Sinks by name.
    pub sinks: BTreeMap<String, SinkSpec>,
}

/// The kind of an object that a Pipeline refers to.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// A Source.
    Source,
    /// A Sink.
    Sink,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "Source",
            Self::Sink => "Sink",
        })
    }
}

/// Why a Pipeline cannot be resolved; each names one field of the Pipeline or one object.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum Error {
    /// The object does not exist.
    #[error("{field} names the {kind} {name:?}, which does not exist in namespace {namespace}: create it or correct the name")]
    NotFound {
        /// Kind of the missing object.
        kind: Kind,
        /// Its name.
        name: String,
        /// The Pipeline's namespace.
        namespace: String,
        /// The field that names it, for example `inputs[orders].sourceRef`.
        field: String,
    },
    /// The object has no connector, or several. The API server refuses that, unless the object is older than the rule.
    #[error("the {kind} {name:?} must have exactly one connector block")]
    NotOneConnector {
        /// Kind of the object.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// A path that means something only beside a manifest.
    #[error(
        "the {kind} {name:?} has the relative files.path {path:?}, which means nothing in a worker: give a path below the mountPath of one of workload.volumes"
    )]
    RelativePath {
        /// Kind of the object.
        kind: Kind,
        /// Its name.
        name: String,
        /// The path.
        path: String,
    },
}

/// Names of the Sources that a Pipeline refers to.
#[must_use]
pub fn source_names(spec: &PipelineSpec) -> BTreeSet<&str> {
    spec.inputs.iter().map(|input| input.source_ref.name.as_str()).collect()
}

/// Names of the Sinks that a Pipeline refers to, those of dead letters among them.
#[must_use]
pub fn sink_names(spec: &PipelineSpec) -> BTreeSet<&str> {
    let outputs = spec.outputs.iter().map(|output| output.sink_ref.name.as_str());
    let dead = spec.outputs.iter().filter_map(|output| Some(output.dead_letter.as_ref()?.sink_ref.name.as_str()));
    outputs.chain(dead).collect()
}

/// The Job of a Pipeline. Without a `state.location` of its own its checkpoints go to `default_state`.
///
/// A Pipeline without a UID (a manifest that never was on an API server) gets `local-<namespace>-<name>`, without a namespace `default`.
///
/// # Errors
/// Everything that is missing or cannot be used, in the order of kinds and names; never an empty list.
pub fn resolve(pipeline: &Pipeline, references: &References, default_state: &StateLocation) -> Result<Job, Vec<Error>> {
    let identity = identity(pipeline);
    let spec = &pipeline.spec;
    let mut errors = Vec::new();

    let inputs = spec.inputs.iter().filter_map(|input| {
        let name = &input.source_ref.name;
        let source = references.sources.get(name);
        if source.is_none() {
            errors.push(not_found(Kind::Source, name, &identity, format!("inputs[{}].sourceRef", input.name)));
        }
        Some(JobInput { name: input.name.clone(), source_name: name.clone(), source: source?.clone() })
    });
    let inputs: Vec<JobInput> = inputs.collect();

    let mut sinks = BTreeMap::new();
    for output in &spec.outputs {
        let dead = output.dead_letter.as_ref().map(|dead| (&dead.sink_ref.name, "deadLetter.sinkRef"));
        for (name, field) in [(&output.sink_ref.name, "sinkRef")].into_iter().chain(dead) {
            match references.sinks.get(name) {
                Some(sink) => drop(sinks.insert(name.clone(), sink.clone())),
                None => errors.push(not_found(Kind::Sink, name, &identity, format!("outputs[{}].{field}", output.name))),
            }
        }
    }

    errors.extend(inputs.iter().filter_map(|input| usable_source(&input.source_name, &input.source).err()));
    errors.extend(sinks.iter().filter_map(|(name, sink)| usable_sink(name, sink).err()));
    if !errors.is_empty() {
        errors.sort();
        errors.dedup();
        return Err(errors);
    }
    let state_policy = spec.upgrade.as_ref().map(|upgrade| upgrade.state_policy).unwrap_or_default();
    let annotations = pipeline.metadata.annotations.as_ref();
    let approved_plan = annotations.and_then(|annotations| annotations.get(APPROVE_PLAN)).filter(|_| state_policy == StatePolicy::Approve);
    Ok(Job {
        version: JOB_VERSION,
        pipeline: identity,
        inputs,
        steps: spec.steps.clone(),
        outputs: spec.outputs.iter().map(job_output).collect(),
        sinks,
        state: state_location(spec).unwrap_or_else(|| default_state.clone()),
        checkpoint: spec.checkpoint.clone().unwrap_or_default(),
        error_policy: spec.error_policy.clone().unwrap_or_default(),
        delivery: spec.delivery.clone(),
        exchange: spec.exchange.clone(),
        limits: spec.limits.clone().unwrap_or_default(),
        time: spec.time.clone(),
        state_ttl_seconds: spec.state.as_ref().and_then(|state| state.ttl_seconds),
        state_policy,
        approved_plan: approved_plan.cloned(),
        tests: spec.tests.clone(),
    })
}

/// Where a Pipeline says that its checkpoints are to be kept, if it does.
#[must_use]
pub fn state_location(spec: &PipelineSpec) -> Option<StateLocation> {
    let state = spec.state.as_ref()?;
    Some(StateLocation { location: state.location.clone()?, aws: state.aws.clone() })
}

fn identity(pipeline: &Pipeline) -> PipelineIdentity {
    let name = pipeline.metadata.name.clone().unwrap_or_default();
    let namespace = pipeline.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let uid = pipeline.metadata.uid.clone().unwrap_or_else(|| format!("local-{namespace}-{name}"));
    PipelineIdentity { namespace, name, uid }
}

fn job_output(output: &crate::pipeline::Output) -> JobOutput {
    JobOutput {
        name: output.name.clone(),
        from: output.from.clone(),
        sink: output.sink_ref.name.clone(),
        dead_letter: output.dead_letter.as_ref().map(|dead| dead.sink_ref.name.clone()),
    }
}

fn not_found(kind: Kind, name: &str, pipeline: &PipelineIdentity, field: String) -> Error {
    Error::NotFound { kind, name: name.to_owned(), namespace: pipeline.namespace.clone(), field }
}

fn usable_source(name: &str, source: &SourceSpec) -> Result<(), Error> {
    match source.connector() {
        None => Err(Error::NotOneConnector { kind: Kind::Source, name: name.to_owned() }),
        Some(SourceConnector::Files(files)) => absolute(Kind::Source, name, &files.path),
        Some(_) => Ok(()),
    }
}

fn usable_sink(name: &str, sink: &SinkSpec) -> Result<(), Error> {
    match sink.connector() {
        None => Err(Error::NotOneConnector { kind: Kind::Sink, name: name.to_owned() }),
        Some(SinkConnector::Files(files)) => absolute(Kind::Sink, name, &files.path),
        Some(_) => Ok(()),
    }
}

fn absolute(kind: Kind, name: &str, path: &str) -> Result<(), Error> {
    if path.starts_with('/') {
        return Ok(());
    }
    Err(Error::RelativePath { kind, name: name.to_owned(), path: path.to_owned() })
}
