//! From a Job to things that run: connectors, plan, bindings. It opens no connection; every problem it finds is a [`Problem`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millrace_connectors::context::{Context, ResolvedLimits};
use millrace_connectors::exchange::Upstream;
use millrace_connectors::registry;
use millrace_connectors::spill_folder::SpillFolder;
use millrace_crds::SourceSpec;
use millrace_crds::changelog::ChangelogMode;
use millrace_crds::delivery::Guarantee;
use millrace_crds::job::{JOB_VERSION, Job, JobOutput};
use millrace_crds::pipeline;
use millrace_crds::report::{CheckOutcome, Distribution, EXCHANGE, ErrorReason, InputPlan, OutputPlan, PlanReport, Problem, TaskRef};
use millrace_engine::checkpoint::Clock;
use millrace_engine::connector::ConnectorError;
use millrace_engine::operators::KEY_GROUPS;
use millrace_engine::plan::{self, Changelog, InputChangelog, InputTable, Late, Plan, Policy, compatibility};
use millrace_engine::runtime::{DeadLetterBinding, InputBinding, OnPoison, OutputBinding, SpillSpace, Splits, Stage, TaskConfig};
use millrace_engine::sink::Sink;
use millrace_engine::source::{Shared, Source};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::envelopes::DeadLetterEnvelopes;
use crate::exchanged::Exchanged;

/// Time for closing after a signal: what Kubernetes grants by default less five seconds.
const DRAIN_BUDGET: Duration = Duration::from_secs(25);
/// Rows that a lane takes without a thread of its own: by then they take about as long as waking it.
const AT_ONCE: usize = 256;
/// By how much a record may come after one with a later time, unless the Source says otherwise.
const MAX_DELAY_SECONDS: u32 = 10;
/// After how long a silent split no longer holds time back, unless the Pipeline says otherwise.
const IDLE_TIMEOUT_SECONDS: u32 = 30;

/// A Job that can run.
pub(crate) struct Assembled {
    pub(crate) job: Job,
    pub(crate) context: Context,
    pub(crate) plan: Arc<Plan>,
    pub(crate) inputs: Vec<AssembledInput>,
    pub(crate) sinks: BTreeMap<String, Arc<dyn Sink>>,
    pub(crate) exchanged: Option<Exchanged>,
    outputs: Vec<OutputBinding>,
    dead_letters: Vec<DeadLetterBinding>,
    /// Why one task has to read all splits of all inputs; `None` if each split has a task of its own.
    whole: Option<String>,
}

/// One input of it.
pub(crate) struct AssembledInput {
    pub(crate) name: String,
    pub(crate) source_name: String,
    pub(crate) source: Arc<dyn Source>,
    event_time: Option<String>,
    pub(crate) max_delay: Duration,
    partitioned_by: Vec<String>,
    pub(crate) changelog: InputChangelog,
}

/// Where checkpoints are kept, opened.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) base: Path,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where state goes that has no room in memory; `None` if it may go nowhere.
    pub(crate) spill: Option<Arc<SpillSpace>>,
}

