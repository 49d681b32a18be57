//! VPC Flow Logs: space-separated, in the order of the header line, or of version 2 without one. Fields of later versions are ignored.
//!
//! <https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html>

use arrow::datatypes::{DataType, SchemaRef};

use super::columns::{Columns, Fit};
use super::fields::{Layout, utf8};
use super::instants::SECOND;
use super::records::{Refusal, Row, RowFormat};
use super::schema::timestamp;
use super::values::parse_int;

/// Fields of versions 2 to 5. The first [`DEFAULT_FIELDS`] are the format of version 2. `Null` stands for seconds since 1970.
static FIELDS: [(&str, DataType); 29] = [
    ("version", DataType::Int32),
    ("account-id", DataType::Utf8View),
    ("interface-id", DataType::Utf8View),
    ("srcaddr", DataType::Utf8View),
    ("dstaddr", DataType::Utf8View),
    ("srcport", DataType::Int32),
    ("dstport", DataType::Int32),
    ("protocol", DataType::Int32),
    ("packets", DataType::Int64),
    ("bytes", DataType::Int64),
    ("start", DataType::Null),
    ("end", DataType::Null),
    ("action", DataType::Utf8View),
    ("log-status", DataType::Utf8View),
    // 3
    ("vpc-id", DataType::Utf8View),
    ("subnet-id", DataType::Utf8View),
    ("instance-id", DataType::Utf8View),
    ("tcp-flags", DataType::Int32),
    ("type", DataType::Utf8View),
    ("pkt-srcaddr", DataType::Utf8View),
    ("pkt-dstaddr", DataType::Utf8View),
    // 4
    ("region", DataType::Utf8View),
    ("az-id", DataType::Utf8View),
    ("sublocation-type", DataType::Utf8View),
    ("sublocation-id", DataType::Utf8View),
    // 5
    ("pkt-src-aws-service", DataType::Utf8View),
    ("pkt-dst-aws-service", DataType::Utf8View),
    ("flow-direction", DataType::Utf8View),
    ("traffic-path", DataType::Int32),
];
const DEFAULT_FIELDS: usize = 14;

const SEPARATOR: u8 = b' ';

/// Columns of the table: name and type.
pub(super) fn columns() -> impl Iterator<Item = (String, DataType)> {
    FIELDS.iter().map(|(field, data_type)| {
        let data_type = if *data_type == DataType::Null { timestamp() } else { data_type.clone() };
        (column_name(field), data_type)
    })
}

fn column_name(field: &str) -> String {
    field.replace('-', "_")
}

/// Where the value of a column comes from; the numbers are slots of the layout.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Not in this file.
    Nowhere,
    Plain(usize),
    /// Seconds since 1970.
    Seconds(usize),
}

/// Decodes lines.
#[derive(Debug)]
pub(super) struct VpcFlow {
    projected: SchemaRef,
    layout: Layout,
    /// One for each projected column.
    places: Vec<Place>,
    /// The layout is from a header line.
    has_header: bool,
}

impl VpcFlow {
    /// `header` is what [`RowFormat::header`] said, when the stream is gone on with.
    pub(super) fn new(projected: &SchemaRef, header: Option<&str>) -> Result<Self, Refusal> {
        let version_2 = || FIELDS[..DEFAULT_FIELDS].iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
        let names = header.map_or_else(version_2, str::to_owned);
        let (layout, places) = plan(projected, &names)?;
        Ok(Self { projected: SchemaRef::clone(projected), layout, places, has_header: header.is_some() })
    }
}

/// Which fields of a file whose header says `names` make the projected columns.
fn plan(projected: &SchemaRef, names: &str) -> Result<(Layout, Vec<Place>), Refusal> {
    let layout = Layout::new(SEPARATOR, names, |field| projected.column_with_name(&column_name(field)).is_some())?;
    let places = projected.fields().iter().map(|column| {
        let slot = layout.slot(|field| column_name(field) == *column.name());
        match column.data_type() {
            DataType::Timestamp(..) => slot.map_or(Place::Nowhere, Place::Seconds),
            _ => slot.map_or(Place::Nowhere, Place::Plain),
        }
    });
    let places = places.collect();
    Ok((layout, places))
}

/// Names of fields are lower-case words; a line of records always has a digit, a capital letter or a field that is no name.
fn is_header(line: &[u8]) -> bool {
    let starts_like_one = line.first().is_some_and(u8::is_ascii_lowercase);
    starts_like_one
        && line.iter().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b' '))
        && line.split(|byte| *byte == SEPARATOR).any(|word| FIELDS.iter().any(|(name, _)| name.as_bytes() == word))
}

impl RowFormat for VpcFlow {
    #[inline]
    fn decode(&mut self, record: &[u8], columns: &mut Columns) -> Result<Row, Refusal> {
        if record.is_empty() {
            return Ok(Row::None);
        }
        let line = utf8(record)?;
        if is_header(record) {
            (self.layout, self.places) = plan(&self.projected, line)?;
            self.has_header = true;
            return Ok(Row::None);
        }
        self.layout.split(record)?;
        for (index, place) in self.places.iter().enumerate() {
            let column = columns.column(index);
            let (Place::Plain(slot) | Place::Seconds(slot)) = *place else {
                column.push_null();
                continue;
            };
            // What NODATA and SKIPDATA records do not know is `-`.
            let text = self.layout.field(line, slot);
            let fit = match *place {
                _ if text == "-" => {
                    column.push_null();
                    Fit::Yes
                }
                Place::Seconds(_) => match parse_int(text.as_bytes()).and_then(|seconds| seconds.checked_mul(SECOND)) {
                    Some(micros) => column.push_instant(micros),
                    None => Fit::No,
                },
                Place::Nowhere | Place::Plain(_) => column.push_text(text),
            };
            if fit == Fit::No {
                return Err(columns.mismatch(index, text));
            }
        }
        Ok(Row::Added)
    }

    fn header(&self) -> Option<String> {
        self.has_header.then(|| self.layout.names().to_owned())
    }
}
