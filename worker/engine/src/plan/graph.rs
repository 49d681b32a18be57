//! The compiled graph of operators, from inputs to outputs. Immutable; each lane gets its own operators from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use sha2::{Digest, Sha256};

use super::{InputChangelog, OutputPlan};
use crate::operators::{Blueprint, Target, Wired, Wiring};

/// Inputs, operators and outputs.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    pub(super) inputs: Vec<Input>,
    /// Each reads only inputs and operators before it.
    pub(super) nodes: Vec<Node>,
    pub(super) outputs: Vec<Output>,
}

/// An input, with the columns that are read of it.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) schema: SchemaRef,
    /// Columns that it could deliver.
    pub(super) declared: usize,
    /// Position in `schema` of the event time, if watermarks are needed.
    pub(super) event_time: Option<usize>,
    /// Whether rows are revised, and how the input says so.
    pub(super) changelog: InputChangelog,
}

impl Input {
    /// ` (revised, key k)` or ` (upserts, key k)`; nothing if rows are only appended.
    pub(super) fn revised(&self) -> String {
        let key = |key: &[String]| if key.is_empty() { String::new() } else { format!(", key {}", key.join(", ")) };
        match &self.changelog {
            InputChangelog::Append => String::new(),
            InputChangelog::Retract { key: columns } => format!(" (revised{})", key(columns)),
            InputChangelog::Upsert { key: columns } => format!(" (upserts{})", key(columns)),
        }
    }
}

/// An operator.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Step, kind, ordinal.
    pub(super) id: Arc<str>,
    pub(super) blueprint: Arc<dyn Blueprint>,
    /// By port.
    pub(super) upstreams: Vec<Upstream>,
}

/// An output and what it is fed by.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) plan: OutputPlan,
    pub(super) from: Upstream,
}

/// What feeds an operator or an output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Upstream {
    Input(usize),
    Node(usize),
}

impl Graph {
    pub(super) fn schema(&self, upstream: Upstream) -> &SchemaRef {
        match upstream {
            Upstream::Input(input) => &self.inputs[input].schema,
            Upstream::Node(node) => self.nodes[node].blueprint.schema(),
        }
    }

    /// Name of an input or id of an operator.
    pub(super) fn name(&self, upstream: Upstream) -> &str {
        match upstream {
            Upstream::Input(input) => &self.inputs[input].name,
            Upstream::Node(node) => &self.nodes[node].id,
        }
    }

    /// Names of the inputs that reach something, in the order of the inputs.
    pub(super) fn inputs_of(&self, upstream: Upstream) -> Vec<String> {
        (0..self.inputs.len())
            .filter(|input| self.reached(&[Some(*input)])(upstream))
            .map(|input| self.inputs[input].name.clone())
            .collect()
    }

    /// Whether an input is what others look things up in.
    pub(super) fn is_table(&self, input: usize) -> bool {
        let reached = self.reached(&[Some(input)]);
        let reads = |node: &Node| node.blueprint.table_port().is_some_and(|port| reached(node.upstreams[port]));
        self.nodes.iter().any(reads)
    }

