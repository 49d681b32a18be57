//! The `s3` source: objects that a queue announces, competed for by any number of workers. It reads nothing itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::SourceSpec;
use millrace_crds::connectors::s3;
use millrace_crds::report::{Distribution, ErrorReason, ProbeResult};
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::source::{OpenSplit, Shared, Source, SplitReader};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use futures::TryStreamExt as _;

use super::download::Downloads;
use super::intake::{Desk, Filter};
use super::ledger::{Ledger, View};
use super::object::{Buckets, address};
use super::queue::{Queue, Sqs};
use super::reader::{Position, S3Reader};
use crate::aws::{S3Access, region_of_queue, store_error};
use crate::context::Context;
use crate::formats::table_schema;
use crate::objects::stream::Reading;

/// Bytes of one ranged read.
const CHUNK: u64 = 4 << 20;
/// Default of `visibilityTimeoutSeconds`.
const HIDDEN_SECONDS: u32 = 60;
/// Default of `ledgerTtlSeconds`: the longest that a queue retains a message.
const LEDGER_SECONDS: u32 = 1_209_600;

/// Objects that a queue announces.
#[derive(Debug)]
pub struct S3Source {
    queue: Arc<dyn Queue>,
    queue_url: String,
    buckets: Arc<dyn Buckets>,
    /// The bucket that is probed.
    bucket: Option<String>,
    prefix: Option<String>,
    filter: Filter,
    hidden: Duration,
    ledger_seconds: u32,
    /// Without a projection.
    reading: Reading,
    /// The ledger as it was when splits were asked for last.
    seen: tokio::sync::Mutex<Option<(Path, View)>>,
}

impl S3Source {
    /// A source for `options`. Opens nothing.
    ///
    /// # Errors
    /// `Invalid` when the format needs a schema and has none.
    pub fn new(options: &s3::S3Source, spec: &SourceSpec, context: &Context) -> Result<Self, ConnectorError> {
        let url = &options.sqs.queue_url;
        let queue = Arc::new(Sqs::new(url, &options.aws, context));
        // S3 notifies queues of its own region.
        let access = S3Access::new(&options.aws, region_of_queue(url), context);
        Self::over(queue, Arc::new(S3Buckets::new(access)), options, spec, context)
    }

    /// The same over any queue and buckets.
    pub(super) fn over(
        queue: Arc<dyn Queue>,
        buckets: Arc<dyn Buckets>,
        options: &s3::S3Source,
        spec: &SourceSpec,
        context: &Context,
    ) -> Result<Self, ConnectorError> {
        let reading = Reading {
            format: spec.format.clone(),
            table: table_schema(&spec.format, spec.schema.as_ref())?,
            projection: Vec::new(),
            compression: options.compression,
            limits: context.limits,
            chunk: CHUNK,
        };
        Ok(Self {
            queue,
            queue_url: options.sqs.queue_url.clone(),
            buckets,
            bucket: options.bucket.clone(),
            prefix: options.prefix.clone(),
            filter: Filter::new(options),
            hidden: Duration::from_secs(options.sqs.visibility_timeout_seconds.unwrap_or(HIDDEN_SECONDS).into()),
            ledger_seconds: options.ledger_ttl_seconds.unwrap_or(LEDGER_SECONDS),
            reading,
            seen: tokio::sync::Mutex::new(None),
        })
    }

    /// Lists one object of the bucket: reading objects and telling those that are gone needs both rights.
    async fn probe_bucket(&self, bucket: &str) -> Result<String, ConnectorError> {
        // Any key will do: listing needs no object.
        let (store, _) = self.buckets.open(bucket, "probe").await?;
        let prefix = self.prefix.as_deref().and_then(|prefix| prefix.rsplit_once('/')).and_then(|(folder, _)| Path::parse(folder).ok());
        let first: Option<ObjectMeta> =
            store.list(prefix.as_ref()).try_next().await.map_err(|error| store_error(&format!("list bucket {bucket}"), error))?;
        let Some(first) = first else {
            return Ok(format!("bucket {bucket} can be listed and holds no object yet"));
        };
        let (store, path) = self.buckets.open(bucket, first.location.as_ref()).await?;
        let head = object_store::GetOptions::new().with_head(true);
        store.get_opts(&path, head).await.map_err(|error| store_error(&format!("read s3://{bucket}/{path}"), error))?;
        Ok(format!("bucket {bucket} can be listed and read"))
    }
}

