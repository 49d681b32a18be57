//! From the text of a step to its syntax tree. Never looks at schemas.

use datafusion_sql::sqlparser::ast::Statement;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use millrace_crds::pipeline::Step;
use millrace_crds::report::Problem;

use super::dialect::MillraceDialect;
use super::problem::{Reason, in_step, of_parser, problem};
use super::rank::write_out;
use super::refuse::refuse;
use super::text::Text;

/// Nesting of parentheses and subqueries that is read.
const RECURSION_LIMIT: usize = 100;

/// A step that can be planned, as far as its text tells.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) name: String,
    pub(super) text: Text,
    pub(super) statement: Statement,
}

/// Reads a step. What cannot be supported is a problem here already, with its place; all of it at once.
pub(super) fn parse(step: &Step) -> Result<Parsed, Vec<Problem>> {
    let text = Text::new(&step.sql).map_err(|error| vec![of_parser(&step.name, &ParserError::TokenizerError(error.to_string()))])?;
    let statements = Parser::new(&MillraceDialect)
        .with_recursion_limit(RECURSION_LIMIT)
        .try_with_sql(&step.sql)
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| vec![of_parser(&step.name, &error)])?;
    let mut statements = statements.into_iter();
    let Some(mut statement) = statements.next() else {
        return Err(vec![problem(Reason::SyntaxError, in_step(&step.name, None), "the step is empty", Some("write a SELECT".to_owned()))]);
    };
    let mut problems = refuse(&step.name, &text, &statement);
    write_out(&mut statement);
    if statements.next().is_some() {
        let hint = Some("make it a step of its own".to_owned());
        problems.push(problem(
            Reason::NotSupported,
            in_step(&step.name, text.second_statement()),
            "a second statement in a step is not supported",
            hint,
        ));
    }
    if problems.is_empty() { Ok(Parsed { name: step.name.clone(), text, statement }) } else { Err(problems) }
}
