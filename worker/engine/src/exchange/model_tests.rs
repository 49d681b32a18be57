//! A front task that crashes at any moment, leaves zombies that go on writing, and reads again in other batches: whatever they do, each row counts once in its
//! partition, in order. The protocol as the connector carries it out, over logs in memory.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{Acceptance, Coverage, Replay, UpTo, Verdict};
use crate::batch::Origin;

const PARTITIONS: u16 = 3;
const ORDINALS: u64 = 12;

/// What is left out of the protocol, to see the model notice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Broken {
    Nothing,
    /// A new owner writes again what was written.
    NoSuppression,
    /// Zombies count.
    NoGenerations,
    /// A message says that more has been given than was.
    CoversTooMuch,
    /// It reads back less than up to its marker.
    ShortReadBack,
    /// An epoch that ends within a replay forgets what it has not read again.
    MovesPlaceTooEarly,
}

/// Rows of one record: its ordinal, and which of its rows.
type Row = (u64, u8);

#[derive(Clone, Debug)]
struct Message {
    producer: usize,
    generation: u64,
    number: u64,
    rows: Vec<Row>,
    up_to: UpTo,
}

type Log = Vec<Message>;

/// Where rows of a record go: one record in three has a row in each partition, and in one of them two.
fn partitions_of(producer: usize, ordinal: u64) -> Vec<(u16, Row)> {
    let home = ((ordinal * 7 + producer as u64) % u64::from(PARTITIONS)) as u16;
    let mut rows = vec![(home, (ordinal, 0))];
    if ordinal.is_multiple_of(3) {
        rows.extend((0..PARTITIONS).map(|partition| (partition, (ordinal, 1))));
    }
    rows
}

fn origin(producer: usize) -> Origin {
    Origin::new(&format!("split {producer}"), "split")
}

/// An epoch: everything before is done.
#[derive(Clone, Debug, Default)]
struct Epoch {
    next: u64,
    generation: u64,
    /// By partition: the number of the last message, and a place before which there is nothing to read back.
    ends: Vec<(u64, usize)>,
}

/// A process that has the task, or thinks so.
struct Owner {
    generation: u64,
    epoch: Epoch,
    /// Messages that are on their way, by partition, in order.
    aloft: Vec<VecDeque<Message>>,
    numbers: Vec<u64>,
    opening: Option<Vec<Option<UpTo>>>,
    replay: Replay,
    next: u64,
}

struct Front {
    producer: usize,
    durable: Epoch,
    generations: u64,
    /// The last of them has the task.
    owners: Vec<Owner>,
}

impl Front {
    fn new(producer: usize) -> Self {
        let mut front = Self { producer, durable: Epoch::default(), generations: 0, owners: Vec::new() };
        front.take_over();
        front
    }

    /// A new process takes the task over; the old ones may live on.
    fn take_over(&mut self) {
        self.generations += 1;
        let marker = |_| {
            let (producer, generation) = (self.producer, self.generations);
            VecDeque::from([Message { producer, generation, number: 0, rows: Vec::new(), up_to: UpTo::new() }])
        };
        self.owners.push(Owner {
            generation: self.generations,
            epoch: self.durable.clone(),
            aloft: (0..PARTITIONS).map(marker).collect(),
            numbers: vec![0; PARTITIONS.into()],
            opening: Some(vec![None; PARTITIONS.into()]),
            replay: Replay::default(),
            next: self.durable.next,
        });
    }

    /// Some process does its next step.
    fn step(&mut self, owner: usize, dice: &mut dyn FnMut(u64) -> u64, logs: &mut [Log], broken: Broken) {
        let is_owner = owner + 1 == self.owners.len();
        let Owner { generation, epoch, aloft, numbers, opening, replay, next } = &mut self.owners[owner];
        // What is on its way arrives whenever it likes, in each partition in order.
        let partition = dice(PARTITIONS.into()) as usize;
        if dice(3) > 0
            && let Some(message) = aloft[partition].pop_front()
        {
            logs[partition].push(message);
            return;
        }
        if let Some(read) = opening {
            let marked = |log: &Log| log.iter().position(|said| (said.producer, said.generation) == (self.producer, *generation));
            if let (None, Some(mut marker)) = (&read[partition], marked(&logs[partition])) {
                if broken == Broken::ShortReadBack {
                    marker = marker.saturating_sub(2);
                }
                let (number, from) = epoch.ends.get(partition).copied().unwrap_or_default();
                let mut acceptance = Acceptance::after(epoch.generation, number);
                let mut up_to = UpTo::new();
                for said in logs[partition].get(from..marker).unwrap_or_default().iter().filter(|said| said.producer == self.producer) {
                    if acceptance.judge(said.generation, said.number) == Verdict::Taken {
                        up_to.extend(&said.up_to);
                    }
                }
                read[partition] = Some(up_to);
            }
            if read.iter().all(Option::is_some) {
                let mut coverage = Coverage::new(1, PARTITIONS);
                for (partition, up_to) in (0..).zip(read.iter().flatten()) {
                    coverage.add(0, partition, up_to);
                }
                if broken != Broken::NoSuppression {
                    *replay = Replay::new(coverage);
                }
                *opening = None;
            }
            return;
        }
        if dice(4) == 0 && is_owner && aloft.iter().all(VecDeque::is_empty) {
            // Everything is acknowledged: an epoch can end. A zombie's cannot.
            if replay.is_on() && broken != Broken::MovesPlaceTooEarly {
                self.durable = Epoch { next: *next, ..self.durable.clone() };
                return;
            }
            let ends = numbers.iter().zip(logs.iter()).map(|(number, log)| (*number, log.len().saturating_sub(dice(3) as usize)));
            self.durable = Epoch { next: *next, generation: *generation, ends: ends.collect() };
            return;
        }
        if *next >= ORDINALS {
            return;
        }
        // A batch of any size; cut where the coverage of a partition ends.
        let mut last = (*next + dice(4)).min(ORDINALS - 1);
        let origin = origin(self.producer);
        if let Some(bound) = replay.bounds(&origin).into_iter().find(|bound| *bound >= *next) {
            last = last.min(bound);
        }
        replay.at(&origin, last);
        let given = replay.given(0);
        let mut rows: BTreeMap<u16, Vec<Row>> = BTreeMap::new();
        for (partition, row) in (*next..=last).flat_map(|ordinal| partitions_of(self.producer, ordinal)) {
            if !given.as_ref().is_some_and(|given| given[usize::from(partition)]) {
                rows.entry(partition).or_default().push(row);
            }
        }
        for (partition, rows) in rows {
            let partition = usize::from(partition);
            numbers[partition] += 1;
            let covered = if broken == Broken::CoversTooMuch { last + 1 } else { last };
            let up_to = UpTo::from([(*origin.key(), covered)]);
            let (producer, generation, number) = (self.producer, *generation, numbers[partition]);
            aloft[partition].push_back(Message { producer, generation, number, rows, up_to });
        }
        replay.passed(&origin, last);
        *next = last + 1;
    }
}

