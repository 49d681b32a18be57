//! The functions that steps can call, and the names of those that they cannot. Functions of the clock and of chance are not among them, because a replay must give the same rows, except `PROCTIME()`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use datafusion_expr::planner::{ExprPlanner, RelationPlanner};
use datafusion_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, Volatility};

use super::temporal::AsOfPlanner;
use super::window::WindowPlanner;

/// All functions, by lower-case name and alias.
pub(super) struct Functions {
    pub(super) scalar: HashMap<String, Arc<ScalarUDF>>,
    pub(super) higher_order: HashMap<String, Arc<HigherOrderUDF>>,
    /// In GROUP BY and in SELECT with it.
    pub(super) aggregates: HashMap<String, Arc<AggregateUDF>>,
    /// How operators and literals become functions.
    pub(super) planners: Vec<Arc<dyn ExprPlanner>>,
    /// How what stands in FROM becomes a plan, where DataFusion does not know it.
    pub(super) relations: Vec<Arc<dyn RelationPlanner>>,
    /// Known by name only, so that a call can be refused as what it is.
    replay_unsafe: BTreeSet<String>,
}

/// Window functions that are not aggregates, as PostgreSQL and DataFusion name them.
const WINDOW_FUNCTIONS: [&str; 11] =
    ["cume_dist", "dense_rank", "first_value", "lag", "last_value", "lead", "nth_value", "ntile", "percent_rank", "rank", "row_number"];

/// Names for the clock and for chance that other systems have and DataFusion has not.
const FOREIGN_REPLAY_UNSAFE: [&str; 9] = [
    "current_row_timestamp",
    "gen_random_uuid",
    "localtime",
    "localtimestamp",
    "rand",
    "rand_integer",
    "statement_timestamp",
    "sysdate",
    "unix_timestamp",
];

/// What a name stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A function of its arguments: it can be called.
    Pure,
    /// Gives another result each time or at another time.
    ReplayUnsafe,
    /// An aggregate.
    Aggregate,
    /// A window function that is not an aggregate.
    Window,
    /// Not known.
    Unknown,
}

impl Functions {
    /// The one set of functions of this program.
    pub(super) fn get() -> &'static Self {
        static FUNCTIONS: LazyLock<Functions> = LazyLock::new(Functions::new);
        &FUNCTIONS
    }

    fn new() -> Self {
        let all =
            datafusion_functions::all_default_functions().into_iter().chain(datafusion_functions_nested::all_default_nested_functions());
        let (pure, unsafe_in_replay): (Vec<_>, Vec<_>) = all.partition(|f| f.signature().volatility == Volatility::Immutable);
        let higher_order = datafusion_functions_nested::all_default_higher_order_functions();
        let aggregates = datafusion_functions_aggregate::all_default_aggregate_functions();
        let foreign = FOREIGN_REPLAY_UNSAFE.iter().map(|name| (*name).to_owned());
        Self {
            scalar: pure
                .into_iter()
                .chain(crate::functions::all())
                .chain([super::processing::function()])
                .flat_map(|f| names(f.name(), f.aliases(), &f))
                .collect(),
            higher_order: higher_order.into_iter().flat_map(|f| names(f.name(), f.aliases(), &f)).collect(),
            aggregates: aggregates.into_iter().flat_map(|f| names(f.name(), f.aliases(), &f)).collect(),
            planners: vec![
                Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
                Arc::new(datafusion_functions_aggregate::planner::AggregateFunctionPlanner),
                Arc::new(datafusion_functions_nested::planner::NestedFunctionPlanner),
                Arc::new(datafusion_functions_nested::planner::FieldAccessPlanner),
                Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
                Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
            ],
            relations: vec![Arc::new(AsOfPlanner), Arc::new(WindowPlanner)],
            replay_unsafe: unsafe_in_replay
                .into_iter()
                .flat_map(|f| names(f.name(), f.aliases(), &f))
                .map(|(name, _)| name)
                .chain(foreign)
                .collect(),
        }
    }

    /// What a lower-case name stands for. A function that is both scalar and an aggregate counts as scalar.
    pub(super) fn kind(&self, name: &str) -> Kind {
        if self.replay_unsafe.contains(name) {
            Kind::ReplayUnsafe
        } else if self.scalar.contains_key(name) || self.higher_order.contains_key(name) {
            Kind::Pure
        } else if self.aggregates.contains_key(name) {
            Kind::Aggregate
        } else if WINDOW_FUNCTIONS.contains(&name) {
            Kind::Window
        } else {
            Kind::Unknown
        }
    }

    /// Names that can be called, for suggestions.
    pub(super) fn callable(&self) -> impl Iterator<Item = &str> {
        self.scalar.keys().chain(self.higher_order.keys()).chain(self.aggregates.keys()).map(String::as_str)
    }
}

fn names<F>(name: &str, aliases: &[String], function: &Arc<F>) -> Vec<(String, Arc<F>)> {
    std::iter::once(name).chain(aliases.iter().map(String::as_str)).map(|name| (name.to_lowercase(), Arc::clone(function))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_stand_for() {
        let functions = Functions::get();
        for pure in ["upper", "date_trunc", "array_length", "to_timestamp", "coalesce", "array_transform"] {
            assert_eq!(functions.kind(pure), Kind::Pure, "{pure}");
        }
        for ours in ["split_index", "regexp_extract", "mod", "hour", "dayofweek", "count_char"] {
            assert_eq!(functions.kind(ours), Kind::Pure, "{ours}");
        }
        assert_eq!(functions.scalar["date_format"].name(), "date_format", "DataFusion's alias for to_char() has other patterns");
        for clock in ["now", "current_timestamp", "current_date", "current_time", "today", "random", "uuid", "input_file_name"] {
            assert_eq!(functions.kind(clock), Kind::ReplayUnsafe, "{clock}");
        }
        for aggregate in ["count", "sum", "avg", "approx_distinct", "array_agg"] {
            assert_eq!(functions.kind(aggregate), Kind::Aggregate, "{aggregate}");
        }
        assert_eq!(functions.kind("row_number"), Kind::Window);
        assert_eq!(functions.kind("frobnicate"), Kind::Unknown);
    }
}
