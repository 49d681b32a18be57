//! Cuts a plan that keeps state where rows have to be brought together by key, so that several lanes or workers can share it. Moves no row.
//!
//! ```text
//!  inputs ─▶ stateless operators ─┬─▶ outputs that nothing stateful is on the way to
//!            (front)              └─▶ channels ══ by key group ══▶ stateful operators and all after them ─▶ outputs
//!                                                                  (back, any number of them)
//! ```
//!
//! **One exchange at most.** Rows are brought together once, in front of the first operators that keep state, by columns that are in the key of every
//! operator behind: what has the same key there then has the same key group here. Columns are followed through the plan by [`trace`]; what is computed on the
//! way is no longer known to be the same. A plan for which no such columns can be found is not shared, and the reason is text for people.
//!
//! **Less goes through than comes in** where that costs something: see [`condensed`].
//!
//! **State is the same in every shape.** Operators keep their ids and signatures, and [`Exchange::split`] deals a snapshot out by the columns of the exchange,
//! whatever shape has made it.

mod condensed;
mod keys;
mod rows;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use sha2::{Digest as _, Sha256};

use super::Plan;
use super::graph::{Graph, Upstream, positions_of};
use crate::exchange::Replay;
use crate::operators::{Executor, Gate, KEY_GROUPS, Operator, Target, Ways, Wired};

pub use rows::partition_rows;
pub(crate) use rows::{deal, partition_of, partitions_of, pick};
pub(crate) use state::merged;
use trace::Edge;

/// Where the rows of a plan are brought together by key. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Exchange {
    graph: Arc<Graph>,
    /// For each operator, whether it is behind the exchange.
    back: Arc<[bool]>,
    channels: Arc<[Channel]>,
    /// For each channel, what feeds it and the ports that it feeds.
    routes: Arc<[Route]>,
    /// For each channel, the outputs that it reaches.
    ways: Arc<[Ways]>,
    /// For each operator that keeps state, which of its keys are those of the exchange.
    keys: Arc<BTreeMap<Arc<str>, keys::StateKeys>>,
    /// For each channel, the key in the rows that reach it, whatever is done to let less through.
    row_keys: Arc<[Vec<usize>]>,
    /// For each channel, what is done to let less through; empty if nothing is.
    condensed: Arc<[condensed::Condensed]>,
}

/// Rows that go through the exchange together.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Step, kind, ordinal and port of the operator that it feeds (the first of them), joined by dots; the same as long as the plan is.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// Positions of the columns that rows are brought together by. Empty if nothing behind keeps state: then the rows may be anywhere, and are kept in one place.
    pub key: Vec<usize>,
    /// Inputs that reach it, in the order of the Pipeline.
    pub inputs: Vec<String>,
}

#[derive(Debug)]
struct Route {
    from: Upstream,
    to: Vec<Edge>,
}

impl Plan {
    /// Where rows have to be brought together by key, so that several lanes or workers can share the plan.
    ///
    /// # Errors
    /// Why it cannot be shared, for people: which operator, why, what to do. So too if it keeps no state, and so needs no exchange.
    pub fn exchange(&self) -> Result<Exchange, String> {
        let graph = &self.graph;
        let keys = keys::of(graph)?;
        if keys.stateful.is_empty() {
            return Err("no operator keeps state, so each split of the inputs can be read by a task of its own".to_owned());
        }
        if self.reads_clock() {
            // Rows that were given their time in front would be late behind, where the clock has gone on.
            return Err("it goes by processing time, which is that of one task: window by event time to share the work".to_owned());
        }
        let (channels, routes) = channels(graph, &keys);
        let mut exchange = Exchange {
            graph: Arc::clone(graph),
            back: keys.back.into(),
            row_keys: channels.iter().map(|channel| channel.key.clone()).collect(),
            channels: channels.into(),
            routes: routes.into(),
            ways: Arc::new([]),
            keys: Arc::new(keys.stateful),
            condensed: Arc::new([]),
        };
        exchange.ways = exchange.back().entry_ways().to_vec().into();
        Ok(exchange)
    }

