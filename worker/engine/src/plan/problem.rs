//! Problems of a step: reason, place, what is wrong, what to do. Translates the errors of parser and planner; never invents a place.

use arrow::error::ArrowError;
use datafusion_common::utils::datafusion_strsim::levenshtein;
use datafusion_common::{DataFusionError, SchemaError};
use datafusion_sql::sqlparser::parser::ParserError;
use millrace_crds::report::Problem;

use super::text::{Place, Text};

/// The closed set of [`Problem::reason`] as far as planning gives them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reason {
    PlanInvalid,
    UnknownColumn,
    UnknownTable,
    Cycle,
    NotSupported,
    SyntaxError,
    SchemaInvalid,
    TypeMismatch,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::PlanInvalid => "PlanInvalid",
            Self::UnknownColumn => "UnknownColumn",
            Self::UnknownTable => "UnknownTable",
            Self::Cycle => "Cycle",
            Self::NotSupported => "NotSupported",
            Self::SyntaxError => "SyntaxError",
            Self::SchemaInvalid => "SchemaInvalid",
            Self::TypeMismatch => "TypeMismatch",
        }
    }
}

/// What the planner itself refuses while DataFusion plans; travels inside DataFusion's error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    place: Option<Place>,
    reason: Reason,
    message: String,
    hint: String,
}

impl Refusal {
    pub(super) fn at(place: Option<Place>, reason: Reason, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { place, reason, message: message.into(), hint: hint.into() }
    }
}

/// Whether an error is something that was refused, and no failure.
pub(super) fn is_refusal(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::External(inner) if inner.is::<Refusal>())
}

impl From<Refusal> for DataFusionError {
    fn from(refusal: Refusal) -> Self {
        Self::External(Box::new(refusal))
    }
}

/// A problem anywhere.
pub(super) fn problem(reason: Reason, location: String, message: impl Into<String>, hint: Option<String>) -> Problem {
    Problem { reason: reason.as_str().to_owned(), location, message: message.into(), hint }
}

/// `step per_client, line 3, column 14`.
pub(super) fn in_step(step: &str, place: Option<Place>) -> String {
    match place {
        Some(Place { line, column }) => format!("step {step}, line {line}, column {column}"),
        None => format!("step {step}"),
    }
}

/// A step could not be read at all.
pub(super) fn of_parser(step: &str, error: &ParserError) -> Problem {
    let (ParserError::TokenizerError(message) | ParserError::ParserError(message)) = error else {
        let hint = Some("split the query into several steps".to_owned());
        return problem(Reason::NotSupported, in_step(step, None), "the query is nested too deeply to be read", hint);
    };
    // Parser and tokenizer put the place at the end of the text.
    let (what, place) = match message.rsplit_once(" at Line: ") {
        Some((what, place)) => (
            what,
            place
                .split_once(", Column: ")
                .and_then(|(line, column)| Some(Place { line: line.parse().ok()?, column: column.parse().ok()? })),
        ),
        None => (message.as_str(), None),
    };
    problem(Reason::SyntaxError, in_step(step, place), what.to_owned(), Some("a step is one SELECT".to_owned()))
}

/// What DataFusion found; several problems if it collected several. `fallback` is where the expression starts that was planned, for errors without a place.
pub(super) fn of_datafusion(step: &str, text: &Text, error: &DataFusionError, fallback: Option<Place>) -> Vec<Problem> {
    error.iter().map(|error| of_one(step, text, error, fallback)).collect()
}

fn of_one(step: &str, text: &Text, error: &DataFusionError, fallback: Option<Place>) -> Problem {
    let span = error.diagnostic().and_then(|d| d.span.or_else(|| d.notes.iter().find_map(|note| note.span)));
    let span = span.and_then(Place::of_span);
    let here = |found: Option<Place>| in_step(step, span.or(found).or(fallback));
    if let DataFusionError::External(inner) = error.find_root()
        && let Some(Refusal { place, reason, message, hint }) = inner.downcast_ref()
    {
        return problem(*reason, in_step(step, place.or(fallback)), message.clone(), Some(hint.clone()));
    }
    match error.find_root() {
        DataFusionError::SchemaError(schema, _) => of_schema(&here, text, schema),
        DataFusionError::ArrowError(arrow, _) => {
            let what = arrow.to_string();
            let (reason, hint) = match arrow.as_ref() {
                ArrowError::DivideByZero | ArrowError::ArithmeticOverflow(_) => (Reason::PlanInvalid, "it fails for every row: remove it"),
                _ => (Reason::TypeMismatch, CASTS),
            };
            problem(reason, here(mentioned(text, &what)), what, Some(hint.to_owned()))
        }
        DataFusionError::NotImplemented(what) if !what.contains("CAST") => problem(
            Reason::NotSupported,
            here(mentioned(text, what)),
            first_line(what),
            Some("write it in another way, or compute it outside".to_owned()),
        ),
        DataFusionError::Plan(what)
        | DataFusionError::Execution(what)
        | DataFusionError::Internal(what)
        | DataFusionError::NotImplemented(what) => of_message(&here, text, what),
        other => problem(Reason::PlanInvalid, here(None), first_line(&other.strip_backtrace()), None),
    }
}

