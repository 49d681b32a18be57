//! The OpenSearch sink: what it accepts, and a writer for each output of a task. Indices are made by OpenSearch.

use std::collections::BTreeSet;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millrace_crds::connectors::opensearch::OpenSearchSink as Options;
use millrace_crds::delivery::Guarantee;
use millrace_crds::report::{ErrorReason, ProbeResult};
use millrace_engine::connector::ConnectorError;
use millrace_engine::plan::Changelog;
use millrace_engine::sink::{Commit, OpenSink, REVISED, Sink, SinkWriter};
use serde::Deserialize;

use super::client::{self, Client, Reply};
use super::queue::Limits;
use super::response::{self, Answer};
use super::writer::{BulkWriter, Naming};
use crate::context::Context;
use crate::formats::rows::RowEncoder;
use crate::formats::template::{Escape, Template};
use crate::keys::KeyColumns;

/// Writes rows as documents.
#[derive(Clone, Debug)]
pub struct OpenSearchSink {
    options: Options,
    index: Template,
    context: Context,
}

impl OpenSearchSink {
    /// A sink with `options`.
    ///
    /// # Errors
    /// `Invalid` if the endpoint or the template of the index cannot be read.
    pub fn new(options: &Options, context: &Context) -> Result<Self, ConnectorError> {
        client::endpoint(options)?;
        let index = Template::parse(&options.index, Escape::IndexName)?;
        Ok(Self { options: options.clone(), index, context: context.clone() })
    }

    fn ids(&self, schema: &SchemaRef) -> Result<Option<KeyColumns>, ConnectorError> {
        KeyColumns::find(schema, "idFrom", &self.options.id_from)
    }
}

#[async_trait]
impl Sink for OpenSearchSink {
    fn accepts(&self, schema: &SchemaRef, event_time: Option<&str>) -> Result<(), ConnectorError> {
        self.index.check(schema, event_time)?;
        self.ids(schema)?;
        RowEncoder::new(schema).map(drop)
    }

    /// A revision finds its document by the `_id`, in the same index.
    fn accepts_changelog(&self, changelog: &Changelog) -> Result<(), ConnectorError> {
        let Changelog::Updating { key } = changelog else { return Ok(()) };
        let columns = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
        let message = if key.is_empty() {
            format!(
                "{REVISED}, and no column tells which row is revised: group by a key, name changelog.primaryKey of the Source, or aggregate or join in a window"
            )
        } else if columns(key) != columns(&self.options.id_from) {
            format!("{REVISED}: set idFrom of the Sink to the columns that tell its rows apart, [{}]", key.join(", "))
        } else if self.index.constant().is_none() {
            format!("{REVISED}, and the index depends on the row, so that a revision could not find its document: name one index")
        } else {
            return Ok(());
        };
        Err(ConnectorError::new(ErrorReason::Invalid, message))
    }

    fn guarantee(&self) -> (Guarantee, &'static str) {
        let why = if self.options.id_from.is_empty() {
            "the _id of a document is the coordinate of its record: written again, it is the same document"
        } else {
            "the _id of a document is its idFrom columns: written again, it is the same document"
        };
        (Guarantee::EffectivelyOnce, why)
    }

    fn guarantee_of_changelog(&self) -> (Guarantee, &'static str) {
        (
            Guarantee::AtLeastOnce,
            "documents are written before their epoch is durable: after a crash, revisions are seen again, and a row that came and went within the repeated \
             epoch may stay",
        )
    }

    async fn open(&self, open: OpenSink) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        let naming = Naming { index: self.index.clone(), event_time: open.event_time, ids: self.ids(&open.schema)? };
        let client = Client::new(&self.options, &self.context)?;
        let limits = Limits::from(self.options.bulk.as_ref());
        Ok(Box::new(BulkWriter::open(naming, RowEncoder::new(&open.schema)?, client, limits, open.health)))
    }

    async fn commit(&self, _commit: Commit<'_>) -> Result<(), ConnectorError> {
        // Documents are accepted when an epoch is prepared; there is nothing to make visible.
        Ok(())
    }

    async fn probe(&self) -> ProbeResult {
        let asked = async {
            let client = Client::new(&self.options, &self.context)?;
            let reply = client.hello().await?;
            greeting(&reply, client.user().as_deref())
        };
        match asked.await {
            Ok(detail) => ProbeResult::Ok { detail },
            Err(error) => ProbeResult::Failed { reason: error.reason, message: error.message },
        }
    }
}

/// The answer to `GET /`.
#[derive(Deserialize)]
struct Hello {
    cluster_name: String,
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    number: String,
    #[serde(default)]
    distribution: Option<String>,
}

/// Who is there, for people.
pub(super) fn greeting(reply: &Reply, user: Option<&str>) -> Result<String, ConnectorError> {
    if !(200..300).contains(&reply.status) {
        let (reason, said) = match response::read(reply.status, &reply.body, 0) {
            Answer::Again { reason, said } => (reason, said),
            Answer::Split { said } => (ErrorReason::Invalid, said),
            Answer::Items(_) => (ErrorReason::ServerError, format!("status {}", reply.status)),
        };
        return Err(ConnectorError::new(reason, format!("asked who it is, the server answers {said}")));
    }
    let hello: Hello = serde_json::from_slice(&reply.body)
        .map_err(|error| ConnectorError::new(ErrorReason::NotFound, "something answers, but not as OpenSearch does").caused_by(error))?;
    let Hello { cluster_name, version: Version { number, distribution } } = hello;
    let product = distribution.as_deref().unwrap_or("a server like OpenSearch");
    let user = user.map(|user| format!(", as {user}")).unwrap_or_default();
    Ok(format!("{product} {number}, cluster \"{cluster_name}\"{user}"))
}
