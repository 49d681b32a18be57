//! Runs the operators that one input reaches, for one lane. Does nothing by itself: each call carries one message all the way through.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::counters::{Counters, OperatorCounters, OutputCounters};
use super::{ExecuteError, Message, Operator, Output, RejectedRow, Snapshot, payload};
use crate::batch::{Batch, RejectCode, RejectStage, Rejected};

/// Where a message goes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// To a port of an operator of the wiring.
    Operator {
        /// Position in [`Wiring::operators`].
        index: usize,
        /// Its port.
        port: usize,
    },
    /// Out, to this output of the plan.
    Output(usize),
}

/// The operators of one lane and how they are connected.
#[derive(Default)]
pub(crate) struct Wiring {
    /// Where messages of the input go.
    pub(crate) entry: Vec<Target>,
    /// Operators; each sends only to later ones.
    pub(crate) operators: Vec<Wired>,
}

/// An operator and where its messages go.
pub(crate) struct Wired {
    /// Step, kind, ordinal.
    pub(crate) id: Arc<str>,
    /// The operator.
    pub(crate) operator: Box<dyn Operator>,
    /// Where to.
    pub(crate) targets: Vec<Target>,
}

/// The part of a plan that one input reaches, for one lane. What several outputs share is evaluated once.
///
/// Feed it [`Message`]s in the order of the input; everything that follows from one is emitted before [`Executor::push`] returns. Each message other
/// than a batch is emitted once to each output (a watermark may be held back, see [`Message::Idle`]).
pub struct Executor {
    wiring: Wiring,
    /// Ways from the input to each output it reaches.
    entry_ways: Ways,
    /// The same from each operator.
    ways: Vec<Ways>,
    rows_in: u64,
    rows_out: BTreeMap<usize, u64>,
    counts: Vec<Count>,
    queue: VecDeque<(Target, Message)>,
}

/// For each output that can be reached, in how many ways.
type Ways = BTreeMap<usize, u64>;

#[derive(Clone, Copy, Default)]
struct Count {
    filtered: u64,
    rejected: u64,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let operators: Vec<&str> = self.wiring.operators.iter().map(|o| &*o.id).collect();
        f.debug_struct("Executor").field("entry", &self.wiring.entry).field("operators", &operators).finish_non_exhaustive()
    }
}

impl Executor {
    pub(crate) fn new(wiring: Wiring) -> Self {
        let mut ways = vec![Ways::new(); wiring.operators.len()];
        for index in (0..wiring.operators.len()).rev() {
            ways[index] = reach(&wiring.operators[index].targets, &ways);
        }
        let entry_ways = reach(&wiring.entry, &ways);
        let counts = vec![Count::default(); ways.len()];
        Self {
            rows_out: entry_ways.keys().map(|output| (*output, 0)).collect(),
            wiring,
            entry_ways,
            ways,
            rows_in: 0,
            counts,
            queue: VecDeque::new(),
        }
    }

    /// Carries a message of the input through all operators. `emit` gets what comes out: the index into [`Plan::outputs`](crate::plan::Plan::outputs), and
    /// the message.
    ///
    /// Batches MUST have the columns of [`Plan::projection`](crate::plan::Plan::projection), in that order. A row that cannot be evaluated is emitted as
    /// [`Message::Rejected`] (stage `Transform`, with the row of the input as JSON) to each output that it could still have reached, one right after the
    /// other, and the other rows go on. A row that fails on several ways is emitted for each. After an error the executor MUST NOT be used any more.
    pub fn push(&mut self, message: Message, emit: &mut dyn FnMut(usize, Message)) -> Result<(), ExecuteError> {
        let source = match &message {
            Message::Batch(batch) if batch.num_rows() == 0 => return Ok(()),
            Message::Batch(batch) => {
                self.rows_in += batch.num_rows() as u64;
                Some(batch.clone())
            }
            _ => None,
        };
        send(&mut self.queue, &self.wiring.entry, message);
        while let Some((target, message)) = self.queue.pop_front() {
            match target {
                Target::Output(output) => {
                    if let Message::Batch(batch) = &message {
                        *self.rows_out.entry(output).or_default() += batch.num_rows() as u64;
                    }
                    emit(output, message);
                }
                Target::Operator { index, port } => {
                    let Wired { id, operator, targets } = &mut self.wiring.operators[index];
                    let (queue, count) = (&mut self.queue, &mut self.counts[index]);
                    let mut collector = Collector { id, targets, queue, count, source: source.as_ref(), rejected: Vec::new() };
                    operator
                        .push(port, message, &mut collector)
                        .map_err(|source| ExecuteError::Operator { operator: Arc::clone(id), source: Box::new(source) })?;
                    for rejected in collector.rejected {
                        self.ways[index].keys().for_each(|output| emit(*output, Message::Rejected(rejected.clone())));
                    }
                }
            }
        }
        Ok(())
    }

