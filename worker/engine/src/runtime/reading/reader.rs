//! Reads one split in a tokio task of its own, so that reading and decoding overlap with processing. It hands over what it reads, and does to the split
//! what the driver says; it decides nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_crds::report::ErrorReason;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::ahead::{Ahead, Held};
use crate::connector::{ConnectorError, Health};
use crate::source::{Lag, OpenSplit, Records, Source, SourceEvent, SplitReader};
use crate::time::Time;

/// How often lag and position are looked at, whatever else happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What one bad record takes besides its payload.
const OVERHEAD: usize = 256;

/// What a reader tells, in the order in which it happened.
#[derive(Debug)]
pub(in crate::runtime) enum Said {
    /// Records, and where to go on after them.
    Records(Records, Value, Held),
    /// How far time has come after everything that was read, and where to go on.
    Time(Time, Value),
    /// The position has moved without records.
    Moved(Value),
    /// Everything that there was has been told; said once, and only by readers that know how much there is.
    CaughtUp,
    /// Nothing has come for the idle timeout, and the source is not in trouble.
    Idle,
    /// Nothing more will come.
    Ended,
    /// It reads no more, as it was told.
    Stopped,
    /// It cannot go on, and has closed.
    Failed(ConnectorError),
}

/// What a reader is told.
pub(super) enum Command {
    /// See [`SplitReader::acknowledge`].
    Acknowledge(Value, oneshot::Sender<Result<(), ConnectorError>>),
    /// See [`SplitReader::drain`].
    Drain,
    /// Read no more; what was read is still handed over, and acknowledged later.
    Stop,
}

/// A reader to be, or one that is open.
pub(super) enum Start {
    Open(Arc<dyn Source>, Box<OpenSplit>),
    Opened(Box<dyn SplitReader>),
}

/// Where a reader puts what it tells: with the number of its split. Tells that it failed if it is dropped before it ended.
pub(super) struct Tell {
    pub(super) split: usize,
    pub(super) said: mpsc::UnboundedSender<(usize, Said)>,
    pub(super) over: bool,
}

impl Tell {
    fn tell(&mut self, said: Said) {
        self.over |= matches!(said, Said::Failed(_));
        // A driver that is gone needs to hear nothing.
        let _unheard = self.said.send((self.split, said));
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        if !self.over {
            self.tell(Said::Failed(ConnectorError::new(ErrorReason::Internal, "reading the split ended without a reason")));
        }
    }
}

/// One split being read.
pub(super) struct SplitTask {
    pub(super) tell: Tell,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) ahead: Ahead,
    pub(super) lag: Arc<Mutex<Lag>>,
    pub(super) health: Health,
    /// After which silence it is told to be idle; never if `None`.
    pub(super) idle_after: Option<Duration>,
    /// The position that was told last.
    pub(super) told: Option<Value>,
}

impl SplitTask {
    /// Reads until the driver lets go of it, or it fails.
    pub(super) async fn run(mut self, start: Start) {
        let opened = match start {
            Start::Opened(reader) => Some(reader),
            Start::Open(source, open) => self.open(&*source, *open).await,
        };
        if let Some(reader) = opened {
            self.read(reader).await;
        }
        self.tell.over = true;
    }

    /// `None` if it failed or was let go.
    async fn open(&mut self, source: &dyn Source, open: OpenSplit) -> Option<Box<dyn SplitReader>> {
        let mut drain = false;
        let mut opening = source.open(open);
        let opened = loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => match command? {
                    Command::Acknowledge(_, answer) => drop(answer.send(Ok(()))),
                    Command::Drain => drain = true,
                    Command::Stop => {
                        self.tell.tell(Said::Stopped);
                        return None;
                    }
                },
                opened = &mut opening => break opened,
            }
        };
        match opened {
            Ok(mut reader) => {
                if drain {
                    reader.drain();
                }
                Some(reader)
            }
            Err(error) => {
                self.tell.tell(Said::Failed(error));
                None
            }
        }
    }

    async fn read(&mut self, mut reader: Box<dyn SplitReader>) {
        let mut reading = true;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Whether there is room for what comes next, since when it is waited for, and about how much it will be.
        let (mut room, mut since, mut expected) = (false, Instant::now(), 0);
        let mut idle = self.idle_after.is_none();
        let silence = self.idle_after.unwrap_or_default();
        let mut caught_up = false;
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    None => break,
                    Some(Command::Acknowledge(position, answer)) => {
                        let _unheard = answer.send(reader.acknowledge(&position).await);
                    }
                    Some(Command::Drain) => reader.drain(),
                    Some(Command::Stop) => {
                        if std::mem::replace(&mut reading, false) {
                            self.tell.tell(Said::Stopped);
                        }
                    }
                },
                _ = look.tick() => {}
                () = self.ahead.room(expected), if reading && !room => (room, since) = (true, Instant::now()),
                () = tokio::time::sleep_until(since + silence), if reading && room && !idle => {
                    // A source that cannot be reached is not idle: what it has is yet to come.
                    idle = self.health.current().is_none();
                    since = Instant::now();
                    if idle {
                        self.tell.tell(Said::Idle);
                    }
                }
                event = reader.next(), if reading && room => match event {
                    Ok(SourceEvent::Records(records)) => {
                        (room, idle) = (false, self.idle_after.is_none());
                        expected = bytes(&records);
                        let position = reader.position();
                        self.told = Some(position.clone());
                        self.tell.tell(Said::Records(records, position, self.ahead.hold(expected)));
                    }
                    // It takes no room worth counting, and keeps its place among the records.
                    Ok(SourceEvent::Time(time)) if time != Time::End => {
                        room = false;
                        expected = 0;
                        let position = reader.position();
                        self.told = Some(position.clone());
                        self.tell.tell(Said::Time(time, position));
                    }
                    Ok(SourceEvent::End | SourceEvent::Time(_)) => {
                        reading = false;
                        self.moved(&*reader);
                        self.tell.tell(Said::Ended);
                    }
                    Err(error) => {
                        reader.close().await;
                        return self.tell.tell(Said::Failed(error));
                    }
                },
            }
            if reading {
                self.moved(&*reader);
            }
            let lag = reader.lag();
            if reading && lag.records == Some(0) && !std::mem::replace(&mut caught_up, true) {
                self.tell.tell(Said::CaughtUp);
            }
            *self.lag.lock().unwrap_or_else(PoisonError::into_inner) = lag;
        }
        reader.close().await;
    }

    fn moved(&mut self, reader: &dyn SplitReader) {
        let position = reader.position();
        if self.told.as_ref() != Some(&position) {
            self.told = Some(position.clone());
            self.tell.tell(Said::Moved(position));
        }
    }
}

/// Bytes of memory that records take.
fn bytes(records: &Records) -> usize {
    let good = records.batch.as_ref().map_or(0, crate::batch::Batch::memory_bytes);
    let bad = records.rejected.iter().map(|rejected| rejected.payload.len() + rejected.error.len() + OVERHEAD);
    good + bad.sum::<usize>()
}
