//! Combines the watermarks, barriers, pauses and ends of several ports into one stream of them. Never touches batches.

use super::Message;

/// What the ports of one operator have said so far.
#[derive(Debug)]
pub(super) struct Alignment {
    /// Fed ports, by port number; `None` for ports that nothing arrives at in this lane.
    ports: Vec<Option<Port>>,
    /// The last watermark that was passed on.
    watermark: Option<i64>,
    /// Whether the last word passed on was [`Message::Idle`].
    idle: bool,
}

#[derive(Clone, Debug, Default)]
struct Port {
    watermark: Option<i64>,
    barrier: Option<u64>,
    idle: bool,
    ended: bool,
}

impl Alignment {
    /// For an operator of which only `fed` ports get messages.
    pub(super) fn new(fed: &[usize]) -> Self {
        let mut ports = vec![None; fed.iter().max().map_or(0, |last| last + 1)];
        for port in fed {
            ports[*port] = Some(Port::default());
        }
        Self { ports, watermark: None, idle: false }
    }

    /// Takes a message of `port`; returns what to pass on now. Batches wake the port and come back as they are.
    pub(super) fn admit(&mut self, port: usize, message: Message) -> Option<Message> {
        let state = self.ports.get_mut(port)?.as_mut()?;
        match message {
            // Not of any port.
            Message::Clock(_) => Some(message),
            Message::Batch(_) | Message::Rejected(_) => {
                state.idle = false;
                self.idle = false;
                Some(message)
            }
            Message::Watermark(time) => {
                state.idle = false;
                state.watermark = state.watermark.max(Some(time));
                self.advance()
            }
            Message::Barrier(epoch) => {
                state.barrier = Some(epoch);
                self.fed().all(|p| p.ended || p.barrier == Some(epoch)).then_some(Message::Barrier(epoch))
            }
            Message::Idle => {
                state.idle = true;
                self.advance()
            }
            Message::End => {
                state.ended = true;
                if self.fed().all(|p| p.ended) { Some(Message::End) } else { self.advance() }
            }
        }
    }

    /// The lowest watermark of the ports that are awake, if it has grown or somebody has woken; `Idle` once none is.
    fn advance(&mut self) -> Option<Message> {
        // A port that has not spoken yet holds everything back: `None` is below every time.
        let lowest = self.fed().filter(|p| !p.idle && !p.ended).map(|p| p.watermark).min();
        let Some(lowest) = lowest else {
            return (!std::mem::replace(&mut self.idle, true)).then_some(Message::Idle);
        };
        let lowest = lowest?;
        let woken = std::mem::replace(&mut self.idle, false);
        if let Some(last) = self.watermark.filter(|last| *last >= lowest) {
            // Said again, so that whatever comes next wakes as well.
            return woken.then_some(Message::Watermark(last));
        }
        self.watermark = Some(lowest);
        Some(Message::Watermark(lowest))
    }

    fn fed(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: Option<Message>) -> String {
        match message {
            None => "-".to_owned(),
            Some(message) => format!("{message:?}"),
        }
    }

    fn run(steps: &[(usize, Message)]) -> Vec<String> {
        let mut alignment = Alignment::new(&[0, 1]);
        steps.iter().map(|(port, message)| text(alignment.admit(*port, message.clone()))).collect()
    }

    #[test]
    fn the_lowest_watermark_is_passed_on_when_it_grows() {
        use Message::Watermark;
        let seen = run(&[(0, Watermark(5)), (1, Watermark(3)), (1, Watermark(4)), (1, Watermark(9)), (0, Watermark(5))]);
        assert_eq!(seen, ["-", "Watermark(3)", "Watermark(4)", "Watermark(5)", "-"]);
    }

    #[test]
    fn idle_and_ended_ports_hold_nothing_back() {
        use Message::{End, Idle, Watermark};
        let seen = run(&[(0, Watermark(5)), (1, Idle), (0, Idle), (1, Watermark(2)), (0, End), (1, Watermark(7)), (1, End)]);
        assert_eq!(seen, ["-", "Watermark(5)", "Idle", "Watermark(5)", "-", "Watermark(7)", "End"]);
    }

    #[test]
    fn a_barrier_waits_for_all_ports() {
        use Message::{Barrier, End};
        assert_eq!(run(&[(0, Barrier(1)), (1, Barrier(1)), (0, End), (1, Barrier(2))]), ["-", "Barrier(1)", "-", "Barrier(2)"]);
    }

    #[test]
    fn ports_that_are_not_fed_are_not_waited_for() {
        let mut alignment = Alignment::new(&[1]);
        assert_eq!(text(alignment.admit(1, Message::Barrier(1))), "Barrier(1)");
        assert_eq!(text(alignment.admit(1, Message::End)), "End");
    }
}
