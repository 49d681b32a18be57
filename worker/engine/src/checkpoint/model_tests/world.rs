//! One state of the model: a store, requests under way, owners, and what an observer has seen so far.
//! Every check of the protocol is here; which state follows which is up to the explorer.

use crate::checkpoint::decide::{
    AppendFacts, AppendStep, CollectFacts, CollectStep, CreateReply, Debt, Fate, Found, Garbage, Gate, Listing, MarkFacts, MarkStep,
    OpenFacts, OpenStep, Reading, Resume, Settlement,
};
use crate::checkpoint::{Epoch, Generation};

use super::explorer::Limits;

/// Epochs the model has room for: those the owners may write, and those of the owner that proves progress.
const SLOTS: usize = 10;

/// The decisions under test.
pub(super) struct Rules {
    pub(super) open: fn(&OpenFacts) -> OpenStep,
    pub(super) may_append: fn(Debt) -> Gate,
    pub(super) append: fn(&AppendFacts) -> AppendStep,
    pub(super) settle: fn(&[Fate]) -> Settlement,
    pub(super) mark: fn(&MarkFacts) -> MarkStep,
    pub(super) collect: fn(&CollectFacts, usize) -> CollectStep,
}

/// An epoch record: equal exactly if its bytes would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Rec {
    owner: u8,
    epoch: u8,
    generation: u8,
    /// The input it covers: from here up to `to`. Every owner cuts differently, so gaps and overlaps show.
    from: u8,
    to: u8,
    commits: bool,
}

/// A request that changes the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Request {
    Record(Rec),
    Mark(u8),
    Delete(Garbage),
}

/// What an owner is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Idle,
    Opening {
        facts: OpenFacts,
        read: Option<Rec>,
    },
    Opened {
        resume: Resume,
        last: Option<Rec>,
        settled: bool,
    },
    /// The last epoch's anchor was aborted.
    GoingBack {
        resume: Resume,
        aborted: Rec,
    },
    Appending {
        rec: Rec,
        facts: AppendFacts,
        claim: bool,
    },
    Permitted {
        rec: Rec,
    },
    Marking {
        rec: Rec,
        facts: MarkFacts,
        claim: Option<Resume>,
    },
    Running {
        last: Rec,
        swept: bool,
    },
    Collecting {
        last: Rec,
        facts: CollectFacts,
    },
    Stopped,
}

/// What an owner may choose to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The next step.
    Go,
    /// The next step, as a request that is late.
    Late,
    /// In some phases there is another step: skip the commit if the gate lets us, or collect garbage.
    Other,
}

pub(super) const CHOICES: [Choice; 3] = [Choice::Go, Choice::Late, Choice::Other];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    records: [Option<Rec>; SLOTS],
    marks: u16,
    pub(super) late: Vec<Request>,
    late_left: u8,
    sweeps_left: u8,
    pub(super) owners: Vec<Phase>,
    /// The first record ever stored for each epoch: the canonical one.
    first: [Option<Rec>; SLOTS],
    /// Epochs whose commit is visible.
    visible: u16,
    /// Epochs whose transaction was aborted, where the sink is an anchor.
    aborted: u16,
}

type Outcome<T> = Result<T, String>;

