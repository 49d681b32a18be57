//! The options of every connector, one file a connector. Types and their documentation only: no connection is made here.

pub mod aws;
pub mod blackhole;
pub mod files;
pub mod kafka;
pub mod opensearch;
pub mod s3;
pub mod stdout;
