//! Finds the columns that rows are brought together by: those in the key of every operator that keeps state. Says which operator is in the way if there are none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::names;
use super::trace::{Edge, Origins, before, trace};
use crate::operators::Blueprint;
use crate::plan::graph::{Graph, Upstream};

/// How the rows of a plan can be brought together.
pub(super) struct Keys {
    /// For each operator, whether it is behind the exchange: it keeps state, or gets rows from one that does.
    pub(super) back: Vec<bool>,
    /// Columns of the exchange: for each the column where rows come in. Those that have places in common are the key there, in this order.
    pub(super) components: Vec<Origins>,
    /// What keeps state.
    pub(super) stateful: BTreeMap<Arc<str>, StateKeys>,
}

/// The part of an operator's key that is the key of the exchange.
#[derive(Clone, Debug)]
pub(super) struct StateKeys {
    pub(super) blueprint: Arc<dyn Blueprint>,
    /// Positions among [`Blueprint::keys`], in the order of the exchange's key.
    pub(super) positions: Vec<usize>,
}

/// Operators that have to be given rows by the same columns, and those columns.
struct Together {
    nodes: Vec<usize>,
    components: Vec<Origins>,
}

/// The key of an operator that keeps state, at each port.
fn keys_of(graph: &Graph, node: usize) -> Option<Vec<Vec<usize>>> {
    graph.nodes[node].blueprint.keys()
}

/// For each column of an operator's key where its values come from, `None` where that is not known.
fn traced(graph: &Graph, inside: &[bool], node: usize, keys: &[Vec<usize>]) -> Vec<Option<Origins>> {
    let one = |position: usize| {
        let mut origins = Origins::new();
        let known =
            keys.iter().enumerate().all(|(port, columns)| trace(graph, inside, Edge { node, port }, columns[position], &mut origins));
        known.then_some(origins)
    };
    (0..keys.first().map_or(0, Vec::len)).map(one).collect()
}

pub(super) fn of(graph: &Graph) -> Result<Keys, String> {
    let mut back = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        let follows = node.upstreams.iter().any(|upstream| matches!(upstream, Upstream::Node(node) if back[*node]));
        back[index] = follows || node.blueprint.keys().is_some();
    }
    let mut groups: Vec<Together> = Vec::new();
    let mut by_node = Vec::new();
    for node in 0..graph.nodes.len() {
        let Some(keys) = keys_of(graph, node) else { continue };
        let own = traced(graph, &back, node, &keys);
        let known: Vec<Origins> = own.iter().flatten().cloned().collect();
        if known.is_empty() {
            return Err(no_key(graph, node, &keys));
        }
        let shared = |group: &Together| group.components[0].keys().any(|edge| known[0].contains_key(edge));
        let (touching, others): (Vec<Together>, Vec<Together>) = groups.into_iter().partition(shared);
        groups = others;
        let mut together = Together { nodes: vec![node], components: known };
        for group in touching {
            let components = in_common(&group.components, &together.components);
            if components.is_empty() {
                return Err(nothing_in_common(graph, node, &group.nodes));
            }
            together.nodes.extend(group.nodes);
            together.components = components;
        }
        groups.push(together);
        by_node.push((node, own));
    }
    let components: Vec<Origins> = groups.into_iter().flat_map(|group| group.components).collect();
    let stateful = by_node.into_iter().map(|(node, own)| {
        let is_of = |component: &Origins, origins: &Option<Origins>| {
            origins.as_ref().is_some_and(|origins| origins.iter().all(|(edge, column)| component.get(edge) == Some(column)))
        };
        let positions = components.iter().filter_map(|component| own.iter().position(|origins| is_of(component, origins))).collect();
        let node = &graph.nodes[node];
        (Arc::clone(&node.id), StateKeys { blueprint: Arc::clone(&node.blueprint), positions })
    });
    let stateful = stateful.collect();
    Ok(Keys { back, components, stateful })
}

