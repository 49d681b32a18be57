//! From messages to claims: receives, claims in the ledger, tells the reader. It deletes nothing that is not done, and reads no object.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_crds::connectors::s3;
use millrace_engine::connector::{ConnectorError, Health};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::announcement::{self, Announced};
use super::held::Held;
use super::ledger::{Claim, Ledger, Standing, Subject};
use super::object::{Buckets, Object, ObjectId, Revision, current};
use super::observed::Observed;
use super::queue::{BATCH, Message, Queue};
use crate::formats::PAYLOAD_CAP;
use crate::objects::stream::is_lost;
use crate::retry;

/// Objects that are claimed and not read at most: more would keep them from other workers.
const AHEAD: usize = 16;
/// Longest poll that SQS allows.
const LONG_POLL: Duration = Duration::from_secs(20);

/// Which announced objects are wanted.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    bucket: Option<String>,
    prefix: String,
    suffix: String,
}

impl Filter {
    pub(super) fn new(options: &s3::S3Source) -> Self {
        Self {
            bucket: options.bucket.clone(),
            prefix: options.prefix.clone().unwrap_or_default(),
            suffix: options.suffix.clone().unwrap_or_default(),
        }
    }

    fn wants(&self, announced: &Announced) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| *bucket == announced.bucket)
            && announced.key.starts_with(&self.prefix)
            && announced.key.ends_with(&self.suffix)
    }
}

/// What intake, janitor and reader of one split share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) ledger: tokio::sync::Mutex<Ledger>,
    held: Mutex<Held>,
    /// Something can be deleted or shown.
    pub(super) tidy: Notify,
    /// Objects claimed and not read.
    pub(super) backlog: watch::Sender<usize>,
    /// For how long a message is hidden.
    pub(super) hidden: Duration,
    pub(super) observed: Observed,
    pub(super) health: Health,
}

impl Desk {
    pub(super) fn new(queue: Arc<dyn Queue>, ledger: Ledger, hidden: Duration, health: Health) -> Self {
        let backlog = watch::Sender::new(ledger.unfinished().len());
        let observed = Observed::default();
        Self { queue, ledger: ledger.into(), held: Mutex::default(), tidy: Notify::new(), backlog, hidden, observed, health }
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes messages in.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) desk: Arc<Desk>,
    pub(super) buckets: Arc<dyn Buckets>,
    pub(super) filter: Filter,
    pub(super) claims: mpsc::UnboundedSender<Result<Claim, ConnectorError>>,
    pub(super) stop: CancellationToken,
}

/// A message and what it is about.
struct Parsed {
    message: Message,
    claims: Vec<(Claim, Order)>,
}

/// Orders claims of one batch: by time, then by sequencer, padded as documented.
type Order = (i64, String);

