//! The task that sends: documents come through a channel, requests go out, refusals wait for the end of their epoch. It builds no document.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use millrace_engine::batch::Rejected;
use millrace_engine::connector::Health;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::bulk::Draft;
use super::client::Client;
use super::delivery::deliver;
use super::queue::{Next, Queue};

/// Payload bytes of refused documents that one epoch may hold; of what is refused beyond, only the reason is kept.
const MAX_REFUSED_BYTES: usize = 16 << 20;

/// What the task is told.
pub(super) enum Command {
    /// Documents, with their share of memory.
    Send(Draft, OwnedSemaphorePermit),
    /// Answer when everything before is decided.
    Prepare(oneshot::Sender<Vec<Rejected>>),
}

/// Sends what comes through the channel, until the channel is closed.
pub(super) async fn run(
    mut queue: Queue<OwnedSemaphorePermit>,
    mut commands: mpsc::Receiver<Command>,
    client: Arc<Client>,
    health: Health,
) {
    let mut in_flight = FuturesUnordered::new();
    let mut refused = Refused::default();
    let mut preparing: Option<oneshot::Sender<Vec<Rejected>>> = None;
    loop {
        while let Some(Next { draft, held }) = queue.next(Instant::now(), preparing.is_some()) {
            let (client, health) = (Arc::clone(&client), health.clone());
            in_flight.push(async move {
                let identities: Vec<u64> = draft.identities().collect();
                let rejected = deliver(&client, &health, draft.seal()).await;
                drop(held);
                (identities, rejected)
            });
        }
        if queue.is_empty()
            && let Some(answer) = preparing.take()
        {
            // Whoever waited may be gone; then nobody needs it.
            let _unheard = answer.send(refused.take());
        }
        let due = queue.due();
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Send(draft, memory)) => queue.push(draft, memory, Instant::now()),
                Some(Command::Prepare(answer)) => preparing = Some(answer),
                None => return,
            },
            Some((identities, rejected)) = in_flight.next(), if !in_flight.is_empty() => {
                queue.finished(identities.into_iter());
                refused.extend(rejected);
            }
            () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {}
        }
    }
}

/// What one epoch's documents were refused, with bounded payloads.
#[derive(Default)]
struct Refused {
    records: Vec<Rejected>,
    bytes: usize,
}

impl Refused {
    fn extend(&mut self, rejected: Vec<Rejected>) {
        for mut record in rejected {
            if self.bytes + record.payload.len() > MAX_REFUSED_BYTES {
                record.payload.clear();
            }
            self.bytes += record.payload.len();
            self.records.push(record);
        }
    }

    fn take(&mut self) -> Vec<Rejected> {
        self.bytes = 0;
        std::mem::take(&mut self.records)
    }
}
