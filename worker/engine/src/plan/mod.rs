//! Compiles the SQL steps of a Pipeline into a graph of stream operators. Runs nothing; what it cannot run it refuses by name, place and hint.
//!
//! ```text
//!  text ─parse─▶ tree ─refuse─▶ order of steps ─logical─▶ plan per step ─needs─▶ columns read ─build─▶ Graph ─▶ Executor per input and lane
//!                  │              │                         │
//!                  └──────────────┴──── Problems ───────────┘  all of them, not only the first
//! ```
//!
//! **Steps stay nodes of their own.** Each step is planned and optimised alone, and what several steps or outputs read is computed once for each batch.
//! Adding a reader to a step changes nothing in the step, so the ids of its operators (step, kind, ordinal) stay the same. Only which columns are
//! computed depends on the readers: a column that nobody reads is neither computed nor decoded.
//!
//! **What SQL means** is what DataFusion says: integers wrap on overflow, integer division truncates and fails on zero, `x / 0.0` is infinite, decimals
//! follow its precision rules, strings compare by bytes. `CAST` is checked: a row with a value that does not fit is rejected (dead-lettered), and the
//! others go on; `TRY_CAST` yields NULL instead. The parts of `WHERE … AND …` guard each other from left to right. Unquoted names are folded to lower case.
//! Functions of the clock and of chance are refused, because a replay must give the same rows; only `PROCTIME()` is there, for those who want processing time
//! and say so.

mod build;
mod catalog;
pub mod compatibility;
mod dialect;
mod explain;
mod expression;
mod functions;
mod graph;
mod inputs;
mod join;
mod logical;
mod needs;
mod order;
mod over;
mod parse;
mod problem;
mod processing;
mod rank;
mod refuse;
pub mod stages;
mod stateful;
mod temporal;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod traits;
mod whitelist;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion_common::DataFusionError;
use datafusion_expr::LogicalPlan;
use millrace_crds::pipeline::Step;
use millrace_crds::report::Problem;

use build::Builder;
use catalog::Catalog;
use graph::Graph;
use parse::Parsed;
use problem::{NAMES, Reason, in_step, problem, quoted};
use temporal::Versions;
use time::{Clock, TimeAttribute};
use traits::{Mode, Traits};

pub use crate::operators::Executor;
pub use inputs::{InputChangelog, InputTable};

/// Planning recurses over the syntax tree, which can be as deep as a step's text allows. The memory is only taken as far as it is used.
const STACK_BYTES: usize = 64 << 20;

/// A compiled Pipeline. Cheap to clone; the same text and schemas give an equal plan in every process.
#[derive(Clone, Debug)]
pub struct Plan {
    graph: Arc<Graph>,
    outputs: Arc<[OutputPlan]>,
    /// Asked with every batch.
    stateful: bool,
}

/// One output.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputPlan {
    /// Its name.
    pub name: String,
    /// Columns of every batch that it gets.
    pub schema: SchemaRef,
    /// Inputs that reach it, in the order of the Pipeline.
    pub inputs: Vec<String>,
    /// Whether rows are revised.
    pub changelog: Changelog,
}

/// Whether the rows of a table are revised after they were emitted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Changelog {
    /// Never: every row is an insertion.
    #[default]
    Append,
    /// Rows are replaced and taken back, as their [`RowKind`](crate::row_kind::RowKind)s say.
    Updating {
        /// Columns that tell rows apart at any time: there is at most one row for each of their values. Empty if nothing does but the whole row.
        key: Vec<String>,
    },
}

/// What a Pipeline says about state and time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    /// For how long state that no window or interval ends is kept after it was last touched. Without it, a plan with such state is refused.
    pub state_ttl: Option<Duration>,
    /// For how long results of a window are kept after it has ended, so that late rows can still be counted in.
    pub allowed_lateness: Duration,
    /// What happens to rows that come later than that.
    pub late: Late,
}