    /// Whether what comes from there depends on processing time.
    pub(super) fn reads_clock(&self, upstream: Upstream) -> bool {
        let mut reads: Vec<bool> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let below = node.upstreams.iter().any(|upstream| matches!(upstream, Upstream::Node(fed) if reads[*fed]));
            reads.push(below || node.blueprint.reads_clock());
        }
        matches!(upstream, Upstream::Node(node) if reads[node])
    }

    /// The operators that any of `inputs` reaches, built for one lane. An input that is `None` reaches nothing.
    pub(super) fn wiring(&self, inputs: &[Option<usize>]) -> Wiring {
        let reached = self.reached(inputs);
        let mut part = self.part(inputs.len(), |_| true, reached);
        for (upstream, target) in part.links(self) {
            part.connect(upstream, target, |input| positions_of(inputs, input));
        }
        part.wiring
    }

    /// The operators of which `is_part` is true and that are fed at some port, not connected yet.
    pub(super) fn part(&self, entries: usize, is_part: impl Fn(usize) -> bool, reached: impl Fn(Upstream) -> bool) -> Part {
        let mut part = Part {
            positions: vec![None; self.nodes.len()],
            wiring: Wiring { entries: vec![Vec::new(); entries], operators: Vec::new(), beyond: BTreeMap::new() },
        };
        for (index, node) in self.nodes.iter().enumerate().filter(|(index, _)| is_part(*index)) {
            let ports: Vec<usize> = (0..node.upstreams.len()).filter(|port| reached(node.upstreams[*port])).collect();
            if !ports.is_empty() {
                part.positions[index] = Some(part.wiring.operators.len());
                let operator = node.blueprint.operator(&node.id, &ports);
                let reads_clock = node.blueprint.reads_clock();
                part.wiring.operators.push(Wired { id: Arc::clone(&node.id), operator, targets: Vec::new(), reads_clock });
            }
        }
        part
    }

    /// Whether rows of any of `inputs` come by.
    pub(super) fn reached(&self, inputs: &[Option<usize>]) -> impl Fn(Upstream) -> bool + use<> {
        let inputs: Vec<usize> = inputs.iter().flatten().copied().collect();
        let mut nodes: Vec<bool> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let fed = node.upstreams.iter().any(|upstream| match upstream {
                Upstream::Input(fed) => inputs.contains(fed),
                Upstream::Node(fed) => nodes[*fed],
            });
            nodes.push(fed);
        }
        move |upstream| match upstream {
            Upstream::Input(fed) => inputs.contains(&fed),
            Upstream::Node(node) => nodes[node],
        }
    }

    /// 16 hex digits of the SHA-256 of everything that decides what comes out.
    pub(super) fn hash(&self) -> String {
        let mut digest = Sha256::new();
        let mut add = |text: String| {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        };
        for input in &self.inputs {
            add(format!("input {:?} {}{}", input.name, columns(&input.schema), input.revised()));
        }
        for node in &self.nodes {
            add(format!("{:?} {:?} {}", node.id, node.upstreams, node.blueprint.identity()));
        }
        for output in &self.outputs {
            add(format!("output {:?} {:?} {}", output.plan.name, output.from, columns(&output.plan.schema)));
        }
        digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Some operators of a graph, for one lane.
pub(super) struct Part {
    /// For each operator of the graph, where it is in the wiring.
    positions: Vec<Option<usize>>,
    pub(super) wiring: Wiring,
}

impl Part {
    /// What feeds each operator of the part, port by port, and what feeds each output.
    pub(super) fn links(&self, graph: &Graph) -> Vec<(Upstream, Target)> {
        let mut links = Vec::new();
        for (node, position) in graph.nodes.iter().zip(&self.positions) {
            let Some(index) = *position else { continue };
            links.extend(node.upstreams.iter().enumerate().map(|(port, upstream)| (*upstream, Target::Operator { index, port })));
        }
        links.extend(graph.outputs.iter().enumerate().map(|(output, fed)| (fed.from, Target::Output(output))));
        links
    }

    /// Sends what comes from `upstream` to `target`; does nothing if it does not come by. `entries` are those at which an input arrives.
    pub(super) fn connect(&mut self, upstream: Upstream, target: Target, entries: impl Fn(usize) -> Vec<usize>) {
        match upstream {
            Upstream::Input(input) => entries(input).into_iter().for_each(|entry| self.enter(entry, target)),
            Upstream::Node(node) => {
                if let Some(position) = self.positions[node] {
                    self.wiring.operators[position].targets.push(target);
                }
            }
        }
    }

    /// Sends what arrives at an entry to `target`.
    pub(super) fn enter(&mut self, entry: usize, target: Target) {
        self.wiring.entries[entry].push(target);
    }

    /// The target that is a port of an operator of the graph.
    pub(super) fn port(&self, node: usize, port: usize) -> Option<Target> {
        self.positions[node].map(|index| Target::Operator { index, port })
    }
}

/// Where an input arrives.
pub(super) fn positions_of(inputs: &[Option<usize>], input: usize) -> Vec<usize> {
    (0..inputs.len()).filter(|entry| inputs[*entry] == Some(input)).collect()
}

/// `name type, name type`.
pub(super) fn columns(schema: &SchemaRef) -> String {
    let columns: Vec<String> = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    columns.join(", ")
}
