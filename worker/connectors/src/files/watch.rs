//! Looks at a directory again and again and reads what is new, ahead of the reader by a few pieces. It keeps no position: the reader does.

#![expect(clippy::disallowed_methods, reason = "whether a file is still being written is told by the clock: how long ago it was changed")]

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use millrace_crds::connectors::files::FilesMode;
use millrace_crds::format::Compression;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::{ConnectorError, Health};
use millrace_engine::source::Records;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::position::{FileState, Positions, Seen, Work, decide};
use super::scan::{Selection, seen};
use crate::formats::parquet_in::{RangeReader, ReadError};
use crate::objects::stream::{AtEnd, ObjectStream, Reading, is_lost, rest_of};
use crate::retry;

/// Time between two looks at the directory.
const POLL: Duration = Duration::from_millis(500);
/// A file that has not changed for this long is not being written.
const QUIET: Duration = Duration::from_secs(2);

/// What the reader is told.
#[derive(Debug)]
pub(super) enum Event {
    /// Records, and how far their file has been read with them.
    Read(Records, FileState),
    /// A file is known under another path.
    Moved { from: String, to: String },
    /// A file is gone and need not be remembered.
    Forget(String),
    /// The source cannot go on.
    Failed(ConnectorError),
}

/// Watches one directory.
pub(super) struct Watch {
    pub(super) selection: Selection,
    pub(super) mode: FilesMode,
    pub(super) reading: Arc<Reading>,
    /// As the reader's, plus what is on its way to it.
    pub(super) positions: Positions,
    pub(super) events: mpsc::Sender<Event>,
    /// Set while there is nothing to read.
    pub(super) idle: Arc<AtomicBool>,
    pub(super) health: Health,
    /// Since when files have looked as they do.
    pub(super) unchanged: HashMap<String, (u64, i64, Instant)>,
}

/// The reader is gone.
struct Closed;

