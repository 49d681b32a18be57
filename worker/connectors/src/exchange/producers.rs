//! Who writes into a channel, and how far time has come with all of them. It reads no message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_crds::report::TaskRef;
use millrace_engine::connector::ConnectorError;
use millrace_engine::exchange::{Acceptance, Verdict};
use millrace_engine::runtime::TaskConfig;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Upstream;
use super::codec::{ProducerTime, Stamp};

/// Time between two looks for new splits of the inputs.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The name of the front task of a split in messages: that under which it is known to its writers.
fn producer(input: &str, split: &str) -> String {
    let task = TaskRef { input: input.to_owned(), split: split.to_owned() };
    TaskConfig::id_of(&task).as_str().to_owned()
}

/// The splits of inputs as last looked up: readers of one process share it.
#[derive(Debug, Default)]
pub(super) struct Directory(Mutex<BTreeMap<String, (Instant, Vec<String>)>>);

impl Directory {
    /// The producers of all `upstreams`.
    pub(super) async fn expected(&self, upstreams: &[Upstream]) -> Result<BTreeSet<String>, ConnectorError> {
        let mut producers = BTreeSet::new();
        for Upstream { input, source, shared } in upstreams {
            let known = self.known(input);
            let splits = if let Some(splits) = known {
                splits
            } else {
                let splits = source.splits(shared).await?;
                self.lock().insert(input.clone(), (Instant::now(), splits.clone()));
                splits
            };
            producers.extend(splits.iter().map(|split| producer(input, split)));
        }
        Ok(producers)
    }

    /// What was looked up not long ago.
    fn known(&self, input: &str) -> Option<Vec<String>> {
        let known = self.lock().get(input).cloned();
        known.filter(|(at, _)| at.elapsed() < LOOK_EVERY / 2).map(|(_, splits)| splits)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Instant, Vec<String>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far time has come over all producers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Merged {
    /// Somebody who is expected has not spoken, or who is expected is not known yet.
    Unknown,
    /// Nobody is awake.
    Idle,
    /// The earliest watermark of those who are awake.
    At(i64),
    /// Nobody will write any more.
    Ended,
}

/// What a position holds of one producer. Short names: it is written with every epoch.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Kept {
    /// Its generation, and the number of its last message; none where messages had no numbers.
    #[serde(default, skip_serializing_if = "super::is_default")]
    generation: u64,
    #[serde(default, skip_serializing_if = "super::is_default")]
    number: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    watermark: Option<i64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    idle: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
}

/// One producer.
#[derive(Debug, Default)]
struct Producer {
    acceptance: Acceptance,
    /// What it has said.
    time: ProducerTime,
}

/// The producers of one partition of a channel.
#[derive(Debug, Default)]
pub(super) struct Producers {
    /// Those that there have to be; `None` before the inputs have said so.
    expected: Option<Arc<BTreeSet<String>>>,
    known: BTreeMap<String, Producer>,
    /// Those that have written since the inputs were asked last, and since the time before: a split may be newer than an answer.
    recent: [BTreeSet<String>; 2],
}

impl Producers {
    /// With what a position holds.
    pub(super) fn restored(kept: BTreeMap<String, Kept>) -> Self {
        let known = |kept: Kept| Producer {
            acceptance: Acceptance::after(kept.generation, kept.number),
            time: ProducerTime { watermark: kept.watermark, idle: kept.idle, ended: kept.ended },
        };
        Self { known: kept.into_iter().map(|(producer, kept)| (producer, known(kept))).collect(), ..Self::default() }
    }

    /// For a position.
    pub(super) fn kept(&self) -> BTreeMap<&str, Kept> {
        let kept = |Producer { acceptance, time }: &Producer| Kept {
            generation: acceptance.generation(),
            number: acceptance.number(),
            watermark: time.watermark,
            idle: time.idle,
            ended: time.ended,
        };
        self.known.iter().map(|(producer, known)| (producer.as_str(), kept(known))).collect()
    }

