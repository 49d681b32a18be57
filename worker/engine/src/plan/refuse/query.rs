//! The clauses of a query: set operations, ORDER BY, LIMIT, GROUP BY and so on. Looks into no expression.

use datafusion_sql::sqlparser::ast::{
    Cte, Distinct, Fetch, GroupByExpr, LimitClause, OrderBy, OrderByKind, Query, Select, SelectFlavor, SelectItem, SetExpr, SetOperator,
    SetQuantifier, With,
};

use super::{Refuser, place};
use crate::plan::text::Place;

const NO_END: &str = "remove it: a stream has no end";
pub(in crate::plan) const NO_STATE: &str = "worker/engine/SQL.md lists what steps can do, and what to write instead of what they cannot";
pub(super) const REMOVE: &str = "remove it";

impl Refuser<'_> {
    pub(super) fn query(&mut self, query: &Query) {
        let Query { with, body, order_by, limit_clause, fetch, locks, for_clause, settings, format_clause, pipe_operators } = query;
        if let Some(with) = with {
            self.with(with);
        }
        self.set_expr(body);
        if let Some(order_by) = order_by {
            self.order_by(order_by, body);
        }
        if let Some(limit) = limit_clause {
            self.limit(limit);
        }
        if let Some(Fetch { quantity, with_ties: _, percent: _ }) = fetch {
            self.refuse("FETCH", self.text.keyword_before(quantity.as_ref().and_then(place), "FETCH"), NO_END);
        }
        let after = place(query);
        if !locks.is_empty() || for_clause.is_some() {
            self.refuse("FOR UPDATE, FOR SHARE and the like", self.text.keyword_after(after, "FOR"), REMOVE);
        }
        if settings.is_some() {
            self.refuse("SETTINGS", self.text.keyword_after(after, "SETTINGS"), REMOVE);
        }
        if format_clause.is_some() {
            self.refuse("FORMAT", self.text.keyword_after(after, "FORMAT"), "the Sink says in which format is written");
        }
        if !pipe_operators.is_empty() {
            self.refuse("the pipe operator |>", after, "write a SELECT");
        }
    }

    fn with(&mut self, with: &With) {
        let With { with_token, recursive, cte_tables } = with;
        if *recursive {
            self.refuse("WITH RECURSIVE", Place::new(with_token.0.span.start), "a stream has no fixed point to iterate to");
        }
        for Cte { alias, query: _, from, materialized: _, closing_paren_token: _ } in cte_tables {
            if from.is_some() {
                self.refuse("FROM after WITH", Place::new(alias.name.span.start), REMOVE);
            }
        }
    }

    fn order_by(&mut self, order_by: &OrderBy, body: &SetExpr) {
        let OrderBy { kind, interpolate: _ } = order_by;
        let anchor = match kind {
            OrderByKind::Expressions(expressions) => expressions.first().and_then(|e| place(&e.expr)),
            OrderByKind::All(_) => None,
        };
        let found = self.text.keyword_before(anchor, "ORDER").or_else(|| self.text.keyword_after(place(body), "ORDER"));
        self.refuse("ORDER BY", found, "remove it: a stream has no end at which it could be sorted; sort where the output is read");
    }

    fn limit(&mut self, limit: &LimitClause) {
        match limit {
            LimitClause::LimitOffset { limit, offset, limit_by: _ } => {
                if let Some(limit) = limit {
                    self.refuse("LIMIT", self.text.keyword_before(place(limit), "LIMIT"), NO_END);
                }
                if let Some(offset) = offset {
                    self.refuse("OFFSET", self.text.keyword_before(place(&offset.value), "OFFSET"), NO_END);
                }
            }
            LimitClause::OffsetCommaLimit { offset, limit: _ } => {
                self.refuse("LIMIT", self.text.keyword_before(place(offset), "LIMIT"), NO_END);
            }
        }
    }

    /// Set operations nest to the left, one level for each: walked without recursion.
    fn set_expr(&mut self, body: &SetExpr) {
        let mut open = vec![body];
        while let Some(body) = open.pop() {
            match body {
                // The visitor comes to these by itself.
                SetExpr::Select(_) | SetExpr::Query(_) => {}
                SetExpr::SetOperation { left, op, set_quantifier, right } => {
                    self.set_operation(*op, *set_quantifier, right);
                    open.extend([right.as_ref(), left.as_ref()]);
                }
                SetExpr::Values(_) => self.refuse(
                    "VALUES",
                    self.text.keyword_after(None, "VALUES"),
                    "a step reads inputs and other steps; put fixed rows into a Source of their own",
                ),
                SetExpr::Table(_) => self.refuse("TABLE", self.text.keyword_after(None, "TABLE"), "write SELECT * FROM"),
                SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => self.statement(),
            }
        }
    }

    fn set_operation(&mut self, op: SetOperator, quantifier: SetQuantifier, right: &SetExpr) {
        let (name, hint) = match (op, quantifier) {
            (
                SetOperator::Union,
                SetQuantifier::All
                | SetQuantifier::AllByName
                | SetQuantifier::None
                | SetQuantifier::Distinct
                | SetQuantifier::ByName
                | SetQuantifier::DistinctByName,
            ) => return,
            (SetOperator::Except, _) => ("EXCEPT", NO_STATE),
            (SetOperator::Minus, _) => ("MINUS", NO_STATE),
            (SetOperator::Intersect, _) => ("INTERSECT", NO_STATE),
        };
        let keyword = name.split(' ').next().unwrap_or(name);
        self.refuse(name, self.text.keyword_before(place(right), keyword), hint);
    }

    pub(super) fn select(&mut self, select: &Select) {
        let Select {
            select_token,
            optimizer_hints: _, // comments
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection: _,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having: _,
            named_window,
            qualify: _,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        let start = Place::new(select_token.0.span.start);
        match distinct {
            None | Some(Distinct::All | Distinct::Distinct) => {}
            Some(Distinct::On(_)) => self.refuse("DISTINCT ON", self.text.keyword_after(start, "DISTINCT"), NO_STATE),
        }
        match group_by {
            GroupByExpr::Expressions(_, modifiers) if modifiers.is_empty() => {}
            GroupByExpr::Expressions(..) => {
                self.refuse("GROUP BY … WITH", self.text.keyword_after(start, "GROUP"), "write one step for each grouping");
            }
            GroupByExpr::All(_) => self.refuse("GROUP BY ALL", self.text.keyword_after(start, "GROUP"), "name the columns"),
        }
        if from.is_empty() {
            self.refuse("SELECT without FROM", start, "a step reads inputs and other steps");
        }
        self.from(from);
        self.projection(projection);
        for (present, name, hint) in [
            (select_modifiers.is_some(), "a modifier of SELECT", REMOVE),
            (value_table_mode.is_some(), "SELECT AS", REMOVE),
            (!matches!(flavor, SelectFlavor::Standard), "FROM before SELECT", "write SELECT … FROM …"),
        ] {
            if present {
                self.refuse(name, start, hint);
            }
        }
        for (present, keyword, hint) in [
            (top.is_some(), "TOP", NO_END),
            (exclude.is_some(), "EXCLUDE", "write it right after the *"),
            (into.is_some(), "INTO", "outputs say what is written where"),
            (!lateral_views.is_empty(), "LATERAL", NO_STATE),
            (prewhere.is_some(), "PREWHERE", "write WHERE"),
            (!connect_by.is_empty(), "CONNECT", NO_STATE),
            (!cluster_by.is_empty(), "CLUSTER", NO_END),
            (!distribute_by.is_empty(), "DISTRIBUTE", NO_END),
            (!sort_by.is_empty(), "SORT", NO_END),
            (!named_window.is_empty(), "WINDOW", NO_STATE),
        ] {
            if present {
                self.clause(keyword, start, hint);
            }
        }
    }

    fn projection(&mut self, items: &[SelectItem]) {
        for item in items {
            match item {
                SelectItem::UnnamedExpr(_)
                | SelectItem::ExprWithAlias { .. }
                | SelectItem::Wildcard(_)
                | SelectItem::QualifiedWildcard(..) => {}
                SelectItem::ExprWithAliases { expr, aliases: _ } => {
                    self.refuse("several aliases for one column", place(expr), "give one alias");
                }
            }
        }
    }

    /// Refuses a clause that has the name of its keyword.
    fn clause(&mut self, keyword: &str, start: Option<Place>, hint: &str) {
        self.refuse(keyword, self.text.keyword_after(start, keyword), hint);
    }
}
