//! The main job as a test: CloudFront logs with known lines, announced the way S3 announces; and what must have become of them. It runs no Millrace.

mod outcome;
mod workload;

pub use outcome::{Expected, Outcome};
pub use workload::{Announcements, Workload};

use anyhow::{Context, Result, ensure};

use crate::installed;

/// Where the servers of a run are, as the workers reach them.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// URL of S3 and SQS.
    pub aws: String,
    /// URL of OpenSearch.
    pub opensearch: String,
    /// URL of the queue.
    pub queue: String,
}

/// The manifests of `examples/access-logs` for test servers: endpoints and queue replaced, credentials in variables, an epoch every two seconds. `uid` keeps the state of runs apart.
///
/// # Errors
/// The example has changed so that a replacement finds nothing.
pub fn manifests(endpoints: &Endpoints, run: &str) -> Result<String> {
    let path = installed::checkout().join("examples/access-logs/access-logs.yaml");
    let mut text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let workload = format!(
        "  state: {{location: \"s3://state/{run}\"}}\n  checkpoint: {{intervalSeconds: 2}}\n  workload:\n    env:\n\
         \x20   - {{name: AWS_ENDPOINT_URL, value: \"{}\"}}\n    - {{name: AWS_REGION, value: eu-west-1}}\n\
         \x20   - {{name: AWS_ACCESS_KEY_ID, value: test}}\n    - {{name: AWS_SECRET_ACCESS_KEY, value: test}}\n",
        endpoints.aws
    );
    let replacements = [
        (
            "https://sqs.eu-west-1.amazonaws.com/123456789012/edge-logs\"}}",
            format!("{}\", visibilityTimeoutSeconds: 20}}}}", endpoints.queue),
        ),
        ("https://search.example.com:9200", endpoints.opensearch.clone()),
        ("    basicAuth: {secretRef: {name: search-login}}\n", String::new()),
        ("  state: {location: \"s3://state/edge\"}\n", workload),
    ];
    for (old, new) in replacements {
        ensure!(text.contains(old), "{} no longer holds {old:?}", path.display());
        text = text.replace(old, &new);
    }
    Ok(text)
}
