//! Follows columns through a plan, from an operator back to where rows come in. Knows no values: a column is followed as long as it is passed on as it is.

use std::collections::BTreeMap;

use crate::plan::graph::{Graph, Upstream};

/// A port of an operator, and so what feeds it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Edge {
    pub(super) node: usize,
    pub(super) port: usize,
}

impl Edge {
    pub(super) fn upstream(self, graph: &Graph) -> Upstream {
        graph.nodes[self.node].upstreams[self.port]
    }
}

/// For each place at which rows come in, the column there that has the value.
pub(super) type Origins = BTreeMap<Edge, usize>;

/// Where rows come into the operators of which `inside` is true, in the order of the operators.
pub(super) fn edges(graph: &Graph, inside: &[bool]) -> Vec<Edge> {
    let ports = |node: usize| (0..graph.nodes[node].upstreams.len()).map(move |port| Edge { node, port });
    let nodes = (0..graph.nodes.len()).filter(|node| inside[*node]);
    nodes.flat_map(ports).filter(|edge| !is_inside(edge.upstream(graph), inside)).collect()
}

/// Adds to `origins` where the values of a column of what arrives at `edge` come from, on all ways. False if that is not known on some way, or if two ways
/// from one place give it the values of different columns.
pub(super) fn trace(graph: &Graph, inside: &[bool], edge: Edge, column: usize, origins: &mut Origins) -> bool {
    match edge.upstream(graph) {
        Upstream::Node(node) if inside[node] => {
            let Some(columns) = graph.nodes[node].blueprint.lineage(column) else { return false };
            columns.into_iter().enumerate().all(|(port, column)| trace(graph, inside, Edge { node, port }, column, origins))
        }
        _ => *origins.entry(edge).or_insert(column) == column,
    }
}

/// The operators from which rows come to `node`, and that satisfy `wanted`; nearest last.
pub(super) fn before(graph: &Graph, node: usize, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut on_the_way = vec![false; node + 1];
    on_the_way[node] = true;
    for later in (0..=node).rev().filter(|node| *node < graph.nodes.len()) {
        if on_the_way[later] {
            for upstream in &graph.nodes[later].upstreams {
                if let Upstream::Node(earlier) = upstream {
                    on_the_way[*earlier] = true;
                }
            }
        }
    }
    (0..node).filter(|earlier| on_the_way[*earlier] && wanted(*earlier)).collect()
}

fn is_inside(upstream: Upstream, inside: &[bool]) -> bool {
    matches!(upstream, Upstream::Node(node) if inside[node])
}
