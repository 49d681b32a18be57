//! What connectors to files and to objects share: reading one of them, writing many of them. It knows neither disks nor S3.
//!
//! * [`stream`]: one file or object as decoded records, from any place in it.
//! * [`writer`]: batches as files, one or more for each partition and epoch, over a [`writer::Storage`].
//! * [`manifest`]: the list of an epoch's files: what a reader that wants every row once goes by.
//! * [`names`]: names of files and manifests.

pub(crate) mod manifest;
pub(crate) mod names;
pub(crate) mod stream;
pub(crate) mod writer;