impl Watch {
    /// Reads until all is read (mode `Once`) or the reader is gone.
    pub(super) async fn run(mut self) {
        loop {
            let scanned = match self.scan().await {
                Ok(scanned) => scanned,
                Err(error) => {
                    let _closed = self.events.send(Event::Failed(error)).await;
                    return;
                }
            };
            match self.round(&scanned).await {
                Err(Closed) => return,
                Ok(waiting) if self.mode == FilesMode::Once && !waiting => return,
                Ok(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn scan(&self) -> Result<Vec<Seen>, ConnectorError> {
        let directory = self.selection.directory.display().to_string();
        retry::until_done(&self.health, async || {
            let selection = self.selection.clone();
            let scanned = tokio::task::spawn_blocking(move || selection.scan()).await;
            let scanned = scanned.map_err(|error| ConnectorError::new(ErrorReason::Internal, error.to_string()))?;
            scanned.map_err(|error| io_error(&format!("list directory {directory}"), error))
        })
        .await
    }

    /// Reads what one look has found. Returns whether something could not be read yet.
    async fn round(&mut self, scanned: &[Seen]) -> Result<bool, Closed> {
        let decision = decide(&self.positions, scanned, self.reading.format.parquet.is_some());
        for (from, to) in decision.moved {
            self.positions.rename(&from, &to);
            self.send(Event::Moved { from, to }).await?;
        }
        for path in self.positions.forgettable(scanned) {
            self.positions.files.remove(&path);
            self.send(Event::Forget(path)).await?;
        }
        self.note_unchanged(scanned);
        let mut waiting = false;
        for work in decision.work {
            self.idle.store(false, Ordering::Relaxed);
            waiting |= !self.read(work).await?;
        }
        self.idle.store(!waiting, Ordering::Relaxed);
        Ok(waiting)
    }

    fn note_unchanged(&mut self, scanned: &[Seen]) {
        let mut before = std::mem::take(&mut self.unchanged);
        for seen in scanned {
            let as_before = before.remove(&seen.path).filter(|(size, modified, _)| (*size, *modified) == (seen.size, seen.modified));
            let since = as_before.map_or_else(Instant::now, |(_, _, since)| since);
            self.unchanged.insert(seen.path.clone(), (seen.size, seen.modified, since));
        }
    }

    /// Whether nobody is writing the file any more, as far as can be told.
    fn is_quiet(&self, seen: &Seen) -> bool {
        if self.mode == FilesMode::Once {
            return true;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let age = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX).saturating_sub(seen.modified);
        let watched = self.unchanged.get(&seen.path).map(|(_, _, since)| since.elapsed());
        u64::try_from(age).is_ok_and(|age| Duration::from_nanos(age) >= QUIET) || watched.is_some_and(|watched| watched >= QUIET)
    }

    /// Reads one file as far as it can be. Returns whether all that is there was read; if not, it is looked at again.
    async fn read(&mut self, work: Work) -> Result<bool, Closed> {
        let path = work.state.seen.path.clone();
        let quiet = self.is_quiet(&work.state.seen);
        if !quiet && (!work.changed || self.reading.format.parquet.is_some()) {
            return Ok(false);
        }
        match self.read_file(work.state, quiet).await? {
            Ok(complete) => {
                self.health.clear();
                Ok(complete)
            }
            Err(error) => {
                // Of one file; the others go on. The next look decides what it is now.
                if is_lost(&error) {
                    tracing::warn!(path, error = %error.message, "a file changed while it was read");
                } else {
                    self.health.trouble(error.reason, error.message);
                }
                Ok(false)
            }
        }
    }

    async fn read_file(&mut self, mut state: FileState, quiet: bool) -> Result<Result<bool, ConnectorError>, Closed> {
        let mut file = match OpenFile::open(&self.selection, &state.seen).await {
            Ok(file) => file,
            Err(error) => return Ok(Err(error)),
        };
        let plain = match self.is_plain(&mut file).await {
            Ok(plain) => plain,
            Err(error) => return Ok(Err(error)),
        };
        let at_end = match (quiet, plain) {
            (true, _) => AtEnd::Complete,
            (false, Some(true)) => AtEnd::MayGrow,
            // Compressed, or too short to tell: only whole.
            (false, _) => return Ok(Ok(false)),
        };
        let origin = state.origin(&self.selection.directory.display().to_string());
        let resume = (state.at != crate::formats::StreamPosition::default()).then(|| state.at.clone());
        let opened = ObjectStream::open(&self.reading, Box::new(file), resume, at_end).await;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(ReadError::Read(error)) => return Ok(Err(error)),
            Err(ReadError::Refused { code, error }) => {
                let at = state.at.record;
                state.done = true;
                self.report(rest_of(&origin, at, code, error, state.seen.path.clone().into()), state).await?;
                return Ok(Ok(true));
            }
        };
        loop {
            match stream.next().await {
                Ok(Some(piece)) => {
                    state.at = piece.position;
                    self.report(piece.decoded.into_records(&origin), state.clone()).await?;
                }
                Ok(None) => {
                    state.at = stream.position();
                    state.done = at_end == AtEnd::Complete || state.at.byte >= state.seen.size;
                    let done = state.done;
                    self.report(Records::default(), state).await?;
                    return Ok(Ok(done));
                }
                Err(ReadError::Read(error)) => return Ok(Err(error)),
                Err(ReadError::Refused { code, error }) => {
                    state.at = stream.position();
                    state.done = true;
                    let at = state.at.record;
                    self.report(rest_of(&origin, at, code, error, state.seen.path.clone().into()), state).await?;
                    return Ok(Ok(true));
                }
            }
        }
    }

    /// Whether the file is not compressed; `None` if it is too short to tell.
    async fn is_plain(&self, file: &mut OpenFile) -> Result<Option<bool>, ConnectorError> {
        const GZIP: &[u8] = &[0x1f, 0x8b];
        const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
        match self.reading.compression {
            Compression::None => Ok(Some(true)),
            Compression::Gzip | Compression::Zstd => Ok(Some(false)),
            Compression::Auto => {
                let start = file.read(0..file.len().min(4)).await?;
                let undecided = start.len() < 4 && (ZSTD.starts_with(&start) || GZIP.starts_with(&start));
                Ok((!undecided).then(|| !start.starts_with(GZIP) && !start.starts_with(ZSTD)))
            }
        }
    }

    async fn report(&mut self, records: Records, state: FileState) -> Result<(), Closed> {
        self.positions.set(state.clone());
        self.send(Event::Read(records, state)).await
    }

    async fn send(&self, event: Event) -> Result<(), Closed> {
        self.events.send(event).await.map_err(|_| Closed)
    }
}

/// A file that is open, as long as it was when it was looked at.
struct OpenFile {
    file: Arc<File>,
    size: u64,
    shown: String,
    /// What was read last.
    last: Bytes,
}

impl OpenFile {
    async fn open(selection: &Selection, expected: &Seen) -> Result<Self, ConnectorError> {
        let path = selection.directory.join(&expected.path);
        let shown = path.display().to_string();
        let doing = format!("open {shown}");
        let opened = tokio::task::spawn_blocking(move || {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            io::Result::Ok((file, metadata))
        });
        let opened = opened.await.map_err(|error| ConnectorError::new(ErrorReason::Internal, error.to_string()))?;
        let (file, metadata) = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => lost(&shown, "is gone"),
            _ => io_error(&doing, error),
        })?;
        let now = seen(expected.path.clone(), &metadata);
        if (now.inode, now.born) != (expected.inode, expected.born) || now.size < expected.size {
            return Err(lost(&shown, "is another file now"));
        }
        Ok(Self { file: Arc::new(file), size: expected.size, shown, last: Bytes::new() })
    }
}

#[async_trait]
impl RangeReader for OpenFile {
    async fn read(&mut self, range: Range<u64>) -> Result<Bytes, ConnectorError> {
        let file = Arc::clone(&self.file);
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        // Once nobody needs what was read last, its memory is used again: it is not cleared once more, and the kernel need not find any.
        let mut bytes = std::mem::take(&mut self.last).try_into_mut().unwrap_or_default();
        let read = tokio::task::spawn_blocking(move || {
            bytes.resize(length, 0);
            file.read_exact_at(&mut bytes, range.start).map(|()| bytes)
        });
        let read = read.await.map_err(|error| ConnectorError::new(ErrorReason::Internal, error.to_string()))?;
        let read = read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => lost(&self.shown, "was cut short"),
            _ => io_error(&format!("read {}", self.shown), error),
        });
        self.last = read?.freeze();
        Ok(self.last.clone())
    }

    fn len(&self) -> u64 {
        self.size
    }
}

fn lost(shown: &str, what: &str) -> ConnectorError {
    ConnectorError::new(ErrorReason::DataLost, format!("file {shown} {what}"))
}

/// An error of the file system.
pub(super) fn io_error(doing: &str, error: io::Error) -> ConnectorError {
    let (reason, advice) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorReason::NotFound, "; create it or correct the path"),
        io::ErrorKind::PermissionDenied => (ErrorReason::AccessDenied, "; check its owner and mode"),
        io::ErrorKind::ReadOnlyFilesystem => (ErrorReason::AccessDenied, "; mount it writable"),
        io::ErrorKind::NotADirectory => (ErrorReason::Invalid, "; correct the path"),
        _ => (ErrorReason::Unreachable, ""),
    };
    ConnectorError::new(reason, format!("cannot {doing}: {error}{advice}")).caused_by(error)
}
