//! Which tables each step reads, and in which order steps can be planned. Knows names only, no schemas.

use std::collections::{BTreeMap, BTreeSet};

use datafusion_sql::sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, Query, Select, SetExpr, Spanned, Statement, TableFactor, TableWithJoins,
};
use millrace_crds::report::Problem;

use super::catalog::Catalog;
use super::parse::Parsed;
use super::problem::{Reason, in_step, problem, quoted, suggest};
use super::text::Place;
use super::window::{Call, is_window};

/// A table that a step reads.
#[derive(Clone, Debug)]
struct Reference {
    table: String,
    place: Option<Place>,
}

/// Steps by position, each after the steps it reads.
///
/// `steps` has `None` for steps that could not be read, `names` the names of all of them. A reference to such a step is no problem of its own.
pub(super) fn order(steps: &[Option<Parsed>], names: &[&str], inputs: &[&str]) -> (Vec<usize>, Vec<Problem>) {
    let references: Vec<Vec<Reference>> =
        steps.iter().map(|step| step.as_ref().map_or_else(Vec::new, |step| references(&step.statement))).collect();
    let positions: BTreeMap<&str, usize> =
        names.iter().enumerate().map(|(position, name)| (*name, position)).filter(|(name, _)| !inputs.contains(name)).collect();
    let mut problems = Vec::new();
    for (step, references) in names.iter().zip(&references) {
        for reference in references {
            if !positions.contains_key(reference.table.as_str()) && !inputs.contains(&reference.table.as_str()) {
                problems.push(unknown(step, reference, inputs, names));
            }
        }
    }
    let mut search = Search {
        references: &references,
        positions: &positions,
        names,
        state: vec![State::New; names.len()],
        path: Vec::new(),
        order: Vec::new(),
        problems,
    };
    (0..names.len()).for_each(|step| search.visit(step));
    (search.order, search.problems)
}

fn unknown(step: &str, reference: &Reference, inputs: &[&str], names: &[&str]) -> Problem {
    let tables: Vec<&str> = inputs.iter().chain(names).copied().filter(|table| *table != step).collect();
    let bare = reference.table.rsplit('.').next().unwrap_or_default();
    let near = suggest(bare, tables.iter().copied()).map_or_else(String::new, |name| format!("did you mean {}? ", quoted(name)));
    let hint = format!("{near}inputs and steps are: {}", tables.iter().map(|table| quoted(table)).collect::<Vec<_>>().join(", "));
    problem(Reason::UnknownTable, in_step(step, reference.place), format!("there is no table {}", reference.table), Some(hint))
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    New,
    Open,
    Done,
}

/// Depth-first search over the steps.
struct Search<'a> {
    references: &'a [Vec<Reference>],
    positions: &'a BTreeMap<&'a str, usize>,
    names: &'a [&'a str],
    state: Vec<State>,
    /// Steps that are being visited, from the first.
    path: Vec<usize>,
    order: Vec<usize>,
    problems: Vec<Problem>,
}

impl Search<'_> {
    fn visit(&mut self, step: usize) {
        if self.state[step] != State::New {
            return;
        }
        self.state[step] = State::Open;
        self.path.push(step);
        for reference in &self.references[step] {
            let Some(read) = self.positions.get(reference.table.as_str()).copied() else { continue };
            if self.state[read] == State::Open {
                self.cycle(step, read, reference.place);
            } else {
                self.visit(read);
            }
        }
        self.path.pop();
        self.state[step] = State::Done;
        self.order.push(step);
    }

    fn cycle(&mut self, step: usize, back_to: usize, place: Option<Place>) {
        let start = self.path.iter().position(|on_path| *on_path == back_to).unwrap_or(0);
        let path: Vec<&str> = self.path[start..].iter().chain([&back_to]).map(|step| self.names[*step]).collect();
        let message = if path.len() == 2 {
            format!("the step reads itself: {}", path.join(" → "))
        } else {
            format!("steps read each other in a circle: {}", path.join(" → "))
        };
        let hint = Some("let one of them read an input instead".to_owned());
        self.problems.push(problem(Reason::Cycle, in_step(self.names[step], place), message, hint));
    }
}

/// Whether everything that a step reads has been planned. If not, the problem has been reported where it is.
pub(super) fn readable(step: &Parsed, catalog: &Catalog) -> bool {
    references(&step.statement).iter().all(|reference| catalog.contains(&reference.table))
}

fn references(statement: &Statement) -> Vec<Reference> {
    let mut found = Vec::new();
    if let Statement::Query(query) = statement {
        of_query(query, &BTreeSet::new(), &mut found);
    }
    found
}

/// Tables of a query. `hidden` are the names that WITH clauses around it define. A WITH table does not see itself, so `WITH logs AS (SELECT … FROM logs)` reads the table.
fn of_query(query: &Query, hidden: &BTreeSet<String>, found: &mut Vec<Reference>) {
    let mut hidden = hidden.clone();
    for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
        of_query(&cte.query, &hidden, found);
        hidden.insert(normalized(&cte.alias.name));
    }
    let mut open = vec![query.body.as_ref()];
    while let Some(body) = open.pop() {
        match body {
            SetExpr::Select(select) => of_select(select, &hidden, found),
            SetExpr::Query(query) => of_query(query, &hidden, found),
            SetExpr::SetOperation { left, right, .. } => open.extend([right.as_ref(), left.as_ref()]),
            // Refused before.
            SetExpr::Values(_) | SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) | SetExpr::Table(_) => {}
        }
    }
}

fn of_select(select: &Select, hidden: &BTreeSet<String>, found: &mut Vec<Reference>) {
    select.from.iter().for_each(|table| of_relation(table, hidden, found));
}

fn of_relation(table: &TableWithJoins, hidden: &BTreeSet<String>, found: &mut Vec<Reference>) {
    of_factor(&table.relation, hidden, found);
    table.joins.iter().for_each(|join| of_factor(&join.relation, hidden, found));
}

fn of_factor(factor: &TableFactor, hidden: &BTreeSet<String>, found: &mut Vec<Reference>) {
    match factor {
        window if is_window(window) => {
            if let Some(Ok(call)) = Call::read(window) {
                let table = table_name(&call.table);
                if !hidden.contains(&table) {
                    found.push(Reference { table, place: Place::new(call.table.span().start) });
                }
            }
        }
        TableFactor::Table { name, .. } => {
            let table = table_name(name);
            if !hidden.contains(&table) {
                found.push(Reference { table, place: Place::new(name.span().start) });
            }
        }
        TableFactor::Derived { subquery, .. } => of_query(subquery, hidden, found),
        TableFactor::NestedJoin { table_with_joins, .. } => of_relation(table_with_joins, hidden, found),
        // Refused before.
        _ => {}
    }
}

fn table_name(name: &ObjectName) -> String {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => normalized(ident),
        _ => name.to_string(),
    }
}

fn normalized(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}
