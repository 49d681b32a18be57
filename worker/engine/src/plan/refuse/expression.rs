//! Expressions: what has one value for one row passes; aggregates, window functions, subqueries, the clock and chance do not.

use datafusion_sql::sqlparser::ast::{
    CeilFloorKind, DateTimeField, Expr, Function, FunctionArgumentClause, FunctionArgumentList, FunctionArguments, ObjectName,
    ObjectNamePart, Value, ValueWithSpan, WindowSpec, WindowType,
};

use super::query::NO_STATE;
use super::{Refuser, place};
use crate::plan::functions::{Functions, Kind};
use crate::plan::problem::suggest;
use crate::plan::text::Place;

const ONE_GROUPING: &str = "write one step for each grouping, and UNION ALL over them";
const NO_SUBQUERY: &str = "a subquery may stand in FROM only; joins come with the stateful engine";
const OTHERWISE: &str = "write it in another way, or compute it outside";

impl Refuser<'_> {
    pub(super) fn expression(&mut self, expression: &Expr) {
        let here = place(expression);
        match expression {
            Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::CompoundFieldAccess { .. }
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::InList { .. }
            | Expr::Between { .. }
            | Expr::BinaryOp { .. }
            | Expr::Like { any: false, .. }
            | Expr::ILike { any: false, .. }
            | Expr::SimilarTo { .. }
            | Expr::UnaryOp { .. }
            | Expr::Cast { format: None, array: false, .. }
            | Expr::AtTimeZone { .. }
            | Expr::Extract { .. }
            | Expr::Ceil { field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime), .. }
            | Expr::Floor { field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime), .. }
            | Expr::Position { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Overlay { .. }
            | Expr::Nested(_)
            | Expr::TypedString(_)
            | Expr::Case { .. }
            | Expr::Tuple(_)
            | Expr::Struct { .. }
            | Expr::Named { .. }
            | Expr::Dictionary(_)
            | Expr::Map(_)
            | Expr::Array(_)
            | Expr::Interval(_)
            // With a subquery, that is refused by itself.
            | Expr::AnyOp { .. }
            | Expr::AllOp { .. }
            | Expr::Lambda(_) => {}
            Expr::Value(ValueWithSpan { value, span }) => {
                if let Value::Placeholder(name) = value {
                    self.refuse(&format!("the placeholder {name}"), Place::new(span.start), "write the value");
                }
            }
            Expr::Function(function) => self.function(function),
            Expr::InSubquery { .. } => self.refuse("IN with a subquery", here, NO_SUBQUERY),
            Expr::Exists { .. } => self.refuse("EXISTS", here, NO_SUBQUERY),
            Expr::Subquery(_) => self.refuse("a subquery as a value", here, NO_SUBQUERY),
            Expr::GroupingSets(_) => self.refuse("GROUPING SETS", here, ONE_GROUPING),
            Expr::Cube(_) => self.refuse("CUBE", here, ONE_GROUPING),
            Expr::Rollup(_) => self.refuse("ROLLUP", here, ONE_GROUPING),
            Expr::Ceil { .. } | Expr::Floor { .. } => self.refuse("CEIL or FLOOR … TO", here, "for timestamps write date_trunc('day', …), for decimals round(…, scale)"),
            Expr::Cast { .. } => self.refuse("CAST with FORMAT or to an ARRAY", here, "for timestamps write to_timestamp(…, format) or to_char(…, format)"),
            Expr::RLike { .. } => self.refuse("RLIKE", self.text.keyword_after(here, "RLIKE"), "write column ~ 'pattern'"),
            Expr::Like { .. } | Expr::ILike { .. } => self.refuse("LIKE ANY", here, "write several LIKE with OR"),
            Expr::InUnnest { .. } => self.refuse("IN UNNEST", here, "write array_has(array, value)"),
            Expr::Collate { .. } => self.refuse("COLLATE", here, "strings compare by their bytes; lower() folds case"),
            Expr::JsonAccess { .. } => self.refuse("the JSON operator :", here, OTHERWISE),
            Expr::IsNormalized { .. } => self.refuse("IS NORMALIZED", here, OTHERWISE),
            Expr::Convert { .. } => self.refuse("CONVERT", here, "write CAST(… AS …)"),
            Expr::Prefixed { .. } => self.refuse("a prefixed literal", here, OTHERWISE),
            Expr::MatchAgainst { .. } => self.refuse("MATCH AGAINST", here, OTHERWISE),
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => self.refuse("* in an expression", here, "name the columns"),
            Expr::OuterJoin(_) => self.refuse("the outer join operator (+)", here, NO_STATE),
            Expr::Prior(_) => self.refuse("PRIOR", here, NO_STATE),
            Expr::MemberOf(_) => self.refuse("MEMBER OF", here, "write array_has(array, value)"),
        }
    }

    fn function(&mut self, function: &Function) {
        let Function { name, uses_odbc_syntax: _, parameters, args, filter, null_treatment, over, within_group } = function;
        let here = place(name);
        let called = called(name);
        // TABLE, DESCRIPTOR and the window function itself, which have been read as parts of FROM.
        if here.is_some_and(|here| self.window_parts.contains(&here)) {
            return;
        }
        let kind = Functions::get().kind(&called);
        if let Some(over) = over {
            return self.over(&called, function, over);
        }
        match kind {
            Kind::Aggregate => return self.aggregate(&called, function),
            Kind::Window => return self.refuse(&format!("window function {called}()"), here, NO_STATE),
            Kind::ReplayUnsafe => {
                let hint = "after a failure the same records are read again and must give the same rows: use a column of the input, for example its event time";
                return self.add(here, format!("{called}() is not supported: it gives another result each time"), hint);
            }
            Kind::Unknown => return self.unknown(&called, here),
            Kind::Pure => {}
        }
        let plain = match args {
            FunctionArguments::None => true,
            FunctionArguments::Subquery(_) => false,
            FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args: _, clauses }) => {
                duplicate_treatment.is_none() && clauses.is_empty()
            }
        };
        let plain =
            plain && *parameters == FunctionArguments::None && filter.is_none() && null_treatment.is_none() && within_group.is_empty();
        if !plain {
            self.refuse(
                &format!("a clause (DISTINCT, ORDER BY, FILTER, NULLS …) in the call of {called}()"),
                here,
                "it belongs to aggregates: remove it",
            );
        }
    }

    /// A function over a window of rows. What its frame and order have to be is said once it is planned.
    fn over(&mut self, called: &str, function: &Function, over: &WindowType) {
        let Function { name, uses_odbc_syntax: _, parameters, args, filter, null_treatment, over: _, within_group } = function;
        let here = place(name);
        match over {
            WindowType::NamedWindow(_) => return self.refuse("OVER with the name of a window", here, "write OVER (…) out"),
            WindowType::WindowSpec(WindowSpec { window_name, partition_by: _, order_by, window_frame }) => {
                if window_name.is_some() {
                    self.refuse("OVER with the name of a window", here, "write OVER (…) out");
                }
                if order_by.iter().any(|order| order.with_fill.is_some()) {
                    self.refuse("WITH FILL", here, "remove it");
                }
                if called == "row_number" && window_frame.is_some() {
                    self.refuse("a frame (ROWS, RANGE) of row_number()", here, "remove it");
                }
            }
        }
        let known = ["row_number", "count", "sum", "avg", "min", "max"];
        if !known.contains(&called) {
            let hint = "there are count, sum, avg, min and max over a frame, and row_number with a condition on the number";
            return self.refuse(&format!("window function {called}() OVER"), here, hint);
        }
        let plain = match args {
            FunctionArguments::None => true,
            FunctionArguments::Subquery(_) => false,
            FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args: _, clauses }) => {
                duplicate_treatment.is_none() && clauses.is_empty()
            }
        };
        let plain =
            plain && *parameters == FunctionArguments::None && filter.is_none() && null_treatment.is_none() && within_group.is_empty();
        if !plain {
            self.refuse(&format!("a clause (DISTINCT, ORDER BY, FILTER, NULLS …) in the call of {called}() OVER"), here, "remove it");
        }
    }

    /// Clauses in the call of an aggregate: those that mean something to all aggregates pass.
    fn aggregate(&mut self, called: &str, function: &Function) {
        let here = place(&function.name);
        if called == "grouping" {
            return self.refuse("aggregate function grouping()", here, ONE_GROUPING);
        }
        let known = |clause: &FunctionArgumentClause| {
            matches!(clause, FunctionArgumentClause::OrderBy(_) | FunctionArgumentClause::IgnoreOrRespectNulls(_))
        };
        let plain = match &function.args {
            FunctionArguments::None => true,
            FunctionArguments::Subquery(_) => false,
            FunctionArguments::List(FunctionArgumentList { duplicate_treatment: _, args: _, clauses }) => clauses.iter().all(known),
        };
        if !plain || function.parameters != FunctionArguments::None {
            self.refuse(&format!("a clause (LIMIT, HAVING, SEPARATOR …) in the call of {called}()"), here, "remove it");
        }
    }

    fn unknown(&mut self, called: &str, here: Option<Place>) {
        match called {
            "make_map" => {}
            "unnest" => self.refuse("unnest()", here, NO_STATE),
            "descriptor" | "table" | "tumble" | "hop" | "cumulate" | "session" => {
                let name = called.to_uppercase();
                self.refuse(&format!("{name} outside of FROM"), here, "write FROM TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE)");
            }
            _ => {
                let hint = suggest(called, Functions::get().callable())
                    .map_or_else(|| OTHERWISE.to_owned(), |name| format!("did you mean {name}()?"));
                self.add(here, format!("there is no function {called}()"), &hint);
            }
        }
    }
}

/// The function's name as it is looked up: unquoted names in lower case.
fn called(name: &ObjectName) -> String {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] if ident.quote_style.is_none() => ident.value.to_lowercase(),
        [ObjectNamePart::Identifier(ident)] => ident.value.clone(),
        _ => name.to_string(),
    }
}