    /// Whether a message of a producer counts. One without a number does as long as nobody has written with numbers.
    pub(super) fn judge(&mut self, producer: &str, stamp: Option<Stamp>) -> Verdict {
        if !self.known.contains_key(producer) {
            self.known.insert(producer.to_owned(), Producer::default());
        }
        let Some(known) = self.known.get_mut(producer) else { return Verdict::Hole };
        match stamp {
            Some(Stamp { generation, number }) => {
                let verdict = known.acceptance.judge(generation, number);
                if verdict == Verdict::Opened {
                    // It goes on from where it was, and holds time back there until it says something else.
                    (known.time.idle, known.time.ended) = (false, false);
                    self.recent[0].insert(producer.to_owned());
                }
                verdict
            }
            None if known.acceptance.generation() == 0 => Verdict::Taken,
            None => Verdict::Zombie,
        }
    }

    /// The inputs have said which producers there have to be.
    pub(super) fn expect(&mut self, expected: Arc<BTreeSet<String>>) {
        let [now, _] = std::mem::take(&mut self.recent);
        self.recent[1] = now;
        self.expected = Some(expected);
    }

    /// A producer has written rows: it is awake, and has come as far as it said.
    pub(super) fn wrote(&mut self, producer: String) {
        self.recent[0].insert(producer.clone());
        let known = self.known.entry(producer).or_default();
        (known.time.idle, known.time.ended) = (false, false);
    }

    /// A producer has said how far it has come.
    pub(super) fn told(&mut self, producer: String, time: ProducerTime) {
        self.recent[0].insert(producer.clone());
        let known = self.known.entry(producer).or_default();
        known.time = ProducerTime { watermark: known.time.watermark.max(time.watermark), ..time };
    }