impl World {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            records: [None; SLOTS],
            marks: 0,
            late: Vec::new(),
            late_left: limits.late,
            sweeps_left: limits.sweeps,
            owners: vec![Phase::Idle; limits.owners],
            first: [None; SLOTS],
            visible: 0,
            aborted: 0,
        }
    }

    /// What later progress depends on: all but the owners and what is under way.
    pub(super) fn durable(&self) -> impl std::hash::Hash {
        (self.records, self.marks, self.first, self.visible, self.aborted)
    }

    /// The state after `who` did what it chose; `None` if it has no such choice.
    pub(super) fn step(&self, rules: &Rules, limits: Limits, who: usize, choice: Choice) -> Outcome<Option<Self>> {
        if choice == Choice::Late && self.late_left == 0 {
            return Ok(None);
        }
        let mut world = self.clone();
        let collecting = |world: &Self| matches!(world.owners[who], Phase::Collecting { .. });
        let Some(intent) = self.intend(rules, limits, who, choice) else { return Ok(None) };
        let Some(phase) = world.act(rules, limits, intent, choice == Choice::Late)? else { return Ok(None) };
        world.owners[who] = world.conclude(rules, limits, phase)?;
        if collecting(&world) && !collecting(self) {
            world.sweeps_left -= 1;
        }
        Ok(Some(world))
    }

    /// Allows one more garbage collection.
    pub(super) fn grant_sweep(&mut self) {
        self.sweeps_left += 1;
    }

    /// A late request arrives.
    pub(super) fn deliver(&self, at: usize) -> Outcome<Self> {
        let mut world = self.clone();
        let request = world.late.remove(at);
        world.apply(request)?;
        Ok(world)
    }

    /// What the owner is about to do with that choice; `None` if it has no such choice.
    fn intend(&self, rules: &Rules, limits: Limits, who: usize, choice: Choice) -> Option<Phase> {
        let phase = self.owners[who].clone();
        let follow = |debt, phase: Option<Phase>| phase.filter(|_| (rules.may_append)(debt) == Gate::Append);
        if choice == Choice::Other {
            return match phase {
                Phase::Opened { resume, last, settled: false } if resume.owed => follow(Debt::Owed, claim(who, limits, resume, last)),
                Phase::Permitted { rec } => follow(Debt::Owed, next(who, limits, rec)),
                // Without garbage it would only read.
                Phase::Running { last, swept: false }
                    if self.sweeps_left > 0 && self.records.iter().flatten().count() > limits.retained =>
                {
                    Some(Phase::Collecting { last, facts: CollectFacts::default() })
                }
                _ => None,
            };
        }
        match phase {
            Phase::Idle => Some(opening()),
            Phase::Opened { resume, last, settled } if settled || !resume.owed => follow(Debt::Settled, claim(who, limits, resume, last)),
            Phase::Running { last, .. } => follow(Debt::Settled, next(who, limits, last)),
            other => Some(other),
        }
    }

    /// One request to the store or to the sink.
    fn act(&mut self, rules: &Rules, limits: Limits, phase: Phase, late: bool) -> Outcome<Option<Phase>> {
        let go = !late;
        Ok(match phase {
            Phase::Opening { mut facts, mut read } if go => {
                match (rules.open)(&facts) {
                    OpenStep::List => facts.listing = Some(newest_two(self.listing())),
                    OpenStep::Read(epoch) => {
                        read = self.records[slot(epoch)];
                        let reading = read.map_or(Reading::Missing, |rec| Reading::Valid {
                            generation: Generation(rec.generation.into()),
                            commits: rec.commits,
                        });
                        facts.readings.insert(epoch, reading);
                    }
                    OpenStep::LookLater(epoch) => facts.later = Some(self.has_later(epoch)),
                    step => return Err(format!("{step:?} is no request")),
                }
                Some(Phase::Opening { facts, read })
            }
            Phase::Opened { resume, last: Some(rec), .. } if go => {
                let fates = if limits.anchored { vec![self.seal(rec)] } else { Vec::new() };
                match (rules.settle)(&fates) {
                    Settlement::Forward => {
                        if !limits.anchored {
                            self.commit(rec)?;
                        }
                        Some(Phase::Marking { rec, facts: MarkFacts::default(), claim: Some(resume) })
                    }
                    Settlement::Back => Some(Phase::GoingBack { resume, aborted: rec }),
                    Settlement::Torn => return Err(format!("{rec:?} is torn")),
                }
            }
            Phase::GoingBack { resume, aborted } if go => {
                let marked = self.marks & bit(aborted.epoch) != 0;
                let before = self.records[usize::from(aborted.epoch) - 1].filter(|_| !marked);
                Some(before.map_or_else(opening, |before| Phase::Opened { resume, last: Some(before), settled: true }))
            }
            Phase::Appending { rec, mut facts, claim } => {
                match (rules.append)(&facts) {
                    AppendStep::Create if late => self.send_late(Request::Record(rec)),
                    AppendStep::Create if go => facts.create = Some(self.apply(Request::Record(rec))?),
                    AppendStep::ReadBack if go => {
                        let found = self.records[usize::from(rec.epoch)];
                        facts.found = Some(found.map_or(Found::Missing, |found| if found == rec { Found::Ours } else { Found::Other }));
                    }
                    AppendStep::LookLater if go => facts.later = Some(self.has_later(Epoch(rec.epoch.into()))),
                    _ => return Ok(None),
                }
                Some(Phase::Appending { rec, facts, claim })
            }
            // The broker aborts it by time-out, or somebody has sealed it: the owner hears of it and opens the task again.
            Phase::Permitted { rec } if limits.anchored && (late || self.aborted & bit(rec.epoch) != 0) => {
                if self.seal(rec) == Fate::Aborted { Some(opening()) } else { None }
            }
            Phase::Permitted { rec } if go => {
                self.commit(rec)?;
                Some(Phase::Marking { rec, facts: MarkFacts::default(), claim: None })
            }
            Phase::Marking { rec, mut facts, claim } => {
                match (rules.mark)(&facts) {
                    MarkStep::Create if late => self.send_late(Request::Mark(rec.epoch)),
                    MarkStep::Create if go => facts.create = Some(self.apply(Request::Mark(rec.epoch))?),
                    MarkStep::LookUp if go => facts.present = Some(self.marks & bit(rec.epoch) != 0),
                    _ => return Ok(None),
                }
                Some(Phase::Marking { rec, facts, claim })
            }
            Phase::Collecting { last, mut facts } => {
                match (rules.collect)(&facts, limits.retained) {
                    CollectStep::List if go => facts.listing = Some(self.listing()),
                    CollectStep::Check(epoch) if go => {
                        facts.readable.insert(epoch, self.records[slot(epoch)].is_some());
                    }
                    CollectStep::LookLater(epoch) if go => facts.later = Some(self.has_later(epoch)),
                    CollectStep::Delete(garbage) if late => self.send_late(Request::Delete(garbage)),
                    CollectStep::Delete(garbage) if go => {
                        self.apply(Request::Delete(garbage))?;
                        facts.deleted.insert(garbage);
                    }
                    _ => return Ok(None),
                }
                Some(Phase::Collecting { last, facts })
            }
            _ => None,
        })
    }

    /// What follows without any request.
    fn conclude(&self, rules: &Rules, limits: Limits, phase: Phase) -> Outcome<Phase> {
        Ok(match phase {
            Phase::Opening { facts, read } => match (rules.open)(&facts) {
                OpenStep::Ready(resume) => {
                    let last = resume.from.and(read);
                    self.check_canonical("what recovery reads", last)?;
                    Phase::Opened { resume, last, settled: false }
                }
                OpenStep::Relist(_) => opening(),
                OpenStep::Refuse(epochs) => return Err(format!("recovery refuses {epochs:?}")),
                OpenStep::List | OpenStep::Read(_) | OpenStep::LookLater(_) => Phase::Opening { facts, read },
            },
            Phase::Appending { rec, facts, claim } => match (rules.append)(&facts) {
                AppendStep::Canonical => {
                    self.check_canonical("a permit's record", Some(rec))?;
                    if rec.commits { Phase::Permitted { rec } } else { Phase::Running { last: rec, swept: false } }
                }
                AppendStep::Lost if claim => opening(),
                AppendStep::Lost => Phase::Stopped,
                AppendStep::Again => Phase::Appending { rec, facts: AppendFacts::default(), claim },
                _ => Phase::Appending { rec, facts, claim },
            },
            Phase::Marking { rec, facts, claim } => match (rules.mark)(&facts) {
                MarkStep::Marked => {
                    self.acknowledge(rec)?;
                    match claim {
                        Some(resume) => Phase::Opened { resume, last: Some(rec), settled: true },
                        None => Phase::Running { last: rec, swept: false },
                    }
                }
                MarkStep::Again => Phase::Marking { rec, facts: MarkFacts::default(), claim },
                _ => Phase::Marking { rec, facts, claim },
            },
            Phase::Collecting { last, facts } => match (rules.collect)(&facts, limits.retained) {
                CollectStep::Done { .. } | CollectStep::Hold(_) | CollectStep::Overtaken => {
                    // Told apart only to have fewer states: at the last epoch there is nothing left to do.
                    if last.epoch < limits.epochs { Phase::Running { last, swept: true } } else { Phase::Stopped }
                }
                _ => Phase::Collecting { last, facts },
            },
            other => other,
        })
    }

    fn send_late(&mut self, request: Request) {
        self.late.push(request);
        self.late.sort_unstable();
        self.late_left -= 1;
    }

    fn apply(&mut self, request: Request) -> Outcome<CreateReply> {
        match request {
            Request::Record(rec) => {
                let at = usize::from(rec.epoch);
                if self.records[at].is_some() {
                    return Ok(CreateReply::Conflict);
                }
                self.records[at] = Some(rec);
                if self.first[at].is_none() {
                    self.check_continues(rec)?;
                    self.first[at] = Some(rec);
                }
            }
            Request::Mark(epoch) if self.marks & bit(epoch) != 0 => return Ok(CreateReply::Conflict),
            Request::Mark(epoch) => self.marks |= bit(epoch),
            Request::Delete(Garbage::Record(epoch)) => {
                self.check_deletable(epoch)?;
                self.records[slot(epoch)] = None;
            }
            Request::Delete(Garbage::Committed(epoch)) => self.marks &= !(1 << epoch.0),
        }
        Ok(CreateReply::Created)
    }

    fn commit(&mut self, rec: Rec) -> Outcome<()> {
        self.check_canonical("what is committed", Some(rec))?;
        self.visible |= bit(rec.epoch);
        Ok(())
    }

    /// Makes final what became of a transaction, and tells.
    fn seal(&mut self, rec: Rec) -> Fate {
        if self.visible & bit(rec.epoch) != 0 {
            return Fate::Committed;
        }
        self.aborted |= bit(rec.epoch);
        Fate::Aborted
    }

    /// Whether the epoch is one that was gone back from: its input belongs to a later one.
    fn is_void(&self, rec: &Rec) -> bool {
        self.aborted & bit(rec.epoch) != 0
    }

    fn acknowledge(&self, rec: Rec) -> Outcome<()> {
        let void = |first: &Rec| first.epoch < rec.epoch && self.is_void(first);
        let unfinished = |first: &&Rec| first.epoch <= rec.epoch && first.commits && self.visible & bit(first.epoch) == 0 && !void(first);
        match self.first.iter().flatten().find(unfinished) {
            Some(first) => Err(format!("the source is acknowledged up to {rec:?}, but {first:?} is not committed")),
            None => Ok(()),
        }
    }

    fn check_canonical(&self, what: &str, rec: Option<Rec>) -> Outcome<()> {
        match rec {
            Some(rec) if self.first[usize::from(rec.epoch)] != Some(rec) => Err(format!("{what} is not canonical: {rec:?}")),
            _ => Ok(()),
        }
    }

    fn check_continues(&self, rec: Rec) -> Outcome<()> {
        if rec.epoch == 1 {
            return if rec.from == 0 { Ok(()) } else { Err(format!("the first record does not start at 0: {rec:?}")) };
        }
        let Some(before) = self.first[usize::from(rec.epoch) - 1] else { return Err(format!("nothing comes before {rec:?}")) };
        let generation = if rec.commits { before.generation } else { before.generation + 1 };
        let void = self.is_void(&before);
        if void && rec.commits {
            return Err(format!("{rec:?} follows an aborted epoch: {before:?}"));
        }
        let end = if void { self.first[usize::from(rec.epoch) - 2].map(|base| base.to) } else { Some(before.to) };
        if Some(rec.from) != end || rec.to < rec.from {
            return Err(format!("positions do not continue: {rec:?} after {before:?}"));
        }
        if rec.generation != generation || (rec.commits && rec.owner != before.owner) {
            return Err(format!("the generation does not fit: {rec:?} after {before:?}"));
        }
        if before.commits && self.visible & bit(before.epoch) == 0 && !void {
            return Err(format!("{rec:?} follows an uncommitted epoch: {before:?}"));
        }
        Ok(())
    }

    fn check_deletable(&self, epoch: Epoch) -> Outcome<()> {
        let Some(rec) = self.records[slot(epoch)] else { return Ok(()) };
        if self.first[slot(epoch) + 1..].iter().all(Option::is_none) {
            return Err(format!("the newest record is deleted: {rec:?}"));
        }
        let unfinished = self.first[slot(epoch)] == Some(rec) && rec.commits && self.visible & bit(rec.epoch) == 0 && !self.is_void(&rec);
        if unfinished { Err(format!("an uncommitted record is deleted: {rec:?}")) } else { Ok(()) }
    }

    fn has_later(&self, epoch: Epoch) -> bool {
        self.records[slot(epoch) + 1..].iter().any(Option::is_some)
    }

    fn listing(&self) -> Listing {
        Listing {
            records: self.records.iter().flatten().map(|rec| Epoch(rec.epoch.into())).collect(),
            committed: (0..16).filter(|epoch| self.marks & (1 << epoch) != 0).map(Epoch).collect(),
        }
    }
}

