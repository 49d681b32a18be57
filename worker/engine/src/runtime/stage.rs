//! Which part of a plan a task runs, and what follows from that for its inputs and outputs. It decides nothing about which tasks there are.

use std::sync::Arc;

use super::config::{OutputBinding, TaskConfig};
use super::lanes::{Cut, Spilling};
use crate::checkpoint::StageName;
use crate::exchange::Replay;
use crate::operators::Executor;
use crate::plan::stages::Exchange;

/// Name of the writer of an exchange in epoch records and transactions. No output can have it: outputs have no stars.
pub const EXCHANGE_WRITER: &str = "*exchange";

/// A part of a plan.
#[derive(Clone)]
pub enum Stage {
    /// All of it.
    All,
    /// What is in front of the exchange. It keeps no state: what it holds has gone on when an epoch ends.
    Front(Arc<FrontStage>),
    /// What is behind it: the inputs of the task are the channels, all of them in their order. It keeps the state.
    Back(Arc<BackStage>),
}

impl Stage {
    /// As it stands in epoch records.
    pub(super) fn name(&self) -> Option<StageName> {
        match self {
            Self::All => None,
            Self::Front(_) => Some(StageName::Front),
            Self::Back(_) => Some(StageName::Back),
        }
    }
}

/// What is in front of an exchange.
pub struct FrontStage {
    /// The exchange.
    pub exchange: Exchange,
    /// What its channels are written to.
    pub output: OutputBinding,
}

/// What is behind an exchange.
pub struct BackStage {
    /// The exchange.
    pub exchange: Exchange,
    /// The event-time column of each output of the plan: channels do not say which of their columns that is.
    pub event_times: Vec<Option<String>>,
}

impl TaskConfig {
    /// The operators of the task, for one lane. In front of an exchange they leave out what `replay` says.
    pub(super) fn executor(&self, replay: &Replay) -> Executor {
        let names: Vec<&str> = self.inputs.iter().map(|input| input.name.as_str()).collect();
        match &self.stage {
            Stage::All => self.plan.executor(&names),
            Stage::Front(front) => front.exchange.front_again(&names, replay),
            Stage::Back(back) => back.exchange.back(),
        }
    }

    /// How the plan of the task can be shared by key, so that its state can be in buckets; `None` if it cannot.
    pub(super) fn cut(&self) -> Option<Cut> {
        let names: Vec<&str> = self.inputs.iter().map(|input| input.name.as_str()).collect();
        let outputs = self.plan.outputs().len();
        match &self.stage {
            Stage::All => {
                let exchange = self.plan.exchange().ok()?;
                let front = Some(exchange.front(&names));
                Some(Cut { exchange, front, outputs })
            }
            Stage::Front(_) => None,
            Stage::Back(back) => Some(Cut { exchange: back.exchange.clone(), front: None, outputs }),
        }
    }

    /// Where state goes that has no room in memory, and how much stays there.
    pub(super) fn spilling(&self) -> Option<Spilling> {
        let space = Arc::clone(self.spill.as_ref().filter(|_| self.keeps_state())?);
        Some(Spilling { space, limit: full(self.state_bytes) })
    }

    /// Whether the operators of the task keep state.
    pub(super) fn keeps_state(&self) -> bool {
        match &self.stage {
            Stage::All => self.plan.is_stateful(),
            Stage::Front(_) => false,
            Stage::Back(_) => true,
        }
    }

    /// Whether the task follows event time: for its own operators, or for those behind an exchange.
    pub(super) fn keeps_time(&self) -> bool {
        self.keeps_state() || matches!(self.stage, Stage::Front(_))
    }

    /// Position of the event-time column of an input in its batches, if time has to be taken from it.
    pub(super) fn event_time(&self, input: &str) -> Option<usize> {
        if matches!(self.stage, Stage::Back(_)) { None } else { self.plan.event_time(input) }
    }

    /// The columns to read of an input.
    pub(super) fn projection(&self, input: usize) -> Vec<String> {
        let binding = &self.inputs[input];
        match &self.stage {
            Stage::All | Stage::Front(_) => self.plan.projection(&binding.name),
            Stage::Back(_) => binding.source.schema().fields().iter().map(|field| field.name().clone()).collect(),
        }
    }

    /// The exchange that the task writes, with its index: that behind the last output of the plan.
    pub(super) fn exchange_output(&self) -> Option<(usize, &OutputBinding)> {
        match &self.stage {
            Stage::Front(front) => Some((self.plan.outputs().len(), &front.output)),
            Stage::All | Stage::Back(_) => None,
        }
    }

    /// The output and its channel that the operators mean by an index.
    pub(super) fn place_of(&self, index: usize) -> (usize, usize) {
        let outputs = self.plan.outputs().len();
        if index < outputs { (index, 0) } else { (outputs, index - outputs) }
    }

    /// Name of what the operators emit to by an index.
    pub(super) fn name_of(&self, index: usize) -> &str {
        self.outputs.get(index).map_or(EXCHANGE_WRITER, |output| output.name.as_str())
    }

    /// Outputs that the task reaches, with their index in the plan; without the exchange.
    pub fn reached_outputs(&self) -> impl Iterator<Item = (usize, &OutputBinding)> {
        let reads = |input: &String| self.inputs.iter().any(|binding| binding.name == *input);
        self.outputs.iter().enumerate().filter(move |(index, _)| match &self.stage {
            Stage::All => self.plan.outputs()[*index].inputs.iter().any(reads),
            Stage::Front(front) => front.exchange.is_direct(*index) && self.plan.outputs()[*index].inputs.iter().any(reads),
            Stage::Back(back) => !back.exchange.is_direct(*index),
        })
    }

    /// The event-time column of an output: the one that all inputs of this task that reach it agree on.
    #[must_use]
    pub fn event_time_of(&self, output: usize) -> Option<String> {
        if let Stage::Back(back) = &self.stage {
            return back.event_times.get(output).cloned().flatten();
        }
        let reached_by = &self.plan.outputs()[output].inputs;
        let mut columns = self.inputs.iter().filter(|input| reached_by.contains(&input.name)).map(|input| &input.event_time);
        let first = columns.next()?.clone()?;
        columns.all(|column| column.as_ref() == Some(&first)).then_some(first)
    }
}

/// Bytes of state at which memory counts as full: what a bucket takes more while it is loaded needs room as well.
pub(super) fn full(state_bytes: usize) -> usize {
    state_bytes / 4 * 3
}
