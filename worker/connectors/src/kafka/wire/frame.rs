//! Requests as they go over the wire: their length, their header, themselves. In one piece, but for large batches of records, which are sent from where
//! they lie. It sends nothing.

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::{ProduceRequest, RequestHeader};
use kafka_protocol::protocol::{Encodable as _, StrBytes};

use super::error::Error;
use super::requests::Request;

/// How we are called in the brokers' logs.
pub(super) const CLIENT: &str = "millrace";
/// Records of so many bytes are worth a write of their own.
const LARGE: usize = 32 << 10;
/// From this version on, lengths are varints, and there are tags.
const FLEXIBLE: i16 = 9;

/// Pieces of a request, to be written one after the other.
pub(crate) type Frame = Vec<Bytes>;

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn header<R: Request>(version: i16, correlation: i32) -> RequestHeader {
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str(CLIENT)))
}

/// The length and the header, with room for so much behind them.
fn begin<R: Request>(request: &R, version: i16, correlation: i32, room: impl FnOnce(usize) -> usize) -> Result<BytesMut, Failed> {
    let (header, header_version) = (header::<R>(version, correlation), R::header_version(version));
    let length = header.compute_size(header_version)? + request.compute_size(version)?;
    let mut frame = BytesMut::with_capacity(room(length + 4));
    frame.put_u32(u32::try_from(length)?);
    header.encode(&mut frame, header_version)?;
    Ok(frame)
}

/// A request in one piece.
pub(super) fn whole<R: Request>(request: &R, version: i16, correlation: i32) -> Result<Frame, Error> {
    let write = || {
        let mut frame = begin(request, version, correlation, |length| length)?;
        request.encode(&mut frame, version)?;
        Ok::<_, Failed>(vec![frame.freeze()])
    };
    write().map_err(|error| failed::<R>(version, &error))
}

/// The same of records that are to be written; large batches are pieces of their own. What comes out is what `kafka-protocol` would write.
pub(super) fn produce(request: &ProduceRequest, version: i16, correlation: i32) -> Result<Frame, Error> {
    let records = || request.topic_data.iter().flat_map(|topic| &topic.partition_data).filter_map(|partition| partition.records.as_ref());
    let large: usize = records().map(Bytes::len).filter(|length| *length >= LARGE).sum();
    if large == 0 {
        return whole(request, version, correlation);
    }
    let write = || {
        let is_flexible = version >= FLEXIBLE;
        let length = |length: usize, out: &mut BytesMut| -> Result<(), Failed> {
            if is_flexible {
                put_varint(u32::try_from(length)? + 1, out)
            } else {
                out.put_i32(i32::try_from(length)?)
            }
            Ok(())
        };
        let text = |text: Option<&StrBytes>, out: &mut BytesMut| -> Result<(), Failed> {
            match (text, is_flexible) {
                (None, true) => out.put_u8(0),
                (None, false) => out.put_i16(-1),
                (Some(text), true) => length(text.len(), out)?,
                (Some(text), false) => out.put_i16(i16::try_from(text.len())?),
            }
            out.extend_from_slice(text.map_or(&[], |text| text.as_bytes()));
            Ok(())
        };
        let tags = |out: &mut BytesMut| {
            if is_flexible {
                out.put_u8(0)
            }
        };

        let mut out = begin(request, version, correlation, |length| length - large)?;
        let mut pieces = Vec::new();
        text(request.transactional_id.as_ref().map(|id| &id.0), &mut out)?;
        out.put_i16(request.acks);
        out.put_i32(request.timeout_ms);
        length(request.topic_data.len(), &mut out)?;
        for topic in &request.topic_data {
            text(Some(&topic.name.0), &mut out)?;
            length(topic.partition_data.len(), &mut out)?;
            for partition in &topic.partition_data {
                let records = partition.records.as_ref().ok_or("a partition without records")?;
                out.put_i32(partition.index);
                length(records.len(), &mut out)?;
                if records.len() < LARGE {
                    out.extend_from_slice(records);
                } else {
                    pieces.extend([out.split().freeze(), records.clone()]);
                }
                tags(&mut out);
            }
            tags(&mut out);
        }
        tags(&mut out);
        pieces.push(out.freeze());
        Ok::<_, Failed>(pieces)
    };
    write().map_err(|error| failed::<ProduceRequest>(version, &error))
}

/// Seven bits at a time, the lowest first.
fn put_varint(mut value: u32, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn failed<R: Request>(version: i16, error: &Failed) -> Error {
    Error::Request { request: R::NAME, version, why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};

    use super::*;

    fn request(id: Option<&'static str>, topics: &[&[usize]]) -> ProduceRequest {
        let partition = |(index, length): (i32, &usize)| {
            let records = (0..*length).map(|n| (n % 251) as u8 ^ index as u8).collect::<Vec<_>>();
            PartitionProduceData::default().with_index(index).with_records(Some(records.into()))
        };
        let topics = topics.iter().enumerate().map(|(topic, lengths)| {
            let name = TopicName(StrBytes::from_string(format!("topic-{topic}")));
            TopicProduceData::default().with_name(name).with_partition_data((0..).zip(*lengths).map(partition).collect())
        });
        ProduceRequest::default()
            .with_transactional_id(id.map(|id| StrBytes::from_static_str(id).into()))
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(topics.collect())
    }

    #[test]
    fn what_is_sent_in_pieces_is_what_would_be_sent_in_one() {
        for version in ProduceRequest::OLDEST..=ProduceRequest::NEWEST {
            for id in [None, Some("writer-7")] {
                let request = request(id, &[&[LARGE, 100, LARGE + 17], &[0], &[3 * LARGE]]);
                let pieces = produce(&request, version, 77).unwrap();
                assert_eq!(pieces.len(), 7);
                assert!(pieces.concat() == whole(&request, version, 77).unwrap().concat(), "version {version}, {id:?}");
            }
        }
    }

    #[test]
    fn large_batches_are_not_copied_and_small_ones_take_one_write() {
        let large = request(None, &[&[LARGE]]);
        let pieces = produce(&large, 9, 1).unwrap();
        assert_eq!(pieces[1].as_ptr(), large.topic_data[0].partition_data[0].records.as_ref().unwrap().as_ptr());
        assert_eq!(produce(&request(None, &[&[LARGE - 1, 5]]), 9, 1).unwrap().len(), 1);
    }

    #[test]
    fn a_partition_without_records_is_refused() {
        let mut request = request(None, &[&[LARGE, 1]]);
        request.topic_data[0].partition_data[1].records = None;
        assert!(matches!(produce(&request, 9, 1), Err(Error::Request { request: "Produce", .. })));
    }
}
