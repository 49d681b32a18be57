//! From logical plans to the graph of operators. Columns that are only renamed, reordered or dropped cost nothing: they are resolved here, and no operator is made for them.

mod aggregate;
mod gather;
mod join;
mod over;
mod rank;
mod temporal;
mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion_common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion_expr::logical_plan::{Filter, Projection, TableScan, Union};
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{Expr, LogicalPlan};

use crate::operators::{
    Blueprint, ByClockBlueprint, ClockBlueprint, FilterBlueprint, NormalizeBlueprint, ProjectBlueprint, UnionBlueprint,
};
use crate::plan::expression::{self, is_guarded};
use crate::plan::graph::{Graph, Input, Node, Output, Upstream};
use crate::plan::needs::{self, Columns};
use crate::plan::processing;
use crate::plan::rank::RankPlan;
use crate::plan::time::Clock;
use crate::plan::traits::renamed;
use crate::plan::{Changelog, InputTable, OutputPlan, Policy, temporal as temporal_plan, window};

/// Where the columns of a logical plan are.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Bound {
    /// What delivers them.
    pub(in crate::plan) upstream: Upstream,
    /// For each logical column its position there; `None` for a column that nobody reads.
    pub(in crate::plan) columns: Vec<Option<usize>>,
}

/// Builds the graph, table by table, each after those it reads.
pub(in crate::plan) struct Builder<'a> {
    policy: &'a Policy,
    graph: Graph,
    tables: BTreeMap<String, Bound>,
    /// Operators of each step and kind so far.
    ordinals: BTreeMap<(String, &'static str), usize>,
    step: String,
    /// The next window function is computed by what is being built above it: its columns are where the time is.
    fused: bool,
}

impl<'a> Builder<'a> {
    pub(in crate::plan) fn new(policy: &'a Policy) -> Self {
        Self { policy, graph: Graph::default(), tables: BTreeMap::new(), ordinals: BTreeMap::new(), step: String::new(), fused: false }
    }

    /// Adds an input of which only `needed` columns are read. `event_time` is the column of those that watermarks are made from, if any are needed; `normalized_by` the
    /// columns of its key, if the last row of each is kept.
    pub(in crate::plan) fn input(
        &mut self,
        input: &InputTable,
        needed: &Columns,
        event_time: Option<usize>,
        normalized_by: Option<&[usize]>,
    ) {
        let declared = input.schema.fields();
        let fields: Vec<FieldRef> = needed.iter().map(|column| Arc::clone(&declared[*column])).collect();
        let place = |column: usize| needed.iter().position(|needed| *needed == column);
        let columns = (0..declared.len()).map(place).collect();
        let mut upstream = Upstream::Input(self.graph.inputs.len());
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        self.graph.inputs.push(Input {
            name: input.name.clone(),
            schema: Arc::clone(&schema),
            declared: declared.len(),
            event_time: event_time.and_then(place),
            changelog: input.changelog.clone(),
        });
        if let Some(key) = normalized_by {
            input.name.clone_into(&mut self.step);
            let key = key.iter().filter_map(|column| place(*column)).collect();
            upstream = self.add(Arc::new(NormalizeBlueprint { key, schema }), vec![upstream]);
        }
        self.tables.insert(input.name.clone(), Bound { upstream, columns });
    }

    /// Adds a step of which only `needed` columns are read.
    pub(in crate::plan) fn step(&mut self, name: &str, plan: &LogicalPlan, needed: &Columns) -> Result<()> {
        name.clone_into(&mut self.step);
        let bound = self.bind(plan, needed)?;
        self.tables.insert(name.to_owned(), bound);
        Ok(())
    }

