//! What stands in FROM: tables and subqueries pass, joins and everything that makes rows from nothing do not.

use datafusion_sql::sqlparser::ast::{
    Join, JoinConstraint, JoinOperator, TableAlias, TableFactor, TableSampleKind, TableVersion, TableWithJoins,
};

use super::query::{NO_STATE, REMOVE};
use super::{Refuser, place};
use crate::plan::window::{Call, is_window};

impl Refuser<'_> {
    pub(super) fn from(&mut self, from: &[TableWithJoins]) {
        for table in from {
            self.joins(table);
        }
    }

    fn joins(&mut self, table: &TableWithJoins) {
        let TableWithJoins { relation: _, joins } = table;
        for Join { relation, global, join_operator } in joins {
            let found = self.text.keyword_before(place(relation), "JOIN").or_else(|| place(relation));
            if *global {
                self.refuse("GLOBAL JOIN", found, "write JOIN");
            }
            if let Some(name) = refused(join_operator) {
                self.refuse(name, found, "there are JOIN, LEFT JOIN, RIGHT JOIN and FULL JOIN … ON …");
            }
        }
    }

    pub(super) fn relation(&mut self, factor: &TableFactor) {
        if let Some((parts, usage)) = Call::parts(factor) {
            let start = parts.first().copied();
            self.window_parts.extend(parts);
            if let Some(Err(message)) = Call::read(factor) {
                self.add(start, message, usage);
            }
        }
        match factor {
            TableFactor::Table { name, alias, args, with_hints, version, with_ordinality, partitions, json_path, sample, index_hints } => {
                let here = place(name);
                self.alias(alias.as_ref());
                self.sample(sample.as_ref(), factor);
                if args.is_some() && !is_window(factor) {
                    self.refuse(&format!("table function {}", name.to_string().to_uppercase()), here, NO_STATE);
                }
                for (present, what) in [
                    (!with_hints.is_empty(), "WITH after a table"),
                    (
                        version.as_ref().is_some_and(|version| !matches!(version, TableVersion::ForSystemTimeAsOf(_))),
                        "a version of a table other than FOR SYSTEM_TIME AS OF",
                    ),
                    (*with_ordinality, "WITH ORDINALITY"),
                    (!partitions.is_empty(), "PARTITION after a table"),
                    (json_path.is_some(), "a JSON path after a table"),
                    (!index_hints.is_empty(), "an index hint"),
                ] {
                    if present {
                        self.refuse(what, here, REMOVE);
                    }
                }
            }
            TableFactor::Derived { lateral, subquery: _, alias, sample } => {
                self.alias(alias.as_ref());
                self.sample(sample.as_ref(), factor);
                if *lateral {
                    self.refuse("LATERAL", self.text.keyword_before(place(factor), "LATERAL"), NO_STATE);
                }
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.alias(alias.as_ref());
                self.joins(table_with_joins);
            }
            TableFactor::UNNEST { .. } => self.named("UNNEST", factor),
            TableFactor::TableFunction { expr: _, alias } if is_window(factor) => self.alias(alias.as_ref()),
            TableFactor::TableFunction { .. } => self.named("TABLE", factor),
            TableFactor::Function { name, .. } => {
                self.refuse(&format!("table function {}", name.to_string().to_uppercase()), place(name), NO_STATE);
            }
            TableFactor::JsonTable { .. } => self.named("JSON_TABLE", factor),
            TableFactor::OpenJsonTable { .. } => self.named("OPENJSON", factor),
            TableFactor::Pivot { .. } => self.named("PIVOT", factor),
            TableFactor::Unpivot { .. } => self.named("UNPIVOT", factor),
            TableFactor::MatchRecognize { .. } => self.named("MATCH_RECOGNIZE", factor),
            TableFactor::XmlTable { .. } => self.named("XMLTABLE", factor),
            TableFactor::SemanticView { .. } => self.named("SEMANTIC_VIEW", factor),
        }
    }

    fn named(&mut self, keyword: &str, factor: &TableFactor) {
        let start = place(factor);
        let found = self.text.keyword_after(start, keyword).or_else(|| self.text.keyword_before(start, keyword));
        self.refuse(keyword, found.or(start), NO_STATE);
    }

    fn alias(&mut self, alias: Option<&TableAlias>) {
        let Some(TableAlias { explicit: _, name: _, columns: _, at: Some(at) }) = alias else { return };
        self.refuse("AT after a table", crate::plan::text::Place::new(at.span.start), REMOVE);
    }

    fn sample(&mut self, sample: Option<&TableSampleKind>, factor: &TableFactor) {
        if sample.is_some() {
            let found = self.text.keyword_after(place(factor), "TABLESAMPLE").or_else(|| self.text.keyword_after(place(factor), "SAMPLE"));
            self.refuse("TABLESAMPLE", found, "chance gives other rows in a replay; filter by a hash of a column instead");
        }
    }
}

/// The name of a join that is not there. Whether the others have keys is only known once they are planned.
fn refused(operator: &JoinOperator) -> Option<&'static str> {
    Some(match operator {
        JoinOperator::Join(_)
        | JoinOperator::Inner(_)
        | JoinOperator::Left(_)
        | JoinOperator::LeftOuter(_)
        | JoinOperator::Right(_)
        | JoinOperator::RightOuter(_)
        | JoinOperator::FullOuter(_)
        | JoinOperator::CrossJoin(JoinConstraint::None) => return None,
        JoinOperator::CrossJoin(_) => "CROSS JOIN with a condition",
        JoinOperator::Semi(_) | JoinOperator::LeftSemi(_) | JoinOperator::RightSemi(_) => "SEMI JOIN",
        JoinOperator::Anti(_) | JoinOperator::LeftAnti(_) | JoinOperator::RightAnti(_) => "ANTI JOIN",
        JoinOperator::CrossApply => "CROSS APPLY",
        JoinOperator::OuterApply => "OUTER APPLY",
        JoinOperator::AsOf { .. } => "ASOF JOIN",
        JoinOperator::StraightJoin(_) => "STRAIGHT_JOIN",
        JoinOperator::ArrayJoin | JoinOperator::LeftArrayJoin | JoinOperator::InnerArrayJoin => "ARRAY JOIN",
    })
}
