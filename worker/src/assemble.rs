//! From a Job to things that run: connectors, plan, bindings. It opens no connection; every problem it finds is a [`Problem`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millrace_connectors::context::{Context, ResolvedLimits};
use millrace_connectors::registry;
use millrace_crds::job::{JOB_VERSION, Job};
use millrace_crds::pipeline;
use millrace_crds::report::{CheckOutcome, Distribution, ErrorReason, InputPlan, PlanReport, Problem, TaskRef};
use millrace_engine::checkpoint::Clock;
use millrace_engine::connector::ConnectorError;
use millrace_engine::plan::{self, InputTable, Plan, Policy};
use millrace_engine::runtime::{DeadLetterBinding, OnPoison, OutputBinding, TaskConfig};
use millrace_engine::sink::Sink;
use millrace_engine::source::{Shared, Source};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::envelopes::DeadLetterEnvelopes;

/// Time for closing after a signal: what Kubernetes grants by default less five seconds.
const DRAIN_BUDGET: Duration = Duration::from_secs(25);

/// A Job that can run.
pub(crate) struct Assembled {
    pub(crate) job: Job,
    pub(crate) context: Context,
    pub(crate) plan: Arc<Plan>,
    pub(crate) inputs: Vec<AssembledInput>,
    pub(crate) sinks: BTreeMap<String, Arc<dyn Sink>>,
    outputs: Vec<OutputBinding>,
    dead_letters: Vec<DeadLetterBinding>,
}

/// One input of it.
pub(crate) struct AssembledInput {
    pub(crate) name: String,
    pub(crate) source_name: String,
    pub(crate) source: Arc<dyn Source>,
    event_time: Option<String>,
}

