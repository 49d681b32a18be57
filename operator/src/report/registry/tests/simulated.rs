//! Random sequences of joins, deaths, reports, lost answers, broken connections and restarts of workers and of the operator. Whatever happens, no task is given to two live workers; and once it is quiet, every split is owned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::report::registry::waiting::GRACE;

/// What may happen next. Numbers choose among those there are.
#[derive(Clone, Debug)]
enum Act {
    Join,
    Kill(usize),
    Terminate(usize),
    /// A worker reports and follows the answer.
    Report(usize),
    /// A worker reports and the answer is lost.
    LoseAnswer(usize),
    /// A worker waits to hear of another assignment, as it does nearly always.
    Listen(usize),
    /// The connection of a worker that waits breaks, and the worker lives on.
    Break(usize),
    /// The process of a worker dies, and starts again in its pod.
    Crash(usize),
    /// The operator starts again and knows nothing.
    Restart,
    /// Time passes.
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Join),
        1 => any::<usize>().prop_map(Act::Kill),
        1 => any::<usize>().prop_map(Act::Terminate),
        12 => any::<usize>().prop_map(Act::Report),
        2 => any::<usize>().prop_map(Act::LoseAnswer),
        6 => any::<usize>().prop_map(Act::Listen),
        2 => any::<usize>().prop_map(Act::Break),
        1 => any::<usize>().prop_map(Act::Crash),
        1 => Just(Act::Restart),
        2 => (1..8_u64).prop_map(Act::Wait),
    ]
}

/// A worker as `millrace worker` behaves: it starts what it is told, closes what it is not, and reports both until closed.
#[derive(Default)]
struct Simulated {
    sequence: u64,
    /// Phase and generation by split.
    running: BTreeMap<String, (TaskPhase, u64)>,
    closing: BTreeSet<String>,
    /// What it held when it was taken for dead: fencing keeps it from doing anything with that.
    fenced: BTreeSet<String>,
    terminating: bool,
    line: Option<waiting::Waiting>,
    /// When its connection broke, if it has not come back since.
    lost: Option<Instant>,
    reported: Option<Instant>,
    /// Whether the operator that runs now has heard from it.
    heard: bool,
}

struct World {
    distribution: Distribution,
    splits: usize,
    registry: Arc<Registry>,
    workers: BTreeMap<String, Simulated>,
    made: usize,
    now: Instant,
    enumerator: Option<String>,
    restarted: Option<Instant>,
    generation: u64,
}

impl World {
    fn new(distribution: Distribution, splits: usize) -> Self {
        let now = crate::clock::monotonic();
        let world = Self {
            distribution,
            splits,
            registry: Arc::default(),
            workers: BTreeMap::new(),
            made: 0,
            now,
            enumerator: None,
            restarted: None,
            generation: 0,
        };
        world.observe();
        world
    }

    fn observe(&self) {
        let life = |worker: &Simulated| if worker.terminating { PodLife::Terminating } else { PodLife::Running };
        let pods = self.workers.iter().map(|(name, worker)| (name.clone(), life(worker))).collect();
        self.registry.observe(&key(), Facts { pods, ..facts([]) }, self.now);
    }

    fn pick(&self, number: usize) -> Option<String> {
        self.workers.keys().nth(number.checked_rem(self.workers.len())?).cloned()
    }

    fn act(&mut self, act: &Act) {
        self.now += Duration::from_millis(1);
        match act {
            Act::Join => {
                if self.workers.len() < 6 {
                    self.workers.insert(format!("w{}", self.made), Simulated::default());
                    self.made += 1;
                }
            }
            Act::Kill(number) => {
                if let Some(name) = self.pick(*number) {
                    self.hang_up(&name);
                    self.workers.remove(&name);
                }
            }
            Act::Terminate(number) => {
                if let Some(name) = self.pick(*number)
                    && let Some(worker) = self.workers.get_mut(&name)
                {
                    worker.terminating = true;
                }
            }
            Act::Report(number) => self.report(*number, true),
            Act::LoseAnswer(number) => self.report(*number, false),
            Act::Listen(number) => self.listen(*number),
            Act::Break(number) => {
                if let Some(name) = self.pick(*number) {
                    self.hang_up(&name);
                }
            }
            Act::Crash(number) => {
                if let Some(name) = self.pick(*number) {
                    self.hang_up(&name);
                    let terminating = self.workers[&name].terminating;
                    self.workers.insert(name, Simulated { terminating, ..Simulated::default() });
                }
            }
            Act::Restart => {
                self.workers.values_mut().for_each(|worker| (worker.line, worker.lost) = (None, None));
                self.registry = Arc::default();
                self.enumerator = None;
                self.restarted = Some(self.now);
                self.workers.values_mut().for_each(|worker| worker.heard = false);
            }
            Act::Wait(seconds) => self.now += Duration::from_secs(*seconds),
        }
        self.observe();
        self.check();
    }

