//! `s3`: objects that an SQS queue announces, read; objects, written. It never lists a bucket to find what to read, and never deletes or changes an object.
//!
//! Maturity: stable. Source: replayable, competing. Sink: exactly once for readers of its manifests.
//!
//! # Source
//! ```text
//!  queue ──▶ intake ──▶ ledger: claim ──▶ download (4 at once, ahead) ──▶ reader ──▶ records
//!    ▲                     ▲                                                │ epoch durable
//!    └── janitor: keep hidden, delete ◀── ledger: done ◀── acknowledge ◀────┘
//! ```
//! Each object, told apart by bucket, key and version (or ETag), is read once by one of all workers: see the `ledger` module.
//! An object that was replaced, deleted or archived before it could be read becomes one rejected record, `ObjectLost`; one that was replaced by a version
//! that has been announced, too, does not. A message that announces nothing becomes one, `Malformed`. Test events and removals are deleted.
//!
//! It needs `sqs:ReceiveMessage`, `sqs:DeleteMessage`, `sqs:ChangeMessageVisibility`, `sqs:GetQueueAttributes`, `s3:GetObject` (`s3:GetObjectVersion`), and
//! `s3:ListBucket`: without it S3 answers for an object that is gone as for one that is forbidden, and we would wait for the right for ever.
//!
//! # Sink
//! Each file is a multipart upload that is completed when its epoch commits. It needs `s3:PutObject` and `s3:AbortMultipartUpload`, and the bucket should
//! have a lifecycle rule that aborts incomplete uploads after some days: those of a worker that was killed are left. The days must be
//! more than a Pipeline may stand still between writing an epoch and committing it.
//!
//! # Known limits
//! * About 100 bytes of memory for each object read within `ledgerTtlSeconds`: lower it to the queue's retention when there are millions.
//! * All workers of one input append to one log: some ten claims a second, of up to ten objects each.
//! * A key with `.` or `..` as a segment, or one that ends in a slash and has content, cannot be requested over HTTP: `ObjectLost`.
//! * A checkpoint that had to fall back by an epoch (`DataRegression`) does not read again what the lost epoch had finished.

pub(crate) mod announcement;
mod download;
mod held;
mod intake;
mod janitor;
mod ledger;
mod object;
mod observed;
mod queue;
mod reader;
mod sink;
mod source;
mod upload;

#[cfg(test)]
mod tests;

pub use sink::S3Sink;
pub use source::S3Source;
