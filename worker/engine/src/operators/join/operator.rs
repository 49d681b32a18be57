//! The operator: takes the rows of both sides as they come, pairs them, and forgets them in time. Holds rows only in its sides.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::buffer::NullBuffer;

use super::changes::Changes;
use super::side::{Side, compact_keys};
use super::{JoinBlueprint, Lifetime};
use crate::batch::{Batch, Origin};
use crate::operators::alignment::Alignment;
use crate::operators::evaluate::{Piece, evaluate};
use crate::operators::revision::Comparators;
use crate::operators::{Blueprint, ExecuteError, Message, Operator, OperatorState, Output, RejectedRow, TakenState};
use crate::plan::Late;
use crate::row_kind::RowKinds;
use crate::state::{KeyTable, NO_ROW, hash_rows, mix, row_ids};

/// Pairs that are looked at together, and rows of a batch that comes out.
const BLOCK: usize = 8192;
/// Mixed into the name of a row that is padded: it names no pair.
const PADDED: u64 = 0x70ad_ded0_70ad_ded0;
/// Names of the tables of the state, by side.
pub(super) const TABLES: [&str; 2] = ["left", "right"];

/// A join of one lane.
pub(super) struct Join {
    blueprint: Arc<JoinBlueprint>,
    origin: Origin,
    alignment: Alignment,
    watermark: i64,
    /// Keys of both sides.
    keys: KeyTable,
    sides: [Side; 2],
}

/// The rows of a batch, as they have been added to their side.
struct Arrived<'a> {
    own: usize,
    batch: &'a Batch,
    keys: Vec<u32>,
    /// Position of the first.
    first: u32,
    /// Whether each can meet others at all; `None` if all can.
    usable: Option<NullBuffer>,
}

impl Join {
    pub(super) fn new(blueprint: Arc<JoinBlueprint>, origin: Origin, ports: &[usize]) -> Self {
        let side = &blueprint.sides[0];
        let types: Vec<_> = side.keys.iter().map(|key| side.schema.field(*key).data_type().clone()).collect();
        let keys = KeyTable::new(&types).expect("the planner lets only keys through that have a hash");
        let new = |number: usize| {
            let side = &blueprint.sides[number];
            Side::new(number, side, blueprint.lifetime, side.outer)
        };
        Self { sides: [new(0), new(1)], blueprint, origin, alignment: Alignment::new(ports), watermark: i64::MIN, keys }
    }

    fn join(&mut self, own: usize, batch: &Batch, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let arrived = self.arrive(own, batch)?;
        let mut changes = Changes::default();
        let mut comparators = Comparators::default();
        let mut pairs = Vec::new();
        // For each row of the block where its pairs end.
        let mut ends = Vec::new();
        let mut start = 0;
        for row in 0..batch.num_rows() {
            self.candidates(&arrived, row, &mut pairs);
            ends.push(pairs.len());
            if pairs.len() >= BLOCK || row + 1 == batch.num_rows() {
                self.check(&arrived, &mut pairs, &mut ends, start, output)?;
                let mut from = 0;
                for (row, end) in (start..).zip(ends.drain(..)) {
                    self.meet(&arrived, row, &pairs[from..end], &mut changes, &mut comparators, output)?;
                    from = end;
                }
                pairs.clear();
                start = row + 1;
                if !self.blueprint.revises() {
                    self.emit(&mut changes, output)?;
                }
            }
        }
        changes.net();
        self.emit(&mut changes, output)?;
        self.compact()
    }