/// The columns of both that agree wherever both say something, at each place.
fn in_common(one: &[Origins], other: &[Origins]) -> Vec<Origins> {
    let agree = |a: &Origins, b: &Origins| a.iter().all(|(edge, column)| b.get(edge).is_none_or(|other| other == column));
    let mut both: Vec<Origins> = Vec::new();
    for a in one {
        if let Some(b) = other.iter().find(|b| agree(a, b)) {
            let merged: Origins = a.iter().chain(b).map(|(edge, column)| (*edge, *column)).collect();
            if !both.contains(&merged) {
                both.push(merged);
            }
        }
    }
    both
}

/// What an operator is keyed by, in the names of what arrives at its first port.
fn keyed_by(graph: &Graph, node: usize) -> String {
    let keys = keys_of(graph, node).unwrap_or_default();
    let schema = graph.schema(Edge { node, port: 0 }.upstream(graph));
    keys.first().map_or_else(String::new, |columns| names(schema, columns))
}

fn no_key(graph: &Graph, node: usize, keys: &[Vec<usize>]) -> String {
    let id = &graph.nodes[node].id;
    if keys.iter().all(Vec::is_empty) {
        return format!(
            "operator {id} has to see all rows, because they have no key (a window alone is none), so only one task can run it; group or partition by a \
             column of the rows as well, if they are to be shared out"
        );
    }
    let earlier = before(graph, node, |node| keys_of(graph, node).is_some());
    let nearest: Vec<String> =
        earlier.iter().map(|node| format!("operator {} by {}", graph.nodes[*node].id, keyed_by(graph, *node))).collect();
    format!(
        "operator {id} brings rows together by {}, which says nothing of where they are after {}: they would have to be exchanged a second time, which is not \
         supported; keep a column of the earlier key, as it is, in the key of {id}",
        keyed_by(graph, node),
        nearest.join(" and "),
    )
}

fn nothing_in_common(graph: &Graph, node: usize, others: &[usize]) -> String {
    let id = &graph.nodes[node].id;
    let others: Vec<String> =
        others.iter().map(|node| format!("operator {} by {}", graph.nodes[*node].id, keyed_by(graph, *node))).collect();
    format!(
        "operator {id} brings the same rows together by {} as {}, and these have no column in common: they would have to be exchanged a second time, which is \
         not supported; give all of them a column of the rows in common, or make Pipelines of their own of them",
        keyed_by(graph, node),
        others.join(" and "),
    )
}

/// See [`Plan::is_partitioned_by`](crate::plan::Plan::is_partitioned_by).
pub(super) fn check_partitions(graph: &Graph, partitioned_by: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
    let inside = vec![true; graph.nodes.len()];
    for (node, operator) in graph.nodes.iter().enumerate() {
        let Some(keys) = operator.blueprint.keys() else { continue };
        let upstreams: BTreeSet<String> = operator.upstreams.iter().flat_map(|upstream| graph.inputs_of(*upstream)).collect();
        let inputs: Vec<&String> = upstreams.iter().collect();
        let [input] = inputs[..] else {
            return Err(format!(
                "operator {} gets rows of the inputs {}, whose splits have nothing to do with each other",
                operator.id,
                upstreams.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
            ));
        };
        let Some(columns) = partitioned_by.get(input).filter(|columns| !columns.is_empty()) else {
            return Err(format!(
                "the Source of input {input} does not say what it is partitionedBy, which operator {} needs to know",
                operator.id
            ));
        };
        let traced = traced(graph, &inside, node, &keys);
        for column in columns {
            let is_column = |(edge, position): (&Edge, &usize)| graph.schema(edge.upstream(graph)).field(*position).name() == column;
            let found = traced.iter().flatten().any(|origins| !origins.is_empty() && origins.iter().all(is_column));
            if !found {
                let by = keyed_by(graph, node);
                let by = if by.is_empty() { "nothing but the window, if there is one".to_owned() } else { by };
                return Err(format!(
                    "operator {} brings rows together by {by}, which does not hold the column {column} that input {input} is partitionedBy, as it is",
                    operator.id,
                ));
            }
        }
    }
    Ok(())
}
