//! How far event time has come: per split the latest time, per input the minimum over the splits that are awake. Pure: time is passed in, nothing is read.
//!
//! A split holds the watermark of its input back until it has spoken, is idle, or has ended. An input whose splits have all ended is complete: its watermark is
//! the end of time. What the operators are told never goes backwards.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::checkpoint::{EventTimes, InputTime};
use crate::operators::Message;
use crate::time::Time;

/// Watermarks of a task, in microseconds since 1970. Inputs and splits are known by number.
#[derive(Debug)]
pub(super) struct Watermarks {
    inputs: Vec<Input>,
    splits: BTreeMap<usize, Split>,
    idle_after: Duration,
    /// Over all inputs.
    watermark: Option<i64>,
    /// Latest times of splits that were not opened (yet).
    restored: BTreeMap<String, i64>,
}

/// Where the time of an input comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Clock {
    /// Its event times, of which none is more than so many microseconds behind the latest.
    Event(i64),
    /// What its splits say themselves.
    Told,
    /// The clock on the wall.
    Processing,
    /// Nothing: whoever takes the rows on knows.
    Elsewhere,
}

impl Clock {
    fn delay(self) -> i64 {
        match self {
            Self::Event(delay) => delay,
            Self::Told | Self::Processing | Self::Elsewhere => 0,
        }
    }
}

#[derive(Debug)]
struct Input {
    name: String,
    clock: Clock,
    told: Option<i64>,
    idle: bool,
    /// Whether the operators have been told that it is complete. Not stored: after a restore its splits end again.
    over: bool,
}

#[derive(Debug)]
struct Split {
    input: usize,
    key: String,
    latest: Option<i64>,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Awake,
    Idle,
    Ended,
}

impl Watermarks {
    /// For inputs of these names. An input without splits is idle after `idle_after`.
    pub(super) fn new(inputs: impl IntoIterator<Item = (String, Clock)>, idle_after: Duration, restored: Option<&EventTimes>) -> Self {
        let input = |(name, clock): (String, Clock)| {
            let told = restored.and_then(|times| times.inputs.get(&name));
            Input { clock, told: told.map(|told| told.watermark), idle: told.is_some_and(|told| told.idle), over: false, name }
        };
        Self {
            inputs: inputs.into_iter().map(input).collect(),
            splits: BTreeMap::new(),
            idle_after,
            watermark: restored.and_then(|times| times.watermark),
            restored: restored.map(|times| times.splits.clone()).unwrap_or_default(),
        }
    }

    /// What to tell the operators before anything else after a restore, so that they know what they knew: an input that was overtaken while it was idle
    /// holds nothing back before the others have been told.
    pub(super) fn again(&self) -> Vec<(usize, Message)> {
        let told: Vec<(usize, i64)> = self.inputs.iter().enumerate().filter_map(|(index, input)| Some((index, input.told?))).collect();
        let reached = self.watermark.unwrap_or(i64::MIN);
        let (behind, others): (Vec<_>, Vec<_>) = told.iter().copied().partition(|(_, told)| *told < reached);
        let mut messages = Vec::new();
        for (index, told) in &behind {
            messages.extend([(*index, Message::Watermark(*told)), (*index, Message::Idle)]);
        }
        // As long as an input has told none, nobody has got anywhere.
        if self.watermark.is_some() {
            messages.extend(others.iter().map(|(index, _)| (*index, Message::Watermark(reached))));
        }
        let awake = behind.iter().filter(|(index, _)| !self.inputs[*index].idle).chain(&others);
        messages.extend(awake.map(|(index, told)| (*index, Message::Watermark(*told))));
        messages.extend(others.iter().filter(|(index, _)| self.inputs[*index].idle).map(|(index, _)| (*index, Message::Idle)));
        messages
    }

    /// Whether the operators have been told a watermark of every input.
    pub(super) fn are_known(&self) -> bool {
        self.inputs.iter().all(|input| input.told.is_some())
    }

    /// A split of an input is read from now on.
    pub(super) fn opened(&mut self, split: usize, input: usize, key: &str) {
        let latest = self.restored.remove(key);
        let state = if latest.is_some() && self.inputs[input].idle { State::Idle } else { State::Awake };
        self.splits.insert(split, Split { input, key: key.to_owned(), latest, state });
    }

    /// Records of a split have gone to the operators.
    pub(super) fn seen(&mut self, split: usize, latest: Option<i64>) {
        if let Some(split) = self.splits.get_mut(&split) {
            split.state = State::Awake;
            split.latest = split.latest.max(latest);
        }
    }

    /// A split says how far time has come on it.
    pub(super) fn told(&mut self, split: usize, time: Time) {
        match time {
            Time::Watermark(watermark) => self.seen(split, Some(watermark)),
            Time::Idle => self.idle(split),
            Time::End => self.ended(split),
        }
    }