/// The folder in which state has room that has none in memory. If it cannot be used, state has to have room in memory.
pub(crate) fn spill_space(folder: &std::path::Path, limits: &pipeline::Limits) -> Option<Arc<SpillSpace>> {
    let bytes = limits.spill_bytes();
    if bytes == 0 {
        return None;
    }
    match SpillFolder::emptied(folder) {
        Ok(folder) => Some(Arc::new(SpillSpace::new(Box::new(folder), bytes))),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "state that has no room in memory cannot go to disk");
            None
        }
    }
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
                max_delay: seconds(input.source.event_time.as_ref().and_then(|time| time.max_delay_seconds).unwrap_or(MAX_DELAY_SECONDS)),
                partitioned_by: input.source.partitioned_by.clone(),
                changelog: changelog_of(&input.source),
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
    problems.extend(inputs.iter().filter_map(not_partitioned));
    if !problems.is_empty() {
        return Err(problems);
    }

    let tables: Vec<_> = inputs
        .iter()
        .map(|input| InputTable {
            name: input.name.clone(),
            schema: input.source.schema(),
            event_time: input.event_time.clone(),
            changelog: input.changelog.clone(),
        })
        .collect();
    let wanted: Vec<_> = job.outputs.iter().map(|output| (output.name.clone(), output.from.clone())).collect();
    let plan = Arc::new(plan::compile(&job.steps, &tables, &wanted, &policy(&job))?);

    let (outputs, dead_letters) = bind(&job, &sinks);
    for (output, planned) in outputs.iter().zip(plan.outputs()) {
        let event_time = event_time_of(&inputs, &planned.inputs);
        let location = || format!("output {}, sink {}", output.name, output.sink_name);
        if let Err(error) = output.sink.accepts(&planned.schema, event_time.as_deref()) {
            problems.push(problem("TypeMismatch", location(), &error));
        }
        if let Err(error) = output.sink.accepts_changelog(&planned.changelog) {
            problems.push(problem("PlanInvalid", location(), &error));
        }
    }
    let each = job.outputs.iter().zip(&outputs).enumerate();
    problems.extend(each.filter_map(|(index, (output, bound))| too_weak(&job, output, guarantee(&plan, index, bound))));
    for dead in &dead_letters {
        if let Err(error) = dead.sink.accepts(&millrace_connectors::formats::dead_letter::schema(), None) {
            problems.push(problem("TypeMismatch", format!("dead-letter sink {}", dead.sink_name), &error));
        }
    }
    problems.extend(second_anchor(&outputs, &dead_letters));
    let exchanged = Exchanged::of(&job, &plan, &inputs, &context).unwrap_or_else(|found| {
        problems.push(found);
        None
    });
    let whole = if exchanged.is_some() { None } else { why_whole(&plan, &inputs) };
    problems.extend(lanes_in_vain(&job, &plan, whole.is_some()));
    problems.extend(disk_in_vain(&job, &plan));
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Assembled { job, context, plan, inputs, sinks, exchanged, outputs, dead_letters, whole })
}

/// What the rows of a Source say of rows before them.
fn changelog_of(source: &SourceSpec) -> InputChangelog {
    match source.changes() {
        None => InputChangelog::Append,
        Some((ChangelogMode::Retract, key)) => InputChangelog::Retract { key: key.to_vec() },
        Some((ChangelogMode::Upsert, key)) => InputChangelog::Upsert { key: key.to_vec() },
    }
}

/// What is wrong with `partitionedBy` of a Source.
fn not_partitioned(input: &AssembledInput) -> Option<Problem> {
    let refused = |message: String, hint: &str| {
        let location = format!("source {}", input.source_name);
        Some(Problem { reason: "SchemaInvalid".to_owned(), location, message, hint: Some(hint.to_owned()) })
    };
    let columns = &input.partitioned_by;
    if !columns.is_empty() && input.source.distribution() != Distribution::Partitioned {
        return refused(
            "partitionedBy is set, but the source is a queue: any worker may get any record".to_owned(),
            "remove partitionedBy; a plan that keeps state then runs as one task",
        );
    }
    let schema = input.source.schema();
    for (position, column) in columns.iter().enumerate() {
        if schema.column_with_name(column).is_none() {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let message = format!("partitionedBy names the column {column}, which the source does not have");
            return refused(message, &format!("columns are: {}", names.join(", ")));
        }
        if columns[..position].contains(column) {
            return refused(format!("partitionedBy names the column {column} twice"), "name each column once");
        }
    }
    None
}

/// Why one task has to read everything, if so.
fn why_whole(plan: &Plan, inputs: &[AssembledInput]) -> Option<String> {
    if !plan.is_stateful() {
        return None;
    }
    let partitioned_by = inputs.iter().map(|input| (input.name.clone(), input.partitioned_by.clone())).collect();
    plan.is_partitioned_by(&partitioned_by).err()
}

