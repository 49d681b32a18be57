//! Runs the operators that some inputs reach, for one lane. Does nothing by itself: each call carries one message all the way through.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::counters::{Counters, OperatorCounters, OutputCounters};
use super::{ExecuteError, Holding, Message, Operator, Output, RejectedRow, Snapshot, TakenSnapshot, payload};
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
    /// Out, to this output of the plan, or to what [`Wiring::beyond`] says.
    Output(usize),
}

/// The operators of one lane and how they are connected.
#[derive(Default)]
pub(crate) struct Wiring {
    /// Where messages of each input go.
    pub(crate) entries: Vec<Vec<Target>>,
    /// Operators; each sends only to later ones.
    pub(crate) operators: Vec<Wired>,
    /// Targets that are no output of the plan: the ways from there to outputs.
    pub(crate) beyond: BTreeMap<usize, Ways>,
}

/// An operator and where its messages go.
pub(crate) struct Wired {
    /// Step, kind, ordinal.
    pub(crate) id: Arc<str>,
    /// The operator.
    pub(crate) operator: Box<dyn Operator>,
    /// Where to.
    pub(crate) targets: Vec<Target>,
    /// Whether it goes by processing time.
    pub(crate) reads_clock: bool,
}

/// The part of a plan that some inputs reach, for one lane. What several outputs share is evaluated once.
///
/// Feed it [`Message`]s in the order of each input; everything that follows from one is emitted before [`Executor::push`] returns. Each message other
/// than a batch is emitted once to each output (a watermark may be held back, see [`Message::Idle`]).
pub struct Executor {
    wiring: Wiring,
    /// Ways from each input to each output it reaches.
    entry_ways: Vec<Ways>,
    /// The same from each operator.
    ways: Vec<Ways>,
    /// The inputs that reach each operator.
    inputs: Vec<Arc<[usize]>>,
    /// Rows pushed into each input.
    rows_in: Vec<u64>,
    rows_out: BTreeMap<usize, u64>,
    counts: Vec<Count>,
    queue: VecDeque<(Target, Message)>,
}

/// When something would come out of an operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Due {
    /// Its id.
    pub(crate) operator: Arc<str>,
    /// From this watermark on.
    pub(crate) at: i64,
    /// The inputs that it is that of.
    pub(crate) inputs: Arc<[usize]>,
}

/// For each output that can be reached, in how many ways.
pub(crate) type Ways = BTreeMap<usize, u64>;

#[derive(Clone, Copy, Default)]
struct Count {
    filtered: u64,
    rejected: u64,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let operators: Vec<&str> = self.wiring.operators.iter().map(|o| &*o.id).collect();
        f.debug_struct("Executor").field("entries", &self.wiring.entries).field("operators", &operators).finish_non_exhaustive()
    }
}

impl Executor {
    pub(crate) fn new(wiring: Wiring) -> Self {
        let mut ways = vec![Ways::new(); wiring.operators.len()];
        for index in (0..wiring.operators.len()).rev() {
            ways[index] = reach(&wiring.operators[index].targets, &ways, &wiring.beyond);
        }
        let entry_ways: Vec<Ways> = wiring.entries.iter().map(|entry| reach(entry, &ways, &wiring.beyond)).collect();
        let counts = vec![Count::default(); ways.len()];
        Self {
            rows_out: entry_ways.iter().flat_map(BTreeMap::keys).map(|output| (*output, 0)).collect(),
            rows_in: vec![0; wiring.entries.len()],
            inputs: inputs(&wiring),
            wiring,
            entry_ways,
            ways,
            counts,
            queue: VecDeque::new(),
        }
    }

    /// Carries a message of an input (its position in what [`Plan::executor`](crate::plan::Plan::executor) was given) through all operators. `emit` gets what comes out: the index into [`Plan::outputs`](crate::plan::Plan::outputs), and
    /// the message.
    ///
    /// Batches MUST have the columns of [`Plan::projection`](crate::plan::Plan::projection), in that order. A row that cannot be evaluated is emitted as
    /// [`Message::Rejected`] (stage `Transform`, with the row of the input as JSON) to each output that it could still have reached, one right after the
    /// other, and the other rows go on. A row that fails on several ways is emitted for each. After an error the executor MUST NOT be used any more.
    ///
    /// # Panics
    /// If there is no such input.
    pub fn push(&mut self, input: usize, message: Message, emit: &mut dyn FnMut(usize, Message)) -> Result<(), ExecuteError> {
        if let Message::Clock(now) = message {
            return self.clock(now, emit);
        }
        let source = if let Message::Batch(batch) = &message { Some(batch.clone()) } else { None };
        self.carry(input, message, source.as_ref(), emit)
    }

