//! The columns of the tables, and how each engine declares them. Holds no rows.

use millrace_crds::format::{Column, ColumnType, Presence, Schema};

use super::generator::Table;

/// The column that holds the time of every event.
pub(super) const TIME: &str = "dateTime";

/// Type of a column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Type {
    BigInt,
    Varchar,
    Timestamp,
}

/// Name and type of each column, in order.
pub(super) fn columns(table: Table) -> &'static [(&'static str, Type)] {
    use Type::{BigInt, Timestamp, Varchar};
    match table {
        Table::Person => &[
            ("id", BigInt),
            ("name", Varchar),
            ("emailAddress", Varchar),
            ("creditCard", Varchar),
            ("city", Varchar),
            ("state", Varchar),
            (TIME, Timestamp),
            ("extra", Varchar),
        ],
        Table::Auction => &[
            ("id", BigInt),
            ("itemName", Varchar),
            ("description", Varchar),
            ("initialBid", BigInt),
            ("reserve", BigInt),
            (TIME, Timestamp),
            ("expires", Timestamp),
            ("seller", BigInt),
            ("category", BigInt),
            ("extra", Varchar),
        ],
        Table::Bid => &[
            ("auction", BigInt),
            ("bidder", BigInt),
            ("price", BigInt),
            ("channel", Varchar),
            ("url", Varchar),
            (TIME, Timestamp),
            ("extra", Varchar),
        ],
    }
}

/// Columns of the table that query 13 looks up.
pub(super) const SIDE_INPUT: [(&str, Type); 2] = [("key", Type::BigInt), ("value", Type::Varchar)];

/// The schema of a Source.
pub(super) fn schema(columns: &[(&str, Type)]) -> Schema {
    let column = |(name, kind): &(&str, Type)| {
        let type_ = match kind {
            Type::BigInt => ColumnType::BigInt,
            Type::Varchar => ColumnType::Varchar,
            Type::Timestamp => ColumnType::Timestamp,
        };
        Column { name: (*name).to_owned(), type_, presence: Presence::Nullable, precision: None, scale: None }
    };
    Schema { columns: columns.iter().map(column).collect() }
}

/// The columns of a table of Flink.
pub(super) fn declaration(columns: &[(&str, Type)]) -> String {
    let column = |(name, kind): &(&str, Type)| {
        let kind = match kind {
            Type::BigInt => "BIGINT",
            Type::Varchar => "VARCHAR",
            Type::Timestamp => "TIMESTAMP(3)",
        };
        format!("`{name}` {kind}")
    };
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}
