//! Which channels carry partial aggregates instead of rows. Puts nothing together itself; that is the operator's.
//!
//! A channel that feeds one aggregate and nothing else can: what is in front of it does not take rows back, and the aggregate says the rest
//! ([`Blueprint::parted`]). It is worth it where a channel costs something to go through, and its rows wait for the end of an epoch anyway; among lanes of one
//! task neither is so. The state behind stays what it is, and so does the key.

use std::sync::Arc;

use super::{Channel, Exchange, Route};
use crate::operators::{Blueprint, Parted};

/// What goes through a channel instead of its rows, or why it is the rows.
pub(super) type Partial = Result<Arc<dyn Blueprint>, String>;

impl Exchange {
    /// The same exchange, with partial aggregates instead of rows wherever that gives the same results. Its front holds them until it is given a
    /// [`Message::Barrier`](crate::operators::Message::Barrier) for each of its inputs, or the end; time too.
    #[must_use]
    pub fn with_partials(mut self) -> Self {
        let mut graph = self.graph.as_ref().clone();
        let mut channels = self.channels.to_vec();
        let mut partials = Vec::with_capacity(channels.len());
        for (channel, route) in channels.iter_mut().zip(self.routes.iter()) {
            let partial = self.parted(channel, route).map(|(node, Parted { front, back }, key)| {
                *channel = Channel { schema: Arc::clone(front.schema()), key, ..channel.clone() };
                graph.nodes[node].blueprint = back;
                front
            });
            partials.push(partial);
        }
        (self.graph, self.channels, self.partials) = (Arc::new(graph), channels.into(), partials.into());
        self
    }

    /// For people, what goes through a channel of an exchange [with partial aggregates](Exchange::with_partials): those, or rows, and why.
    ///
    /// # Errors
    /// Why it is rows.
    pub fn partial(&self, channel: usize) -> Result<String, String> {
        match self.partials.get(channel) {
            Some(Ok(front)) => Ok(front.explain()),
            Some(Err(why)) => Err(why.clone()),
            None => Err("it was not asked for".to_owned()),
        }
    }

    /// The aggregate that a channel feeds in two parts, and where the key of the channel is in what goes between them.
    fn parted(&self, channel: &Channel, route: &Route) -> Result<(usize, Parted, Vec<usize>), String> {
        let [edge] = route.to[..] else { return Err("several operators read the rows".to_owned()) };
        let parted = self.graph.nodes[edge.node].blueprint.parted(&channel.schema)?;
        let columns = parted.front.schema().fields().len();
        let place = |column: &usize| (0..columns).find(|place| parted.front.lineage(*place).is_some_and(|from| from == [*column]));
        let key = channel.key.iter().map(place).collect::<Option<Vec<usize>>>().filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| "rows are brought together by other columns than the aggregate's".to_owned())?;
        Ok((edge.node, parted, key))
    }
}