    /// A split has given nothing for as long as is waited.
    pub(super) fn idle(&mut self, split: usize) {
        if let Some(split) = self.splits.get_mut(&split).filter(|split| split.state == State::Awake) {
            split.state = State::Idle;
        }
    }

    /// Nothing more will come from a split.
    pub(super) fn ended(&mut self, split: usize) {
        if let Some(split) = self.splits.get_mut(&split) {
            split.state = State::Ended;
        }
    }

    /// What to tell the operators now. `running`: for how long the task has run; `wall`: the clock on the wall.
    pub(super) fn advance(&mut self, running: Duration, wall: i64) -> Vec<(usize, Message)> {
        let mut messages = Vec::new();
        for (index, input) in self.inputs.iter_mut().enumerate() {
            let lowest = match input.clock {
                Clock::Processing => Lowest::At(wall),
                Clock::Elsewhere => Lowest::Unknown,
                Clock::Event(_) | Clock::Told => match lowest(self.splits.values().filter(|split| split.input == index)) {
                    Lowest::NoSplits if running < self.idle_after => Lowest::Unknown,
                    Lowest::At(latest) => Lowest::At(latest.saturating_sub(input.clock.delay())),
                    other => other,
                },
            };
            match lowest {
                Lowest::Unknown => input.idle = false,
                Lowest::NoSplits | Lowest::AllIdle => {
                    if !std::mem::replace(&mut input.idle, true) {
                        messages.push((index, Message::Idle));
                    }
                }
                // It says so itself, rather than be overtaken: what its operators still hold would be late.
                Lowest::AllEnded => {
                    if !std::mem::replace(&mut input.over, true) {
                        messages.extend(input.wake(index));
                        messages.push((index, Message::Watermark(i64::MAX)));
                    }
                }
                Lowest::At(watermark) => {
                    messages.extend(input.wake(index));
                    if input.told.is_none_or(|told| told < watermark) {
                        input.told = Some(watermark);
                        messages.push((index, Message::Watermark(watermark)));
                    }
                }
            }
        }
        let awake = self.inputs.iter().filter(|input| !input.idle && !input.over).map(|input| input.told).min();
        self.watermark = self.watermark.max(awake.flatten());
        messages
    }

    /// What to tell the operators when everything has ended. Inputs that are idle wake first, so that none is overtaken by the others' last results.
    pub(super) fn finish(&self) -> Vec<(usize, Message)> {
        let inputs = 0..self.inputs.len();
        let going = self.inputs.iter().enumerate().filter(|(_, input)| !input.over);
        let awake = going.filter_map(|(index, input)| Some((index, Message::Watermark(input.told?))));
        let last = inputs.clone().map(|index| (index, Message::Watermark(i64::MAX)));
        awake.chain(last).chain(inputs.map(|index| (index, Message::End))).collect()
    }

    /// The watermark over all inputs.
    pub(super) fn watermark(&self) -> Option<i64> {
        self.watermark
    }

    /// For the epoch record.
    pub(super) fn times(&self) -> EventTimes {
        let mut splits = self.restored.clone();
        splits.extend(self.splits.values().filter_map(|split| Some((split.key.clone(), split.latest?))));
        let told = |input: &Input| Some((input.name.clone(), InputTime { watermark: input.told?, idle: input.idle }));
        EventTimes { splits, inputs: self.inputs.iter().filter_map(told).collect(), watermark: self.watermark, processing_time: None }
    }
}

impl Input {
    /// Where ways of one input meet again, all of them wake before the first one moves on: what comes by the others would be late.
    fn wake(&mut self, index: usize) -> Option<(usize, Message)> {
        std::mem::replace(&mut self.idle, false).then_some(())?;
        Some((index, Message::Watermark(self.told?)))
    }
}

enum Lowest {
    /// There are no splits yet.
    NoSplits,
    /// All splits have ended.
    AllEnded,
    /// No split is awake, and not all have ended.
    AllIdle,
    /// A split has not spoken yet.
    Unknown,
    /// The earliest of the latest times.
    At(i64),
}

fn lowest<'a>(splits: impl Iterator<Item = &'a Split>) -> Lowest {
    let mut lowest = Lowest::NoSplits;
    for split in splits {
        lowest = match (lowest, split.state, split.latest) {
            (Lowest::Unknown, ..) | (_, State::Awake, None) => Lowest::Unknown,
            (Lowest::At(other), State::Awake, Some(latest)) => Lowest::At(other.min(latest)),
            (_, State::Awake, Some(latest)) => Lowest::At(latest),
            (Lowest::NoSplits | Lowest::AllEnded, State::Ended, _) => Lowest::AllEnded,
            (Lowest::NoSplits | Lowest::AllEnded, ..) => Lowest::AllIdle,
            (other, ..) => other,
        };
    }
    lowest
}

#[cfg(test)]
#[path = "watermarks_tests.rs"]
mod tests;