/// What happens to rows that belong to a window that has been closed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Late {
    /// They are counted and dropped.
    #[default]
    Drop,
    /// They are rejected, as rows that cannot be evaluated are.
    DeadLetter,
}

/// Compiles steps over inputs for outputs (name, and the step or input that it writes).
///
/// On failure, all problems that could be found: those of a step that reads a step with problems are found once that one is right.
pub fn compile(steps: &[Step], inputs: &[InputTable], outputs: &[(String, String)], policy: &Policy) -> Result<Plan, Vec<Problem>> {
    std::thread::scope(|scope| {
        let planning = std::thread::Builder::new()
            .name("plan".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || plan(steps, inputs, outputs, policy));
        let failed = |message: String| vec![problem(Reason::PlanInvalid, "plan".to_owned(), message, None)];
        match planning.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(planned)) => planned,
            Ok(Err(_)) => Err(failed("the planner failed; please report the query".to_owned())),
            Err(error) => Err(failed(format!("cannot start a thread to plan in: {error}"))),
        }
    })
}

impl Plan {
    /// 16 hex digits; equal for equal text and schemas, in every process. Text that means the same may have the same hash.
    #[must_use]
    pub fn hash(&self) -> String {
        self.graph.hash()
    }

    /// Number of operators.
    #[must_use]
    pub fn operators(&self) -> u32 {
        u32::try_from(self.graph.nodes.len()).unwrap_or(u32::MAX)
    }

    /// Columns of an input that are read, in the order of its schema. Empty if only its rows count, or nothing reads it.
    #[must_use]
    pub fn projection(&self, input: &str) -> Vec<String> {
        let input = self.graph.inputs.iter().find(|known| known.name == input);
        input.map_or_else(Vec::new, |input| input.schema.fields().iter().map(|field| field.name().clone()).collect())
    }

    /// The outputs, in the order in which they were given.
    #[must_use]
    pub fn outputs(&self) -> &[OutputPlan] {
        &self.outputs
    }

    /// The part of the graph that `inputs` reach, for one lane; [`Executor::push`] numbers them as they are given. An input that the plan does not have
    /// reaches nothing.
    #[must_use]
    pub fn executor(&self, inputs: &[&str]) -> Executor {
        let position = |input: &&str| self.graph.inputs.iter().position(|known| known.name == *input);
        Executor::new(self.graph.wiring(&inputs.iter().map(position).collect::<Vec<_>>()))
    }

    /// What the state of each operator is made of, by operator id; empty if no operator keeps any.
    #[must_use]
    pub fn state_signatures(&self) -> BTreeMap<Arc<str>, String> {
        let signature = |node: &graph::Node| Some((Arc::clone(&node.id), node.blueprint.state_signature()?));
        self.graph.nodes.iter().filter_map(signature).collect()
    }

    /// Whether some operator keeps state.
    #[must_use]
    pub fn is_stateful(&self) -> bool {
        self.stateful
    }

    /// Whether some operator goes by processing time: then [`Message::Clock`](crate::operators::Message::Clock) has to be told before each batch, and now and then
    /// without one. Results are then not the same in a replay.
    #[must_use]
    pub fn reads_clock(&self) -> bool {
        self.graph.nodes.iter().any(|node| node.blueprint.reads_clock())
    }

    /// The same of what comes out at one output.
    #[must_use]
    pub fn output_reads_clock(&self, output: usize) -> bool {
        self.graph.outputs.get(output).is_some_and(|output| self.graph.reads_clock(output.from))
    }

    /// Whether rows of others look things up in `input`, and wait until it has been read once: then [`Message::Idle`](crate::operators::Message::Idle) has to be
    /// told of it.
    #[must_use]
    pub fn is_table(&self, input: &str) -> bool {
        let position = self.graph.inputs.iter().position(|known| known.name == input);
        position.is_some_and(|input| self.graph.is_table(input))
    }

    /// Position of the event-time column of `input` in [`Plan::projection`], if some operator needs watermarks of it.
    #[must_use]
    pub fn event_time(&self, input: &str) -> Option<usize> {
        self.graph.inputs.iter().find(|known| known.name == input)?.event_time
    }

