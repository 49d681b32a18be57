//! The rows of one input of a test: decoded as a Source's JSON would be, with the watermark that follows from them. It reads no file and no clock.

use arrow::array::{Array as _, AsArray as _, UInt64Array};
use arrow::compute::max;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use millrace_connectors::formats::{RecordDecoder, record_decoder};
use millrace_crds::format::{Json, SourceFormat};
use millrace_crds::pipeline::Row;
use millrace_engine::batch::{Batch, Origin};

use crate::assemble::{Assembled, AssembledInput};

/// One input.
pub(super) struct Feed {
    schema: SchemaRef,
    decoder: Box<dyn RecordDecoder>,
    origin: Origin,
    /// Number of the next row.
    next: u64,
    /// Position of the event time among the columns that are read.
    event_time: Option<usize>,
    /// How much later than others a row may come, in microseconds.
    max_delay: i64,
    /// Latest event time so far.
    latest: Option<i64>,
    /// The watermark that was sent last.
    sent: i64,
}

impl Feed {
    /// Nothing has come yet.
    pub(super) fn new(assembled: &Assembled, input: &AssembledInput) -> Result<Self, String> {
        let schema = input.source.schema();
        let projection = assembled.plan.projection(&input.name);
        let format = SourceFormat { json: Some(Json {}), ..SourceFormat::default() };
        let decoder = record_decoder(&format, &schema, &projection, &assembled.context.limits).map_err(|error| error.message)?;
        Ok(Self {
            schema,
            decoder,
            origin: Origin::new(&format!("test/{}", input.name), &*input.name),
            next: 0,
            event_time: assembled.plan.event_time(&input.name),
            max_delay: i64::try_from(input.max_delay.as_micros()).unwrap_or(i64::MAX),
            latest: None,
            sent: i64::MIN,
        })
    }

    /// The rows, each in a batch of its own, so that every version of a result that is revised is seen.
    pub(super) fn rows(&mut self, rows: &[Row]) -> Result<Vec<Batch>, String> {
        for (position, row) in rows.iter().enumerate() {
            if let Some(name) = row.0.keys().find(|name| self.schema.field_with_name(name).is_err()) {
                let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(format!("row {}: \"{name}\" is no column of the Source: there are {}", position + 1, columns.join(", ")));
            }
        }
        let texts: Vec<Vec<u8>> =
            rows.iter().map(|row| serde_json::to_vec(row).map_err(|error| error.to_string())).collect::<Result<_, _>>()?;
        let decoded = self.decoder.decode(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        if let Some(rejected) = decoded.rejected.first() {
            let row = rejected.ordinal + 1;
            return Err(format!("row {row} cannot be decoded, as in a Source: {} ({})", rejected.error, rejected.code.as_str()));
        }
        if let Some(column) = self.event_time {
            let times = decoded.records.column(column);
            if let Some(row) = (0..times.len()).find(|row| times.is_null(*row)) {
                let name = decoded.records.schema().field(column).name().clone();
                return Err(format!(
                    "row {} has no event time (\"{name}\"): where the query needs time, such rows are bad records",
                    row + 1
                ));
            }
            let times = times.as_primitive_opt::<TimestampMicrosecondType>();
            self.latest = self.latest.max(times.and_then(max));
        }
        let start = self.next;
        self.next += decoded.records.num_rows() as u64;
        let batch = |row: usize| {
            let ordinal = UInt64Array::from(vec![start + row as u64]);
            Batch::new(decoded.records.slice(row, 1), self.origin.clone(), ordinal)
        };
        Ok((0..decoded.records.num_rows()).map(batch).collect())
    }

    /// The watermark that follows from the rows, if it has moved.
    pub(super) fn watermark(&mut self) -> Option<i64> {
        self.advance(self.latest?.saturating_sub(self.max_delay))
    }

    /// Puts the watermark to a time; `None` if it is not earlier already.
    pub(super) fn advance(&mut self, time: i64) -> Option<i64> {
        (time > self.sent).then(|| {
            self.sent = time;
            time
        })
    }
}
