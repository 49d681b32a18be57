//! The reader of a directory: keeps the position of what it has returned. The looking and reading is done ahead of it, in `watch`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use millrace_crds::connectors::files::FilesMode;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use millrace_engine::source::{Lag, OpenSplit, SourceEvent, SplitReader};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::position::Positions;
use super::scan::Selection;
use super::watch::{Event, Watch};
use crate::objects::stream::Reading;

/// Pieces that may be read ahead.
const AHEAD: usize = 4;

/// Reads one directory.
pub(super) struct FilesReader {
    positions: Positions,
    events: mpsc::Receiver<Event>,
    /// Runs [`Watch::run`]; aborted on drop.
    watch: JoinSet<()>,
    idle: Arc<AtomicBool>,
}

impl FilesReader {
    pub(super) fn open(selection: Selection, mode: FilesMode, reading: Arc<Reading>, open: OpenSplit) -> Result<Self, ConnectorError> {
        let positions = match open.position {
            None => Positions::default(),
            Some(position) => serde_json::from_value::<Positions>(position)
                .map_err(|error| {
                    let message = format!("the position of {} in the checkpoint is of an unknown form", selection.directory.display());
                    ConnectorError::new(ErrorReason::Corrupt, message).caused_by(error)
                })?
                .restored(),
        };
        let (sender, events) = mpsc::channel(AHEAD);
        let idle = Arc::new(AtomicBool::new(false));
        let mut watch = JoinSet::new();
        watch.spawn(
            Watch {
                selection,
                mode,
                reading,
                positions: positions.clone(),
                events: sender,
                idle: Arc::clone(&idle),
                health: open.health,
                unchanged: HashMap::new(),
            }
            .run(),
        );
        Ok(Self { positions, events, watch, idle })
    }
}

#[async_trait]
impl SplitReader for FilesReader {
    async fn next(&mut self) -> Result<SourceEvent, ConnectorError> {
        // Receiving is the only thing that waits, so a dropped call loses nothing.
        while let Some(event) = self.events.recv().await {
            match event {
                Event::Read(records, state) => {
                    self.positions.set(state);
                    if records.batch.is_some() || !records.rejected.is_empty() {
                        return Ok(SourceEvent::Records(records));
                    }
                }
                Event::Moved { from, to } => self.positions.rename(&from, &to),
                Event::Forget(path) => drop(self.positions.files.remove(&path)),
                Event::Failed(error) => return Err(error),
            }
        }
        if let Some(Err(crashed)) = self.watch.join_next().await
            && crashed.is_panic()
        {
            return Err(ConnectorError::new(ErrorReason::Internal, format!("reading the directory failed: {crashed}")));
        }
        Ok(SourceEvent::End)
    }

    fn position(&self) -> Value {
        // Only numbers and text: cannot fail.
        serde_json::to_value(&self.positions).unwrap_or_default()
    }

    async fn acknowledge(&mut self, _position: &Value) -> Result<(), ConnectorError> {
        // A directory need not be told what has been read.
        Ok(())
    }

    fn drain(&mut self) {
        self.watch.abort_all();
        self.events.close();
    }

    fn lag(&self) -> Lag {
        Lag { records: None, seconds: None, idle: self.events.is_empty() && self.idle.load(Ordering::Relaxed) }
    }

    async fn close(&mut self) {
        self.watch.shutdown().await;
    }
}
