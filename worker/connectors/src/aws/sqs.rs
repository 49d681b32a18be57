//! The client of a queue. It knows where the queue's API is; it sends nothing.

use std::time::Duration;

use aws_config::Region;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use millrace_crds::connectors::aws::AwsAccess;
use url::Url;

use super::config::{ANY_REGION, configured_endpoint, sdk_config};
use crate::context::Context;

/// A long poll takes up to 20 seconds.
const ATTEMPT: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);

/// A client for the queue at `queue_url`. `endpoint` of `access` is S3's, not the queue's.
pub(crate) async fn client(queue_url: &str, access: &AwsAccess, context: &Context) -> aws_sdk_sqs::Client {
    let config = sdk_config(access, region_of(queue_url), context).await;
    // Retrying is told to Health, so the SDK does little of it.
    let mut builder = aws_sdk_sqs::config::Builder::from(&config)
        .retry_config(RetryConfig::standard().with_max_attempts(2))
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT).build());
    if let Some(endpoint) = configured_endpoint("SQS", &config).or_else(|| foreign_origin(queue_url)) {
        builder = builder.endpoint_url(endpoint);
        if config.region().is_none() {
            builder = builder.region(Region::new(ANY_REGION));
        }
    }
    aws_sdk_sqs::Client::from_conf(builder.build())
}

/// The region in an AWS queue URL.
pub(crate) fn region_of(queue_url: &str) -> Option<String> {
    let url = Url::parse(queue_url).ok()?;
    let host = url.host_str()?;
    if !is_aws(host) {
        return None;
    }
    let mut labels = host.split('.');
    match (labels.next()?, labels.next()?) {
        ("sqs" | "sqs-fips", region) => Some(region.to_owned()),
        (region, "queue") => Some(region.to_owned()),
        _ => None,
    }
}

/// Scheme, host and port of a queue URL that is not AWS's.
fn foreign_origin(queue_url: &str) -> Option<String> {
    let url = Url::parse(queue_url).ok()?;
    (!is_aws(url.host_str()?)).then(|| url.origin().ascii_serialization())
}

fn is_aws(host: &str) -> bool {
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_queue_names_its_region_or_its_endpoint() {
        for (url, region, origin) in [
            ("https://sqs.eu-west-1.amazonaws.com/1/q", Some("eu-west-1"), None),
            ("https://eu-west-2.queue.amazonaws.com/1/q", Some("eu-west-2"), None),
            ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", Some("cn-north-1"), None),
            ("http://127.0.0.1:5000/1/q", None, Some("http://127.0.0.1:5000")),
            ("https://queues.example.com/1/q", None, Some("https://queues.example.com")),
        ] {
            assert_eq!(region_of(url).as_deref(), region, "{url}");
            assert_eq!(foreign_origin(url).as_deref(), origin, "{url}");
        }
    }
}