/// Where checkpoints are kept, opened.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) base: Path,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Makes connectors and plan. Finds all problems, not only the first.
pub(crate) fn assemble(job: Job, secrets_dir: PathBuf) -> Result<Assembled, Vec<Problem>> {
    if job.version > JOB_VERSION {
        return Err(vec![Problem {
            reason: "PlanInvalid".to_owned(),
            location: "job".to_owned(),
            message: format!("the Job has version {}, this worker reads up to {JOB_VERSION}", job.version),
            hint: Some("use the worker image of the operator's release".to_owned()),
        }]);
    }
    let context = Context { secrets_dir, limits: ResolvedLimits::from(&job.limits) };
    let mut problems = Vec::new();

    let mut inputs = Vec::with_capacity(job.inputs.len());
    for input in &job.inputs {
        match registry::source(&input.source, &context) {
            Ok(source) => inputs.push(AssembledInput {
                name: input.name.clone(),
                source_name: input.source_name.clone(),
                source,
                event_time: input.source.event_time.as_ref().map(|time| time.column.clone()),
            }),
            Err(error) => problems.push(problem("SchemaInvalid", format!("source {}", input.source_name), &error)),
        }
    }
    let mut sinks: BTreeMap<String, Arc<dyn Sink>> = BTreeMap::new();
    for (name, spec) in &job.sinks {
        match registry::sink(spec, &context) {
            Ok(sink) => drop(sinks.insert(name.clone(), sink)),
            Err(error) => problems.push(problem("TemplateInvalid", format!("sink {name}"), &error)),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }

    let tables: Vec<_> = inputs
        .iter()
        .map(|input| InputTable { name: input.name.clone(), schema: input.source.schema(), event_time: input.event_time.clone() })
        .collect();
    let wanted: Vec<_> = job.outputs.iter().map(|output| (output.name.clone(), output.from.clone())).collect();
    let plan = Arc::new(plan::compile(&job.steps, &tables, &wanted, &Policy::default())?);

    let (outputs, dead_letters) = bind(&job, &sinks);
    for (output, planned) in outputs.iter().zip(plan.outputs()) {
        let event_time = event_time_of(&inputs, &planned.inputs);
        if let Err(error) = output.sink.accepts(&planned.schema, event_time.as_deref()) {
            problems.push(problem("TypeMismatch", format!("output {}, sink {}", output.name, output.sink_name), &error));
        }
    }
    for dead in &dead_letters {
        if let Err(error) = dead.sink.accepts(&millrace_connectors::formats::dead_letter::schema(), None) {
            problems.push(problem("TypeMismatch", format!("dead-letter sink {}", dead.sink_name), &error));
        }
    }
    problems.extend(second_anchor(&outputs, &dead_letters));
    if problems.is_empty() { Ok(Assembled { job, context, plan, inputs, sinks, outputs, dead_letters }) } else { Err(problems) }
}

/// The event-time column of an output: the one that all its inputs agree on.
fn event_time_of(inputs: &[AssembledInput], reached_by: &[String]) -> Option<String> {
    let mut columns = inputs.iter().filter(|input| reached_by.contains(&input.name)).map(|input| &input.event_time);
    let first = columns.next()?.clone()?;
    columns.all(|column| column.as_ref() == Some(&first)).then_some(first)
}

fn bind(job: &Job, sinks: &BTreeMap<String, Arc<dyn Sink>>) -> (Vec<OutputBinding>, Vec<DeadLetterBinding>) {
    let mut dead_letters: Vec<DeadLetterBinding> = Vec::new();
    let outputs = job
        .outputs
        .iter()
        .map(|output| {
            let dead_letter = output.dead_letter.as_ref().map(|name| {
                dead_letters.iter().position(|dead| dead.sink_name == *name).unwrap_or_else(|| {
                    dead_letters.push(DeadLetterBinding { sink: Arc::clone(&sinks[name]), sink_name: name.clone() });
                    dead_letters.len() - 1
                })
            });
            OutputBinding { name: output.name.clone(), sink: Arc::clone(&sinks[&output.sink]), sink_name: output.sink.clone(), dead_letter }
        })
        .collect();
    (outputs, dead_letters)
}

/// Only one transaction can decide what becomes of an epoch: a second output in transactions, dead letters included, is refused.
fn second_anchor(outputs: &[OutputBinding], dead_letters: &[DeadLetterBinding]) -> Option<Problem> {
    let outputs = outputs.iter().map(|output| (format!("output {}, sink {}", output.name, output.sink_name), &output.sink));
    let dead = dead_letters.iter().map(|dead| (format!("dead-letter sink {}", dead.sink_name), &dead.sink));
    let mut anchors = outputs.chain(dead).filter(|(_, sink)| sink.anchor());
    let ((first, _), (second, _)) = (anchors.next()?, anchors.next()?);
    Some(Problem {
        reason: "PlanInvalid".to_owned(),
        location: second,
        message: format!("two outputs write in Kafka transactions, which cannot be committed together; the other is {first}"),
        hint: Some("set transactional: Off in one of the two Sinks (at least once), or split the Pipeline".to_owned()),
    })
}

fn problem(reason: &str, location: String, error: &ConnectorError) -> Problem {
    let reason = if error.reason == ErrorReason::Invalid { reason } else { "PlanInvalid" };
    Problem { reason: reason.to_owned(), location, message: error.message.clone(), hint: None }
}

impl Assembled {
    /// The outcome of checking, for reports.
    pub(crate) fn outcome(&self) -> CheckOutcome {
        CheckOutcome {
            revision: self.job.revision(),
            problems: Vec::new(),
            plan: Some(PlanReport {
                hash: self.plan.hash(),
                operators: self.plan.operators(),
                inputs: self
                    .inputs
                    .iter()
                    .map(|input| InputPlan { input: input.name.clone(), distribution: input.source.distribution() })
                    .collect(),
            }),
        }
    }

    /// The input of a name.
    pub(crate) fn input(&self, name: &str) -> Option<&AssembledInput> {
        self.inputs.iter().find(|input| input.name == name)
    }

    /// Splits of an input that somebody has to hold now. A queue always has split `0`, also when nobody has left anything unfinished.
    pub(crate) async fn splits(&self, input: &AssembledInput, store: &Store) -> Result<Vec<String>, ConnectorError> {
        input.source.splits(&self.shared(input, store)).await
    }

    fn shared(&self, input: &AssembledInput, store: &Store) -> Shared {
        Shared::of(Arc::clone(&store.store), &store.base, &self.job.pipeline.uid, &input.name)
    }

    /// What a task of this Job is given; `None` if the Job has no such input.
    pub(crate) fn task(&self, task: &TaskRef, store: &Store) -> Option<TaskConfig> {
        let input = self.input(&task.input)?;
        let checkpoint = &self.job.checkpoint;
        Some(TaskConfig {
            pipeline_uid: self.job.pipeline.uid.clone(),
            pipeline: format!("{}/{}", self.job.pipeline.namespace, self.job.pipeline.name),
            input: input.name.clone(),
            split: task.split.clone(),
            source: Arc::clone(&input.source),
            source_name: input.source_name.clone(),
            plan: Arc::clone(&self.plan),
            outputs: self.outputs.clone(),
            dead_letters: self.dead_letters.clone(),
            event_time: input.event_time.clone(),
            on_poison: self.on_poison(),
            envelopes: Arc::new(DeadLetterEnvelopes),
            store: Arc::clone(&store.store),
            base: store.base.clone(),
            clock: Arc::clone(&store.clock),
            interval: Duration::from_secs(checkpoint.interval_seconds.unwrap_or(10).into()),
            retained: checkpoint.retained_count.unwrap_or(5),
            in_flight_bytes: self.context.limits.in_flight_bytes,
            drain_budget: DRAIN_BUDGET,
        })
    }

    fn on_poison(&self) -> OnPoison {
        match self.job.error_policy.on_poison {
            Some(pipeline::OnPoison::Drop) => OnPoison::Drop,
            Some(pipeline::OnPoison::Fail) => OnPoison::Fail,
            // Where there is no dead-letter sink the task fails instead: the documented default.
            Some(pipeline::OnPoison::DeadLetter) | None => OnPoison::DeadLetter,
        }
    }
}

/// Whether an input is a queue.
pub(crate) fn is_queue(input: &AssembledInput) -> bool {
    input.source.distribution() == Distribution::Competing
}
