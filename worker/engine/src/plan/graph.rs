//! The compiled graph of operators, from inputs to outputs. Immutable; each lane gets its own operators from it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use sha2::{Digest, Sha256};

use super::OutputPlan;
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
        let mut positions = vec![None; self.nodes.len()];
        let mut wiring = Wiring { entries: vec![Vec::new(); inputs.len()], operators: Vec::new() };
        for (index, node) in self.nodes.iter().enumerate() {
            let ports: Vec<usize> = (0..node.upstreams.len()).filter(|port| reached(node.upstreams[*port])).collect();
            if !ports.is_empty() {
                positions[index] = Some(wiring.operators.len());
                wiring.operators.push(Wired {
                    id: Arc::clone(&node.id),
                    operator: node.blueprint.operator(&node.id, &ports),
                    targets: Vec::new(),
                    reads_clock: node.blueprint.reads_clock(),
                });
            }
        }
        let mut connect = |upstream: Upstream, target: Target| match upstream {
            Upstream::Input(fed) => {
                let entries = wiring.entries.iter_mut().zip(inputs).filter(|(_, input)| **input == Some(fed));
                entries.for_each(|(entry, _)| entry.push(target));
            }
            Upstream::Node(node) => {
                if let Some(position) = positions[node] {
                    wiring.operators[position].targets.push(target);
                }
            }
        };
        for (node, position) in self.nodes.iter().zip(&positions) {
            let Some(index) = *position else { continue };
            node.upstreams.iter().enumerate().for_each(|(port, upstream)| connect(*upstream, Target::Operator { index, port }));
        }
        self.outputs.iter().enumerate().for_each(|(output, fed)| connect(fed.from, Target::Output(output)));
        wiring
    }

    /// Whether rows of any of `inputs` come by.
    fn reached(&self, inputs: &[Option<usize>]) -> impl Fn(Upstream) -> bool + use<> {
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
            add(format!("input {:?} {}", input.name, columns(&input.schema)));
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

/// `name type, name type`.
pub(super) fn columns(schema: &SchemaRef) -> String {
    let columns: Vec<String> = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    columns.join(", ")
}