    /// Adds an output of all columns of `from`; `names` are their names there.
    pub(in crate::plan) fn output(&mut self, name: &str, from: &str, names: &[String], changelog: Changelog) -> Result<()> {
        let bound = self.table(from)?.clone();
        from.clone_into(&mut self.step);
        let schema = self.graph.schema(bound.upstream);
        let as_it_is = bound.columns.iter().enumerate().all(|(position, column)| *column == Some(position))
            && schema.fields().len() == names.len()
            && schema.fields().iter().zip(names).all(|(field, name)| field.name() == name);
        let upstream = if as_it_is { bound.upstream } else { self.rename(&bound, names)? };
        let plan = OutputPlan {
            name: name.to_owned(),
            schema: Arc::clone(self.graph.schema(upstream)),
            inputs: self.graph.inputs_of(upstream),
            changelog,
        };
        self.graph.outputs.push(Output { plan, from: upstream });
        Ok(())
    }

    pub(in crate::plan) fn finish(self) -> Graph {
        self.graph
    }

    /// Makes the operators of a plan of which only `needed` columns are read.
    fn bind(&mut self, plan: &LogicalPlan, needed: &Columns) -> Result<Bound> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.bind(&alias.input, needed),
            LogicalPlan::Filter(filter) => self.filter(plan, filter, needed),
            LogicalPlan::Projection(projection) => self.projection(plan, projection, needed),
            LogicalPlan::Union(union) => self.union(union, needed),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, needed),
            LogicalPlan::Join(join) => self.join(join, needed),
            LogicalPlan::Window(window) => self.over(window, needed),
            LogicalPlan::Extension(extension) => match window::of_extension(extension) {
                Some(node) => self.window(plan, node, needed),
                None => match temporal_plan::of_extension(extension) {
                    Some(node) => self.temporal(node, needed),
                    None => Err(needs::outside(plan)),
                },
            },
            other => Err(needs::outside(other)),
        }
    }

    fn table(&self, name: &str) -> Result<&Bound> {
        self.tables.get(name).ok_or_else(|| DataFusionError::Internal(format!("table {name} is read before it is built")))
    }

    fn scan(&self, scan: &TableScan) -> Result<Bound> {
        let table = self.table(scan.table_name.table())?;
        let columns = scan
            .projection
            .as_ref()
            .map_or_else(|| table.columns.clone(), |projection| projection.iter().map(|column| table.columns[*column]).collect());
        Ok(Bound { upstream: table.upstream, columns })
    }

    /// One operator, or several where a part of the condition must not see the rows that the parts before it drop.
    fn filter(&mut self, plan: &LogicalPlan, filter: &Filter, needed: &Columns) -> Result<Bound> {
        let below = needs::of_inputs(plan, needed)?.pop().unwrap_or_default();
        let schema = filter.input.schema();
        let (mut bound, predicate) = match RankPlan::of(filter)? {
            None => (self.bind(&filter.input, &below)?, Some(filter.predicate.clone())),
            Some(rank) => {
                let read = rank.rest.as_ref().map_or(Ok(Columns::new()), |rest| needs::read_by(rest, schema))?;
                (self.rank(&rank, &needed.union(&read).copied().collect())?, rank.rest)
            }
        };
        let mut stages = predicate.map_or(Ok(Vec::new()), |predicate| stages(&predicate, schema))?;
        stages.reverse();
        while let Some(predicate) = stages.pop() {
            let mut kept = needed.clone();
            for later in &stages {
                kept.extend(needs::read_by(later, schema)?);
            }
            if predicate != Expr::Literal(ScalarValue::Boolean(Some(true)), None) {
                bound = self.keep(&bound, &predicate, schema, &kept)?;
            }
        }
        Ok(bound)
    }

    /// Adds the operator that drops the rows for which `predicate` is not true, and the columns that are not in `kept`.
    fn keep(&mut self, bound: &Bound, predicate: &Expr, schema: &DFSchema, kept: &Columns) -> Result<Bound> {
        let physical = self.graph.schema(bound.upstream);
        let predicate = expression::bind(predicate, schema, bound, physical, None)?;
        let keep: Columns = kept.iter().filter_map(|column| bound.columns[*column]).collect();
        let keep: Vec<usize> = keep.into_iter().collect();
        let fields: Vec<FieldRef> = keep.iter().map(|column| Arc::clone(&physical.fields()[*column])).collect();
        let columns = bound.columns.iter().map(|column| column.and_then(|column| keep.binary_search(&column).ok())).collect();
        let blueprint = FilterBlueprint { predicate, keep, schema: Arc::new(Schema::new(fields)) };
        Ok(Bound { upstream: self.add(Arc::new(blueprint), vec![bound.upstream]), columns })
    }

    fn projection(&mut self, plan: &LogicalPlan, projection: &Projection, needed: &Columns) -> Result<Bound> {
        let below = needs::of_inputs(plan, needed)?.pop().unwrap_or_default();
        let bound = self.bind(&projection.input, &below)?;
        let input = projection.input.schema();
        if needed.iter().any(|column| processing::reads_clock(&projection.expr[*column])) {
            return self.with_clock(projection, needed, &bound);
        }
        if let Some(columns) = only_renames(projection, needed, &bound)? {
            return Ok(Bound { upstream: bound.upstream, columns });
        }
        self.project(projection, input, needed, &bound)
    }

    fn project(&mut self, projection: &Projection, input: &DFSchema, needed: &Columns, bound: &Bound) -> Result<Bound> {
        let physical = Arc::clone(self.graph.schema(bound.upstream));
        let mut fields = Vec::with_capacity(needed.len());
        let mut expressions = Vec::with_capacity(needed.len());
        for column in needed {
            let expr = &processing::as_column(&projection.expr[*column])?;
            let wanted = projection.schema.field(*column);
            fields.push(match renamed(expr) {
                Some(source) => {
                    let source = input.index_of_column(source)?;
                    let field = bound.columns[source].map(|position| physical.field(position));
                    Arc::new(field.map_or_else(|| wanted.as_ref().clone(), |field| field.clone().with_name(wanted.name())))
                }
                // What is computed may be NULL, whatever the planner has found out about it.
                None => Arc::new(Field::new(wanted.name(), wanted.data_type().clone(), true)),
            });
            let data_type = renamed(expr).is_none().then(|| wanted.data_type());
            expressions.push(expression::bind(expr, input, bound, &physical, data_type)?);
        }
        let columns = (0..projection.expr.len()).map(|column| needed.iter().position(|needed| *needed == column)).collect();
        let blueprint = ProjectBlueprint { expressions, schema: Arc::new(Schema::new(fields)) };
        Ok(Bound { upstream: self.add(Arc::new(blueprint), vec![bound.upstream]), columns })
    }

    /// A projection that asks for the time: an operator below it adds it to each row as a column.
    fn with_clock(&mut self, projection: &Projection, needed: &Columns, bound: &Bound) -> Result<Bound> {
        let now = processing::column();
        let below = self.graph.schema(bound.upstream).fields().iter().cloned().chain([Arc::clone(&now)]);
        let blueprint = ClockBlueprint { schema: Arc::new(Schema::new(below.collect::<Vec<_>>())) };
        let position = blueprint.schema.fields().len() - 1;
        let upstream = self.add(Arc::new(blueprint), vec![bound.upstream]);
        let columns = bound.columns.iter().copied().chain([Some(position)]).collect();
        let input = projection.input.schema();
        let fields = input.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).chain([(None, now)]).collect();
        let input = DFSchema::new_with_metadata(fields, std::collections::HashMap::new())?;
        self.project(projection, &input, needed, &Bound { upstream, columns })
    }

    fn union(&mut self, union: &Union, needed: &Columns) -> Result<Bound> {
        let mut upstreams = Vec::with_capacity(union.inputs.len());
        let mut ports = Vec::with_capacity(union.inputs.len());
        let mut nullable = vec![false; needed.len()];
        for input in &union.inputs {
            let bound = self.bind(input, needed)?;
            let port: Vec<usize> = needed.iter().filter_map(|column| bound.columns[*column]).collect();
            let schema = self.graph.schema(bound.upstream);
            nullable.iter_mut().zip(&port).for_each(|(nullable, column)| *nullable |= schema.field(*column).is_nullable());
            upstreams.push(bound.upstream);
            ports.push(port);
        }
        let fields: Vec<Field> = needed
            .iter()
            .zip(nullable)
            .map(|(column, nullable)| {
                let field = union.schema.field(*column);
                Field::new(field.name(), field.data_type().clone(), nullable)
            })
            .collect();
        let columns = (0..union.schema.fields().len()).map(|column| needed.iter().position(|needed| *needed == column)).collect();
        let blueprint = UnionBlueprint { ports, schema: Arc::new(Schema::new(fields)) };
        Ok(Bound { upstream: self.add(Arc::new(blueprint), upstreams), columns })
    }

    /// Columns in the order and under the names of a table.
    fn rename(&mut self, bound: &Bound, names: &[String]) -> Result<Upstream> {
        let physical = self.graph.schema(bound.upstream);
        let mut fields = Vec::with_capacity(names.len());
        let mut expressions = Vec::with_capacity(names.len());
        for (column, name) in bound.columns.iter().zip(names) {
            let position = column.ok_or_else(|| DataFusionError::Internal(format!("column {name} of an output is not computed")))?;
            fields.push(physical.field(position).clone().with_name(name));
            expressions.push(expression::column(physical, position));
        }
        let blueprint = ProjectBlueprint { expressions, schema: Arc::new(Schema::new(fields)) };
        let upstream = bound.upstream;
        Ok(self.add(Arc::new(blueprint), vec![upstream]))
    }

    /// Adds an operator that `clock` tells when something is over.
    fn add_by(&mut self, clock: Clock, blueprint: Arc<dyn Blueprint>, upstreams: Vec<Upstream>) -> Upstream {
        let blueprint = match clock {
            Clock::Event { .. } => blueprint,
            Clock::Processing => Arc::new(ByClockBlueprint { inner: blueprint }),
        };
        self.add(blueprint, upstreams)
    }

    /// Adds an operator to the current step, unless it has one that does exactly the same.
    fn add(&mut self, blueprint: Arc<dyn Blueprint>, upstreams: Vec<Upstream>) -> Upstream {
        let step = format!("{}/", self.step);
        let same =
            |node: &Node| node.id.starts_with(&step) && node.upstreams == upstreams && node.blueprint.identity() == blueprint.identity();
        if let Some(node) = self.graph.nodes.iter().position(same) {
            return Upstream::Node(node);
        }
        let ordinal = self.ordinals.entry((self.step.clone(), blueprint.kind())).or_default();
        let id = Arc::from(format!("{}/{}/{ordinal}", self.step, blueprint.kind()));
        *ordinal += 1;
        self.graph.nodes.push(Node { id, blueprint, upstreams });
        Upstream::Node(self.graph.nodes.len() - 1)
    }
}