    fn hang_up(&mut self, name: &str) {
        if let Some(worker) = self.workers.get_mut(name)
            && let Some(mut line) = worker.line.take()
        {
            line.lose(self.now);
            worker.lost = Some(self.now);
        }
    }

    fn listen(&mut self, number: usize) {
        let Some(name) = self.pick(number) else { return };
        let sequence = self.workers[&name].sequence;
        let Ok(taken) = self.registry.wait(&waiting::poll(&name, sequence), self.now) else { return };
        if let Some(worker) = self.workers.get_mut(&name)
            && let Wait::For(line) = taken
        {
            // The one before is given up in order: the new one has its place.
            worker.line = Some(line);
            worker.lost = None;
        }
    }

    fn report(&mut self, number: usize, answered: bool) {
        let Some(name) = self.pick(number) else { return };
        let Some(worker) = self.workers.get_mut(&name) else { return };
        worker.sequence += 1;
        // What was closing is closed by the next report.
        worker.closing.clear();
        let mut report = report_of(&name, worker.sequence, self.distribution);
        if worker.terminating {
            report.phase = WorkerPhase::Draining;
            worker.running.clear();
        }
        report.tasks = worker
            .running
            .iter()
            .map(|(split, (phase, generation))| TaskReport {
                task: self.distribution.task(split),
                generation: *generation,
                ..task(split, *phase)
            })
            .collect();
        if self.enumerator.as_ref() == Some(&name) {
            let held = worker.running.keys().cloned();
            let splits = match self.distribution {
                Distribution::Partitioned => (0..self.splits).map(|n| format!("p{n}")).collect(),
                Distribution::Competing => held.collect(),
                Distribution::Whole => Vec::new(),
            };
            report.splits = vec![InputSplits { input: "logs".into(), splits }];
        }
        let Ok(recorded) = self.registry.record(report, self.now) else { return };
        worker.heard = true;
        worker.lost = None;
        if recorded.assignment.enumerate {
            self.enumerator = Some(name.clone());
        }
        let Some(worker) = self.workers.get_mut(&name).filter(|_| answered) else { return };
        worker.reported = Some(self.now);
        let told: BTreeSet<String> = recorded.assignment.tasks.iter().map(|task| task.split.clone()).collect();
        let draining: BTreeSet<String> = recorded.assignment.draining.iter().map(|task| task.split.clone()).collect();
        assert!(draining.is_subset(&told));
        worker.closing = worker.running.keys().filter(|split| !told.contains(*split)).cloned().collect();
        worker.running.retain(|split, _| told.contains(split));
        for split in told {
            // What drains is finished by the next report.
            let phase = if draining.contains(&split) { TaskPhase::Finished } else { TaskPhase::Running };
            self.generation += 1;
            let generation = worker.running.get(&split).map_or(self.generation, |(_, generation)| *generation);
            worker.running.insert(split, (phase, generation));
        }
        // An operator that knows no better may leave it what it holds; fenced it stays until it has let go.
        worker.fenced.retain(|split| worker.closing.contains(split) || worker.running.contains_key(split));
    }