    /// Adds the rows of a batch to their side.
    fn arrive<'a>(&mut self, own: usize, batch: &'a Batch) -> Result<Arrived<'a>, ExecuteError> {
        let rows = batch.num_rows();
        let columns: Vec<ArrayRef> =
            self.blueprint.sides[own].take.iter().map(|column| Arc::clone(batch.records.column(*column))).collect();
        let key_columns: Vec<ArrayRef> = self.blueprint.sides[own].keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let hashes = hash_rows(&key_columns, rows)?;
        let keys = self.keys.intern(&key_columns, &hashes)?;
        let times: Int64Array = self.sides[own].times_of(&columns, rows, self.watermark)?;
        let mut usable = times.nulls().cloned();
        if !self.blueprint.nulls_are_equal {
            for column in &key_columns {
                usable = NullBuffer::union(usable.as_ref(), column.logical_nulls().as_ref());
            }
        }
        let first = self.sides[own].push(&columns, times.values().to_vec(), row_ids(batch), self.keys.len())?;
        Ok(Arrived { own, batch, keys, first, usable: usable.filter(|usable| usable.null_count() > 0) })
    }

    /// Rows of the other side with the same key and near enough in time.
    fn candidates(&self, arrived: &Arrived<'_>, row: usize, pairs: &mut Vec<[u32; 2]>) {
        if arrived.usable.as_ref().is_some_and(|usable| usable.is_null(row)) {
            return;
        }
        let other = &self.sides[1 - arrived.own];
        let position = arrived.first + row as u32;
        let candidates = other.lists.iter(arrived.keys[row]);
        match self.blueprint.lifetime {
            Lifetime::Ttl(_) | Lifetime::Window { .. } => pairs.extend(candidates.map(|candidate| [position, candidate])),
            Lifetime::Interval { lower, upper, .. } => {
                let time = self.sides[arrived.own].times[position as usize];
                let near = |candidate: &u32| {
                    let difference = time.saturating_sub(other.times[*candidate as usize]);
                    let difference = if arrived.own == 0 { difference } else { difference.saturating_neg() };
                    (lower..=upper).contains(&difference) && !other.is_over(*candidate, self.watermark)
                };
                pairs.extend(candidates.filter(near).map(|candidate| [position, candidate]));
            }
        }
    }

    /// Drops the pairs for which the residual condition is not true; takes those out for which it cannot be evaluated.
    fn check(
        &self,
        arrived: &Arrived<'_>,
        pairs: &mut Vec<[u32; 2]>,
        ends: &mut [usize],
        start: usize,
        output: &mut dyn Output,
    ) -> Result<(), ExecuteError> {
        let Some(residual) = self.blueprint.residual.as_ref().filter(|_| !pairs.is_empty()) else { return Ok(()) };
        let mut mask: Vec<bool> = Vec::with_capacity(pairs.len());
        for block in pairs.chunks(BLOCK) {
            let (own, other): (Vec<u32>, Vec<u32>) = block.iter().map(|[own, other]| (*own, *other)).unzip();
            let rows = if arrived.own == 0 { [own, other] } else { [other, own] };
            let columns = self.take(&rows, &residual.columns)?;
            let options = RecordBatchOptions::new().with_row_count(Some(block.len()));
            let records = RecordBatch::try_new_with_options(Arc::clone(&residual.schema), columns, &options)?;
            for piece in evaluate(&records, |records| residual.predicate.evaluate(records))? {
                match piece {
                    Piece::Values(values) => mask.extend(values.as_boolean().iter().map(|value| value == Some(true))),
                    Piece::Bad(error) => {
                        let row = (pairs[mask.len()][0] - arrived.first) as usize;
                        let ordinal = arrived.batch.ordinals.value(row);
                        output.reject(RejectedRow { origin: arrived.batch.origin.clone(), ordinal, error });
                        mask.push(false);
                    }
                }
            }
        }
        let first = arrived.first as usize + start;
        ends.fill(0);
        let mut mask = mask.into_iter();
        pairs.retain(|[own, _]| {
            let keep = mask.next().expect("one for each pair");
            ends[*own as usize - first] += usize::from(keep);
            keep
        });
        let mut end = 0;
        for rows in ends {
            end += *rows;
            *rows = end;
        }
        Ok(())
    }

    /// Says what follows from one row, whose pairs are known, and keeps it or takes it back.
    fn meet(
        &mut self,
        arrived: &Arrived<'_>,
        row: usize,
        pairs: &[[u32; 2]],
        changes: &mut Changes,
        comparators: &mut Comparators,
        output: &mut dyn Output,
    ) -> Result<(), ExecuteError> {
        let own = arrived.own;
        let position = arrived.first + row as u32;
        let usable = arrived.usable.as_ref().is_none_or(|usable| usable.is_valid(row));
        let over = usable && self.sides[own].is_over(position, self.watermark);
        if over && matches!(self.blueprint.lifetime, Lifetime::Window { .. }) {
            self.late(arrived, row, "its window has ended", output);
            return Ok(());
        }
        let addition = arrived.batch.kind(row).is_addition();
        let id = self.sides[own].ids[position as usize];
        // What is taken back is said with the row as it was kept.
        let mut subject = position;
        if usable
            && !addition
            && let Some(kept) = self.sides[own].find(arrived.keys[row], position, comparators)?
        {
            self.sides[own].lists.remove(kept);
            subject = kept;
        }
        let [outer, other_outer] = [own, 1 - own].map(|side| self.blueprint.sides[side].outer);
        let at_once = self.blueprint.pads_at_once();
        for [_, other] in pairs {
            let other_id = self.sides[1 - own].ids[*other as usize];
            let pair = if own == 0 { mix(id, other_id) } else { mix(other_id, id) };
            let padded = mix(mix(other_id, PADDED), id);
            let matches = &mut self.sides[1 - own].matches[*other as usize];
            if addition {
                if other_outer && at_once && *matches == 0 {
                    changes.push(own, NO_ROW, *other, false, padded);
                }
                *matches += u32::from(other_outer);
                changes.push(own, subject, *other, true, pair);
            } else {
                changes.push(own, subject, *other, false, pair);
                *matches = matches.saturating_sub(u32::from(other_outer));
                if other_outer && *matches == 0 {
                    changes.push(own, NO_ROW, *other, true, padded);
                }
            }
        }
        if outer && pairs.is_empty() && (at_once || over || !usable) {
            changes.push(own, subject, NO_ROW, addition, mix(id, PADDED));
        } else if over && addition && pairs.is_empty() {
            self.late(arrived, row, "the rows that it could meet are gone", output);
        }
        if addition && usable && !over {
            self.sides[own].matches[position as usize] = if outer { pairs.len() as u32 } else { 0 };
            self.sides[own].link(arrived.keys[row], position);
        }
        Ok(())
    }

    /// Does away with a row that comes too late.
    fn late(&self, arrived: &Arrived<'_>, row: usize, why: &str, output: &mut dyn Output) {
        match self.blueprint.late {
            Late::Drop => output.filtered(1),
            Late::DeadLetter => {
                let error = format!("the row is late: {why}");
                output.reject(RejectedRow { origin: arrived.batch.origin.clone(), ordinal: arrived.batch.ordinals.value(row), error });
            }
        }
    }

    /// Columns of rows of both sides.
    fn take(&self, rows: &[Vec<u32>; 2], columns: &[(usize, usize)]) -> Result<Vec<ArrayRef>, ExecuteError> {
        let of = |side: usize| columns.iter().filter(move |(from, _)| *from == side).map(|(_, column)| *column);
        let mut taken = [self.sides[0].take(&rows[0], of(0))?.into_iter(), self.sides[1].take(&rows[1], of(1))?.into_iter()];
        Ok(columns.iter().map(|(side, _)| taken[*side].next().expect("one for each column")).collect())
    }

    /// Sends changes on and forgets them.
    fn emit(&self, changes: &mut Changes, output: &mut dyn Output) -> Result<(), ExecuteError> {
        let mut start = 0;
        while start < changes.len() {
            let range: Range<usize> = start..changes.len().min(start + BLOCK);
            let rows = changes.rows.each_ref().map(|rows| rows[range.clone()].to_vec());
            let columns = self.take(&rows, &self.blueprint.output)?;
            let options = RecordBatchOptions::new().with_row_count(Some(range.len()));
            output.emit(Message::Batch(Batch {
                records: RecordBatch::try_new_with_options(Arc::clone(&self.blueprint.schema), columns, &options)?,
                origin: self.origin.clone(),
                ordinals: UInt64Array::from(changes.ids[range.clone()].to_vec()),
                branch: 0,
                kinds: self.blueprint.revises().then(|| RowKinds::new(changes.kinds(range.clone()))),
            }));
            start = range.end;
        }
        changes.clear();
        Ok(())
    }

    /// Forgets what is over, and says which rows have met none, if that was not said before.
    fn advance(&mut self, watermark: i64, output: &mut dyn Output) -> Result<(), ExecuteError> {
        if self.watermark == i64::MIN {
            self.sides.iter_mut().for_each(|side| side.start_aging(watermark));
        }
        self.watermark = watermark;
        let mut changes = Changes::default();
        for own in 0..2 {
            let over = self.sides[own].expire(watermark);
            if self.blueprint.sides[own].outer && !self.blueprint.pads_at_once() {
                let side = &self.sides[own];
                for position in over.into_iter().filter(|position| side.matches[*position as usize] == 0) {
                    changes.push(own, position, NO_ROW, true, mix(side.ids[position as usize], PADDED));
                }
            }
        }
        self.emit(&mut changes, output)?;
        self.compact()?;
        let passed = if watermark == i64::MAX { watermark } else { watermark.saturating_sub(self.blueprint.lifetime.delay()) };
        output.emit(Message::Watermark(passed));
        Ok(())
    }

    fn compact(&mut self) -> Result<(), ExecuteError> {
        self.sides.iter_mut().try_for_each(Side::compact)?;
        Ok(compact_keys(&mut self.keys, &mut self.sides)?)
    }
}