const CASTS: &str = "make the types agree with CAST(… AS …), or with TRY_CAST if values may be unfit";

/// Errors of which DataFusion only gives a text.
fn of_message(here: &dyn Fn(Option<Place>) -> String, text: &Text, what: &str) -> Problem {
    let place = mentioned(text, what);
    // The arguments of a function that says itself what it takes.
    if let Some((_, why)) = what.split_once("user-defined coercion failed with: ") {
        let why = why.split(" No function matches").next().unwrap_or(why);
        let why = first_line(why.strip_prefix("Error during planning: ").unwrap_or(why));
        return problem(Reason::TypeMismatch, here(place), why.trim_end_matches('.').to_owned(), Some(CASTS.to_owned()));
    }
    if let Some((_, call)) = what.split_once("No function matches the given name and argument types '")
        && let Some((call, candidates)) = call.split_once('\'')
    {
        let candidates: Vec<&str> = candidates.lines().map(str::trim).filter(|line| line.contains('(')).take(3).collect();
        let hint = if candidates.is_empty() { CASTS.to_owned() } else { format!("it can be called as {}", candidates.join(" or ")) };
        return problem(Reason::TypeMismatch, here(place), format!("no function matches {call}"), Some(hint));
    }
    if what.contains("unique expression names") {
        let mut quoted = what.split('"').skip(1).step_by(2);
        let (one, other) = (quoted.next().unwrap_or_default(), quoted.next().unwrap_or_default());
        let name = other.rsplit([' ', '.']).next().unwrap_or_default();
        return problem(
            Reason::SchemaInvalid,
            here(text.name(name)),
            format!("two columns have the same name: {one} and {other}"),
            Some(NAMES.to_owned()),
        );
    }
    let types = ["coerc", "type", "non-boolean", "CAST"];
    if types.iter().any(|word| what.contains(word)) {
        return problem(Reason::TypeMismatch, here(place), first_line(what), Some(CASTS.to_owned()));
    }
    let hint =
        what.contains("different number of columns").then(|| "select the same columns on both sides, NULL where one has none".to_owned());
    problem(Reason::PlanInvalid, here(place), first_line(what), hint)
}

/// What to do about columns with one name, or none.
pub(super) const NAMES: &str = "give each column a name of its own: expression AS name";

fn of_schema(here: &dyn Fn(Option<Place>) -> String, text: &Text, error: &SchemaError) -> Problem {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let names: Vec<&str> = valid_fields.iter().map(|c| c.name.as_str()).collect();
            let table = field.relation.as_ref().map(|table| format!(" in {table}")).unwrap_or_default();
            let hint =
                suggest(&field.name, names.iter().copied()).map_or_else(String::new, |name| format!("did you mean {}? ", quoted(name)));
            let hint = format!("{hint}there are: {}", names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "));
            problem(
                Reason::UnknownColumn,
                here(text.name(&field.name)),
                format!("there is no column {}{table}", quoted(&field.name)),
                Some(hint),
            )
        }
        SchemaError::AmbiguousReference { field } => {
            let hint = "put the name of its table in front of it".to_owned();
            problem(Reason::UnknownColumn, here(text.name(&field.name)), format!("column {} is ambiguous", quoted(&field.name)), Some(hint))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            problem(Reason::SchemaInvalid, here(text.name(name)), format!("two columns are named {}", quoted(name)), Some(NAMES.to_owned()))
        }
    }
}

/// The name as it must be written in SQL.
pub(super) fn quoted(name: &str) -> String {
    let mut chars = name.chars();
    let plain =
        chars.next().is_some_and(|c| c.is_lowercase() || c == '_') && chars.all(|c| c.is_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// The name that was most probably meant.
pub(super) fn suggest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let near = names.map(|name| (levenshtein(&wrong, &name.to_lowercase()), name));
    let (distance, name) = near.min()?;
    (distance * 3 <= wrong.chars().count().max(3)).then_some(name)
}

/// Where a function or literal stands that the message puts in quotes.
fn mentioned(text: &Text, message: &str) -> Option<Place> {
    let quoted = message.split(['\'', '`', '"']).skip(1).step_by(2);
    quoted.filter(|word| !word.is_empty()).find_map(|word| text.call(word).or_else(|| text.literal(word)))
}

fn first_line(message: &str) -> String {
    message.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or(message).lines().next().unwrap_or_default().trim().to_owned()
}
