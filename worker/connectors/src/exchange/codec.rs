//! The bytes of one message: rows as Arrow record batches with what they are known by, a time, or an opening marker. Whatever the bytes are, reading them gives a
//! message or an error; it reads nothing but what the layout of the channel says.
//!
//! ```text
//! "MRX" 2  kind: 0 rows, 1 time, 2 opening   producer: u16 length, text   u64 generation   u64 number          all numbers little endian
//! rows:    u16 count, each 16 bytes key of an origin of the input, u64 ordinal: up to where the partition has been given everything
//!          u64 fingerprint of the layout   u16 count of batches, each
//!            16 bytes key of the origin, u16 length, its name   u64 branch   u8 1 if there are row kinds   u32 length of its header, u32 of its body
//!            the Arrow message (flatbuffer)   its body: the columns, ordinals, row kinds
//! opening: u64 hash of the steps in front of the channel
//! time:    u8 1 watermark | 2 idle | 4 ended   i64 watermark
//! ```
//! Version 1 has no generation, number, ends and counts: one batch, whose body ends with the message. It was written in transactions.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions, UInt8Array};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt8Type, UInt64Type};
use arrow::error::ArrowError;
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use millrace_engine::batch::{Batch, Origin};
use millrace_engine::exchange::UpTo;
use millrace_engine::row_kind::{RowKind, RowKinds};
use sha2::{Digest as _, Sha256};

const MAGIC: &[u8; 3] = b"MRX";
/// The version this code writes.
const VERSION: u8 = 2;
/// One that it reads as well: messages without numbers.
const UNNUMBERED: u8 = 1;
const ROWS: u8 = 0;
const TIME: u8 = 1;
const OPENING: u8 = 2;
const HAS_WATERMARK: u8 = 1;
const IDLE: u8 = 2;
const ENDED: u8 = 4;
/// Names of the columns behind those of the channel.
const ORDINAL: &str = "millrace.ordinal";
const KIND: &str = "millrace.kind";
/// Names of origins are for people: what is longer is cut.
const NAME_BYTES: usize = 512;

/// How far time has come with one producer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct ProducerTime {
    /// Microseconds since 1970; `None` if nothing is known.
    pub(super) watermark: Option<i64>,
    /// Whether nothing is coming for now.
    pub(super) idle: bool,
    /// Whether nothing more will come.
    pub(super) ended: bool,
}

/// A message.
#[derive(Debug)]
pub(super) enum Message {
    /// A generation of the producer begins.
    Opening,
    /// Rows, each batch of one origin.
    Rows(Vec<Batch>),
    /// How far time has come with the producer after all rows before.
    Time(ProducerTime),
}

/// Which message of its producer it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stamp {
    pub(super) generation: u64,
    pub(super) number: u64,
}

/// What is said of a message in front of it.
#[derive(Debug)]
pub(super) struct Heading<'a> {
    pub(super) producer: String,
    /// `None` in messages that were written in transactions.
    pub(super) stamp: Option<Stamp>,
    /// Up to where the partition has been given everything after it.
    pub(super) up_to: UpTo,
    /// In opening markers: a hash of the steps in front of the channel.
    pub(super) front: Option<u64>,
    kind: u8,
    rest: Bytes<'a>,
}

/// Why bytes are no message of a channel.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    /// They are not in this form.
    #[error("it is no message of an exchange, or it is damaged: {0}")]
    Malformed(&'static str),
    /// A newer worker wrote them.
    #[error("it has version {0}, this worker reads up to {VERSION}: upgrade the worker")]
    Version(u8),
    /// Another plan wrote them.
    #[error(
        "it was written by a plan whose columns, key or aggregates are others there: take the change back until everything that was written before it has been read, \
         or create a Pipeline with another name"
    )]
    Layout,
    /// The batch in it is none.
    #[error("its rows cannot be read: {0}")]
    Rows(String),
}

/// What all messages of a channel look like.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    columns: SchemaRef,
    /// With ordinals.
    plain: SchemaRef,
    /// With ordinals and row kinds.
    kinds: SchemaRef,
    fingerprint: u64,
}

