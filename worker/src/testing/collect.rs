//! What comes out of a test: the rows of each output as JSON sinks would write them, and the rejected ones. Nothing is compared here.

use std::collections::BTreeMap;

use millrace_connectors::formats::rows::RowEncoder;
use millrace_engine::batch::Rejected;
use millrace_engine::operators::Message;
use millrace_engine::plan::{Changelog, OutputPlan, Plan};
use millrace_engine::row_kind::RowKind;
use serde_json::value::RawValue;

/// Values of a row that are not NULL, as the encoder wrote them.
pub(super) type Values = BTreeMap<String, Box<RawValue>>;

/// One change of an output.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) kind: RowKind,
    /// The row as it would be written.
    pub(super) text: String,
    pub(super) values: Values,
}

/// Everything that came out.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) outputs: Vec<Output>,
}

/// What came out of one output.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) plan: OutputPlan,
    encoder: RowEncoder,
    pub(super) changes: Vec<Change>,
    pub(super) rejected: Vec<Rejected>,
}

impl Collected {
    /// Nothing yet.
    pub(super) fn new(plan: &Plan) -> Result<Self, String> {
        let output = |plan: &OutputPlan| {
            let encoder = RowEncoder::new(&plan.schema).map_err(|error| format!("output {}: {}", plan.name, error.message))?;
            Ok(Output { plan: plan.clone(), encoder, changes: Vec::new(), rejected: Vec::new() })
        };
        Ok(Self { outputs: plan.outputs().iter().map(output).collect::<Result<_, String>>()? })
    }

    /// Takes what the executor emits to an output.
    pub(super) fn take(&mut self, output: usize, message: Message) -> Result<(), String> {
        let output = &mut self.outputs[output];
        match message {
            Message::Batch(batch) => {
                let (mut text, mut ends) = (Vec::new(), Vec::new());
                output
                    .encoder
                    .encode(&batch.records, &mut text, &mut ends)
                    .map_err(|error| format!("output {}: {error}", output.plan.name))?;
                let mut start = 0;
                for (row, end) in ends.into_iter().enumerate() {
                    let text = std::str::from_utf8(&text[start..end]).map_err(|error| error.to_string())?;
                    let values = serde_json::from_str(text).map_err(|error| format!("output {}: {error}", output.plan.name))?;
                    output.changes.push(Change { kind: batch.kind(row), text: text.to_owned(), values });
                    start = end;
                }
            }
            Message::Rejected(rejected) => output.rejected.push(rejected),
            Message::Watermark(_) | Message::Clock(_) | Message::Barrier(_) | Message::Idle | Message::End => {}
        }
        Ok(())
    }
}

impl Output {
    /// Whether rows are replaced.
    pub(super) fn is_updating(&self) -> bool {
        self.plan.changelog != Changelog::Append
    }

    /// The rows that are there in the end. Fails if a row is taken back that is not there.
    pub(super) fn table(&self) -> Result<Vec<&Change>, String> {
        let mut rows: Vec<&Change> = Vec::new();
        for change in &self.changes {
            if change.kind.is_addition() {
                rows.push(change);
                continue;
            }
            let taken = rows.iter().position(|row| row.text == change.text);
            let taken = taken.ok_or_else(|| format!("{} takes back a row that is not there: {}", change.kind.as_str(), change.text))?;
            rows.remove(taken);
        }
        Ok(rows)
    }
}
