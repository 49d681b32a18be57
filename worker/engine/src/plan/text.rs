//! The text of a step and the places in it. Never interprets SQL beyond its tokens.

use datafusion_common::Span;
use datafusion_sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, TokenizerError};

use super::dialect::MillraceDialect;

/// A place in a step: line and column, both from 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Place {
    /// `None` for a location that the parser did not know.
    pub(super) fn new(location: Location) -> Option<Self> {
        (location.line > 0).then_some(Self { line: location.line, column: location.column })
    }

    /// Where a span of DataFusion starts.
    pub(super) fn of_span(span: Span) -> Option<Self> {
        (span.start.line > 0).then_some(Self { line: span.start.line, column: span.start.column })
    }
}

/// A step's tokens with their places; whitespace and comments left out.
#[derive(Debug)]
pub(super) struct Text {
    tokens: Vec<TokenWithSpan>,
}

impl Text {
    pub(super) fn new(sql: &str) -> Result<Self, TokenizerError> {
        let tokens = Tokenizer::new(&MillraceDialect, sql).tokenize_with_location()?;
        Ok(Self { tokens: tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect() })
    }

    /// The last use of a keyword at or before `anchor`.
    pub(super) fn keyword_before(&self, anchor: Option<Place>, keyword: &str) -> Option<Place> {
        let anchor = anchor?;
        let tokens = self.tokens.iter().rev().filter(|t| place(t).is_some_and(|p| p <= anchor));
        tokens.filter(|t| is_word(t, keyword)).find_map(place)
    }

    /// The first use of a keyword at or after `anchor`; from the beginning if there is none.
    pub(super) fn keyword_after(&self, anchor: Option<Place>, keyword: &str) -> Option<Place> {
        let tokens = self.tokens.iter().filter(|t| anchor.is_none_or(|anchor| place(t).is_some_and(|p| p >= anchor)));
        tokens.filter(|t| is_word(t, keyword)).find_map(place)
    }

    /// The first call of a function.
    pub(super) fn call(&self, function: &str) -> Option<Place> {
        self.tokens.windows(2).find(|pair| is_word(&pair[0], function) && pair[1].token == Token::LParen).and_then(|pair| place(&pair[0]))
    }

    /// The first use of a name, in any case, quoted or not.
    pub(super) fn name(&self, name: &str) -> Option<Place> {
        self.tokens.iter().find(|t| is_word(t, name)).and_then(place)
    }

    /// The first literal with this text.
    pub(super) fn literal(&self, text: &str) -> Option<Place> {
        let matches = |token: &Token| match token {
            Token::SingleQuotedString(value) | Token::Number(value, _) => value == text,
            _ => false,
        };
        self.tokens.iter().find(|t| matches(&t.token)).and_then(place)
    }

    /// The word that the text starts with, in capitals, and its place.
    pub(super) fn first_word(&self) -> Option<(String, Place)> {
        let first = self.tokens.iter().find(|t| t.token != Token::LParen && t.token != Token::SemiColon)?;
        Some((first.token.to_string().to_uppercase(), place(first)?))
    }

    /// Where a second statement starts.
    pub(super) fn second_statement(&self) -> Option<Place> {
        let end = self.tokens.iter().position(|t| t.token == Token::SemiColon)?;
        self.tokens[end..].iter().find(|t| t.token != Token::SemiColon).and_then(place)
    }
}

fn place(token: &TokenWithSpan) -> Option<Place> {
    Place::new(token.span.start)
}

fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    matches!(&token.token, Token::Word(w) if w.value.eq_ignore_ascii_case(word))
}