impl Layout {
    /// For rows of `columns`, brought together by the columns `key`.
    pub(super) fn new(columns: &SchemaRef, key: &[usize]) -> Self {
        let with = |more: &[(&str, DataType)]| {
            let mut fields: Vec<_> = columns.fields().iter().cloned().collect();
            fields.extend(more.iter().map(|(name, data_type)| Arc::new(Field::new(*name, data_type.clone(), false))));
            Arc::new(Schema::new(fields))
        };
        let mut digest = Sha256::new();
        for field in columns.fields() {
            digest.update(format!("{:?} {:?} {}\n", field.name(), field.data_type(), field.is_nullable()));
        }
        digest.update(format!("{key:?}"));
        let digest = digest.finalize();
        Self {
            columns: Arc::clone(columns),
            plain: with(&[(ORDINAL, DataType::UInt64)]),
            kinds: with(&[(ORDINAL, DataType::UInt64), (KIND, DataType::UInt8)]),
            fingerprint: digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)),
        }
    }
}

/// The message of rows.
pub(super) fn encode_rows(layout: &Layout, producer: &str, stamp: Stamp, up_to: &UpTo, batches: &[Batch]) -> Result<Vec<u8>, ArrowError> {
    let size: usize = batches.iter().map(Batch::memory_bytes).sum();
    let mut bytes = head(ROWS, producer, stamp, size + up_to.len() * 24 + batches.len() * 128);
    bytes.extend(counted(up_to.len(), "origins of the input")?);
    for (origin, ordinal) in up_to {
        bytes.extend(origin);
        bytes.extend(ordinal.to_le_bytes());
    }
    bytes.extend(layout.fingerprint.to_le_bytes());
    bytes.extend(counted(batches.len(), "batches")?);
    batches.iter().try_for_each(|batch| encode_batch(layout, batch, &mut bytes))?;
    Ok(bytes)
}

/// A number of things that one message can hold.
fn counted(count: usize, what: &str) -> Result<[u8; 2], ArrowError> {
    let fits = u16::try_from(count).map(u16::to_le_bytes);
    fits.map_err(|_| ArrowError::InvalidArgumentError(format!("one message would have {count} {what}, and has room for {}", u16::MAX)))
}

fn encode_batch(layout: &Layout, batch: &Batch, bytes: &mut Vec<u8>) -> Result<(), ArrowError> {
    let mut columns: Vec<ArrayRef> = batch.records.columns().iter().map(compacted).collect();
    columns.push(Arc::new(batch.ordinals.clone()));
    let schema = match &batch.kinds {
        None => &layout.plain,
        Some(kinds) => {
            columns.push(Arc::new(UInt8Array::from_iter_values(kinds.iter().map(|kind| kind as u8))));
            &layout.kinds
        }
    };
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let records = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
    let mut tracker = DictionaryTracker::new(true);
    let (_, encoded) =
        IpcDataGenerator::default().encode(&records, &mut tracker, &IpcWriteOptions::default(), &mut IpcWriteContext::default())?;
    bytes.extend(batch.origin.key());
    text(bytes, batch.origin.name());
    bytes.extend(batch.branch.to_le_bytes());
    bytes.push(batch.kinds.is_some().into());
    bytes.extend((encoded.ipc_message.len() as u32).to_le_bytes());
    bytes.extend((encoded.arrow_data.len() as u32).to_le_bytes());
    bytes.extend(encoded.ipc_message);
    bytes.extend(encoded.arrow_data);
    Ok(())
}

/// Without the values of rows that are not there: an array of views may hold on to much more than it shows.
fn compacted(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => Arc::clone(column),
    }
}

/// The message with which a generation begins: its number is 0.
pub(super) fn encode_opening(producer: &str, generation: u64, front: u64) -> Vec<u8> {
    let mut bytes = head(OPENING, producer, Stamp { generation, number: 0 }, 8);
    bytes.extend(front.to_le_bytes());
    bytes
}

