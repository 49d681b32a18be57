//! Buckets, as object stores, and the store of checkpoints. It opens nothing: the first request is the user's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millrace_crds::connectors::aws::AwsAccess;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::config::{ANY_REGION, configured_endpoint, sdk_config};
use super::errors::store_error;
use super::identity::StoreIdentity;
use crate::context::Context;
use crate::local_store::LocalStore;

const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(60);
/// Retrying is told to Health by our callers, so object_store does little of it.
const RETRIES: usize = 2;
const RETRY_FOR: Duration = Duration::from_secs(10);

/// How to reach S3 and as whom.
#[derive(Clone, Debug)]
pub(crate) struct S3Access {
    access: AwsAccess,
    /// Used if neither spec nor environment name a region.
    nearby_region: Option<String>,
    context: Context,
}

impl S3Access {
    pub(crate) fn new(access: &AwsAccess, nearby_region: Option<String>, context: &Context) -> Self {
        Self { access: access.clone(), nearby_region, context: context.clone() }
    }

    /// A bucket.
    ///
    /// # Errors
    /// `Invalid` if there is no region or the endpoint is no URL.
    pub(crate) async fn bucket(&self, bucket: &str) -> Result<AmazonS3, ConnectorError> {
        self.bucket_below(bucket, None).await
    }

    /// A bucket seen from `folder`, which is put, with a slash, in front of every key as it is. With it keys can be named that a path of
    /// object_store cannot hold, because they have empty segments: `a//b` is `b` below `a/`. Such a store can read and write objects but not list.
    ///
    /// # Errors
    /// `Invalid` if there is no region or the endpoint is no URL.
    pub(crate) async fn bucket_below(&self, bucket: &str, folder: Option<&str>) -> Result<AmazonS3, ConnectorError> {
        let config = sdk_config(&self.access, self.nearby_region.clone(), &self.context).await;
        let endpoint = self.access.endpoint.clone().or_else(|| configured_endpoint("S3", &config));
        let region = match (config.region(), &endpoint) {
            (Some(region), _) => region.to_string(),
            (None, Some(_)) => ANY_REGION.to_owned(),
            (None, None) => {
                return Err(ConnectorError::new(
                    ErrorReason::Invalid,
                    format!("no region for bucket {bucket}: set `region` in the spec or AWS_REGION in the environment"),
                ));
            }
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(REQUEST))
            .with_retry(RetryConfig { backoff: BackoffConfig::default(), max_retries: RETRIES, retry_timeout: RETRY_FOR });
        // Path style wherever the bucket's name is not known to be part of a host's.
        let base = match (&endpoint, folder) {
            (Some(endpoint), _) => Some(format!("{}/{bucket}", endpoint.trim_end_matches('/'))),
            (None, None) => None,
            (None, Some(_)) => Some(format!("https://s3.{region}.amazonaws.com/{bucket}")),
        };
        if let Some(base) = base {
            let whole = match folder {
                None => base,
                Some(folder) => format!("{base}/{}", percent_encoding::utf8_percent_encode(folder, FOLDER)),
            };
            builder = builder.with_allow_http(whole.starts_with("http://")).with_virtual_hosted_style_request(true).with_endpoint(whole);
        }
        if let Some(provider) = config.credentials_provider() {
            builder = builder.with_credentials(Arc::new(StoreIdentity::new(provider)));
        }
        builder.with_region(region).build().map_err(|error| store_error(&format!("open bucket {bucket}"), error))
    }
}

/// What stays as it is in a folder: what S3's signature leaves as it is, and the slash.
const FOLDER: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Opens the store of checkpoints at `location`: `s3://bucket/prefix` or `file:///directory`. A missing directory is created.
/// Returns the store and the path in it that everything is kept below.
///
/// # Errors
/// `Invalid` if the location cannot be one, `AccessDenied` or `Unreachable` if the directory cannot be made.
pub async fn open_store(
    location: &str,
    aws: Option<&AwsAccess>,
    context: &Context,
) -> Result<(Arc<dyn ObjectStore>, Path), ConnectorError> {
    if let Some(directory) = location.strip_prefix("file://") {
        return Ok((Arc::new(local(PathBuf::from(directory)).await?), Path::ROOT));
    }
    let invalid = |why: &str| {
        let message = format!("state location \"{location}\" {why}; use s3://bucket/prefix or file:///directory");
        ConnectorError::new(ErrorReason::Invalid, message)
    };
    let place = location.strip_prefix("s3://").ok_or_else(|| invalid("is of no known kind"))?;
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() {
        return Err(invalid("names no bucket"));
    }
    let base = Path::parse(prefix).map_err(|error| invalid("has a prefix that cannot be one").caused_by(error))?;
    let store = S3Access::new(aws.unwrap_or(&AwsAccess::default()), None, context).bucket(bucket).await?;
    Ok((Arc::new(store), base))
}

async fn local(directory: PathBuf) -> Result<LocalStore, ConnectorError> {
    let shown = directory.display().to_string();
    if !directory.is_absolute() {
        let message = format!("state location file://{shown} is not absolute; use file:///directory");
        return Err(ConnectorError::new(ErrorReason::Invalid, message));
    }
    let failed = |error: std::io::Error| {
        let reason = match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => ErrorReason::AccessDenied,
            _ => ErrorReason::Unreachable,
        };
        ConnectorError::new(reason, format!("cannot make the state directory {shown}: {error}")).caused_by(error)
    };
    tokio::fs::create_dir_all(&directory).await.map_err(failed)?;
    LocalStore::new(directory).map_err(|error| store_error(&format!("open {shown}"), error))
}

#[cfg(test)]
mod tests {
    use millrace_crds::pipeline::Limits;
    use object_store::ObjectStoreExt as _;

    use super::*;
    use crate::context::ResolvedLimits;

    fn context() -> Context {
        Context { secrets_dir: PathBuf::from("/nowhere"), limits: ResolvedLimits::from(&Limits::default()) }
    }

    #[tokio::test]
    async fn a_directory_is_made_and_used() {
        let dir = tempfile::tempdir().unwrap();
        let location = format!("file://{}/a b/state", dir.path().display());
        let (store, base) = open_store(&location, None, &context()).await.unwrap();
        store.put(&base.join("x"), "1".into()).await.unwrap();
        assert_eq!(std::fs::read(dir.path().join("a b/state/x")).unwrap(), b"1");
    }

    #[tokio::test]
    async fn a_bucket_has_its_prefix_as_base() {
        let access =
            AwsAccess { region: Some("eu-west-1".to_owned()), endpoint: Some("http://127.0.0.1:1".to_owned()), ..AwsAccess::default() };
        let (_, base) = open_store("s3://state/edge/logs/", Some(&access), &context()).await.unwrap();
        assert_eq!(base.as_ref(), "edge/logs");
        let (_, base) = open_store("s3://state", Some(&access), &context()).await.unwrap();
        assert_eq!(base, Path::ROOT);
    }

    #[tokio::test]
    async fn other_locations_are_refused_with_what_would_be_right() {
        for location in ["gs://bucket", "s3:///prefix", "s3://b/a//b", "file://relative"] {
            let error = open_store(location, None, &context()).await.unwrap_err();
            assert_eq!(error.reason, ErrorReason::Invalid, "{location}");
            assert!(error.message.contains("file:///directory"), "{}", error.message);
        }
    }
}