    /// The plan for people: inputs with the columns that are read, operators with their ids and expressions, outputs with their columns, and where
    /// rows are brought together by key, if it keeps state, or why they cannot be.
    #[must_use]
    pub fn explain(&self) -> String {
        format!("{}{}", self.graph, self.explain_exchange())
    }
}

fn plan(steps: &[Step], inputs: &[InputTable], outputs: &[(String, String)], policy: &Policy) -> Result<Plan, Vec<Problem>> {
    let mut problems = names(steps, inputs);
    let mut parsed = Vec::with_capacity(steps.len());
    for step in steps {
        parsed.push(parse::parse(step).map_err(|found| problems.extend(found)).ok());
    }
    let step_names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    let input_names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    let (order, found) = order::order(&parsed, &step_names, &input_names);
    problems.extend(found);

    let mut catalog = Catalog::new();
    for input in inputs {
        let mut traits = Traits { mode: input.mode(), ..Traits::plain(input.schema.fields().len()) };
        if let Some(position) = input.event_time.as_deref().and_then(|column| input.schema.index_of(column).ok()) {
            let lateness = i64::try_from(policy.allowed_lateness.as_micros()).unwrap_or(i64::MAX);
            traits.times[position] = Some(TimeAttribute::Time(Clock::Event { lateness }));
        }
        catalog.add(&input.name, &input.schema, traits, None);
    }
    let mut plans = Vec::with_capacity(steps.len());
    for step in order.iter().filter_map(|step| parsed[*step].as_ref()) {
        if !order::readable(step, &catalog) {
            continue;
        }
        match plan_step(&catalog, step, policy) {
            Ok((planned, traits, versions)) => {
                catalog.add(&step.name, planned.schema().as_arrow(), traits, versions);
                plans.push((step.name.as_str(), planned));
            }
            Err(found) => problems.extend(found),
        }
    }
    for (name, from) in outputs {
        if !step_names.contains(&from.as_str()) && !input_names.contains(&from.as_str()) {
            let tables: Vec<String> = input_names.iter().chain(&step_names).map(|table| quoted(table)).collect();
            let hint = Some(format!("inputs and steps are: {}", tables.join(", ")));
            problems.push(problem(
                Reason::UnknownTable,
                format!("output {name}"),
                format!("there is no step or input {}", quoted(from)),
                hint,
            ));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let graph = build(&catalog, &plans, inputs, outputs, policy).map_err(|(step, error)| {
        let step = parsed.iter().flatten().find(|parsed| Some(parsed.name.as_str()) == step);
        match step {
            Some(step) if problem::is_refusal(&error) => problem::of_datafusion(&step.name, &step.text, &error, None),
            step => {
                let location = step.map_or_else(|| "plan".to_owned(), |step| in_step(&step.name, None));
                vec![problem(Reason::PlanInvalid, location, format!("it cannot be compiled: {}", error.strip_backtrace()), None)]
            }
        }
    })?;
    let outputs = graph.outputs.iter().map(|output| output.plan.clone()).collect();
    let stateful = graph.nodes.iter().any(|node| node.blueprint.state_signature().is_some());
    Ok(Plan { graph: Arc::new(graph), outputs, stateful })
}

/// Inputs and steps are tables of one query: their names must differ.
fn names(steps: &[Step], inputs: &[InputTable]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for input in inputs {
        let InputTable { name, schema, .. } = input;
        if !seen.insert(name.as_str()) {
            problems.push(problem(
                Reason::PlanInvalid,
                format!("input {name}"),
                format!("two inputs are named {}", quoted(name)),
                Some("rename one of them".to_owned()),
            ));
        }
        problems.extend(columns(schema, &format!("input {name}")));
        problems.extend(input.problems());
    }
    for step in steps {
        if !seen.insert(step.name.as_str()) {
            let message = format!("two steps, or a step and an input, are named {}", quoted(&step.name));
            problems.push(problem(Reason::PlanInvalid, in_step(&step.name, None), message, Some("rename one of them".to_owned())));
        }
    }
    problems
}

/// Columns must have names, each its own.
fn columns(schema: &Schema, location: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for (position, field) in schema.fields().iter().enumerate() {
        let message = if field.name().is_empty() {
            format!("column {} has no name", position + 1)
        } else if !seen.insert(field.name()) {
            format!("two columns are named {}", quoted(field.name()))
        } else {
            continue;
        };
        problems.push(problem(Reason::SchemaInvalid, location.to_owned(), message, Some(NAMES.to_owned())));
    }
    problems
}

fn plan_step(catalog: &Catalog, step: &Parsed, policy: &Policy) -> Result<(LogicalPlan, Traits, Option<Versions>), Vec<Problem>> {
    let planned = logical::plan(catalog, step, policy)?;
    let problems = columns(planned.schema().as_arrow(), &in_step(&step.name, None));
    if !problems.is_empty() {
        return Err(problems);
    }
    let known = |error: DataFusionError| problem::of_datafusion(&step.name, &step.text, &error, None);
    let (traits, versions) = (traits::of(&planned).map_err(known)?, Versions::of(&planned).map_err(known)?);
    Ok((planned, traits, versions))
}

/// `plans` in the order in which they can be planned. An error comes with the step that it is about, if it is about one.
fn build<'a>(
    catalog: &Catalog,
    plans: &[(&'a str, LogicalPlan)],
    inputs: &[InputTable],
    outputs: &[(String, String)],
    policy: &Policy,
) -> Result<Graph, (Option<&'a str>, DataFusionError)> {
    let mut names: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    names.extend(inputs.iter().map(|input| (input.name.as_str(), column_names(&input.schema))));
    names.extend(plans.iter().map(|(name, plan)| (*name, column_names(plan.schema().as_arrow()))));
    let mut needs: BTreeMap<String, needs::Columns> = BTreeMap::new();
    for (_, from) in outputs {
        needs.entry(from.clone()).or_default().extend(0..names.get(from.as_str()).map_or(0, Vec::len));
    }
    let mut timed = BTreeSet::new();
    for (name, plan) in plans.iter().rev() {
        if let Some(needed) = needs.get(*name).cloned() {
            needs::of_tables(plan, &needed, &mut needs).map_err(|error| (Some(*name), error))?;
            needs::timed_tables(plan, timed.contains(*name), &mut timed).map_err(|error| (Some(*name), error))?;
        }
    }
    let mut builder = Builder::new(policy);
    for input in inputs {
        let event_time = input.event_time.as_deref().filter(|_| timed.contains(&input.name));
        let event_time = event_time.and_then(|column| input.schema.index_of(column).ok());
        let is_read = needs.contains_key(&input.name);
        let needed = needs.entry(input.name.clone()).or_default();
        needed.extend(event_time);
        let normalized_by = input.normalized_by().filter(|_| is_read);
        needed.extend(normalized_by.iter().flatten());
        builder.input(input, needed, event_time, normalized_by.as_deref());
    }
    for (name, plan) in plans {
        if let Some(needed) = needs.get(*name) {
            builder.step(name, plan, needed).map_err(|error| (Some(*name), error))?;
        }
    }
    for (name, from) in outputs {
        let columns = names.get(from.as_str()).map_or(&[][..], Vec::as_slice);
        let mode = catalog.table(from).map(|table| &table.traits.mode);
        let changelog = mode.map_or(Changelog::Append, |mode| changelog(mode, columns));
        builder.output(name, from, columns, changelog).map_err(|error| (None, error))?;
    }
    Ok(builder.finish())
}

fn changelog(mode: &Mode, columns: &[String]) -> Changelog {
    match mode {
        Mode::Append => Changelog::Append,
        Mode::Updating { key } => Changelog::Updating { key: key.iter().map(|column| columns[*column].clone()).collect() },
    }
}

fn column_names(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}
