//! What goes through a channel where that costs something: partial aggregates instead of rows, and no column that nobody behind reads. Puts nothing together itself;
//! that is the operators'.
//!
//! A channel that feeds one aggregate and nothing else can carry partial aggregates: what is in front of it does not take rows back, and the aggregate says the rest
//! ([`Blueprint::parted`]). Any other is as wide as what its operators [read](Blueprint::reads). It is worth it where rows are written and wait for the end of their
//! window anyway; among lanes of one task neither is so. The state behind stays what it is, and so does the key.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Channel, Exchange, Route};
use crate::operators::{Blueprint, ColumnsBlueprint, Parted};
use crate::plan::graph::Graph;

/// A channel as it is in a condensed exchange.
#[derive(Clone, Debug)]
pub(super) struct Condensed {
    /// The last operator in front of it, if it has one of its own.
    pub(super) front: Option<Arc<dyn Blueprint>>,
    /// Why it carries rows; `None` if it does not.
    why_rows: Option<String>,
}

impl Exchange {
    /// The same exchange with less going through it: partial aggregates instead of rows wherever that gives the same results, and of rows the columns that are
    /// read. Its front holds partial aggregates until a watermark ends a slice of theirs, or it is given a
    /// [`Message::Barrier`](crate::operators::Message::Barrier) for each of its inputs, or the end.
    #[must_use]
    pub fn condensed(mut self) -> Self {
        let mut graph = self.graph.as_ref().clone();
        let mut channels = self.channels.to_vec();
        let mut condensed = Vec::with_capacity(channels.len());
        for (channel, route) in channels.iter_mut().zip(self.routes.iter()) {
            condensed.push(match self.parted(channel, route) {
                Ok((node, Parted { front, back }, key)) => {
                    *channel = Channel { schema: Arc::clone(front.schema()), key, ..channel.clone() };
                    graph.nodes[node].blueprint = back;
                    Condensed { front: Some(front), why_rows: None }
                }
                Err(why) => Condensed { front: narrow(&mut graph, channel, route), why_rows: Some(why) },
            });
        }
        (self.graph, self.channels, self.condensed) = (Arc::new(graph), channels.into(), condensed.into());
        self
    }

    /// For people, the partial aggregates that go through a channel of a [condensed](Exchange::condensed) exchange.
    ///
    /// # Errors
    /// Why it is rows.
    pub fn partial(&self, channel: usize) -> Result<String, String> {
        match self.condensed.get(channel) {
            Some(Condensed { why_rows: Some(why), .. }) => Err(why.clone()),
            Some(Condensed { front: Some(front), .. }) => Ok(front.explain()),
            _ => Err("the exchange is not condensed".to_owned()),
        }
    }

    /// The aggregate that a channel feeds in two parts, and where the key of the channel is in what goes between them.
    fn parted(&self, channel: &Channel, route: &Route) -> Result<(usize, Parted, Vec<usize>), String> {
        let [edge] = route.to[..] else { return Err("several operators read them".to_owned()) };
        let parted = self.graph.nodes[edge.node].blueprint.parted(&channel.schema)?;
        let columns = parted.front.schema().fields().len();
        let place = |column: &usize| (0..columns).find(|place| parted.front.lineage(*place).is_some_and(|from| from == [*column]));
        let key = channel.key.iter().map(place).collect::<Option<Vec<usize>>>().filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| "they are brought together by other columns than the aggregate's".to_owned())?;
        Ok((edge.node, parted, key))
    }
}

/// Leaves columns out of a channel that none of its operators reads, if there are any.
fn narrow(graph: &mut Graph, channel: &mut Channel, route: &Route) -> Option<Arc<dyn Blueprint>> {
    let mut read: BTreeSet<usize> = channel.key.iter().copied().collect();
    for edge in &route.to {
        read.extend(graph.nodes[edge.node].blueprint.reads(edge.port)?);
    }
    let kept: Vec<usize> = read.into_iter().collect();
    if kept.len() == channel.schema.fields().len() {
        return None;
    }
    let schema = Arc::new(channel.schema.project(&kept).ok()?);
    let mut nodes = graph.nodes.clone();
    for edge in &route.to {
        nodes[edge.node].blueprint = nodes[edge.node].blueprint.narrowed(edge.port, &kept)?;
    }
    graph.nodes = nodes;
    channel.key = channel.key.iter().map(|column| kept.iter().position(|kept| kept == column)).collect::<Option<_>>()?;
    channel.schema = Arc::clone(&schema);
    Some(Arc::new(ColumnsBlueprint { kept, schema }))
}
