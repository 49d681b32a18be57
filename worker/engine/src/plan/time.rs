//! Time attributes: which columns of a table tell event time or the bounds of a window. Holds names and types, computes no time.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};

/// Key of the field metadata that marks a time attribute. It stands in the schemas that are planned with, never in those of batches.
pub(super) const KEY: &str = "millrace.time";

/// Names of the columns that a window function adds.
pub(super) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// What a column tells about time.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum TimeAttribute {
    /// When what the row tells of happened. Watermarks are about it.
    Event,
    /// The last millisecond of the row's window. An event time too.
    WindowTime,
    /// Where the row's window starts.
    WindowStart,
    /// Where the row's window ends: the first moment that is not in it.
    WindowEnd,
}

impl TimeAttribute {
    /// Whether watermarks are about the column.
    pub(super) fn is_event_time(self) -> bool {
        matches!(self, Self::Event | Self::WindowTime)
    }

    /// Whether the column says which window a row is in.
    pub(super) fn is_of_window(self) -> bool {
        !matches!(self, Self::Event)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::WindowTime => "window_time",
            Self::WindowStart => "window_start",
            Self::WindowEnd => "window_end",
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