impl Intake {
    /// Until told to stop.
    pub(super) async fn run(self) {
        let mut room = self.desk.backlog.subscribe();
        loop {
            let received = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                received = self.receive(&mut room) => received,
            };
            let taken = match received {
                Ok(messages) if self.stop.is_cancelled() => {
                    self.show_again(&messages).await;
                    return;
                }
                Ok(messages) => self.take_in(messages).await,
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                let _reader_is_gone = self.claims.send(Err(error));
                return;
            }
        }
    }

    async fn receive(&self, room: &mut watch::Receiver<usize>) -> Result<Vec<Message>, ConnectorError> {
        // The sender is ours.
        let claimed = room.wait_for(|claimed| *claimed < AHEAD).await.map_or(0, |claimed| *claimed);
        let max = (AHEAD - claimed).min(BATCH);
        let Desk { queue, hidden, health, .. } = self.desk.as_ref();
        let messages = retry::until_done(health, async || queue.receive(max, *hidden, LONG_POLL).await).await?;
        self.desk.observed.received(&messages);
        Ok(messages)
    }

    async fn show_again(&self, messages: &[Message]) {
        let receipts: Vec<_> = messages.iter().map(|message| message.receipt.clone()).collect();
        if let Err(error) = self.desk.queue.hide(&receipts, Duration::ZERO).await {
            tracing::debug!(%error, "messages could not be shown again; they are when their time is over");
        }
    }

    /// Claims what the messages announce, and decides about each message.
    async fn take_in(&self, messages: Vec<Message>) -> Result<(), ConnectorError> {
        if messages.is_empty() {
            return Ok(());
        }
        let mut parsed = Vec::with_capacity(messages.len());
        for message in messages {
            parsed.push(self.parse(message).await?);
        }
        // Held until all messages are accounted for, so that nothing becomes done in between.
        let mut ledger = self.desk.ledger.lock().await;
        let claimed = claim(&mut ledger, &parsed).await?;
        self.desk.backlog.send_modify(|backlog| *backlog += claimed.len());
        for claim in claimed {
            let _reader_is_gone = self.claims.send(Ok(claim));
        }
        let mut of_others = Vec::new();
        {
            let mut held = self.desk.held();
            for Parsed { message, claims } in parsed {
                let with = |standing| claims.iter().map(|(claim, _)| claim.id).filter(|id| ledger.standing(id) == standing).collect();
                let mine: HashSet<ObjectId> = with(Standing::Mine);
                let theirs: HashSet<ObjectId> = with(Standing::Theirs);
                if !mine.is_empty() {
                    held.hold(&message.id, message.receipt, mine, !theirs.is_empty());
                } else if theirs.is_empty() {
                    held.delete(message.receipt);
                } else {
                    of_others.push(message.receipt);
                }
            }
        }
        drop(ledger);
        self.desk.tidy.notify_one();
        if !of_others.is_empty()
            && let Err(error) = self.desk.queue.hide(&of_others, self.desk.hidden / 2).await
        {
            tracing::debug!(%error, "messages of others could not be put back; they are when their time is over");
        }
        Ok(())
    }

    async fn parse(&self, message: Message) -> Result<Parsed, ConnectorError> {
        let announced = match announcement::parse(&message.body) {
            Ok(announced) => announced,
            Err(error) => {
                let claim = unknown(&message, &error);
                let order = (message.sent.unwrap_or(0), String::new());
                return Ok(Parsed { message, claims: vec![(claim, order)] });
            }
        };
        let mut claims = Vec::new();
        for announced in announced {
            if self.filter.wants(&announced) {
                let object = self.identify(&announced).await?;
                let sequencer = announced.sequencer.unwrap_or_default();
                claims.push((Claim::object(object), (announced.time, format!("{sequencer:0>64}"))));
            } else {
                tracing::debug!(bucket = announced.bucket, key = announced.key, "not wanted");
            }
        }
        Ok(Parsed { message, claims })
    }

    /// The announced object; the one that is there now if the announcement does not say which version it is.
    async fn identify(&self, announced: &Announced) -> Result<Object, ConnectorError> {
        if let Some(object) = Object::announced(announced) {
            return Ok(object);
        }
        let Announced { bucket, key, time, .. } = announced;
        let looked = retry::until_done(&self.desk.health, async || current(self.buckets.as_ref(), bucket, key).await).await;
        let found = match looked {
            Err(error) if !is_lost(&error) => return Err(error),
            found => found.ok().flatten(),
        };
        let etag = found.as_ref().and_then(|meta| meta.e_tag.as_deref()).map(|etag| etag.trim_matches('"').to_owned());
        Ok(Object {
            bucket: bucket.clone(),
            key: key.clone(),
            // If it is gone, no object will match, and it is reported as lost.
            revision: Revision::Etag(etag.unwrap_or_else(|| "unknown".to_owned())),
            size: found.map(|meta| meta.size),
            time: *time,
        })
    }
}

/// Claims what is free; returns what this task has now and had not before, in order.
async fn claim(ledger: &mut Ledger, parsed: &[Parsed]) -> Result<Vec<Claim>, ConnectorError> {
    let mut seen = HashSet::new();
    let mut wanted: Vec<_> = parsed
        .iter()
        .flat_map(|parsed| &parsed.claims)
        .filter(|(claim, _)| ledger.standing(&claim.id) == Standing::Free && seen.insert(claim.id))
        .collect();
    wanted.sort_by(|(_, a), (_, b)| a.cmp(b));
    let wanted: Vec<Claim> = wanted.into_iter().map(|(claim, _)| claim.clone()).collect();
    ledger.claim(wanted.clone()).await?;
    // What others have may be done by now.
    if parsed.iter().flat_map(|parsed| &parsed.claims).any(|(claim, _)| ledger.standing(&claim.id) == Standing::Theirs) {
        ledger.refresh().await?;
    }
    Ok(wanted.into_iter().filter(|claim| ledger.standing(&claim.id) == Standing::Mine).collect())
}

/// A message that announces nothing: a claim of its own, so that it is dead-lettered once.
fn unknown(message: &Message, error: &announcement::Error) -> Claim {
    let cut = message.body.floor_char_boundary(PAYLOAD_CAP.min(message.body.len()));
    Claim {
        id: ObjectId::of(&format!("message/{}", message.id)),
        what: Subject::Message { message_id: message.id.clone(), error: error.to_string(), body: message.body[..cut].to_owned() },
    }
}