    /// As [`Executor::push`], for rows that were made of those of `source`: what is rejected is said with those.
    pub(crate) fn push_of(
        &mut self,
        input: usize,
        message: Message,
        source: &Batch,
        emit: &mut dyn FnMut(usize, Message),
    ) -> Result<(), ExecuteError> {
        self.carry(input, message, Some(source), emit)
    }

    fn carry(
        &mut self,
        input: usize,
        message: Message,
        source: Option<&Batch>,
        emit: &mut dyn FnMut(usize, Message),
    ) -> Result<(), ExecuteError> {
        if let Message::Batch(batch) = &message {
            if batch.num_rows() == 0 {
                return Ok(());
            }
            self.rows_in[input] += batch.num_rows() as u64;
        }
        send(&mut self.queue, &self.wiring.entries[input], message);
        self.flow(source, emit)
    }

    /// The time for each operator, with what follows from it before the next one is told.
    fn clock(&mut self, now: i64, emit: &mut dyn FnMut(usize, Message)) -> Result<(), ExecuteError> {
        for index in 0..self.wiring.operators.len() {
            self.operate(index, None, emit, |operator, collector| operator.clock(now, collector))?;
            self.flow(None, emit)?;
        }
        self.rows_out.keys().for_each(|output| emit(*output, Message::Clock(now)));
        Ok(())
    }

    /// From which time on something comes out without another row, if operators go by processing time. The time of others is not that.
    #[must_use]
    pub fn due(&self) -> Option<i64> {
        self.wiring.operators.iter().filter(|wired| wired.reads_clock).filter_map(|wired| wired.operator.due()).min()
    }

    /// From which watermark on something would come out of each operator that waits for one, with the inputs that its watermark is that of.
    pub(crate) fn dues(&self) -> Vec<Due> {
        let operators = self.wiring.operators.iter().zip(&self.inputs);
        let due = |Wired { id, operator, .. }: &Wired, inputs: &Arc<[usize]>| {
            Some(Due { operator: Arc::clone(id), at: operator.due()?, inputs: Arc::clone(inputs) })
        };
        operators.filter_map(|(wired, inputs)| due(wired, inputs)).collect()
    }

    /// The same by operator, as it was stored; `None` if it is of an operator that is not there.
    pub(crate) fn stored_dues(&self, stored: &BTreeMap<String, i64>) -> Option<Vec<Due>> {
        let due = |(id, at): (&String, &i64)| {
            let index = self.wiring.operators.iter().position(|wired| *wired.id == **id)?;
            let operator = Arc::clone(&self.wiring.operators[index].id);
            Some(Due { operator, at: *at, inputs: Arc::clone(&self.inputs[index]) })
        };
        stored.iter().map(due).collect()
    }

    /// Whether an operator waits until an input has paused for the first time.
    pub(crate) fn waits_for_pause(&self) -> bool {
        self.wiring.operators.iter().any(|wired| wired.operator.waits_for_pause())
    }

    /// Carries everything that is queued through.
    fn flow(&mut self, source: Option<&Batch>, emit: &mut dyn FnMut(usize, Message)) -> Result<(), ExecuteError> {
        while let Some((target, message)) = self.queue.pop_front() {
            match target {
                Target::Output(output) => {
                    if let (Message::Batch(batch), Some(rows_out)) = (&message, self.rows_out.get_mut(&output)) {
                        *rows_out += batch.num_rows() as u64;
                    }
                    emit(output, message);
                }
                Target::Operator { index, port } => {
                    let arrived = if let Message::Batch(batch) = &message { Some(batch.clone()) } else { None };
                    let given = (source, arrived.as_ref());
                    self.operate(index, Some(given), emit, |operator, collector| operator.push(port, message, collector))?;
                }
            }
        }
        Ok(())
    }

