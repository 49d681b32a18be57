//! One worker process as the outside sees it. It has no effect after a crash, and none while it is frozen.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

/// What befalls a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// Nothing.
    Live,
    /// It dies at this step.
    CrashAt(usize),
    /// It sleeps at this step, until it is thawed.
    FreezeAt(usize),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Gate {
    Open,
    Frozen,
    Dead,
}

/// Counts the steps of one process, and stops it at the chosen one.
#[derive(Debug)]
pub(crate) struct Process {
    fate: Fate,
    steps: Mutex<Vec<String>>,
    gate: watch::Sender<Gate>,
}

impl Process {
    pub(crate) fn new(fate: Fate) -> Arc<Self> {
        Arc::new(Self { fate, steps: Mutex::default(), gate: watch::Sender::new(Gate::Open) })
    }

    /// Passed before and after everything that has an effect outside. A dead process never passes.
    pub(crate) async fn step(&self, what: &str) {
        if *self.gate.borrow() == Gate::Open {
            self.count(what);
        }
        self.wait_for(Gate::Open).await;
    }

    fn count(&self, what: &str) {
        let mut steps = self.steps.lock().unwrap();
        let number = steps.len();
        steps.push(what.to_owned());
        match self.fate {
            Fate::CrashAt(chosen) if chosen == number => drop(self.gate.send_replace(Gate::Dead)),
            Fate::FreezeAt(chosen) if chosen == number => drop(self.gate.send_replace(Gate::Frozen)),
            _ => {}
        }
    }

    async fn wait_for(&self, wanted: Gate) {
        drop(self.gate.subscribe().wait_for(|gate| *gate == wanted).await);
    }

    /// Resolves when the process has died.
    pub(crate) async fn crashed(&self) {
        self.wait_for(Gate::Dead).await;
    }

    /// Resolves when the process sleeps.
    pub(crate) async fn frozen(&self) {
        self.wait_for(Gate::Frozen).await;
    }

    /// Lets a frozen process go on.
    pub(crate) fn thaw(&self) {
        self.gate.send_if_modified(|gate| {
            let thaws = *gate == Gate::Frozen;
            if thaws {
                *gate = Gate::Open;
            }
            thaws
        });
    }

    /// The steps so far.
    pub(crate) fn steps(&self) -> Vec<String> {
        self.steps.lock().unwrap().clone()
    }
}

/// Numbers that look random and are the same in every run.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % bound.max(1)
    }
}
