//! The rows of one input of a test: decoded as a Source's JSON would be, with the watermark that follows from them. It reads no file and no clock.

use arrow::array::{Array as _, AsArray as _, UInt64Array};
use arrow::compute::max;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use millrace_connectors::formats::{RecordDecoder, record_decoder};
use millrace_crds::format::{Json, SourceFormat};
use millrace_crds::pipeline::Row;
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::plan::InputChangelog;
use millrace_engine::row_kind::{RowKind, RowKinds};

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
    changelog: InputChangelog,
}

/// What a row of an input that is revised says about itself.
const OP: &str = "_op";

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
            changelog: input.changelog.clone(),
        })
    }

    /// The rows, each in a batch of its own, so that every version of a result that is revised is seen; what is replaced is with what replaces it.
    pub(super) fn rows(&mut self, rows: &[Row]) -> Result<Vec<Batch>, String> {
        let mut rows = rows.to_vec();
        let kinds = self.kinds(&mut rows)?;
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
        let batch = |row: usize, count: usize| {
            let ordinals = UInt64Array::from_iter_values(start + row as u64..start + (row + count) as u64);
            let batch = Batch::new(decoded.records.slice(row, count), self.origin.clone(), ordinals);
            let kinds = kinds.as_ref().map(|kinds| RowKinds::new(kinds[row..row + count].iter().copied()));
            Batch { kinds, ..batch }
        };
        let kind = |row: usize| kinds.as_ref().map(|kinds| kinds[row]);
        let first_rows = (0..decoded.records.num_rows()).filter(|row| *row == 0 || kind(row - 1) != Some(RowKind::UpdateBefore));
        Ok(first_rows.map(|row| batch(row, if kind(row) == Some(RowKind::UpdateBefore) { 2 } else { 1 })).collect())
    }

    /// Takes the kinds out of rows that may say one; `None` if the input's rows are only appended.
    fn kinds(&self, rows: &mut [Row]) -> Result<Option<Vec<RowKind>>, String> {
        let allowed: &[RowKind] = match self.changelog {
            InputChangelog::Append => return Ok(None),
            InputChangelog::Retract { .. } => &[RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete],
            InputChangelog::Upsert { .. } => &[RowKind::Insert, RowKind::Delete],
        };
        let mut kinds = Vec::with_capacity(rows.len());
        for (position, row) in rows.iter_mut().enumerate() {
            let kind = match row.0.remove(OP) {
                None => Some(RowKind::Insert),
                Some(op) => allowed.iter().copied().find(|kind| op.as_str() == Some(kind.as_str())),
            };
            let known = || allowed.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
            kinds.push(kind.ok_or_else(|| format!("row {}: \"{OP}\" of this input is one of {}", position + 1, known()))?);
        }
        let is_after = |position: usize| kinds.get(position) == Some(&RowKind::UpdateAfter);
        let is_before = |position: usize| kinds[position] == RowKind::UpdateBefore;
        if let Some(lonely) = (0..kinds.len()).find(|row| is_before(*row) != is_after(row + 1)) {
            return Err(format!(
                "row {}: a row of \"{OP}\" -U is followed by that of +U which replaces it, and no other row is",
                lonely + 1
            ));
        }
        if is_after(0) {
            return Err(format!("row 1: a row of \"{OP}\" +U stands behind that of -U which it replaces"));
        }
        Ok(Some(kinds))
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
