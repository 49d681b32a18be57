//! Gate: in front of a channel of an exchange, leaves out the rows that their partition has been given by an earlier owner of the task. Counts and refuses none.

use arrow::array::{Array, ArrayRef};

use super::{ExecuteError, Message, Operator, Output};
use crate::batch::Batch;
use crate::exchange::Replay;
use crate::plan::stages::{partitions_of, pick};

/// The operator. What it leaves out follows from where the rows lie that are pushed, which the replay is told before.
pub(crate) struct Gate {
    /// The channel.
    pub(crate) channel: usize,
    /// Columns by which its rows are brought together.
    pub(crate) key: Vec<usize>,
    /// A column without which a row is refused behind this: that is said again, because nobody has heard it.
    pub(crate) needed: Option<usize>,
    pub(crate) replay: Replay,
}

impl Operator for Gate {
    fn push(&mut self, _port: usize, message: Message, output: &mut dyn Output) -> Result<(), ExecuteError> {
        match message {
            Message::Batch(batch) => {
                if let Some(batch) = self.rest(batch)? {
                    output.emit(Message::Batch(batch));
                }
            }
            other => output.emit(other),
        }
        Ok(())
    }
}

impl Gate {
    /// The rows that are not left out; `None` if all are.
    fn rest(&self, batch: Batch) -> Result<Option<Batch>, ExecuteError> {
        let Some(given) = self.replay.given(self.channel) else { return Ok(Some(batch)) };
        let partitions = u16::try_from(given.len()).unwrap_or(u16::MAX);
        let columns: Vec<ArrayRef> = self.key.iter().map(|column| ArrayRef::clone(batch.records.column(*column))).collect();
        let of_row = partitions_of(&columns, batch.num_rows(), partitions)?;
        let is_refused = |row: usize| self.needed.is_some_and(|column| batch.records.column(column).is_null(row));
        let stays = (0_u32..).zip(&of_row).filter(|(row, partition)| !given[usize::from(**partition)] || is_refused(*row as usize));
        let rows: Vec<u32> = stays.map(|(row, _)| row).collect();
        if rows.len() == batch.num_rows() {
            return Ok(Some(batch));
        }
        Ok(if rows.is_empty() { None } else { Some(pick(&batch, rows)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Coverage, UpTo};
    use crate::operators::{RejectedRow, harness};
    use crate::plan::stages::partition_rows;
    use crate::row_kind::RowKind;

    #[derive(Default)]
    struct Said(Vec<Batch>, usize);

    impl Output for Said {
        fn emit(&mut self, message: Message) {
            match message {
                Message::Batch(batch) => self.0.push(batch),
                _ => self.1 += 1,
            }
        }

        fn filtered(&mut self, _: u64) {
            panic!("what was given before is not dropped")
        }

        fn reject(&mut self, _: RejectedRow) {
            panic!("it refuses nothing")
        }
    }

    #[test]
    fn rows_of_partitions_that_have_them_are_left_out() {
        let rows: Vec<_> = (0..64).map(|k| ((Some(k), 0, k), RowKind::Insert)).collect();
        let batch = harness::batch("a", 0, &rows);
        let parts = partition_rows(&batch, &[0], 4).unwrap();
        assert_eq!(parts.len(), 4);
        let mut coverage = Coverage::new(1, 4);
        for partition in [0, 3] {
            coverage.add(0, partition, &UpTo::from([(*batch.origin.key(), 99)]));
        }
        let replay = Replay::new(coverage);
        let mut gate = Gate { channel: 0, key: vec![0], needed: None, replay: replay.clone() };
        let mut said = Said::default();
        replay.at(&batch.origin, 63);
        gate.push(0, Message::Batch(batch.clone()), &mut said).unwrap();
        gate.push(0, Message::Watermark(5), &mut said).unwrap();
        let rest: usize = [1, 2].iter().map(|part| parts[*part].1.num_rows()).sum();
        assert_eq!((said.0.len(), said.0[0].num_rows(), said.1), (1, rest, 1));
        replay.at(&batch.origin, 100);
        gate.push(0, Message::Batch(batch), &mut said).unwrap();
        assert_eq!(said.0[1].num_rows(), 64);
    }
}