/// The parts of a condition that are joined by AND. A part that may fail or costs much gets a stage of its own, so that it sees only rows that pass
/// the parts before it: `WHERE n <> 0 AND 100 / n > 5` never divides by zero, and which rows are in one batch makes no difference.
fn stages(predicate: &Expr, schema: &DFSchema) -> Result<Vec<Expr>> {
    let mut stages: Vec<Vec<Expr>> = Vec::new();
    for part in split_conjunction_owned(predicate.clone()) {
        match stages.last_mut() {
            Some(stage) if !is_guarded(&part, schema)? => stage.push(part),
            _ => stages.push(vec![part]),
        }
    }
    Ok(stages.into_iter().filter_map(conjunction).collect())
}

/// The positions of a projection's columns, if it only renames, reorders and drops columns and none is there twice.
fn only_renames(projection: &Projection, needed: &Columns, bound: &Bound) -> Result<Option<Vec<Option<usize>>>> {
    let mut columns = vec![None; projection.expr.len()];
    for column in needed {
        let Some(source) = renamed(&projection.expr[*column]) else { return Ok(None) };
        let position = bound.columns[projection.input.schema().index_of_column(source)?];
        if columns.contains(&position) {
            return Ok(None);
        }
        columns[*column] = position;
    }
    Ok(Some(columns))
}
