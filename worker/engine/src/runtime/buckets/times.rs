//! What a bucket's operators were told of time, so that they can be told again after they were away. Holds no rows.

use crate::operators::Message;

/// By channel, what was said last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::runtime) struct Times {
    channels: Vec<Said>,
    /// How far all channels together have come.
    reached: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Said {
    watermark: Option<i64>,
    idle: bool,
    /// Whether it has ever been: a table has been read once then.
    paused: bool,
    ended: bool,
}

impl Times {
    pub(in crate::runtime) fn new(channels: usize) -> Self {
        Self { channels: vec![Said::default(); channels], reached: None }
    }

    /// Something has arrived by a channel.
    pub(in crate::runtime) fn say(&mut self, channel: usize, message: &Message) {
        let Some(said) = self.channels.get_mut(channel) else { return };
        match message {
            Message::Batch(_) | Message::Rejected(_) => said.idle = false,
            Message::Watermark(time) => {
                said.idle = false;
                said.watermark = said.watermark.max(Some(*time));
            }
            Message::Idle => (said.idle, said.paused) = (true, true),
            Message::End => said.ended = true,
            Message::Clock(_) | Message::Barrier(_) => {}
        }
        let all: Vec<usize> = (0..self.channels.len()).collect();
        self.reached = self.reached.max(self.of(&all));
    }

    /// The watermark of an operator that these channels feed: the lowest of those that are awake, `None` before all of them have spoken.
    pub(super) fn of(&self, channels: &[usize]) -> Option<i64> {
        let awake = channels.iter().filter_map(|channel| self.channels.get(*channel)).filter(|said| !said.idle && !said.ended);
        // `None` is below every time.
        awake.map(|said| said.watermark).min().flatten()
    }

    /// Whether a watermark of the channel changes nothing but its own: nobody sleeps, and it has spoken before.
    pub(super) fn is_plain(&self, channel: usize) -> bool {
        self.channels.iter().all(|said| said.ended || !said.idle) && self.channels.get(channel).is_some_and(|said| said.watermark.is_some())
    }

    /// Whether the channel has told a watermark.
    pub(super) fn has_spoken(&self, channel: usize) -> bool {
        self.channels.get(channel).is_some_and(|said| said.watermark.is_some())
    }

    /// Whether the channel has ever been idle.
    pub(super) fn has_paused(&self, channel: usize) -> bool {
        self.channels.get(channel).is_some_and(|said| said.paused)
    }

    /// What brings operators that know nothing to where these are: nothing comes out of them that was not due before.
    pub(super) fn again(&self) -> Vec<(usize, Message)> {
        let reached = self.reached.unwrap_or(i64::MIN);
        let told = || self.channels.iter().enumerate().filter_map(|(channel, said)| Some((channel, said, said.watermark?)));
        let paused = self.channels.iter().enumerate().filter(|(_, said)| said.paused);
        let mut messages: Vec<(usize, Message)> = paused.map(|(channel, _)| (channel, Message::Idle)).collect();
        let (behind, others): (Vec<_>, Vec<_>) = told().partition(|(_, _, watermark)| *watermark < reached);
        // Those that are behind slept when the others got there.
        for (channel, _, watermark) in &behind {
            messages.extend([(*channel, Message::Watermark(*watermark)), (*channel, Message::Idle)]);
        }
        if self.reached.is_some() {
            messages.extend(others.iter().map(|(channel, _, _)| (*channel, Message::Watermark(reached))));
        }
        let awake = behind.iter().filter(|(_, said, _)| !said.idle).chain(&others);
        messages.extend(awake.map(|(channel, _, watermark)| (*channel, Message::Watermark(*watermark))));
        messages.extend(others.iter().filter(|(_, said, _)| said.idle).map(|(channel, _, _)| (*channel, Message::Idle)));
        let ended = self.channels.iter().enumerate().filter(|(_, said)| said.ended);
        messages.extend(ended.map(|(channel, _)| (channel, Message::End)));
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(messages: &[(usize, Message)]) -> Times {
        let mut times = Times::new(2);
        messages.iter().for_each(|(channel, message)| times.say(*channel, message));
        times
    }

    #[test]
    fn the_lowest_of_those_that_are_awake_counts() {
        use Message::{End, Idle, Watermark};
        let mut times = said(&[(0, Watermark(5))]);
        assert_eq!((times.of(&[0, 1]), times.of(&[0])), (None, Some(5)));
        times.say(1, &Watermark(3));
        assert_eq!(times.of(&[0, 1]), Some(3));
        assert!(times.is_plain(1));
        times.say(1, &Idle);
        assert_eq!((times.of(&[0, 1]), times.of(&[1])), (Some(5), None));
        assert!(!times.is_plain(0));
        times.say(1, &End);
        times.say(1, &Watermark(9));
        assert_eq!(times.of(&[0, 1]), Some(5), "what has ended holds nothing back");
    }

    #[test]
    fn what_is_said_again_leads_to_the_same() {
        use Message::{End, Idle, Watermark};
        let scripts: [&[(usize, Message)]; 6] = [
            &[(0, Watermark(5))],
            &[(0, Watermark(5)), (1, Watermark(9))],
            &[(0, Watermark(5)), (0, Idle), (1, Watermark(9))],
            &[(0, Watermark(5)), (0, Idle), (1, Watermark(9)), (0, Watermark(6))],
            &[(0, Watermark(5)), (1, Idle)],
            &[(0, Watermark(5)), (1, Watermark(7)), (1, End), (0, Watermark(6))],
        ];
        for script in scripts {
            let times = said(script);
            let mut again = said(&times.again());
            // A table that was read once stays so, even if it is awake.
            again.channels.iter_mut().zip(&times.channels).for_each(|(again, first)| again.paused = first.paused);
            assert_eq!(again, times, "{script:?}: {:?}", times.again());
        }
    }
}
