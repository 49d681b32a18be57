//! The columns of a Source of single records, and the decoder that its format and its changelog ask for. Reads no record.

use arrow::datatypes::{Field, Schema, SchemaRef};
use millrace_crds::SourceSpec;
use millrace_crds::changelog::{ChangelogMode, RecordKey};
use millrace_crds::format::SourceFormat;
use millrace_engine::connector::ConnectorError;

use super::super::columns::Columns;
use super::super::decoders::{columns, projected, record_decoder};
use super::super::json::{Json, Numbers};
use super::super::schema::{Kind, invalid, kind, table_schema};
use super::debezium::{Envelope, Replacements, Retractions};
use super::keys::Keys;
use super::upserts::Upserts;
use super::{ChangeFormat, Changes, RecordDecoder};
use crate::context::ResolvedLimits;

/// The table that the records of a Source make.
#[derive(Clone, Debug)]
pub struct RecordTable {
    format: SourceFormat,
    /// What a whole row has to have.
    declared: SchemaRef,
    /// What is delivered: a row that is gone may be known by its key alone.
    delivered: SchemaRef,
    changes: Option<(ChangelogMode, Vec<String>)>,
    record_key: RecordKey,
}

impl RecordTable {
    /// The table of a Source.
    ///
    /// # Errors
    /// `Invalid` if format, schema and changelog do not go together.
    pub fn of(spec: &SourceSpec) -> Result<Self, ConnectorError> {
        let declared = table_schema(&spec.format, spec.schema.as_ref())?;
        let changes = spec.changes().map(|(mode, key)| (mode, key.to_vec()));
        let record_key = spec.changelog.as_ref().and_then(|changelog| changelog.record_key).unwrap_or_default();
        let Some((mode, key)) = &changes else {
            return Ok(Self { format: spec.format.clone(), delivered: SchemaRef::clone(&declared), declared, changes, record_key });
        };
        check(&spec.format, &declared, *mode, key, record_key)?;
        let with = |nullable: &dyn Fn(&Field) -> bool| {
            let field = |field: &Field| field.clone().with_nullable(!key.contains(field.name()) && nullable(field));
            SchemaRef::new(Schema::new(declared.fields().iter().map(|of| field(of)).collect::<Vec<_>>()))
        };
        let upserts = *mode == ChangelogMode::Upsert;
        let (whole, delivered) = (with(&Field::is_nullable), with(&|field: &Field| upserts || field.is_nullable()));
        Ok(Self { format: spec.format.clone(), declared: whole, delivered, changes, record_key })
    }

    /// The columns that are delivered.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.delivered
    }

    /// A decoder of records that delivers the columns of `projection`. Where rows replace each other by key, those of the key have to be among them.
    ///
    /// # Errors
    /// `Invalid` for formats that only files and objects have, and for a column that is not in the table.
    pub fn decoder(&self, projection: &[String], limits: &ResolvedLimits) -> Result<Box<dyn RecordDecoder>, ConnectorError> {
        let Some((mode, key)) = &self.changes else { return record_decoder(&self.format, &self.declared, projection, limits) };
        let whole = projected(&self.declared, projection)?;
        let columns = columns(&projected(&self.delivered, projection)?)?;
        let numbers = match kind(&self.format)? {
            Kind::Debezium(options) => Numbers { timestamps: options.timestamps, days: true },
            _ => Numbers::default(),
        };
        let row = Json::new(&self.declared, &whole).with_numbers(numbers);
        let limit = limits.record_bytes;
        if let Some(missing) = key.iter().find(|column| *mode == ChangelogMode::Upsert && !projection.contains(column)) {
            return Err(invalid(format!("column {missing} of the primary key has to be read")));
        }
        let keys = || Keys::new(&whole, key, self.record_key, numbers);
        Ok(match (kind(&self.format)?, mode) {
            (Kind::Debezium(_), ChangelogMode::Retract) => boxed(Retractions { envelope: Envelope::new(), row }, columns, limit),
            (Kind::Debezium(_), ChangelogMode::Upsert) => {
                boxed(Replacements { envelope: Envelope::new(), row, keys: keys() }, columns, limit)
            }
            _ => boxed(Upserts { row, keys: keys() }, columns, limit),
        })
    }
}

fn boxed<F: ChangeFormat + 'static>(format: F, columns: Columns, limit: usize) -> Box<dyn RecordDecoder> {
    Box::new(Changes { format, columns, limit })
}

/// What the API server refuses too, except in files that it has not seen.
fn check(
    format: &SourceFormat,
    declared: &SchemaRef,
    mode: ChangelogMode,
    key: &[String],
    record_key: RecordKey,
) -> Result<(), ConnectorError> {
    match (kind(format)?, mode) {
        (Kind::Debezium(_), _) | (Kind::Json, ChangelogMode::Upsert) => {}
        (Kind::Json, ChangelogMode::Retract) => {
            return Err(invalid("changelog.mode Retract needs rows as they were before, which only the format debezium has: use Upsert"));
        }
        _ => return Err(invalid("changelog is for the formats json and debezium: remove it")),
    }
    if let Some(missing) = key.iter().find(|column| declared.column_with_name(column).is_none()) {
        let names: Vec<&str> = declared.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(invalid(format!(
            "changelog.primaryKey names the column {missing}, which the source does not have; it has {}",
            names.join(", ")
        )));
    }
    if mode == ChangelogMode::Upsert && key.is_empty() {
        return Err(invalid("changelog.primaryKey is empty: name the columns that tell rows apart"));
    }
    if record_key == RecordKey::Text && key.len() != 1 {
        return Err(invalid(
            "changelog.recordKey Text is the text of one column: name one column in primaryKey, or use record keys in Json",
        ));
    }
    Ok(())
}
