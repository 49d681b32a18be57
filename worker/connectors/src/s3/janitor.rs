//! Keeps held messages hidden, deletes those that are done, and looks at the depth of the queue. It decides nothing.

use std::sync::Arc;
use std::time::Duration;

use millrace_engine::connector::ConnectorError;
use tokio::time::{MissedTickBehavior, interval};

use super::intake::Desk;

/// Time between two looks at the depth of the queue.
const DEPTH: Duration = Duration::from_secs(5);

/// Runs until aborted.
pub(super) async fn run(desk: Arc<Desk>) {
    let mut heartbeat = interval(desk.hidden / 2);
    let mut depth = interval(DEPTH);
    for timer in [&mut heartbeat, &mut depth] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let done = tokio::select! {
            biased;
            _ = heartbeat.tick() => keep_hidden(&desk).await,
            () = desk.tidy.notified() => Ok(()),
            _ = depth.tick() => look(&desk).await,
        };
        if let Err(error) = match done {
            Ok(()) => tidy(&desk).await,
            failed => failed,
        } {
            // The next heartbeat tries again.
            desk.health.trouble(error.reason, error.message);
        }
    }
}

/// Renewed at half its time, a message stays hidden for as long as SQS allows: 12 hours after it was received. Then it comes again, and is held by its
/// new receipt.
async fn keep_hidden(desk: &Desk) -> Result<(), ConnectorError> {
    let receipts = desk.held().receipts();
    desk.queue.hide(&receipts, desk.hidden).await
}

async fn look(desk: &Desk) -> Result<(), ConnectorError> {
    let depth = desk.queue.depth().await?;
    desk.observed.counted(depth);
    Ok(())
}

/// Deletes and shows what can be.
pub(super) async fn tidy(desk: &Desk) -> Result<(), ConnectorError> {
    let deletable = desk.held().take_deletable();
    match desk.queue.delete(&deletable).await {
        Ok(again) => again.into_iter().for_each(|receipt| desk.held().delete(receipt)),
        Err(error) => {
            for receipt in deletable {
                desk.held().delete(receipt);
            }
            return Err(error);
        }
    }
    let releasable = desk.held().take_releasable();
    desk.queue.hide(&releasable, desk.hidden / 2).await
}