/// All that opening looks at. Forgetting the rest makes many states one.
fn newest_two(mut listing: Listing) -> Listing {
    let oldest = listing.records.iter().rev().nth(1).copied().unwrap_or_default();
    listing.records = listing.records.split_off(&oldest);
    listing.committed = listing.committed.split_off(&oldest);
    listing
}

fn claim(who: usize, limits: Limits, resume: Resume, last: Option<Rec>) -> Option<Phase> {
    let at = last.map_or(0, |rec| rec.to);
    let (owner, epoch, generation) = (small(who as u64), small(resume.next.0), small(resume.generation.0));
    append(limits, Rec { owner, epoch, generation, from: at, to: at, commits: false }, true)
}

fn next(who: usize, limits: Limits, last: Rec) -> Option<Phase> {
    let to = last.to + small(who as u64) + 1;
    append(limits, Rec { epoch: last.epoch + 1, from: last.to, to, commits: true, ..last }, false)
}

fn append(limits: Limits, rec: Rec, claim: bool) -> Option<Phase> {
    (rec.epoch <= limits.epochs).then(|| Phase::Appending { rec, facts: AppendFacts::default(), claim })
}

fn opening() -> Phase {
    Phase::Opening { facts: OpenFacts::default(), read: None }
}

fn slot(epoch: Epoch) -> usize {
    usize::from(small(epoch.0))
}

fn small(number: u64) -> u8 {
    u8::try_from(number).expect("the model's numbers are small")
}

fn bit(epoch: u8) -> u16 {
    1 << epoch
}
