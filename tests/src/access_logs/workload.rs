//! Objects with lines that are all different, and their announcements: duplicated, out of order, in every shape that S3 has. The same at every run.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use crate::servers::Moto;

/// The bucket with the logs.
const BUCKET: &str = "logs";
/// Requests under way to the test server.
const CONCURRENCY: usize = 4;

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Objects.
    pub objects: usize,
    /// Lines of each.
    pub lines: usize,
    /// One line in this many is malformed.
    pub one_malformed_in: usize,
}

/// Announcements in the order in which they are sent.
#[derive(Debug)]
pub struct Announcements(Vec<String>);

impl Workload {
    /// Identities of all well-formed lines.
    #[must_use]
    pub fn good(&self) -> BTreeSet<String> {
        self.identities().filter(|(_, malformed)| !malformed).map(|(identity, _)| identity).collect()
    }

    /// Identities of all malformed lines.
    #[must_use]
    pub fn bad(&self) -> BTreeSet<String> {
        self.identities().filter(|(_, malformed)| *malformed).map(|(identity, _)| identity).collect()
    }

    fn identities(&self) -> impl Iterator<Item = (String, bool)> {
        let lines = self.lines;
        (0..self.objects).flat_map(move |object| (0..lines).map(move |line| (identity(object, line), self.is_malformed(object, line))))
    }

    fn is_malformed(&self, object: usize, line: usize) -> bool {
        (object * self.lines + line) % self.one_malformed_in == self.one_malformed_in / 2
    }

    /// Writes all objects to a bucket `logs`, which must exist.
    ///
    /// # Errors
    /// The server refuses one.
    pub async fn upload(&self, moto: &Moto) -> Result<()> {
        stream::iter(0..self.objects)
            .map(|object| async move { moto.put_object(BUCKET, &encoded(&key(object)), self.object(object)?).await })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await
    }

    /// What S3 would announce: every object, one in eight twice, one in thirty three times, out of order, each shape in turn; and a test event first.
    #[must_use]
    pub fn announcements(&self) -> Announcements {
        let mut order: Vec<usize> = (0..self.objects).collect();
        order.extend((0..self.objects).filter(|object| object % 8 == 3));
        order.extend((0..self.objects).filter(|object| object % 30 == 7));
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for last in (1..order.len()).rev() {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            order.swap(last, (seed % (last as u64 + 1)) as usize);
        }
        let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET}).to_string();
        let events = order.iter().enumerate().map(|(number, object)| event(number, &key(*object)));
        Announcements(std::iter::once(test).chain(events).collect())
    }

    /// One object: the header of the W3C format, then the lines, gzip.
    fn object(&self, object: usize) -> Result<Vec<u8>> {
        let mut text = String::from(HEADER);
        for line in 0..self.lines {
            let identity = identity(object, line);
            let second = (object * self.lines + line) % 86_400;
            let (date, time) =
                (format!("2026-11-{:02}", 20 + object % 3), format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60));
            if self.is_malformed(object, line) {
                let bytes = if line % 2 == 0 { "many" } else { "" };
                let _infallible = writeln!(text, "{date}\t{time}\tFRA56-P1\t{bytes}\t192.0.2.7\tGET\t{identity}");
                continue;
            }
            let _infallible = writeln!(
                text,
                "{date}\t{time}\tFRA56-P{}\t{}\t192.0.2.{}\tGET\td111.cloudfront.net\t/shop/item%20{}.html\t{}\t-\tMozilla/5.0%20(X11;%20Linux)\tq={}\t-\t{}\t{identity}\twww.example.com\thttps\t{}\t0.{:03}\t-\tTLSv1.3\tTLS_AES_128_GCM_SHA256\tHit\tHTTP/2.0\t-\t-\t{}\t0.{:03}\tHit\ttext/html\t{}\t-\t-",
                line % 10,
                500 + line,
                line % 250 + 1,
                line % 97,
                [200, 304, 404, 500][line % 4],
                line % 13,
                ["Hit", "Miss", "Error"][line % 3],
                100 + line % 900,
                line % 1000,
                1024 + line % 60_000,
                line % 400,
                line * 7,
            );
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes())?;
        Ok(encoder.finish()?)
    }
}

impl Announcements {
    /// Sends those of `range` (a part of the whole, 0 to 1) to the queue.
    ///
    /// # Errors
    /// The server refuses one.
    pub async fn send(&self, moto: &Moto, queue: &str, from: f64, to: f64) -> Result<()> {
        let place = |part: f64| (self.0.len() as f64 * part) as usize;
        for body in &self.0[place(from)..place(to)] {
            moto.send_message(queue, body).await?;
        }
        Ok(())
    }
}

/// What a line is recognised by, in its `x-edge-request-id` or, malformed, in its last field.
fn identity(object: usize, line: usize) -> String {
    format!("line-{object:05}-{line:06}")
}

/// Keys with a character that announcements encode.
fn key(object: usize) -> String {
    format!("edge/E2 EXAMPLE.2026-11-23-{:02}.{object:05}.gz", object % 24)
}

/// As in a URL.
fn encoded(key: &str) -> String {
    key.replace(' ', "%20")
}

/// An announcement in one of the three shapes. Announcements encode a space as `+`, except EventBridge, which does not encode.
fn event(number: usize, key: &str) -> String {
    let direct = json!({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-west-1", "eventTime": "2026-11-23T10:00:00.000Z",
        "eventName": "ObjectCreated:Put",
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": BUCKET, "arn": format!("arn:aws:s3:::{BUCKET}")},
               "object": {"key": key.replace(' ', "+"), "size": 1}}
    }]});
    let shaped: Value = match number % 3 {
        0 => direct,
        1 => json!({"Type": "Notification", "MessageId": format!("m-{number}"), "TopicArn": "arn:aws:sns:eu-west-1:123456789012:logs",
                    "Message": direct.to_string(), "Timestamp": "2026-11-23T10:00:01.000Z"}),
        _ => {
            json!({"version": "0", "id": format!("e-{number}"), "detail-type": "Object Created", "source": "aws.s3", "account": "123456789012",
                    "time": "2026-11-23T10:00:00Z", "region": "eu-west-1",
                    "detail": {"version": "0", "bucket": {"name": BUCKET}, "object": {"key": key, "size": 1}, "reason": "PutObject"}})
        }
    };
    shaped.to_string()
}

const HEADER: &str = "#Version: 1.0\n#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes time-taken x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type cs-protocol-version fle-status fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type sc-content-type sc-content-len sc-range-start sc-range-end\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_good_or_bad_and_all_different() {
        let workload = Workload { objects: 10, lines: 200, one_malformed_in: 100 };
        assert_eq!(workload.bad().len(), 20);
        assert_eq!(workload.good().len(), 1980);
        assert!(workload.good().is_disjoint(&workload.bad()));
    }

    #[test]
    fn every_object_is_announced_and_some_more_than_once() {
        let workload = Workload { objects: 60, lines: 1, one_malformed_in: 2 };
        let Announcements(all) = workload.announcements();
        assert!(all.len() > 60 + 60 / 8, "{} announcements", all.len());
        for object in 0..60 {
            let name = format!(".{object:05}.gz");
            assert!(all.iter().any(|body| body.contains(&name)), "object {object} is not announced");
        }
    }
}