/// The message of a time.
pub(super) fn encode_time(producer: &str, stamp: Stamp, time: ProducerTime) -> Vec<u8> {
    let mut bytes = head(TIME, producer, stamp, 16);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    bytes.push(flag(time.watermark.is_some(), HAS_WATERMARK) | flag(time.idle, IDLE) | flag(time.ended, ENDED));
    bytes.extend(time.watermark.unwrap_or_default().to_le_bytes());
    bytes
}

fn head(kind: u8, producer: &str, stamp: Stamp, more: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24 + producer.len() + more);
    bytes.extend(MAGIC);
    bytes.extend([VERSION, kind]);
    text(&mut bytes, producer);
    bytes.extend(stamp.generation.to_le_bytes());
    bytes.extend(stamp.number.to_le_bytes());
    bytes
}

/// Text with its length; cut where it is too long, which only names for people are.
fn text(bytes: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(NAME_BYTES)];
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Who wrote a message and which it is.
pub(super) fn heading(bytes: &[u8]) -> Result<Heading<'_>, DecodeError> {
    let mut rest = Bytes(bytes);
    if rest.take(3, "it is too short")? != MAGIC {
        return Err(DecodeError::Malformed("it does not begin as one"));
    }
    let version = rest.byte()?;
    if version != VERSION && version != UNNUMBERED {
        return Err(DecodeError::Version(version));
    }
    let kind = rest.byte()?;
    let producer = rest.text()?;
    if version == UNNUMBERED {
        return Ok(Heading { producer, stamp: None, up_to: UpTo::new(), front: None, kind, rest });
    }
    let stamp = Stamp { generation: u64::from_le_bytes(rest.array()?), number: u64::from_le_bytes(rest.array()?) };
    if (kind == OPENING) != (stamp.number == 0) {
        return Err(DecodeError::Malformed("its number is that of another kind"));
    }
    let mut up_to = UpTo::new();
    if kind == ROWS {
        for _ in 0..u16::from_le_bytes(rest.array()?) {
            up_to.insert(rest.array()?, u64::from_le_bytes(rest.array()?));
        }
    }
    let front = if kind == OPENING { Some(u64::from_le_bytes(rest.array()?)) } else { None };
    Ok(Heading { producer, stamp: Some(stamp), up_to, front, kind, rest })
}

/// What a message says.
pub(super) fn decode(layout: &Layout, heading: Heading<'_>) -> Result<Message, DecodeError> {
    let Heading { kind, stamp, rest, .. } = heading;
    match (kind, stamp) {
        (OPENING, Some(_)) if rest.0.is_empty() => Ok(Message::Opening),
        (ROWS, stamp) => Ok(Message::Rows(rows(layout, rest, stamp.is_some())?)),
        (TIME, _) => Ok(Message::Time(time(rest)?)),
        _ => Err(DecodeError::Malformed("its kind is unknown")),
    }
}

fn time(mut rest: Bytes<'_>) -> Result<ProducerTime, DecodeError> {
    let flags = rest.byte()?;
    let watermark = i64::from_le_bytes(rest.array()?);
    if !rest.0.is_empty() || flags & !(HAS_WATERMARK | IDLE | ENDED) != 0 {
        return Err(DecodeError::Malformed("a time holds more than one"));
    }
    Ok(ProducerTime { watermark: (flags & HAS_WATERMARK != 0).then_some(watermark), idle: flags & IDLE != 0, ended: flags & ENDED != 0 })
}

fn rows(layout: &Layout, mut rest: Bytes<'_>, is_numbered: bool) -> Result<Vec<Batch>, DecodeError> {
    if u64::from_le_bytes(rest.array()?) != layout.fingerprint {
        return Err(DecodeError::Layout);
    }
    if !is_numbered {
        return Ok(vec![batch(layout, &mut rest, false)?]);
    }
    let count = u16::from_le_bytes(rest.array()?);
    let batches = (0..count).map(|_| batch(layout, &mut rest, true)).collect::<Result<Vec<_>, _>>()?;
    if batches.is_empty() || !rest.0.is_empty() {
        return Err(DecodeError::Malformed("its batches are not all there is"));
    }
    Ok(batches)
}

