//! One bulk request, from its first sending until each of its documents is accepted or refused. It gives up on none.

use std::time::Duration;

use millrace_crds::report::ErrorReason;
use millrace_engine::batch::{RejectCode, RejectStage, Rejected};
use millrace_engine::connector::{Backoff, Health};

use super::bulk::Request;
use super::client::Client;
use super::response::{self, Answer, Outcome};
use crate::formats::PAYLOAD_CAP;

/// First and longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// The longest pause that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);
/// A request without an answer for so long is reported, and waited for.
const SILENCE: Duration = Duration::from_secs(10);

/// Sends `request` until all of it is decided; returns what was refused. Ends early only by being dropped.
pub(super) async fn deliver(client: &Client, health: &Health, request: Request) -> Vec<Rejected> {
    let mut rejected = Vec::new();
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    // The next one last: halves of a request are sent in order.
    let mut waiting = vec![request];
    while let Some(request) = waiting.pop() {
        let (answer, retry_after) = attempt(client, health, &request).await;
        let (reason, said) = match answer {
            Answer::Items(outcomes) => {
                reject_refused(&request, &outcomes, &mut rejected);
                let again = request.undecided(&outcomes);
                let Some((reason, said)) = again.first().and_then(|nth| trouble_of(&outcomes[*nth])) else {
                    health.clear();
                    backoff = Backoff::new(PAUSES.0, PAUSES.1);
                    continue;
                };
                let said = format!("{} of {} documents are not accepted yet: {said}", again.len(), outcomes.len());
                waiting.push(request.only(&again));
                (reason, said)
            }
            Answer::Split { said } => {
                if request.entries().len() > 1 {
                    let (first, second) = request.halves();
                    waiting.push(second);
                    waiting.push(first);
                } else {
                    reject(&request, 0, &said, &mut rejected);
                }
                continue;
            }
            Answer::Again { reason, said } => {
                waiting.push(request.again());
                (reason, said)
            }
        };
        let message = format!("OpenSearch at {}: {said}", client.endpoint());
        tracing::warn!(?reason, "{message}; trying again");
        health.trouble(reason, message);
        let pause = backoff.delay(rand::random());
        tokio::time::sleep(retry_after.map_or(pause, |asked| asked.min(MAX_RETRY_AFTER).max(pause))).await;
        if matches!(reason, ErrorReason::AccessDenied | ErrorReason::Unreachable | ErrorReason::SecretMissing)
            && let Err(error) = client.renew()
        {
            health.trouble(error.reason, error.message);
        }
    }
    rejected
}

/// Sends once.
async fn attempt(client: &Client, health: &Health, request: &Request) -> (Answer, Option<Duration>) {
    let mut call = std::pin::pin!(client.bulk(request.body()));
    let mut silent = Duration::ZERO;
    let reply = loop {
        if let Ok(reply) = tokio::time::timeout(SILENCE, &mut call).await {
            break reply;
        }
        silent += SILENCE;
        let message = format!("OpenSearch at {}: no answer to a bulk request for {} s", client.endpoint(), silent.as_secs());
        health.trouble(ErrorReason::Unreachable, message);
    };
    match reply {
        Ok(reply) => (response::read(reply.status, &reply.body, request.entries().len()), reply.retry_after),
        Err(error) => (Answer::Again { reason: error.reason, said: error.message }, None),
    }
}

fn trouble_of(outcome: &Outcome) -> Option<(ErrorReason, String)> {
    match outcome {
        Outcome::Again { reason, said } => Some((*reason, said.clone())),
        Outcome::Accepted | Outcome::Refused { .. } => None,
    }
}

fn reject_refused(request: &Request, outcomes: &[Outcome], rejected: &mut Vec<Rejected>) {
    for (nth, outcome) in outcomes.iter().enumerate() {
        if let Outcome::Refused { said } = outcome {
            reject(request, nth, said, rejected);
        }
    }
}

fn reject(request: &Request, nth: usize, said: &str, rejected: &mut Vec<Rejected>) {
    let entry = &request.entries()[nth];
    let document = request.document(nth);
    let payload_bytes = document.len() as u64;
    rejected.push(Rejected {
        origin: entry.origin.clone(),
        ordinal: entry.ordinal,
        stage: RejectStage::Sink,
        code: RejectCode::RefusedBySink,
        error: format!("OpenSearch refuses the document: {said}"),
        // A copy: a slice would keep the whole request in memory.
        payload: document[..document.len().min(PAYLOAD_CAP)].to_vec().into(),
        payload_bytes,
        attempts: entry.attempts + 1,
    });
}