    /// Whether a task for each split can run the plan, state and all: rows of an input that are equal in the columns that are given for it are always in one
    /// split.
    ///
    /// # Errors
    /// Why it cannot, for people.
    pub fn is_partitioned_by(&self, partitioned_by: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
        keys::check_partitions(&self.graph, partitioned_by)
    }

    /// The exchange for people; empty if nothing keeps state.
    pub(super) fn explain_exchange(&self) -> String {
        if !self.is_stateful() {
            return String::new();
        }
        let mut text = String::new();
        match self.exchange() {
            Err(reason) => {
                let _ = writeln!(text, "no exchange\n    {reason}");
            }
            Ok(exchange) => {
                for (channel, route) in exchange.channels.iter().zip(exchange.routes.iter()) {
                    let _ = writeln!(text, "exchange {} ← {}", channel.name, self.graph.name(route.from));
                    let by = names(&channel.schema, &channel.key);
                    let _ = writeln!(text, "    {}", if by.is_empty() { "in one place".to_owned() } else { format!("by {by}") });
                }
            }
        }
        text
    }
}

impl Exchange {
    /// What goes through the exchange.
    #[must_use]
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// Whether an output of the plan is reached without the exchange: it is the front that emits its rows.
    #[must_use]
    pub fn is_direct(&self, output: usize) -> bool {
        self.graph.outputs.get(output).is_some_and(|output| !self.is_back(output.from))
    }

