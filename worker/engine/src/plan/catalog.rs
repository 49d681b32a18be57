//! The tables and functions that the planner may use. Holds schemas, never rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DataFusionError, Result, TableReference};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner};
use datafusion_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};

use super::functions::Functions;
use super::rank;
use super::temporal::Versions;
use super::time;
use super::traits::Traits;

/// Inputs and the steps planned so far.
pub(super) struct Catalog {
    tables: BTreeMap<String, Arc<Table>>,
    options: ConfigOptions,
}

/// A table: what its rows are like.
#[derive(Debug)]
pub(super) struct Table {
    /// Its columns, with time attributes in their metadata.
    schema: SchemaRef,
    pub(super) traits: Traits,
    /// The versions of its rows, if it keeps the last of each key.
    pub(super) versions: Option<Versions>,
}

impl TableSource for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Catalog {
    pub(super) fn new() -> Self {
        let mut options = ConfigOptions::default();
        options.sql_parser.collect_spans = true;
        Self { tables: BTreeMap::new(), options }
    }

    pub(super) fn add(&mut self, name: &str, schema: &Schema, traits: Traits, versions: Option<Versions>) {
        let schema = time::mark(schema, &traits.times);
        self.tables.insert(name.to_owned(), Arc::new(Table { schema, traits, versions }));
    }

    /// What is known about a table.
    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(name).map(AsRef::as_ref)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}

impl ContextProvider for Catalog {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let table = if let TableReference::Bare { table } = &name { self.tables.get(table.as_ref()) } else { None };
        match table {
            Some(table) => Ok(Arc::clone(table) as _),
            None => Err(DataFusionError::Plan(format!("there is no table {name}"))),
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &Functions::get().planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &Functions::get().relations
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        Functions::get().scalar.get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        Functions::get().higher_order.get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        Functions::get().aggregates.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        let function = rank::function();
        (function.name() == name).then_some(function)
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        Functions::get().scalar.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Functions::get().higher_order.keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        Functions::get().aggregates.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        vec![rank::function().name().to_owned()]
    }
}
