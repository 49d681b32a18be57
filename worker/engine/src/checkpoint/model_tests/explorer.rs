//! Depth-first search through all states of the model, each visited once.
//! It knows nothing of the protocol but that a new owner must always be able to make progress.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::world::{CHOICES, Choice, Phase, Rules, World};

/// How much the model may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Owners that may ever start.
    pub(super) owners: usize,
    /// The last epoch they may write, claims included.
    pub(super) epochs: u8,
    /// Requests that may be late.
    pub(super) late: u8,
    /// How often garbage may be collected.
    pub(super) sweeps: u8,
    /// Epochs that garbage collection keeps.
    pub(super) retained: usize,
    /// Whether the sink is an anchor: only the owner that prepared an epoch can commit it, and that may be aborted.
    pub(super) anchored: bool,
}

/// A broken rule, and how to get there.
#[derive(Debug)]
pub(super) struct Violation {
    what: String,
    path: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        self.path.iter().try_for_each(|step| writeln!(f, "  {step}"))
    }
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Owner(usize, Choice),
    Arrives(usize),
}

struct Explorer<'a> {
    rules: &'a Rules,
    limits: Limits,
    visited: HashSet<u128>,
    /// Durable states from which progress has been shown.
    recovered: HashSet<u128>,
}

/// Visits every state; the number of them, or the first broken rule.
pub(super) fn explore(rules: &Rules, limits: Limits) -> Result<usize, Violation> {
    let mut explorer = Explorer { rules, limits, visited: HashSet::new(), recovered: HashSet::new() };
    let start = World::new(limits);
    explorer.visited.insert(fingerprint(&start));
    let mut stack = vec![(moves(&start), start, None)];
    while let Some((left, world, _)) = stack.last_mut() {
        let Some(step) = left.pop() else {
            stack.pop();
            continue;
        };
        let followed = explorer.follow(world, step);
        match followed {
            Err(what) => {
                let path = stack.iter().filter_map(|(_, _, step): &(_, _, Option<Move>)| *step).chain([step]);
                return Err(Violation { what, path: retell(rules, limits, path) });
            }
            Ok(Some(next)) => stack.push((moves(&next), next, Some(step))),
            Ok(None) => {}
        }
    }
    Ok(explorer.visited.len())
}

impl Explorer<'_> {
    /// The state that the move leads to, if it is new.
    fn follow(&mut self, world: &World, step: Move) -> Result<Option<World>, String> {
        let Some(next) = apply(self.rules, self.limits, world, step)? else { return Ok(None) };
        if !self.visited.insert(fingerprint(&next)) {
            return Ok(None);
        }
        if self.recovered.insert(fingerprint(&next.durable())) {
            self.recover(&next)?;
        }
        Ok(Some(next))
    }

    /// A new owner, everybody else frozen: it must get an epoch written, committed and acknowledged, and collect the garbage.
    fn recover(&self, world: &World) -> Result<(), String> {
        let mut world = world.clone();
        let who = world.owners.len();
        world.owners.push(Phase::Idle);
        let limits = Limits { epochs: u8::MAX, retained: 1, ..self.limits };
        world.grant_sweep();
        let mut written = false;
        for _ in 0..100 {
            let choice = match &world.owners[who] {
                Phase::Running { swept: true, .. } => return Ok(()),
                Phase::Running { .. } if written => Choice::Other,
                Phase::Permitted { .. } => {
                    written = true;
                    Choice::Go
                }
                _ => Choice::Go,
            };
            let next = world.step(self.rules, limits, who, choice).map_err(|what| format!("while recovering: {what}"))?;
            match next {
                Some(next) => world = next,
                None => break,
            }
        }
        Err(format!("a new owner makes no progress: it got to {:?}", world.owners[who]))
    }
}

/// What may happen next; whether it is possible at all is found out when following.
/// Owners start in order, as they differ in nothing else.
fn moves(world: &World) -> Vec<Move> {
    let started = world.owners.iter().take_while(|phase| **phase != Phase::Idle).count();
    let awake = (started + 1).min(world.owners.len());
    let owners = (0..awake).flat_map(|who| CHOICES.map(|choice| Move::Owner(who, choice)));
    owners.chain((0..world.late.len()).map(Move::Arrives)).collect()
}

fn apply(rules: &Rules, limits: Limits, world: &World, step: Move) -> Result<Option<World>, String> {
    match step {
        Move::Owner(who, choice) => world.step(rules, limits, who, choice),
        Move::Arrives(at) => world.deliver(at).map(Some),
    }
}

/// The moves from the start, each with what the mover was doing.
fn retell(rules: &Rules, limits: Limits, path: impl Iterator<Item = Move>) -> Vec<String> {
    let mut world = World::new(limits);
    let mut told = Vec::new();
    for step in path {
        told.push(match step {
            Move::Owner(who, choice) => format!("owner {who}, {choice:?}: {:?}", world.owners[who]),
            Move::Arrives(at) => format!("arrives late: {:?}", world.late[at]),
        });
        if let Ok(Some(next)) = apply(rules, limits, &world, step) {
            world = next;
        }
    }
    told
}

/// 128 bits, so that among millions of states two hardly ever share one.
fn fingerprint(value: &impl Hash) -> u128 {
    let mut bytes = Bytes(Vec::with_capacity(512));
    value.hash(&mut bytes);
    let half = |seed: u64| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(seed);
        hasher.write(&bytes.0);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

/// Gathers what is hashed, so that walking through a state, the slow part, happens once.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}
