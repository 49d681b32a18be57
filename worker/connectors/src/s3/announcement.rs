//! What a message of the queue announces. Pure: text in, objects out; nothing is looked up.

use std::borrow::Cow;

use chrono::DateTime;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

/// An object that a message announces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Announced {
    /// Bucket.
    pub(super) bucket: String,
    /// Key, decoded.
    pub(super) key: String,
    /// Version, in a bucket with versions.
    pub(super) version: Option<String>,
    /// ETag, without quotes.
    pub(super) etag: Option<String>,
    /// Length in bytes.
    pub(super) size: Option<u64>,
    /// Orders events of one key. Hexadecimal.
    pub(super) sequencer: Option<String>,
    /// When, milliseconds since 1970.
    pub(super) time: i64,
}

/// A message that announces nothing we know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No JSON, or not with the fields of any of the shapes.
    #[error("no S3 event notification, direct, from SNS or from EventBridge: {0}")]
    Shape(#[from] serde_json::Error),
    /// An event of another service.
    #[error("an event of \"{0}\", not of S3")]
    Foreign(String),
    /// A key that is not the encoding of a text.
    #[error("the key \"{0}\" is not URL-encoded UTF-8")]
    Key(String),
}

/// A message may be wrapped by SNS, and that by SNS once more (fan-out through two topics).
const WRAPPINGS: usize = 3;

/// The objects that `body` says were created; none for test events, removals and other events of S3.
pub(crate) fn parse(body: &str) -> Result<Vec<Announced>, Error> {
    let mut body = Cow::Borrowed(body);
    for _ in 0..WRAPPINGS {
        match serde_json::from_str(&body)? {
            Shape::Sns(wrapped) => body = Cow::Owned(wrapped.message),
            Shape::Events(events) => return events.records.into_iter().filter_map(|record| record.announced().transpose()).collect(),
            Shape::EventBridge(event) => return event.announced(),
            Shape::Test(_) => return Ok(Vec::new()),
        }
    }
    Err(Error::Foreign("SNS, wrapped too often".to_owned()))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Shape {
    Events(Events),
    EventBridge(EventBridge),
    Sns(Sns),
    Test(TestEvent),
}

#[derive(Deserialize)]
struct Sns {
    #[serde(rename = "TopicArn")]
    _topic: String,
    #[serde(rename = "Message")]
    message: String,
}

#[derive(Deserialize)]
struct TestEvent {
    #[serde(rename = "Event")]
    _event: IsTest,
}

#[derive(Deserialize)]
enum IsTest {
    #[serde(rename = "s3:TestEvent")]
    Test,
}

#[derive(Deserialize)]
struct Events {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_source: String,
    event_name: String,
    #[serde(default)]
    event_time: Option<String>,
    #[serde(default)]
    s3: Option<Entity>,
}

#[derive(Deserialize)]
struct Entity {
    bucket: Bucket,
    object: DirectObject,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DirectObject {
    key: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    e_tag: Option<String>,
    #[serde(default)]
    version_id: Option<String>,
    #[serde(default)]
    sequencer: Option<String>,
}

impl Record {
    fn announced(self) -> Result<Option<Announced>, Error> {
        // Services that speak S3 name themselves in their own way, such as `minio:s3`.
        if !self.event_source.ends_with(":s3") {
            return Err(Error::Foreign(self.event_source));
        }
        let is_creation = self.event_name.trim_start_matches("s3:").starts_with("ObjectCreated:");
        let Some(entity) = self.s3.filter(|_| is_creation) else {
            return Ok(None);
        };
        let object = entity.object;
        Ok(Some(Announced {
            bucket: entity.bucket.name,
            key: decode_key(&object.key)?,
            version: version(object.version_id),
            etag: etag(object.e_tag),
            size: object.size,
            sequencer: object.sequencer,
            time: millis(self.event_time.as_deref()),
        }))
    }
}

#[derive(Deserialize)]
struct EventBridge {
    source: String,
    #[serde(rename = "detail-type")]
    detail_type: String,
    #[serde(default)]
    time: Option<String>,
    detail: serde_json::Value,
}

#[derive(Deserialize)]
struct Detail {
    bucket: Bucket,
    object: BridgedObject,
}

#[derive(Deserialize)]
struct BridgedObject {
    /// As it is, not encoded.
    key: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    etag: Option<String>,
    #[serde(default, rename = "version-id")]
    version_id: Option<String>,
    #[serde(default)]
    sequencer: Option<String>,
}

impl EventBridge {
    fn announced(self) -> Result<Vec<Announced>, Error> {
        if self.source != "aws.s3" {
            return Err(Error::Foreign(self.source));
        }
        if self.detail_type != "Object Created" {
            return Ok(Vec::new());
        }
        let Detail { bucket, object } = serde_json::from_value(self.detail)?;
        Ok(vec![Announced {
            bucket: bucket.name,
            key: object.key,
            version: version(object.version_id),
            etag: etag(object.etag),
            size: object.size,
            sequencer: object.sequencer,
            time: millis(self.time.as_deref()),
        }])
    }
}

/// Keys in S3's own events are encoded as forms are: `+` is a space.
fn decode_key(encoded: &str) -> Result<String, Error> {
    let spaced = encoded.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(key) => Ok(key.into_owned()),
        Err(_) => Err(Error::Key(encoded.to_owned())),
    }
}

/// `null` is the version of objects that have none, and can be overwritten.
fn version(version: Option<String>) -> Option<String> {
    version.filter(|version| !version.is_empty() && version != "null")
}

fn etag(etag: Option<String>) -> Option<String> {
    etag.map(|etag| etag.trim_matches('"').to_owned()).filter(|etag| !etag.is_empty())
}

fn millis(time: Option<&str>) -> i64 {
    time.and_then(|time| DateTime::parse_from_rfc3339(time).ok()).map_or(0, |time| time.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases: a file holds a message and, after a line of dashes, what it announces.
    #[test]
    fn messages_announce_what_their_files_say() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/s3/announcements");
        let mut cases = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let (message, expected) = text.split_once("\n---\n").unwrap_or_else(|| panic!("{}: no dashes", path.display()));
            let got = match parse(message) {
                Ok(objects) => objects.iter().map(|object| format!("{}\n", line(object))).collect(),
                Err(error) => format!("error: {error}\n"),
            };
            assert!(
                got == expected || expected.ends_with("…\n") && got.starts_with(expected.trim_end_matches("…\n")),
                "{}: {got}",
                path.display()
            );
            cases += 1;
        }
        assert!(cases >= 12, "only {cases} cases in {folder}");
    }

    fn line(object: &Announced) -> String {
        let Announced { bucket, key, version, etag, size, sequencer, time } = object;
        let text = |value: &Option<String>| value.clone().unwrap_or("-".to_owned());
        let size = size.map_or("-".to_owned(), |size| size.to_string());
        format!("{bucket} | {key} | {} | {} | {size} | {} | {time}", text(version), text(etag), text(sequencer))
    }
}