/// The next batch; the last of all, whatever is left, where its length is not said.
fn batch(layout: &Layout, rest: &mut Bytes<'_>, is_measured: bool) -> Result<Batch, DecodeError> {
    let key: [u8; 16] = rest.array()?;
    let name = rest.text()?;
    let branch = u64::from_le_bytes(rest.array()?);
    let schema = match rest.byte()? {
        0 => &layout.plain,
        1 => &layout.kinds,
        _ => return Err(DecodeError::Malformed("whether there are row kinds is unclear")),
    };
    let length = u32::from_le_bytes(rest.array()?) as usize;
    let body = if is_measured { Some(u32::from_le_bytes(rest.array()?) as usize) } else { None };
    let header = rest.take(length, "the header of its rows is cut")?;
    let body = Buffer::from(rest.take(body.unwrap_or(rest.0.len()), "its rows are cut")?);
    // The sizes in it have been looked at, but the crate still has asserts for what makes no sense otherwise: a panic there is an error here.
    let read = catch_unwind(AssertUnwindSafe(|| records(schema, header, &body)));
    let records = read.unwrap_or_else(|_| Err("the decoder gave up".to_owned())).map_err(DecodeError::Rows)?;
    let width = layout.columns.fields().len();
    let ordinals = records.column(width).as_primitive::<UInt64Type>().clone();
    let kinds = records.columns().get(width + 1).map(arrow::array::AsArray::as_primitive::<UInt8Type>);
    let kinds = kinds.map(|codes| codes.values().iter().map(|code| kind(*code)).collect::<Option<Vec<_>>>());
    let kinds = match kinds {
        None => None,
        Some(Some(kinds)) => Some(RowKinds::new(kinds)),
        Some(None) => return Err(DecodeError::Malformed("a row kind is unknown")),
    };
    let options = RecordBatchOptions::new().with_row_count(Some(ordinals.len()));
    let records = RecordBatch::try_new_with_options(Arc::clone(&layout.columns), records.columns()[..width].to_vec(), &options)
        .map_err(|error| DecodeError::Rows(error.to_string()))?;
    Ok(Batch { records, origin: Origin::with_key(key, name), ordinals, branch, kinds })
}

/// The record batch that `header` describes in `body`; text for people if there is none.
fn records(schema: &SchemaRef, header: &[u8], body: &Buffer) -> Result<RecordBatch, String> {
    let message = arrow_ipc::root_as_message(header).map_err(|error| error.to_string())?;
    let batch = message.header_as_record_batch().ok_or("it holds no record batch")?;
    if batch.compression().is_some() {
        return Err("it is compressed".to_owned());
    }
    let buffers = batch.buffers().ok_or("it has no buffers")?;
    let inside = |offset: i64, length: i64| {
        let end = usize::try_from(offset).ok()?.checked_add(usize::try_from(length).ok()?)?;
        (end <= body.len()).then_some(())
    };
    if buffers.iter().any(|buffer| inside(buffer.offset(), buffer.length()).is_none()) {
        return Err("a buffer lies outside of it".to_owned());
    }
    // A length that is not that of the ordinals is found below; one that cannot be is not even tried.
    let rows = usize::try_from(batch.length()).ok().filter(|rows| *rows <= body.len()).ok_or("its number of rows cannot be")?;
    let nodes = batch.nodes().ok_or("it has no columns")?;
    if nodes.iter().any(|node| usize::try_from(node.length()).is_err() || node.null_count() < 0 || node.null_count() > node.length()) {
        return Err("a length is negative".to_owned());
    }
    let records = read_record_batch(body, batch, Arc::clone(schema), &HashMap::new(), None, &message.version());
    let records = records.map_err(|error| error.to_string())?;
    if records.num_rows() == rows { Ok(records) } else { Err("its number of rows is another".to_owned()) }
}

fn kind(code: u8) -> Option<RowKind> {
    [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete].into_iter().find(|kind| *kind as u8 == code)
}

/// What is left to read.
#[derive(Debug)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Malformed(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        let length = u16::from_le_bytes(self.array()?);
        let bytes = self.take(length.into(), "a name is cut")?;
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Malformed("a name is no text"))?;
        Ok(text.to_owned())
    }
}