    /// Lets one operator do something; `given`: what was pushed into the executor, and what has arrived at the operator.
    fn operate(
        &mut self,
        index: usize,
        given: Option<(Option<&Batch>, Option<&Batch>)>,
        emit: &mut dyn FnMut(usize, Message),
        act: impl FnOnce(&mut dyn Operator, &mut Collector<'_>) -> Result<(), ExecuteError>,
    ) -> Result<(), ExecuteError> {
        let Wired { id, operator, targets, .. } = &mut self.wiring.operators[index];
        let (queue, count) = (&mut self.queue, &mut self.counts[index]);
        let (source, arrived) = given.unwrap_or_default();
        let mut collector = Collector { id, targets, queue, count, source, arrived, rejected: Vec::new() };
        act(operator.as_mut(), &mut collector)
            .map_err(|source| ExecuteError::Operator { operator: Arc::clone(id), source: Box::new(source) })?;
        for rejected in collector.rejected {
            self.ways[index].keys().for_each(|output| emit(*output, Message::Rejected(rejected.clone())));
        }
        Ok(())
    }

    /// The state of all operators after everything pushed so far. Costs little; making its tables may cost much.
    pub fn snapshot(&mut self) -> Result<TakenSnapshot, ExecuteError> {
        let mut snapshot = TakenSnapshot::default();
        for Wired { id, operator, .. } in &mut self.wiring.operators {
            let state =
                operator.snapshot().map_err(|source| ExecuteError::Operator { operator: Arc::clone(id), source: Box::new(source) })?;
            if let Some(state) = state {
                snapshot.0.insert(Arc::clone(id), state);
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

    /// Whether rows for an output have been pushed that have not come out, and will.
    pub(crate) fn holding(&self, output: usize) -> Holding {
        let last = self.wiring.operators.iter().filter(|wired| wired.targets.contains(&Target::Output(output)));
        last.map(|wired| wired.operator.holding()).max().unwrap_or(Holding::Nothing)
    }

    /// For each input, the outputs that it reaches, and in how many ways.
    pub(crate) fn entry_ways(&self) -> &[Ways] {
        &self.entry_ways
    }

    /// Bytes of memory that the state of all operators takes, about.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.wiring.operators.iter().map(|wired| wired.operator.state_bytes()).sum()
    }

    /// What has been counted since the executor was built.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let outputs = self.rows_out.iter().map(|(output, rows_out)| {
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
                rows_due: self
                    .rows_in
                    .iter()
                    .zip(&self.entry_ways)
                    .map(|(rows, ways)| rows.saturating_mul(ways.get(output).copied().unwrap_or(0)))
                    .fold(0, u64::saturating_add),
                rows_out: *rows_out,
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
        Counters { rows_in: self.rows_in.iter().sum(), outputs: outputs.collect(), operators: operators.collect() }
    }
}

/// The inputs that reach each operator.
fn inputs(wiring: &Wiring) -> Vec<Arc<[usize]>> {
    let mut inputs: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); wiring.operators.len()];
    let reach = |inputs: &mut Vec<BTreeSet<usize>>, from: &BTreeSet<usize>, targets: &[Target]| {
        for target in targets {
            if let Target::Operator { index, .. } = target {
                inputs[*index].extend(from);
            }
        }
    };
    for (input, targets) in wiring.entries.iter().enumerate() {
        reach(&mut inputs, &BTreeSet::from([input]), targets);
    }
    // Each sends only to later ones.
    for (index, wired) in wiring.operators.iter().enumerate() {
        let from = inputs[index].clone();
        reach(&mut inputs, &from, &wired.targets);
    }
    inputs.into_iter().map(|inputs| inputs.into_iter().collect()).collect()
}

/// The ways from something that sends to `targets`; `ways` of later operators are known.
fn reach(targets: &[Target], ways: &[Ways], beyond: &BTreeMap<usize, Ways>) -> Ways {
    let mut sum = Ways::new();
    let mut add = |output: usize, more: u64| {
        let entry = sum.entry(output).or_insert(0_u64);
        *entry = entry.saturating_add(more);
    };
    for target in targets {
        match target {
            Target::Output(output) => match beyond.get(output) {
                Some(ways) => ways.iter().for_each(|(output, more)| add(*output, *more)),
                None => add(*output, 1),
            },
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
    /// What was pushed into the executor.
    source: Option<&'a Batch>,
    /// What has arrived at the operator.
    arrived: Option<&'a Batch>,
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
        let payload = self.source.and_then(|source| source_row(source, &row)).or_else(|| derived_row(self.arrived?, &row));
        let payload = payload.unwrap_or_default();
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
fn source_row(source: &Batch, rejected: &RejectedRow) -> Option<Bytes> {
    let row = source.ordinals.values().binary_search(&rejected.ordinal).ok().filter(|_| source.origin == rejected.origin)?;
    Some(payload::json(&source.records, row))
}

/// The row as it arrived at the operator, for rows that were made on the way.
fn derived_row(arrived: &Batch, rejected: &RejectedRow) -> Option<Bytes> {
    let row = arrived.ordinals.values().iter().position(|ordinal| *ordinal == rejected.ordinal)?;
    Some(payload::json(&arrived.records, row))
}