    /// What decides which rows come to the channels, and with which keys: two exchanges with the same do the same in front. Changes to what is behind do not count.
    #[must_use]
    pub fn front_hash(&self) -> u64 {
        let graph = &self.graph;
        let mut digest = Sha256::new();
        let front = graph.nodes.iter().zip(self.back.iter()).filter(|(_, back)| !**back);
        for (node, _) in front {
            let upstreams: Vec<&str> = node.upstreams.iter().map(|upstream| graph.name(*upstream)).collect();
            digest.update(format!("{:?} {upstreams:?} {}\n", node.id, node.blueprint.identity()));
        }
        for ((channel, route), key) in self.channels.iter().zip(self.routes.iter()).zip(self.row_keys.iter()) {
            digest.update(format!("{:?} {:?} {key:?}\n", channel.name, graph.name(route.from)));
        }
        digest.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// All that decides which bucket a row of state is in, and when something comes out of a bucket: two exchanges with the same give the same.
    pub(crate) fn shape(&self) -> String {
        let graph = &self.graph;
        let mut digest = Sha256::new();
        for (node, back) in graph.nodes.iter().zip(self.back.iter()) {
            digest.update(format!("{:?} {:?} {back} {}\n", node.id, node.upstreams, node.blueprint.identity()));
        }
        for channel in self.channels.iter() {
            digest.update(format!("{:?} {:?} {:?}\n", channel.name, channel.key, channel.inputs));
        }
        for (operator, keys) in self.keys.iter() {
            digest.update(format!("{operator:?} {:?}\n", keys.positions));
        }
        digest.update(KEY_GROUPS.to_le_bytes());
        digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The part in front of the exchange that `inputs` reach, for one lane. It emits to outputs of the plan, by their index into [`Plan::outputs`], and to
    /// channels, by their index into [`Exchange::channels`] plus the number of outputs.
    ///
    /// Rows that it cannot evaluate are emitted to every output that they could have reached, also behind the exchange.
    #[must_use]
    pub fn front(&self, inputs: &[&str]) -> Executor {
        self.front_of(inputs, None)
    }

    /// The same for a task that reads again what earlier owners have read: of rows for channels, what `replay` says their partitions have been given is left out,
    /// before rows are put together.
    #[must_use]
    pub fn front_again(&self, inputs: &[&str], replay: &Replay) -> Executor {
        self.front_of(inputs, Some(replay))
    }

    fn front_of(&self, inputs: &[&str], replay: Option<&Replay>) -> Executor {
        let graph = &self.graph;
        let inputs: Vec<Option<usize>> = inputs.iter().map(|input| graph.inputs.iter().position(|known| known.name == *input)).collect();
        let mut part = graph.part(inputs.len(), |node| !self.back[node], graph.reached(&inputs));
        for (upstream, target) in part.links(graph).into_iter().filter(|(upstream, _)| !self.is_back(*upstream)) {
            part.connect(upstream, target, |input| positions_of(&inputs, input));
        }
        for (channel, (route, ways)) in self.routes.iter().zip(self.ways.iter()).enumerate() {
            let number = graph.outputs.len() + channel;
            let mut target = Target::Output(number);
            let condensed = self.condensed.get(channel).and_then(|channel| channel.front.as_ref());
            let key = self.row_keys[channel].clone();
            let needed = condensed.and_then(|front| front.needs());
            let gate = replay.map(|replay| Box::new(Gate { channel, key, needed, replay: replay.clone() }) as Box<dyn Operator>);
            // Parts of what is behind, and called after it. Each sends only to later ones, so the places are known before.
            let Some(edge) = route.to.first() else { continue };
            let id = &graph.nodes[edge.node].id;
            let added: Vec<Box<dyn Operator>> = gate.into_iter().chain(condensed.map(|front| front.operator(id, &[0]))).collect();
            let first = part.wiring.operators.len();
            let count = added.len();
            for (place, operator) in added.into_iter().enumerate() {
                let next = first + place + 1;
                let targets = vec![if place + 1 < count { Target::Operator { index: next, port: 0 } } else { target }];
                part.wiring.operators.push(Wired { id: Arc::clone(id), operator, targets, reads_clock: false });
            }
            if count > 0 {
                target = Target::Operator { index: first, port: 0 };
            }
            part.connect(route.from, target, |input| positions_of(&inputs, input));
            part.wiring.beyond.insert(number, ways.clone());
        }
        Executor::new(part.wiring)
    }

    /// The part behind the exchange, for one lane or worker; [`Executor::push`] numbers the channels as [`Exchange::channels`] does. State is only here.
    ///
    /// A row that it cannot evaluate is said with the columns of its channel.
    #[must_use]
    pub fn back(&self) -> Executor {
        let mut part = self.graph.part(self.routes.len(), |node| self.back[node], |_| true);
        for (channel, route) in self.routes.iter().enumerate() {
            for edge in &route.to {
                if let Some(target) = part.port(edge.node, edge.port) {
                    part.enter(channel, target);
                }
            }
        }
        for (upstream, target) in part.links(&self.graph).into_iter().filter(|(upstream, _)| self.is_back(*upstream)) {
            part.connect(upstream, target, |_| Vec::new());
        }
        Executor::new(part.wiring)
    }

    fn is_back(&self, upstream: Upstream) -> bool {
        matches!(upstream, Upstream::Node(node) if self.back[node])
    }
}

/// The channels, in the order of the operators that they feed. What comes from one place and is brought together by the same columns is one channel.
fn channels(graph: &Graph, keys: &keys::Keys) -> (Vec<Channel>, Vec<Route>) {
    let mut channels: Vec<Channel> = Vec::new();
    let mut routes: Vec<Route> = Vec::new();
    for edge in trace::edges(graph, &keys.back) {
        let from = edge.upstream(graph);
        let key: Vec<usize> = keys.components.iter().filter_map(|component| component.get(&edge)).copied().collect();
        let known = routes.iter().zip(&channels).position(|(route, channel)| route.from == from && channel.key == key);
        if let Some(known) = known {
            routes[known].to.push(edge);
            continue;
        }
        let name = format!("{}.{}", graph.nodes[edge.node].id.replace('/', "."), edge.port);
        channels.push(Channel { name, schema: Arc::clone(graph.schema(from)), key, inputs: graph.inputs_of(from) });
        routes.push(Route { from, to: vec![edge] });
    }
    (channels, routes)
}

/// Names of some columns, each once.
fn names(schema: &SchemaRef, columns: &[usize]) -> String {
    let mut seen = BTreeSet::new();
    let names = columns.iter().filter(|column| seen.insert(**column)).map(|column| schema.field(*column).name().as_str());
    names.collect::<Vec<_>>().join(", ").replace("count(Int64(1))", "count(*)")
}