/// What is wrong with `limits.lanes`: only the task that keeps state and reads all splits runs in lanes, if its rows can be shared by key.
fn lanes_in_vain(job: &Job, plan: &Plan, whole: bool) -> Option<Problem> {
    let lanes = job.limits.lanes.filter(|lanes| *lanes > 1)?;
    let why = if whole {
        format!("the rows of this plan cannot be shared by key: {}", plan.exchange().err()?)
    } else {
        "this Pipeline has several tasks, each of which is one lane".to_owned()
    };
    Some(Problem {
        reason: "NotSupported".to_owned(),
        location: "limits.lanes".to_owned(),
        message: format!("limits.lanes is {lanes}, but {why}"),
        hint: Some("remove limits.lanes".to_owned()),
    })
}

/// What is wrong with `limits.maxSpillBytes`: state goes to disk by key, if its rows can be shared by key.
fn disk_in_vain(job: &Job, plan: &Plan) -> Option<Problem> {
    let bytes = job.limits.max_spill_bytes.filter(|bytes| *bytes > 0 && plan.is_stateful())?;
    let why = plan.exchange().err()?;
    Some(Problem {
        reason: "NotSupported".to_owned(),
        location: "limits.maxSpillBytes".to_owned(),
        message: format!(
            "limits.maxSpillBytes is {bytes}, but state cannot go to disk, because the rows of this plan cannot be shared by key: {why}"
        ),
        hint: Some("remove limits.maxSpillBytes, and let limits.maxStateBytes be as large as the state".to_owned()),
    })
}

/// What is wrong with an output that guarantees less than the Pipeline demands.
fn too_weak(job: &Job, output: &JobOutput, (guarantee, reason): (Guarantee, String)) -> Option<Problem> {
    let required = job.delivery.as_ref()?.required?;
    (guarantee < required).then(|| Problem {
        reason: "NotSupported".to_owned(),
        location: format!("output {}, sink {}", output.name, output.sink),
        message: format!("delivery.required is {}, but this sink is {}: {reason}", required.as_str(), guarantee.as_str()),
        hint: Some("write to a sink that guarantees it, or demand less".to_owned()),
    })
}