    /// The state of all operators after everything pushed so far.
    pub fn snapshot(&mut self) -> Result<Snapshot, ExecuteError> {
        let mut snapshot = Snapshot::new();
        for Wired { id, operator, .. } in &mut self.wiring.operators {
            let state =
                operator.snapshot().map_err(|source| ExecuteError::Operator { operator: Arc::clone(id), source: Box::new(source) })?;
            if let Some(state) = state {
                snapshot.insert(Arc::clone(id), state);
            }
        }
        Ok(snapshot)
    }

    /// Takes back a snapshot, before the first message. State of an operator that is not there is refused.
    pub fn restore(&mut self, mut snapshot: Snapshot) -> Result<(), ExecuteError> {
        for Wired { id, operator, .. } in &mut self.wiring.operators {
            if let Some(state) = snapshot.remove(id) {
                operator.restore(state).map_err(|source| ExecuteError::Operator { operator: Arc::clone(id), source: Box::new(source) })?;
            }
        }
        match snapshot.into_keys().next() {
            None => Ok(()),
            Some(id) => Err(ExecuteError::State { message: format!("it has state of operator {id}, which the plan does not have") }),
        }
    }

    /// What has been counted since the executor was built.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let outputs = self.entry_ways.iter().map(|(output, ways)| {
            let sum = |pick: fn(&Count) -> u64| {
                let each = self
                    .counts
                    .iter()
                    .zip(&self.ways)
                    .map(|(count, ways)| pick(count).saturating_mul(ways.get(output).copied().unwrap_or(0)));
                each.fold(0, u64::saturating_add)
            };
            OutputCounters {
                output: *output,
                ways: *ways,
                rows_out: self.rows_out.get(output).copied().unwrap_or(0),
                rows_filtered: sum(|count| count.filtered),
                rows_rejected: sum(|count| count.rejected),
            }
        });
        let operators = self.wiring.operators.iter().zip(&self.counts).filter(|(_, count)| count.filtered + count.rejected > 0);
        let operators = operators.map(|(wired, count)| OperatorCounters {
            operator: Arc::clone(&wired.id),
            rows_filtered: count.filtered,
            rows_rejected: count.rejected,
        });
        Counters { rows_in: self.rows_in, outputs: outputs.collect(), operators: operators.collect() }
    }
}

/// The ways from something that sends to `targets`; `ways` of later operators are known.
fn reach(targets: &[Target], ways: &[Ways]) -> Ways {
    let mut sum = Ways::new();
    let mut add = |output: usize, more: u64| {
        let entry = sum.entry(output).or_insert(0_u64);
        *entry = entry.saturating_add(more);
    };
    for target in targets {
        match target {
            Target::Output(output) => add(*output, 1),
            Target::Operator { index, .. } => ways[*index].iter().for_each(|(output, more)| add(*output, *more)),
        }
    }
    sum
}

/// Queues a message for each target; the last one gets the message itself.
fn send(queue: &mut VecDeque<(Target, Message)>, targets: &[Target], message: Message) {
    if let Some((last, others)) = targets.split_last() {
        queue.extend(others.iter().map(|target| (*target, message.clone())));
        queue.push_back((*last, message));
    }
}

/// The output of one operator during one push.
struct Collector<'a> {
    id: &'a Arc<str>,
    targets: &'a [Target],
    queue: &'a mut VecDeque<(Target, Message)>,
    count: &'a mut Count,
    source: Option<&'a Batch>,
    rejected: Vec<Rejected>,
}

impl Output for Collector<'_> {
    fn emit(&mut self, message: Message) {
        send(self.queue, self.targets, message);
    }

    fn filtered(&mut self, rows: u64) {
        self.count.filtered += rows;
    }

    fn reject(&mut self, row: RejectedRow) {
        self.count.rejected += 1;
        let payload = self.source.map_or_else(Bytes::new, |source| source_row(source, row.ordinal));
        self.rejected.push(Rejected {
            origin: row.origin,
            ordinal: row.ordinal,
            stage: RejectStage::Transform,
            code: RejectCode::TypeMismatch,
            error: format!("operator {}: {}", self.id, row.error),
            payload_bytes: payload.len() as u64,
            payload,
            attempts: 1,
        });
    }
}

/// The row as the source delivered it: more use to whoever reads the dead letter than what the operator saw of it.
fn source_row(source: &Batch, ordinal: u64) -> Bytes {
    let row = source.ordinals.values().binary_search(&ordinal);
    row.map_or_else(|_| Bytes::new(), |row| payload::json(&source.records, row))
}
