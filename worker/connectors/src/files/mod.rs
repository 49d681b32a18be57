//! `files`: a directory on a disk or volume, read and written. It never deletes or changes a file that it reads.
//!
//! Maturity: stable. Source: replayable, one split. Sink: exactly once for readers of its manifests.
//!
//! # What a file is
//! A file is known by its inode and birth time, so that one that is renamed (log rotation) is not read again, and by size and modification
//! time, so that a copied volume is not read again. A file that grows is read on. One that was truncated, or replaced by another under the
//! same name, is read from its start as a new version, with a coordinate of its own.
//!
//! A plain text file is read as it grows, up to its last complete line; a last line without an end is taken once the file has been quiet for
//! two seconds. Compressed files and Parquet are read once they have been quiet that long. Best is to write under a name that starts with a dot or ends in
//! `.tmp` and rename: neither is ever read. Folders called `_millrace` are not read either: they hold the manifests of sinks.
//!
//! # Known limits
//! * The position holds about 150 bytes for each file that is there: move finished files away when there are tens of thousands.
//! * What is written into a file between our last look and its deletion or truncation is not seen; nobody can.
//! * Changes of a compressed or plain file in place, other than appending and truncating, are not noticed.
//! * The file system must know birth times (ext4, xfs, btrfs, overlay, tmpfs do) for renames to be recognised; without, a renamed file is read again.

mod position;
mod reader;
mod scan;
mod sink;
mod source;
mod storage;
mod watch;

#[cfg(test)]
mod tests;

pub use sink::FilesSink;
pub use source::FilesSource;