/// What the Pipeline says about state and time.
fn policy(job: &Job) -> Policy {
    let lateness = job.time.as_ref().and_then(|time| time.lateness.clone()).unwrap_or_default();
    Policy {
        state_ttl: job.state_ttl_seconds.map(seconds),
        allowed_lateness: seconds(lateness.allowed_seconds.unwrap_or(0)),
        late: match lateness.policy {
            // Results are updated within the allowed lateness whatever the policy says of what comes later.
            pipeline::LatePolicy::Drop | pipeline::LatePolicy::Update => Late::Drop,
            pipeline::LatePolicy::DeadLetter => Late::DeadLetter,
        },
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
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
                    .map(|input| InputPlan { input: input.name.clone(), distribution: self.distribution(input) })
                    .chain(self.exchanged.iter().map(|_| InputPlan { input: EXCHANGE.to_owned(), distribution: Distribution::Partitioned }))
                    .collect(),
                outputs: self.outputs.iter().enumerate().map(|(index, output)| guaranteed(&self.plan, index, output)).collect(),
                state: Some(compatibility::digests(&self.signatures())),
                whole: self.whole.clone(),
            }),
            tests: None,
            state: None,
        }
    }

    /// What is kept between revisions, by operator id: the state of operators, in which tasks it is, and what is on its way through the exchange.
    pub(crate) fn signatures(&self) -> compatibility::Signatures {
        let exchanged = self.exchanged.iter().flat_map(Exchanged::signatures);
        let signatures = self.plan.state_signatures().into_iter().chain(exchanged).collect();
        if self.is_per_split() { compatibility::per_split(signatures) } else { signatures }
    }

    /// Whether one task reads everything, because the plan keeps state that splits cannot have of their own, and is not shared.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// Why, for people; `None` if it is not so.
    pub(crate) fn why_whole(&self) -> Option<&str> {
        self.whole.as_deref()
    }

    /// Whether the plan keeps state, and each split has that of its own keys.
    pub(crate) fn is_per_split(&self) -> bool {
        self.plan.is_stateful() && self.exchanged.is_none() && self.whole.is_none()
    }

    /// How an input is shared: one task has all of them if it has to, see [`Assembled::is_whole`].
    pub(crate) fn distribution(&self, input: &AssembledInput) -> Distribution {
        if self.is_whole() { Distribution::Whole } else { input.source.distribution() }
    }

    /// The tasks behind the exchange, if there is one.
    pub(crate) fn exchange_tasks(&self) -> impl Iterator<Item = TaskRef> {
        let partitions = self.exchanged.as_ref().map_or(0, |exchanged| exchanged.kafka.partitions());
        (0..partitions).map(|partition| TaskRef::exchange(partition.into()))
    }

    /// Splits of an input that somebody has to hold now. A queue always has split `0`, also when nobody has left anything unfinished.
    pub(crate) async fn splits(&self, input: &AssembledInput, store: &Store) -> Result<Vec<String>, ConnectorError> {
        input.source.splits(&self.shared(input, store)).await
    }

    fn shared(&self, input: &AssembledInput, store: &Store) -> Shared {
        Shared::of(Arc::clone(&store.store), &store.base, &self.job.pipeline.uid, &input.name)
    }

    /// What a task of this Job is given; `None` if its plan has no such task.
    pub(crate) fn task(&self, task: &TaskRef, store: &Store) -> Option<TaskConfig> {
        let bind = |input: &AssembledInput, splits: Splits| InputBinding {
            name: input.name.clone(),
            source: Arc::clone(&input.source),
            source_name: input.source_name.clone(),
            event_time: input.event_time.clone(),
            max_delay: input.max_delay,
            splits,
        };
        let one = || {
            let input = self.inputs.iter().find(|input| input.name == task.input)?;
            Some(vec![bind(input, Splits::One(task.split.clone()))])
        };
        let (inputs, stage) = match (&self.exchanged, task.is_whole()) {
            (Some(exchanged), false) if task.is_exchange() => {
                let upstreams = |input: &str| {
                    let input = self.inputs.iter().find(|known| known.name == input)?;
                    Some(Upstream { input: input.name.clone(), source: Arc::clone(&input.source), shared: self.shared(input, store) })
                };
                let event_times = self.plan.outputs().iter().map(|output| event_time_of(&self.inputs, &output.inputs)).collect();
                (exchanged.inputs(task, upstreams)?, exchanged.back(event_times))
            }
            (Some(exchanged), false) => (one()?, exchanged.front()),
            (None, true) if self.is_whole() => (self.inputs.iter().map(|input| bind(input, Splits::All)).collect(), Stage::All),
            (None, false) if !self.is_whole() => (one()?, Stage::All),
            // During a rollout the operator may know another plan of this Pipeline.
            (Some(_) | None, true) | (None, false) => return None,
        };
        let checkpoint = &self.job.checkpoint;
        let idle_timeout = self.job.time.as_ref().and_then(|time| time.idle_timeout_seconds);
        Some(TaskConfig {
            pipeline_uid: self.job.pipeline.uid.clone(),
            pipeline: format!("{}/{}", self.job.pipeline.namespace, self.job.pipeline.name),
            task: task.clone(),
            inputs,
            plan: Arc::clone(&self.plan),
            stage,
            outputs: self.outputs.clone(),
            dead_letters: self.dead_letters.clone(),
            on_poison: self.on_poison(),
            envelopes: Arc::new(DeadLetterEnvelopes),
            store: Arc::clone(&store.store),
            base: store.base.clone(),
            clock: Arc::clone(&store.clock),
            interval: Duration::from_secs(checkpoint.interval_seconds.unwrap_or(10).into()),
            retained: checkpoint.retained_count.unwrap_or(5),
            in_flight_bytes: self.context.limits.in_flight_bytes,
            at_once: AT_ONCE,
            lanes: if task.is_whole() { lanes(&self.job.limits) } else { 1 },
            state_bytes: self.context.limits.state_bytes,
            spill: store.spill.clone(),
            may_drop_state: self.job.may_drop_state(&self.plan.hash()),
            idle_timeout: seconds(idle_timeout.unwrap_or(IDLE_TIMEOUT_SECONDS)),
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

/// In how many lanes a task runs that reads everything: as many as there are cores, unless the Pipeline says otherwise.
fn lanes(limits: &pipeline::Limits) -> u16 {
    let cores = || std::thread::available_parallelism().map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(KEY_GROUPS));
    limits.lanes.and_then(|lanes| u16::try_from(lanes).ok()).unwrap_or_else(cores).clamp(1, KEY_GROUPS)
}

/// Every source that there is can be replayed from the last epoch, so the sink alone decides.
fn guaranteed(plan: &Plan, index: usize, output: &OutputBinding) -> OutputPlan {
    let (guarantee, reason) = guarantee(plan, index, output);
    OutputPlan { output: output.name.clone(), guarantee, reason }
}

/// What an output guarantees, and why: its sink's, unless what is written again after a crash is something else than before.
fn guarantee(plan: &Plan, index: usize, output: &OutputBinding) -> (Guarantee, String) {
    let (guarantee, reason) = match plan.outputs()[index].changelog {
        Changelog::Append => output.sink.guarantee(),
        Changelog::Updating { .. } => output.sink.guarantee_of_changelog(),
    };
    if !plan.output_reads_clock(index) {
        return (guarantee, reason.to_owned());
    }
    match guarantee {
        Guarantee::EffectivelyOnce => {
            let reason =
                "rows are written over themselves, but results by processing time are other rows when records are read again after a crash";
            (Guarantee::AtLeastOnce, reason.to_owned())
        }
        Guarantee::AtLeastOnce | Guarantee::ExactlyOnce => {
            (guarantee, format!("{reason}; results by processing time are not the same in a replay"))
        }
    }
}

/// Whether an input is a queue.
pub(crate) fn is_queue(input: &AssembledInput) -> bool {
    input.source.distribution() == Distribution::Competing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_processing_time_rows_are_not_written_over_themselves() {
        let job = |sql: &str, sink: serde_json::Value| {
            let mut job: Job = serde_json::from_str(include_str!("../../crds/tests/golden/job-least-v1.json")).unwrap();
            job.steps = vec![pipeline::Step { name: "s".to_owned(), sql: sql.to_owned() }];
            job.outputs[0].from = "s".to_owned();
            job.sinks.insert("out".to_owned(), serde_json::from_value(sink).unwrap());
            let outcome = assemble(job, PathBuf::new()).unwrap().outcome();
            let output = outcome.plan.unwrap().outputs.remove(0);
            (output.guarantee, output.reason)
        };
        let (plain, clock) = ("SELECT * FROM lines", "SELECT *, PROCTIME() AS proc FROM lines");
        let opensearch = serde_json::json!({"opensearch": {"endpoint": "http://localhost:9200", "index": "lines"}});
        let files = serde_json::json!({"files": {"path": "/out", "format": {"json": {}}}});
        assert_eq!(job(plain, opensearch.clone()).0, Guarantee::EffectivelyOnce);
        let (guarantee, reason) = job(clock, opensearch);
        assert_eq!(guarantee, Guarantee::AtLeastOnce);
        assert!(reason.contains("processing time"), "{reason}");
        // What commits with the epoch is not written again.
        let (guarantee, reason) = job(clock, files);
        assert_eq!(guarantee, Guarantee::ExactlyOnce);
        assert!(reason.contains("not the same in a replay"), "{reason}");
    }

    #[test]
    fn an_output_that_guarantees_too_little_is_refused_by_name() {
        let mut job: Job = serde_json::from_str(include_str!("../../crds/tests/golden/job-least-v1.json")).unwrap();
        assert!(assemble(job.clone(), PathBuf::new()).is_ok());
        job.delivery = Some(millrace_crds::delivery::Delivery { required: Some(millrace_crds::delivery::Guarantee::EffectivelyOnce) });
        let problems = assemble(job.clone(), PathBuf::new()).err().unwrap();
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert_eq!(problem.location, "output all, sink out");
        assert!(problem.message.contains("delivery.required is EffectivelyOnce, but this sink is AtLeastOnce"), "{}", problem.message);
        job.sinks.insert(
            "out".to_owned(),
            serde_json::from_value(serde_json::json!({"files": {"path": "/out", "format": {"json": {}}}})).unwrap(),
        );
        assert!(assemble(job, PathBuf::new()).is_ok(), "files are exact");
    }

    #[test]
    fn rows_that_are_revised_go_to_no_sink_that_appends() {
        let mut job: Job = serde_json::from_str(include_str!("../../crds/tests/golden/job-least-v1.json")).unwrap();
        job.steps = vec![millrace_crds::pipeline::Step {
            name: "counts".into(),
            sql: "SELECT line, count(*) AS n FROM lines GROUP BY line".into(),
        }];
        job.outputs[0].from = "counts".into();
        job.state_ttl_seconds = Some(60);
        assert!(assemble(job.clone(), PathBuf::new()).is_ok(), "a terminal shows every change");
        let kafka = |transactional: &str| {
            let options = serde_json::json!({
                "bootstrapServers": "a:9092", "topic": "t", "transactional": transactional, "format": {"json": {}},
            });
            serde_json::from_value(serde_json::json!({ "kafka": options })).unwrap()
        };
        for (transactional, guarantee) in [("Off", Guarantee::AtLeastOnce), ("Auto", Guarantee::ExactlyOnce)] {
            job.sinks.insert("out".to_owned(), kafka(transactional));
            let assembled = assemble(job.clone(), PathBuf::new()).unwrap_or_else(|problems| panic!("{problems:?}"));
            let output = assembled.outcome().plan.unwrap().outputs.remove(0);
            assert_eq!(output.guarantee, guarantee);
            assert!(output.reason.contains("tombstones"), "a topic keeps the last value of each key: {}", output.reason);
        }
        job.sinks.insert(
            "out".to_owned(),
            serde_json::from_value(serde_json::json!({"files": {"path": "/out", "format": {"json": {}}}})).unwrap(),
        );
        let problems = assemble(job, PathBuf::new()).err().unwrap();
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert_eq!((problem.reason.as_str(), problem.location.as_str()), ("PlanInvalid", "output all, sink out"));
        assert!(problem.message.contains("this sink can only append"), "{}", problem.message);
    }

    #[test]
    fn a_second_output_in_transactions_is_refused_dead_letters_included() {
        let mut job: Job = serde_json::from_str(include_str!("../../crds/tests/golden/job-least-v1.json")).unwrap();
        let topic = |name: &str, transactional: &str| {
            let options = serde_json::json!({
                "bootstrapServers": "a:9092", "topic": name, "transactional": transactional, "format": {"json": {}},
            });
            serde_json::from_value(serde_json::json!({ "kafka": options })).unwrap()
        };
        job.sinks.insert("out".to_owned(), topic("t", "Auto"));
        job.sinks.insert("more".to_owned(), topic("u", "Auto"));
        assert!(assemble(job.clone(), PathBuf::new()).is_ok(), "one output in transactions");
        let refused = |job: &Job, location: &str| {
            let problems = assemble(job.clone(), PathBuf::new()).err().unwrap();
            let [problem] = problems.as_slice() else { panic!("{problems:?}") };
            assert_eq!((problem.reason.as_str(), problem.location.as_str()), ("PlanInvalid", location));
            assert!(problem.message.contains("cannot be committed together; the other is output all, sink out"), "{}", problem.message);
        };
        let mut two = job.clone();
        two.outputs.push(JobOutput { name: "again".to_owned(), sink: "more".to_owned(), ..job.outputs[0].clone() });
        refused(&two, "output again, sink more");
        // The same Sink twice has two writers, and so two transactions.
        two.outputs[1].sink = "out".to_owned();
        refused(&two, "output again, sink out");
        two.sinks.insert("more".to_owned(), topic("u", "Off"));
        two.outputs[1].sink = "more".to_owned();
        assert!(assemble(two, PathBuf::new()).is_ok(), "one with, one without");
        job.outputs[0].dead_letter = Some("more".to_owned());
        refused(&job, "dead-letter sink more");
    }

    /// Counts by `key` over a topic that is partitioned by `columns`.
    fn partitioned(key: &str, columns: &[&str]) -> Job {
        let mut job: Job = serde_json::from_str(include_str!("../../crds/tests/golden/job-least-v1.json")).unwrap();
        job.inputs[0].source = serde_json::from_value(serde_json::json!({
            "kafka": {"bootstrapServers": "kafka:9092", "topics": ["t"]},
            "format": {"json": {}},
            "schema": {"columns": [{"name": "k", "type": "BigInt"}, {"name": "l", "type": "BigInt"}]},
            "partitionedBy": columns,
        }))
        .unwrap();
        let sql = format!("SELECT {key}, count(*) AS n FROM lines GROUP BY {key}");
        job.steps = vec![millrace_crds::pipeline::Step { name: "counts".into(), sql }];
        job.outputs[0].from = "counts".into();
        job.state_ttl_seconds = Some(60);
        job
    }

    fn store() -> Store {
        let clock = Arc::new(crate::clock::SystemClock);
        Store { store: Arc::new(object_store::memory::InMemory::new()), base: Path::from("x"), clock, spill: None }
    }

    #[test]
    fn a_plan_keyed_by_the_partitions_has_a_task_with_state_for_each() {
        let split = TaskRef { input: "lines".into(), split: "t/0".into() };
        let each = assemble(partitioned("k, l", &["k"]), PathBuf::new()).unwrap();
        assert_eq!(each.distribution(&each.inputs[0]), Distribution::Partitioned);
        assert_eq!(each.task(&split, &store()).unwrap().inputs[0].splits, Splits::One("t/0".into()));
        assert!(each.task(&TaskRef::whole(), &store()).is_none());
        let plan = each.outcome().plan.unwrap();
        assert_eq!((plan.whole, plan.inputs[0].distribution), (None, Distribution::Partitioned));

        let mut one = partitioned("l", &["k"]);
        one.limits.lanes = Some(3);
        let one = assemble(one, PathBuf::new()).unwrap();
        assert_eq!(one.distribution(&one.inputs[0]), Distribution::Whole);
        assert!(one.task(&split, &store()).is_none());
        assert_eq!(one.task(&TaskRef::whole(), &store()).unwrap().lanes, 3);
        let why = one.outcome().plan.unwrap().whole.unwrap();
        assert!(why.contains("does not hold the column k that input lines is partitionedBy"), "{why}");
        let diff = compatibility::compare(&one.signatures(), &each.signatures());
        assert!(diff.positions_lost, "neither goes on from the other");
    }

    /// Passes rows of a topic of changes on to a sink.
    fn changes(changelog: &serde_json::Value, partitioned_by: &[&str], sink: serde_json::Value) -> Job {
        let mut job = partitioned("k", &[]);
        job.inputs[0].source = serde_json::from_value(serde_json::json!({
            "kafka": {"bootstrapServers": "kafka:9092", "topics": ["t"]},
            "format": {"debezium": {}},
            "schema": {"columns": [{"name": "k", "type": "BigInt"}, {"name": "l", "type": "BigInt"}]},
            "changelog": changelog,
            "partitionedBy": partitioned_by,
        }))
        .unwrap();
        job.steps[0].sql = "SELECT k, l + 1 AS l FROM lines WHERE l > 0".to_owned();
        job.state_ttl_seconds = None;
        job.sinks.insert("out".to_owned(), serde_json::from_value(sink).unwrap());
        job
    }

    #[test]
    fn changes_go_to_sinks_that_keep_rows_by_key() {
        let json = serde_json::json!({"json": {}});
        let topic = serde_json::json!({"kafka": {"bootstrapServers": "kafka:9092", "topic": "u", "format": json}});
        let files = serde_json::json!({"files": {"path": "/nowhere", "format": json}});
        let upserts = serde_json::json!({"primaryKey": ["k"]});
        let one = assemble(changes(&upserts, &[], topic.clone()), PathBuf::new()).unwrap();
        assert_eq!(one.distribution(&one.inputs[0]), Distribution::Whole, "the last rows of keys are state");
        let each = assemble(changes(&upserts, &["k"], topic.clone()), PathBuf::new()).unwrap();
        assert_eq!(each.distribution(&each.inputs[0]), Distribution::Partitioned, "a partition has all of a key");
        let retract = serde_json::json!({"mode": "Retract", "primaryKey": ["k"]});
        let stateless = assemble(changes(&retract, &[], topic.clone()), PathBuf::new()).unwrap();
        assert_eq!(stateless.distribution(&stateless.inputs[0]), Distribution::Partitioned);
        assert!(stateless.plan.state_signatures().is_empty());
        let refused = |changelog: &serde_json::Value, sink: &serde_json::Value, message: &str| {
            let problems = assemble(changes(changelog, &[], sink.clone()), PathBuf::new()).err().unwrap();
            assert!(problems.iter().any(|problem| problem.message.contains(message)), "{problems:?}");
        };
        refused(&upserts, &files, "a changelog input");
        refused(&serde_json::Value::Null, &topic, "name changelog.primaryKey of the Source");
        refused(&serde_json::json!({"primaryKey": ["m"]}), &topic, "names the column m, which the source does not have");
    }

    #[test]
    fn lanes_that_nothing_runs_in_are_refused() {
        let refused = |columns: &[&str], sql: &str| {
            let mut job = partitioned("k", columns);
            job.limits.lanes = Some(3);
            job.steps[0].sql = sql.to_owned();
            let problems = assemble(job, PathBuf::new()).err().unwrap();
            let [problem] = problems.as_slice() else { panic!("{problems:?}") };
            assert_eq!((problem.reason.as_str(), problem.location.as_str()), ("NotSupported", "limits.lanes"));
            problem.message.clone()
        };
        let several = refused(&["k"], "SELECT k, count(*) AS n FROM lines GROUP BY k");
        assert!(several.contains("several tasks"), "{several}");
        let unshared = refused(&[], "SELECT count(*) AS n FROM lines");
        assert!(unshared.contains("cannot be shared by key"), "{unshared}");
    }

    #[test]
    fn a_disk_that_nothing_goes_to_is_refused() {
        let assembled = |bytes: i64, sql: &str| {
            let mut job = partitioned("k", &[]);
            job.limits.max_spill_bytes = Some(bytes);
            job.steps[0].sql = sql.to_owned();
            assemble(job, PathBuf::new())
        };
        let problems = assembled(1 << 30, "SELECT count(*) AS n FROM lines").err().unwrap();
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert_eq!((problem.reason.as_str(), problem.location.as_str()), ("NotSupported", "limits.maxSpillBytes"));
        assert!(problem.message.contains("cannot be shared by key"), "{}", problem.message);
        assert!(assembled(0, "SELECT count(*) AS n FROM lines").is_ok());
        assert!(assembled(1 << 30, "SELECT k, count(*) AS n FROM lines GROUP BY k").is_ok());
    }

    #[test]
    fn partitions_that_cannot_be_are_refused_with_what_to_do() {
        let refused = |job: Job, message: &str| {
            let problems = assemble(job, PathBuf::new()).err().unwrap();
            let [problem] = problems.as_slice() else { panic!("{problems:?}") };
            assert_eq!((problem.reason.as_str(), problem.location.as_str()), ("SchemaInvalid", "source in"));
            assert!(problem.message.contains(message) && problem.hint.is_some(), "{problem:?}");
        };
        refused(partitioned("k", &["m"]), "names the column m, which the source does not have");
        refused(partitioned("k", &["k", "k"]), "names the column k twice");
        let mut queue = partitioned("k", &["line"]);
        queue.inputs[0].source = serde_json::from_value(serde_json::json!({
            "s3": {"sqs": {"queueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/q"}},
            "format": {"raw": {}},
            "partitionedBy": ["line"],
        }))
        .unwrap();
        refused(queue, "the source is a queue");
    }
}
