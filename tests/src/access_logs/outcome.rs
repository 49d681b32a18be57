//! What has become of the lines: read back from OpenSearch and, by manifest, from S3, as a conforming reader would. It never counts what it has not seen.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use arrow::array::AsArray as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::Workload;
use crate::servers::{Moto, OpenSearch};

/// Documents of one page.
const PAGE: u64 = 5000;

/// What must be there in the end.
#[derive(Debug)]
pub struct Expected {
    good: BTreeSet<String>,
    bad: BTreeSet<String>,
}

/// What is there: how often each line was found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// In OpenSearch.
    pub indexed: BTreeMap<String, u32>,
    /// In the Parquet files that manifests list.
    pub archived: BTreeMap<String, u32>,
    /// In the dead letters that manifests list.
    pub dead: BTreeMap<String, u32>,
}

impl From<Workload> for Expected {
    fn from(workload: Workload) -> Self {
        Self { good: workload.good(), bad: workload.bad() }
    }
}

impl Expected {
    /// Documents that OpenSearch must hold.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.good.len() as u64
    }

    /// Fails, naming lines, unless every well-formed line is in both sinks once and every malformed one in the dead letters once.
    ///
    /// # Errors
    /// What is missing, more than once, or not expected.
    pub fn check(&self, outcome: &Outcome) -> Result<()> {
        compare("OpenSearch", &self.good, &outcome.indexed)?;
        compare("the archive", &self.good, &outcome.archived)?;
        compare("the dead letters", &self.bad, &outcome.dead)
    }
}

fn compare(place: &str, expected: &BTreeSet<String>, found: &BTreeMap<String, u32>) -> Result<()> {
    let missing: Vec<_> = expected.iter().filter(|line| !found.contains_key(*line)).collect();
    let repeated: Vec<_> = found.iter().filter(|(_, count)| **count > 1).collect();
    let strange: Vec<_> = found.keys().filter(|line| !expected.contains(*line)).collect();
    let first = |lines: &[&String]| lines.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    ensure!(
        missing.is_empty() && repeated.is_empty() && strange.is_empty(),
        "{place}: of {} lines {} are missing ({}), {} are there more than once ({:?}), {} do not belong there ({})",
        expected.len(),
        missing.len(),
        first(&missing),
        repeated.len(),
        repeated.iter().take(3).collect::<Vec<_>>(),
        strange.len(),
        first(&strange),
    );
    Ok(())
}

impl Outcome {
    /// Reads everything back.
    ///
    /// # Errors
    /// A server does not answer, or what a manifest lists is not there or not readable.
    pub async fn read(moto: &Moto, opensearch: &OpenSearch) -> Result<Self> {
        let mut outcome = Self { indexed: indexed(opensearch).await?, ..Self::default() };
        for key in manifest_files(moto, "edge/").await? {
            archived(&moto.get_object("lake", &key).await?, &mut outcome.archived).with_context(|| format!("read {key}"))?;
        }
        for key in manifest_files(moto, "edge-bad-lines/").await? {
            dead(&moto.get_object("lake", &key).await?, &mut outcome.dead).with_context(|| format!("read {key}"))?;
        }
        Ok(outcome)
    }
}

/// `request_id` of every document, page by page.
async fn indexed(opensearch: &OpenSearch) -> Result<BTreeMap<String, u32>> {
    let total = opensearch.count("edge-*").await?;
    let mut found = BTreeMap::new();
    let mut after: Option<Value> = None;
    loop {
        let mut query = json!({"size": PAGE, "_source": ["request_id"], "sort": [{"request_id.keyword": "asc"}, {"_id": "asc"}],
                               "query": {"match_all": {}}});
        if let Some(after) = &after {
            query["search_after"] = after.clone();
        }
        let answer = opensearch.post("/edge-*/_search?ignore_unavailable=true", &query).await?;
        let hits = answer["hits"]["hits"].as_array().with_context(|| format!("no hits in {answer}"))?;
        for hit in hits {
            let identity = hit["_source"]["request_id"].as_str().with_context(|| format!("no request_id in {hit}"))?;
            *found.entry(identity.to_owned()).or_default() += 1;
        }
        match hits.last() {
            Some(last) => after = Some(last["sort"].clone()),
            None => break,
        }
    }
    let seen: u64 = found.values().map(|count| u64::from(*count)).sum();
    ensure!(seen == total, "OpenSearch counts {total} documents and hands out {seen}");
    Ok(found)
}

/// Keys of the files that the manifests below `prefix` list.
async fn manifest_files(moto: &Moto, prefix: &str) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for manifest in moto.list_objects("lake", &format!("{prefix}_millrace/")).await? {
        let text = moto.get_object("lake", &manifest).await?;
        let manifest: Value = serde_json::from_slice(&text).with_context(|| format!("{manifest} is not JSON"))?;
        for file in manifest["files"].as_array().with_context(|| format!("no files in {manifest}"))? {
            keys.push(file["path"].as_str().with_context(|| format!("no path in {file}"))?.to_owned());
        }
    }
    let different: BTreeSet<&String> = keys.iter().collect();
    ensure!(different.len() == keys.len(), "a file is listed by several manifests");
    Ok(keys)
}

fn archived(file: &[u8], found: &mut BTreeMap<String, u32>) -> Result<()> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(file))?.build()?;
    for batch in reader {
        let batch = batch?;
        let column = batch.column_by_name("x_edge_request_id").context("no column x_edge_request_id")?;
        let text = arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8)?;
        for identity in text.as_string::<i32>() {
            *found.entry(identity.context("a line without an identity")?.to_owned()).or_default() += 1;
        }
    }
    Ok(())
}

fn dead(file: &[u8], found: &mut BTreeMap<String, u32>) -> Result<()> {
    for line in file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let envelope: Value = serde_json::from_slice(line)?;
        let payload = STANDARD.decode(envelope["payload"].as_str().with_context(|| format!("no payload in {envelope}"))?)?;
        let payload = String::from_utf8(payload)?;
        let identity = payload.rsplit('\t').next().unwrap_or_default().trim_end().to_owned();
        *found.entry(identity).or_default() += 1;
    }
    Ok(())
}