    /// No split is run by two workers that both hear from us.
    fn check(&mut self) {
        let mut owners: BTreeMap<String, &String> = BTreeMap::new();
        for (name, worker) in &mut self.workers {
            // Who has not been heard for as long counts as dead; fencing stops it.
            let (dead_after, settle) =
                if worker.terminating { (DEAD_AFTER_TERMINATING, DEAD_AFTER_TERMINATING) } else { (DEAD_AFTER, SETTLE) };
            let dead = worker.reported.is_none_or(|at| self.now - at >= dead_after);
            let missed = self.restarted.is_some_and(|restarted| self.now - restarted >= settle && !worker.heard);
            let holds = worker.running.keys().chain(&worker.closing);
            let given_up = worker.lost.is_some_and(|at| self.now - at >= GRACE);
            if dead || missed || given_up {
                worker.fenced = holds.cloned().collect();
                continue;
            }
            for split in holds.filter(|split| !worker.fenced.contains(*split)) {
                if let Some(other) = owners.insert(split.clone(), name) {
                    panic!("{split} is run by {other} and {name}");
                }
            }
        }
    }

    /// Everybody reports every second for long enough.
    fn settle(&mut self) {
        self.workers.retain(|_, worker| !worker.terminating);
        if self.workers.is_empty() {
            self.act(&Act::Join);
        }
        for _ in 0..60 {
            self.now += Duration::from_secs(1);
            self.observe();
            for number in 0..self.workers.len() {
                self.report(number, true);
                self.listen(number);
                self.check();
            }
        }
        let entries = self.registry.entries();
        let restless = entries[&key()].workers.iter().find(|(_, seen)| seen.rings);
        assert!(restless.is_none(), "everybody was told, and still there is a bell for {:?}", restless.map(|(name, _)| name));
    }

    fn held(&self) -> Vec<(&str, usize)> {
        self.workers.iter().map(|(name, worker)| (name.as_str(), worker.running.len())).collect()
    }
}

/// A task of the Pipeline, by its split.
trait Names {
    fn task(&self, split: &str) -> TaskRef;
}

impl Names for Distribution {
    fn task(&self, split: &str) -> TaskRef {
        if *self == Distribution::Whole { TaskRef::whole() } else { TaskRef { input: "logs".into(), split: split.into() } }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn partitions_have_one_owner_each_and_are_spread_evenly(splits in 0..12_usize, acts in prop::collection::vec(act(), 0..120)) {
        let mut world = World::new(Distribution::Partitioned, splits);
        for act in &acts {
            world.act(act);
        }
        world.settle();
        let owned: BTreeSet<_> = world.workers.values().flat_map(|worker| worker.running.keys().cloned()).collect();
        prop_assert_eq!(owned.len(), splits, "every split is owned: {:?}", world.held());
        let counts: Vec<_> = world.held().into_iter().map(|(_, count)| count).collect();
        let (most, least) = (counts.iter().max().copied().unwrap_or(0), counts.iter().min().copied().unwrap_or(0));
        prop_assert!(most - least <= 1, "spread evenly: {:?}", world.held());
    }

    #[test]
    fn a_plan_that_keeps_state_has_one_owner(acts in prop::collection::vec(act(), 0..120)) {
        let mut world = World::new(Distribution::Whole, 0);
        for act in &acts {
            world.act(act);
        }
        world.settle();
        let owners = world.workers.values().filter(|worker| worker.running.contains_key("all")).count();
        prop_assert_eq!(owners, 1, "{:?}", world.held());
        let owner = world.workers.iter().find(|(_, worker)| worker.running.contains_key("all")).map(|(name, _)| name.clone());
        world.act(&Act::Join);
        world.settle();
        let after = world.workers.iter().find(|(_, worker)| worker.running.contains_key("all")).map(|(name, _)| name.clone());
        prop_assert_eq!(owner, after, "a newcomer takes nothing away");
    }

    #[test]
    fn each_worker_of_a_queue_has_a_split_of_its_own(acts in prop::collection::vec(act(), 0..120)) {
        let mut world = World::new(Distribution::Competing, 0);
        for act in &acts {
            world.act(act);
        }
        world.settle();
        for (name, worker) in &world.workers {
            let running = worker.running.values().filter(|(phase, _)| *phase == TaskPhase::Running).count();
            prop_assert_eq!(running, 1, "{}: {:?}", name, worker.running);
        }
    }
}