    /// How far time has come over all of them.
    pub(super) fn merged(&self) -> Merged {
        let Some(expected) = &self.expected else { return Merged::Unknown };
        let late = self.recent.iter().flatten().filter(|producer| !expected.contains(*producer));
        let mut merged = Merged::Ended;
        for producer in expected.iter().chain(late) {
            merged = match (merged, self.known.get(producer).map(|known| known.time)) {
                (_, None) | (Merged::Unknown, _) => return Merged::Unknown,
                (merged, Some(time)) if time.ended => merged,
                (Merged::At(earliest), Some(time)) if time.idle => Merged::At(earliest),
                (_, Some(time)) if time.idle => Merged::Idle,
                (merged, Some(time)) => match (merged, time.watermark) {
                    (_, None) => return Merged::Unknown,
                    (Merged::At(earliest), Some(watermark)) => Merged::At(earliest.min(watermark)),
                    (_, Some(watermark)) => Merged::At(watermark),
                },
            };
        }
        // An input without splits has not ended: some may come.
        if merged == Merged::Ended && expected.is_empty() { Merged::Unknown } else { merged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(watermark: i64) -> ProducerTime {
        ProducerTime { watermark: Some(watermark), ..ProducerTime::default() }
    }

    fn idle(watermark: Option<i64>) -> ProducerTime {
        ProducerTime { watermark, idle: true, ended: false }
    }

    fn ended() -> ProducerTime {
        ProducerTime { watermark: Some(i64::MAX), idle: false, ended: true }
    }

    fn expecting(producers: &[&str]) -> Producers {
        let mut known = Producers::default();
        known.expect(Arc::new(producers.iter().map(ToString::to_string).collect()));
        known
    }

    #[test]
    fn the_producer_that_is_furthest_behind_decides_and_one_that_has_not_spoken_holds_back() {
        let mut producers = Producers::default();
        producers.told("a".into(), at(5));
        assert_eq!(producers.merged(), Merged::Unknown, "who is expected is not known");
        let mut producers = expecting(&["a", "b"]);
        producers.told("a".into(), at(5));
        assert_eq!(producers.merged(), Merged::Unknown);
        producers.wrote("b".into());
        assert_eq!(producers.merged(), Merged::Unknown, "it has rows, and has said nothing of time");
        producers.told("b".into(), at(3));
        assert_eq!(producers.merged(), Merged::At(3));
        producers.told("b".into(), at(1));
        assert_eq!(producers.merged(), Merged::At(3), "what is said again after a restart turns nothing back");
        producers.told("b".into(), at(9));
        assert_eq!(producers.merged(), Merged::At(5));
    }

    #[test]
    fn idle_and_ended_producers_hold_nothing_back_until_they_write() {
        let mut producers = expecting(&["a", "b"]);
        producers.told("a".into(), at(5));
        producers.told("b".into(), idle(None));
        assert_eq!(producers.merged(), Merged::At(5));
        producers.told("a".into(), idle(Some(7)));
        assert_eq!(producers.merged(), Merged::Idle);
        producers.wrote("b".into());
        assert_eq!(producers.merged(), Merged::Unknown, "it is awake, and no time is known of it");
        producers.told("b".into(), ended());
        assert_eq!(producers.merged(), Merged::Idle);
        producers.told("a".into(), ended());
        assert_eq!(producers.merged(), Merged::Ended);
        producers.wrote("a".into());
        assert_eq!(producers.merged(), Merged::At(i64::MAX));
    }

    #[test]
    fn who_appears_counts_and_who_is_gone_does_not() {
        let mut producers = expecting(&["a"]);
        producers.told("a".into(), at(5));
        producers.told("b".into(), at(2));
        assert_eq!(producers.merged(), Merged::At(2), "a split may be newer than the answer");
        let answer = Arc::new(BTreeSet::from(["a".to_owned()]));
        producers.expect(Arc::clone(&answer));
        assert_eq!(producers.merged(), Merged::At(2), "as that one may be");
        producers.expect(answer);
        assert_eq!(producers.merged(), Merged::At(5), "its split is gone");
        producers.expect(Arc::default());
        assert_eq!(producers.merged(), Merged::Unknown);
    }

    #[test]
    fn a_new_generation_holds_time_back_where_the_last_one_was() {
        let mut producers = expecting(&["a", "b"]);
        let stamp = |generation, number| Some(Stamp { generation, number });
        producers.told("b".into(), at(9));
        assert_eq!(producers.judge("a", None), Verdict::Taken, "it has no numbers");
        producers.told("a".into(), idle(Some(5)));
        assert_eq!(producers.merged(), Merged::At(9));
        assert_eq!(producers.judge("a", stamp(2, 0)), Verdict::Opened);
        assert_eq!(producers.merged(), Merged::At(5), "it may have rows to write");
        assert_eq!(producers.judge("a", stamp(2, 1)), Verdict::Taken);
        producers.told("a".into(), at(3));
        assert_eq!(producers.merged(), Merged::At(5), "it says again what was said");
        assert_eq!((producers.judge("a", None), producers.judge("a", stamp(1, 9))), (Verdict::Zombie, Verdict::Zombie));
        let kept = serde_json::to_value(producers.kept()).unwrap();
        assert_eq!(kept["a"], serde_json::json!({"generation": 2, "number": 1, "watermark": 5}));
        let mut again = Producers::restored(serde_json::from_value(kept).unwrap());
        assert_eq!((again.judge("a", stamp(2, 1)), again.judge("a", stamp(2, 2))), (Verdict::Again, Verdict::Taken));
    }

    #[test]
    fn a_position_holds_what_each_has_said() {
        let mut producers = expecting(&["a", "b", "c"]);
        producers.told("a".into(), at(5));
        producers.told("b".into(), idle(Some(4)));
        producers.told("c".into(), ended());
        let written = serde_json::to_value(producers.kept()).unwrap();
        assert_eq!(written["a"], serde_json::json!({"watermark": 5}));
        let mut again = Producers::restored(serde_json::from_value(written).unwrap());
        assert_eq!(again.merged(), Merged::Unknown, "nobody has been asked yet");
        again.expect(Arc::new(["a", "b", "c"].map(str::to_owned).into()));
        assert_eq!(again.merged(), Merged::At(5));
    }
}
