//! Time attributes: which columns of a table tell event time, processing time or the bounds of a window. Holds names and types, computes no time.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};

/// Key of the field metadata that marks a time attribute. It stands in the schemas that are planned with, never in those of batches.
pub(super) const KEY: &str = "millrace.time";

/// Names of the columns that a window function adds.
pub(super) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// What a column tells about time.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum TimeAttribute {
    /// When the row happened, by this clock.
    Time(Clock),
    /// The last millisecond of the row's window. A time of the same clock too.
    WindowTime(Clock),
    /// Where the row's window starts.
    WindowStart(Clock),
    /// Where the row's window ends: the first moment that is not in it.
    WindowEnd(Clock),
}

/// What says that a time has come.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Clock {
    /// Watermarks: the times are those at which what rows tell of happened.
    Event {
        /// For how long after they have ended windows still take rows, in microseconds.
        lateness: i64,
    },
    /// The clock of the task: the times are those at which it took rows in.
    Processing,
}

impl Clock {
    /// Watermarks, with windows that give their result once.
    pub(super) const EVENT: Self = Self::Event { lateness: 0 };

    /// Whether watermarks say that a time has come.
    pub(super) fn is_event(self) -> bool {
        matches!(self, Self::Event { .. })
    }

    /// For how long after they have ended windows still take rows, in microseconds.
    pub(super) fn lateness(self) -> i64 {
        match self {
            Self::Event { lateness } => lateness,
            Self::Processing => 0,
        }
    }
}

impl TimeAttribute {
    /// Whether the clock tells when no row with an earlier value will come.
    pub(super) fn is_time(self) -> bool {
        matches!(self, Self::Time(_) | Self::WindowTime(_))
    }

    /// Whether the column says which window a row is in.
    pub(super) fn is_of_window(self) -> bool {
        !matches!(self, Self::Time(_))
    }

    /// What says that it has come.
    pub(super) fn clock(self) -> Clock {
        match self {
            Self::Time(clock) | Self::WindowTime(clock) | Self::WindowStart(clock) | Self::WindowEnd(clock) => clock,
        }
    }

    fn as_str(self) -> &'static str {
        match (self, self.clock()) {
            (Self::Time(_), Clock::Event { .. }) => "event",
            (Self::WindowTime(_), Clock::Event { .. }) => "window_time",
            (Self::WindowStart(_), Clock::Event { .. }) => "window_start",
            (Self::WindowEnd(_), Clock::Event { .. }) => "window_end",
            (Self::Time(_), Clock::Processing) => "processing",
            (Self::WindowTime(_), Clock::Processing) => "processing_window_time",
            (Self::WindowStart(_), Clock::Processing) => "processing_window_start",
            (Self::WindowEnd(_), Clock::Processing) => "processing_window_end",
        }
    }
}

/// The schema with the time attributes of its columns written into the metadata, and no others.
pub(super) fn mark(schema: &Schema, times: &[Option<TimeAttribute>]) -> SchemaRef {
    let fields: Vec<FieldRef> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(position, field)| {
            let attribute = times.get(position).copied().flatten();
            if attribute.is_none() && !field.metadata().contains_key(KEY) {
                return Arc::clone(field);
            }
            let mut metadata = field.metadata().clone();
            metadata.remove(KEY);
            metadata.extend(attribute.map(|attribute| (KEY.to_owned(), attribute.as_str().to_owned())));
            Arc::new(field.as_ref().clone().with_metadata(metadata))
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The type of the columns that a window over a column of this type adds: to the millisecond at least, because `window_time` is one before the end.
pub(super) fn window_type(time: &DataType) -> Option<DataType> {
    match time {
        DataType::Timestamp(TimeUnit::Second, zone) => Some(DataType::Timestamp(TimeUnit::Millisecond, zone.clone())),
        DataType::Timestamp(..) => Some(time.clone()),
        _ => None,
    }
}
