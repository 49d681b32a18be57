//! Formats: what is inside files, objects and records. Types and their documentation only.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Compression {
    /// By the first bytes: gzip, zstd or none.
    #[default]
    Auto,
    /// Not compressed.
    None,
    /// gzip, one or more members.
    Gzip,
    /// Zstandard, one or more frames.
    Zstd,
}

/// What a source's bytes are. Exactly one block.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.json), has(self.csv), has(self.raw), has(self.parquet), has(self.cloudFront), has(self.vpcFlow), has(self.debezium)].filter(x, x).size() == 1").message("exactly one of json, csv, raw, parquet, cloudFront, vpcFlow, debezium must be set"))]
pub struct SourceFormat {
    /// JSON: one object a line, or one object a record. Needs `schema`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Json>,
    /// Delimited text. Needs `schema`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<Csv>,
    /// Text as it is: one column `line` (Varchar), a row for each line or record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Raw>,
    /// Apache Parquet. Needs `schema`; columns are matched by name. Only for files and objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parquet: Option<ParquetIn>,
    /// CloudFront standard (access) logs, W3C extended format. Columns are the documented fields with `-`, `(` and `)` written as `_`
    /// (`c_ip`, `sc_status`, `cs_User_Agent` in lower case: `cs_user_agent`), typed, URL-decoded; `date` (Date) and `time` (Timestamp, date and time together, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_front: Option<CloudFront>,
    /// VPC Flow Logs, version 2 to 5 fields, named by the header line of each file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_flow: Option<VpcFlow>,
    /// Change events of Debezium in JSON (`before`, `after`, `op`), with or without `schema` and `payload` around them. Needs `schema`: the columns of the table.
    /// Rows are inserted (`c`, `r`), replaced (`u`) and deleted (`d`); a truncation (`t`) names no rows and is refused. Only for kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debezium: Option<Debezium>,
}

/// Options of Debezium's change events.
///
/// An update or a deletion without `before` is refused, as it cannot be said which row is gone: let the database write whole rows (PostgreSQL: `REPLICA IDENTITY FULL`), or set
/// `changelog` with a `primaryKey`. A number in a Date is days since 1970.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Debezium {
    /// What a number in a Timestamp counts since 1970: it follows from the connector's `time.precision.mode` and the column's type there. Default `Milliseconds`.
    #[serde(default)]
    pub timestamps: TimestampUnit,
}

/// What numbers count that stand for timestamps.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum TimestampUnit {
    /// `time.precision.mode: connect`, and columns with at most three digits of a second.
    #[default]
    Milliseconds,
    /// Columns with more digits of a second, as PostgreSQL's are unless said otherwise.
    Microseconds,
    /// `time.precision.mode: nanoseconds`. Digits below microseconds are dropped.
    Nanoseconds,
}

/// JSON options.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Json {}

/// Delimited text options.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Csv {
    /// Between fields: one ASCII character; `\t` for tab-separated values. Default `,`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(validation = Rule::new(r"self.matches('^([ !#-~]|\\t|\\\\t)$')").message("delimiter must be one ASCII character other than the quote, or \\t for a tab"))]
    pub delimiter: Option<String>,
    /// `Present` (default): the first line of each file names the columns, in any order. `Absent`: columns are in the order of `schema`.
    #[serde(default)]
    pub header: CsvHeader,
    /// Text that stands for NULL. Default: the empty field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub null: Option<String>,
}

/// Whether delimited text starts with the names of its columns.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum CsvHeader {
    /// The first line of each file names the columns.
    #[default]
    Present,
    /// Columns are in the order of the schema.
    Absent,
}

/// Raw text options.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Raw {}

/// Parquet options for reading.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParquetIn {}

/// CloudFront standard log options.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudFront {}

/// VPC Flow Log options.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VpcFlow {}

/// The columns of a source whose format does not define them.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schema {
    /// Columns, in order.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub columns: Vec<Column>,
}

/// One column.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type == 'Decimal' ? has(self.precision) : !has(self.precision) && !has(self.scale)").message("precision (and scale) belong to type Decimal, which needs precision"))]
#[x_kube(validation = Rule::new("!has(self.precision) || !has(self.scale) || self.scale <= self.precision").message("scale may not be larger than precision"))]
pub struct Column {
    /// Name, as in the data and in SQL.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub type_: ColumnType,
    /// `Nullable` (default): a missing field is NULL. `Required`: a record without it is refused.
    #[serde(default)]
    pub presence: Presence,
    /// Digits in all, of a Decimal: 1 to 38.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 38))]
    pub precision: Option<i32>,
    /// Digits after the point, of a Decimal. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 38))]
    pub scale: Option<i32>,
}

/// Whether a column may be missing.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Presence {
    /// A missing field is NULL.
    #[default]
    Nullable,
    /// A record without it is refused as malformed.
    Required,
}

/// Column types, by their SQL names.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ColumnType {
    /// true or false.
    Boolean,
    /// 32-bit signed integer.
    Integer,
    /// 64-bit signed integer.
    BigInt,
    /// 32-bit IEEE 754.
    Real,
    /// 64-bit IEEE 754.
    Double,
    /// Exact decimal with `precision` and `scale`.
    Decimal,
    /// UTF-8 text. A nested JSON value is kept as its JSON text.
    Varchar,
    /// Bytes; base64 in JSON.
    Varbinary,
    /// Calendar date, `yyyy-MM-dd` in text.
    Date,
    /// Instant with microseconds, UTC; in text RFC 3339 or `yyyy-MM-dd HH:mm:ss[.ffffff]`, in JSON numbers milliseconds since 1970.
    Timestamp,
}

/// What a sink writes. Exactly one block.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.json), has(self.raw), has(self.parquet)].filter(x, x).size() == 1").message("exactly one of json, raw, parquet must be set"))]
pub struct SinkFormat {
    /// JSON lines: one object a row; NULL fields are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<JsonOut>,
    /// One column, Varchar or Varbinary, as it is: its bytes are the value of a record. NULL is a record without a value. Only for topics; columns of the
    /// record's key may stand beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawOut>,
    /// Apache Parquet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parquet: Option<ParquetOut>,
}

/// JSON lines options for writing.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JsonOut {
    /// Compression of files and objects. Default `None`. `Auto` is for sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<JsonCompression>,
}

/// Options of values that are written as they are.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RawOut {}

/// Compression of written JSON lines.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum JsonCompression {
    /// Not compressed.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Parquet options for writing.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParquetOut {
    /// Compression of pages. Default `Zstd` (level 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<ParquetCompression>,
    /// Rows of one row group at most. Default 1,048,576.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_777_216))]
    pub row_group_rows: Option<i64>,
}

/// Compression of Parquet pages.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ParquetCompression {
    /// Not compressed.
    None,
    /// Snappy.
    Snappy,
    /// Zstandard, level 1.
    Zstd,
}