impl Operator for Join {
    fn push(&mut self, port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        match self.alignment.admit(port, message) {
            Some(Message::Batch(batch)) => self.join(port, &batch, output),
            Some(Message::Watermark(watermark)) => self.advance(watermark, output),
            Some(other) => {
                output.emit(other);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn due(&self) -> Option<i64> {
        // Only then is it known which rows have met none. Other rows are forgotten without a word.
        let outer = |side: usize| self.blueprint.sides[side].outer && !self.blueprint.pads_at_once();
        (0..2).filter(|side| outer(*side)).filter_map(|side| self.sides[side].first_end()).min()
    }

    fn snapshot(&mut self) -> Result<Option<TakenState>, ExecuteError> {
        let [first, second] = self.sides.each_ref().map(|side| side.snapshot(&self.keys));
        let tables = move || Ok(TABLES.map(str::to_owned).into_iter().zip([first()?, second()?]).collect());
        Ok(Some(TakenState::new(self.blueprint.state_signature().unwrap_or_default(), tables)))
    }

    fn state_bytes(&self) -> usize {
        self.keys.memory_bytes() + self.sides.iter().map(Side::memory_bytes).sum::<usize>()
    }

    fn restore(&mut self, state: OperatorState) -> Result<(), ExecuteError> {
        state.check(self.blueprint.state_signature())?;
        for (number, name) in TABLES.iter().enumerate() {
            if let Some(table) = state.tables.get(*name) {
                self.sides[number].restore(&table.records, &self.blueprint.sides[number], &mut self.keys)?;
            }
        }
        Ok(())
    }
}
