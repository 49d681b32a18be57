//! Debezium's change events: the row before and the row after, and what was done. `source`, `ts_ms` and whatever else is in the envelope are not looked at.
//!
//! Rows are found by the envelope's members in one scan, and decoded where they lie. With `schema` and `payload` around it, the schema is skipped.

use millrace_engine::batch::RejectCode;
use millrace_engine::row_kind::RowKind;

use super::super::Keyed;
use super::super::columns::{Columns, excerpt};
use super::super::json::{Json, Member};
use super::super::records::Refusal;
use super::keys::Keys;
use super::{Change, ChangeFormat, add_row};

/// Members of an event that are looked at; the last one only of what is wrapped.
const MEMBERS: [&str; 4] = ["op", "before", "after", "payload"];

/// Finds what an event says.
pub(super) struct Envelope {
    outer: Json,
    inner: Json,
}

/// What was done to a row.
enum Event<'a> {
    /// It is there: read in a snapshot, or created.
    Created(&'a [u8]),
    Updated {
        before: Member<'a>,
        after: &'a [u8],
    },
    Deleted(Member<'a>),
}

impl Envelope {
    pub(super) fn new() -> Self {
        Self { outer: Json::members(&MEMBERS), inner: Json::members(&MEMBERS[..3]) }
    }

    fn read<'a>(&mut self, value: &'a [u8]) -> Result<Event<'a>, Refusal> {
        let in_event = |refusal: Refusal| Refusal { error: format!("the event: {}", refusal.error), ..refusal };
        if !self.outer.find_members(value).map_err(in_event)? {
            return Err(Refusal::malformed("the event is empty"));
        }
        let (scanned, text) = match (self.outer.member(value, 0), self.outer.member(value, 3)) {
            (Member::Null, Member::Object(payload)) => {
                self.inner.find_members(payload).map_err(in_event)?;
                (&self.inner, payload)
            }
            _ => (&self.outer, value),
        };
        let [op, before, after] = [0, 1, 2].map(|number| scanned.member(text, number));
        let after = || match after {
            Member::Object(after) => Ok(after),
            Member::Null => Err(Refusal::new(RejectCode::MissingField, "the event has no row in \"after\"")),
            Member::Text(_) | Member::Other => Err(Refusal::malformed("\"after\" of the event is no object")),
        };
        if matches!(before, Member::Text(_) | Member::Other) {
            return Err(Refusal::malformed("\"before\" of the event is no object"));
        }
        match op {
            Member::Text(b"c" | b"r") => Ok(Event::Created(after()?)),
            Member::Text(b"u") => Ok(Event::Updated { before, after: after()? }),
            Member::Text(b"d") => Ok(Event::Deleted(before)),
            Member::Text(b"t") => Err(Refusal::malformed(
                "the table was truncated (\"op\" is t), and the event does not say which rows are gone: delete them, or let the connector skip truncations and \
                 read the table anew",
            )),
            Member::Text(other) => Err(Refusal::malformed(format!(
                "\"op\" of the event is {}, not one of c, r, u, d",
                excerpt(&String::from_utf8_lossy(other))
            ))),
            Member::Null => {
                Err(Refusal::malformed("it is no change event of Debezium: there is no \"op\", with or without \"payload\" around it"))
            }
            Member::Object(_) | Member::Other => Err(Refusal::malformed("\"op\" of the event is no text")),
        }
    }
}

/// Events that are believed: rows before and after.
pub(super) struct Retractions {
    pub(super) envelope: Envelope,
    pub(super) row: Json,
}

impl Retractions {
    fn add_before(&mut self, before: Member<'_>, columns: &mut Columns) -> Result<(), Refusal> {
        let Member::Object(before) = before else {
            return Err(Refusal::new(
                RejectCode::MissingField,
                "the event does not hold the row as it was before: let the database write whole rows (PostgreSQL: ALTER TABLE … REPLICA IDENTITY FULL), or set \
                 changelog.primaryKey of the Source, so that rows replace each other by key",
            ));
        };
        add_row(&mut self.row, before, "the row before", columns)
    }
}

impl ChangeFormat for Retractions {
    const ROWS: u64 = 2;

    fn decode(&mut self, record: Keyed<'_>, columns: &mut Columns) -> Result<Change, Refusal> {
        // A tombstone: the deletion has come before it.
        let Some(value) = record.value else { return Ok(Change::None) };
        match self.envelope.read(value)? {
            Event::Created(after) => {
                add_row(&mut self.row, after, "the row after", columns)?;
                Ok(Change::One(RowKind::Insert))
            }
            Event::Updated { before, after } => {
                let row = columns.next_row();
                self.add_before(before, columns)?;
                add_row(&mut self.row, after, "the row after", columns).inspect_err(|_| columns.withdraw_row(row))?;
                Ok(Change::Replaced)
            }
            Event::Deleted(before) => {
                self.add_before(before, columns)?;
                Ok(Change::One(RowKind::Delete))
            }
        }
    }
}

/// Events of which only the row after counts: rows replace each other by key.
pub(super) struct Replacements {
    pub(super) envelope: Envelope,
    pub(super) row: Json,
    pub(super) keys: Keys,
}

impl ChangeFormat for Replacements {
    const ROWS: u64 = 1;

    fn decode(&mut self, record: Keyed<'_>, columns: &mut Columns) -> Result<Change, Refusal> {
        // A tombstone says the same as the deletion before it, which compaction may have taken away.
        let Some(value) = record.value else {
            self.keys.add(record.key, columns)?;
            return Ok(Change::One(RowKind::Delete));
        };
        match self.envelope.read(value)? {
            Event::Created(after) | Event::Updated { after, .. } => {
                add_row(&mut self.row, after, "the row after", columns)?;
                Ok(Change::One(RowKind::Insert))
            }
            Event::Deleted(Member::Object(before)) => {
                self.keys.add_object(before, "the row before", columns)?;
                Ok(Change::One(RowKind::Delete))
            }
            Event::Deleted(_) => {
                self.keys.add(record.key, columns)?;
                Ok(Change::One(RowKind::Delete))
            }
        }
    }
}