#[async_trait]
impl Source for S3Source {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.reading.table)
    }

    fn distribution(&self) -> Distribution {
        Distribution::Competing
    }

    async fn splits(&self, shared: &Shared) -> Result<Vec<String>, ConnectorError> {
        let mut seen = self.seen.lock().await;
        match seen.as_mut().filter(|(folder, _)| *folder == shared.folder) {
            Some((_, view)) => view.refresh().await?,
            None => *seen = Some((shared.folder.clone(), View::load(shared, Health::default()).await?)),
        }
        Ok(seen.as_ref().map(|(_, view)| view.state().tasks()).unwrap_or_default())
    }

    async fn open(&self, open: OpenSplit) -> Result<Box<dyn SplitReader>, ConnectorError> {
        let position = Position::restore(open.position.as_ref())?;
        let finished = position.finished();
        let OpenSplit { shared, split, generation, health, projection, .. } = open;
        let ledger = Ledger::open(&shared, &split, generation, self.ledger_seconds, &finished, health.clone()).await?;
        let unfinished = ledger.unfinished();
        let downloads = Downloads {
            desk: Arc::new(Desk::new(Arc::clone(&self.queue), ledger, self.hidden, health)),
            buckets: Arc::clone(&self.buckets),
            reading: self.reading.of(projection),
            queue_url: self.queue_url.clone(),
        };
        Ok(Box::new(S3Reader::start(downloads, self.filter.clone(), position, unfinished)))
    }

    async fn probe(&self) -> ProbeResult {
        let seen = async {
            let depth = self.queue.depth().await?;
            let mut detail = format!("queue {} holds about {} messages", self.queue_url, depth.waiting + depth.hidden);
            if let Some(bucket) = &self.bucket {
                detail = format!("{detail}; {}", self.probe_bucket(bucket).await?);
            }
            Ok::<_, ConnectorError>(detail)
        };
        match seen.await {
            Ok(detail) => ProbeResult::Ok { detail },
            Err(error) => ProbeResult::Failed { reason: error.reason, message: error.message },
        }
    }
}

/// Buckets of S3. Clients are kept.
pub(super) struct S3Buckets {
    access: S3Access,
    open: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl S3Buckets {
    pub(super) fn new(access: S3Access) -> Self {
        Self { access, open: Mutex::default() }
    }

    fn known(&self, bucket: &str) -> Option<Arc<dyn ObjectStore>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(bucket).map(Arc::clone)
    }
}

impl fmt::Debug for S3Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Buckets").field("access", &self.access).finish_non_exhaustive()
    }
}

#[async_trait]
impl Buckets for S3Buckets {
    async fn open(&self, bucket: &str, key: &str) -> Result<(Arc<dyn ObjectStore>, Path), ConnectorError> {
        let Some((folder, path)) = address(key) else {
            let message = format!("s3://{bucket}/{key} has a key that cannot be requested over HTTP; copy it to another key");
            return Err(ConnectorError::new(ErrorReason::DataLost, message));
        };
        if let Some(folder) = folder {
            // Rare enough to open each time.
            return Ok((Arc::new(self.access.bucket_below(bucket, Some(folder)).await?), path));
        }
        if let Some(store) = self.known(bucket) {
            return Ok((store, path));
        }
        let store: Arc<dyn ObjectStore> = Arc::new(self.access.bucket(bucket).await?);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(bucket.to_owned(), Arc::clone(&store));
        Ok((store, path))
    }
}