/// What the task behind a partition makes of its log.
fn taken(log: &Log, broken: Broken) -> Vec<Vec<Row>> {
    let mut acceptances = [Acceptance::default(); 2];
    let mut rows = vec![Vec::new(); 2];
    for said in log {
        let verdict = acceptances[said.producer].judge(said.generation, said.number);
        if verdict == Verdict::Taken || broken == Broken::NoGenerations {
            rows[said.producer].extend(&said.rows);
        }
    }
    rows
}

/// Lets things happen as the dice say, and then to their end. The rows that each partition has counted, by producer.
fn run(dice: &mut dyn FnMut(u64) -> u64, steps: usize, broken: Broken) -> Vec<Vec<Vec<Row>>> {
    let mut logs: Vec<Log> = vec![Log::new(); PARTITIONS.into()];
    let mut fronts = [Front::new(0), Front::new(1)];
    for _ in 0..steps {
        let front = &mut fronts[dice(2) as usize];
        match dice(12) {
            0 => front.take_over(),
            1 if front.owners.len() > 1 => {
                // A zombie dies at last, with what it had on its way.
                front.owners.remove(0);
            }
            _ => {
                // The one that has the task, more often than others.
                let owner = if dice(3) == 0 { dice(front.owners.len() as u64) as usize } else { front.owners.len() - 1 };
                front.step(owner, dice, &mut logs, broken);
            }
        }
    }
    let mut turn = 0;
    let mut round = |limit: u64| {
        turn = (turn * 5 + 7) % 9973;
        turn % limit
    };
    for front in &mut fronts {
        let last = front.owners.len() - 1;
        let is_done = |owner: &Owner| owner.opening.is_none() && owner.next >= ORDINALS && owner.aloft.iter().all(VecDeque::is_empty);
        let mut rounds = 0;
        while !is_done(&front.owners[last]) {
            front.step(last, &mut round, &mut logs, broken);
            rounds += 1;
            assert!(rounds < 10_000, "it does not come to an end");
        }
        // Zombies say the rest of what they have to say after all.
        for owner in &mut front.owners {
            owner.aloft.iter_mut().zip(&mut logs).for_each(|(aloft, log)| log.extend(aloft.drain(..)));
        }
    }
    logs.iter().map(|log| taken(log, broken)).collect()
}

fn expected() -> Vec<Vec<Vec<Row>>> {
    let mut rows = vec![vec![Vec::new(); 2]; PARTITIONS.into()];
    for (producer, ordinal) in (0..2).flat_map(|producer| (0..ORDINALS).map(move |ordinal| (producer, ordinal))) {
        for (partition, row) in partitions_of(producer, ordinal) {
            rows[usize::from(partition)][producer].push(row);
        }
    }
    rows
}

/// Dice with a memory of its own.
fn dice(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |limit| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) % limit.max(1)
    }
}

#[test]
fn each_row_counts_once_whoever_dies_or_lives_on() {
    for seed in 0..4000 {
        let mut dice = dice(seed);
        let steps = 20 + dice(300) as usize;
        assert_eq!(run(&mut dice, steps, Broken::Nothing), expected(), "seed {seed}");
    }
}

#[test]
fn the_model_notices_what_is_missing() {
    for broken in [Broken::NoSuppression, Broken::NoGenerations, Broken::CoversTooMuch, Broken::ShortReadBack, Broken::MovesPlaceTooEarly] {
        let wrong = (0..500).filter(|seed| run(&mut dice(*seed), 200, broken) != expected()).count();
        assert!(wrong > 50, "{broken:?}: {wrong} of 500 runs are wrong");
    }
}

proptest! {
    #[test]
    fn each_row_counts_once_as_any_bytes_say(bytes in prop::collection::vec(any::<u8>(), 50..1500)) {
        let mut next = bytes.iter().cycle();
        let mut dice = |limit: u64| u64::from(*next.next().unwrap()) % limit.max(1);
        prop_assert_eq!(run(&mut dice, 150, Broken::Nothing), expected());
    }
}
