//! How every AWS connector gets its region, endpoint, identity and clients. It never reads or writes data.
//!
//! ```text
//!  AwsAccess ──▶ config: standard chain, or the keys of a Secret ──▶ SdkConfig ──▶ sqs: queue client
//!                                                                        └──────▶ identity ──▶ s3: object_store
//!  errors of both ──▶ errors ──▶ ConnectorError with a reason
//! ```
//!
//! Endpoints, first match wins: for S3 `endpoint` of the spec, `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, AWS; for a queue
//! `AWS_ENDPOINT_URL_SQS`, `AWS_ENDPOINT_URL`, the host of the queue's URL if it is not AWS's, AWS.

mod config;
mod errors;
mod identity;
mod s3;
mod sqs;

pub use s3::open_store;

pub(crate) use errors::{object_is_archived, sdk_error, store_error};
pub(crate) use s3::S3Access;
pub(crate) use sqs::{client as sqs_client, region_of as region_of_queue};
