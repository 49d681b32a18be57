//! Which requests are used, and in which versions. A version is named here only after its fields were looked at.

use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest,
    CreateTopicsResponse, EndTxnRequest, EndTxnResponse, FetchRequest, FetchResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    OffsetCommitRequest, OffsetCommitResponse, ProduceRequest, ProduceResponse, SaslAuthenticateRequest, SaslAuthenticateResponse,
    SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use super::error::Error;
use super::frame::{self, Frame};

/// A request and its response.
pub(crate) trait Request: Encodable + HeaderVersion {
    /// Its number.
    const KEY: i16;
    /// Its name, for people.
    const NAME: &'static str;
    /// The oldest version that says what we say.
    const OLDEST: i16;
    /// The newest version that is used.
    const NEWEST: i16;
    /// What is answered.
    type Response: Decodable + HeaderVersion + Send;

    /// As it goes over the wire.
    fn frame(&self, version: i16, correlation: i32) -> Result<Frame, Error>
    where
        Self: Sized,
    {
        frame::whole(self, version, correlation)
    }
}

impl Request for ProduceRequest {
    const KEY: i16 = 0;
    const NAME: &'static str = "Produce";
    // From 3 on with batches of records. From 12 on the leader itself makes a partition part of a transaction, where the cluster has been told to.
    const OLDEST: i16 = 3;
    const NEWEST: i16 = 11;
    type Response = ProduceResponse;

    fn frame(&self, version: i16, correlation: i32) -> Result<Frame, Error> {
        frame::produce(self, version, correlation)
    }
}

macro_rules! requests {
    ($($request:ident $key:literal $name:literal $oldest:literal ..= $newest:literal => $response:ident;)*) => {$(
        impl Request for $request {
            const KEY: i16 = $key;
            const NAME: &'static str = $name;
            const OLDEST: i16 = $oldest;
            const NEWEST: i16 = $newest;
            type Response = $response;
        }
    )*};
}

requests! {
    // From 13 on by the topic's id instead of its name.
    FetchRequest 1 "Fetch" 4..=13 => FetchResponse;
    ListOffsetsRequest 2 "ListOffsets" 2..=7 => ListOffsetsResponse;
    // From 4 on without making topics; from 10 on with their ids.
    MetadataRequest 3 "Metadata" 4..=12 => MetadataResponse;
    OffsetCommitRequest 8 "OffsetCommit" 2..=8 => OffsetCommitResponse;
    // From 4 on for many keys at once.
    FindCoordinatorRequest 10 "FindCoordinator" 1..=3 => FindCoordinatorResponse;
    SaslHandshakeRequest 17 "SaslHandshake" 1..=1 => SaslHandshakeResponse;
    ApiVersionsRequest 18 "ApiVersions" 0..=3 => ApiVersionsResponse;
    // From 4 on with as many replicas as the brokers say by default.
    CreateTopicsRequest 19 "CreateTopics" 4..=7 => CreateTopicsResponse;
    InitProducerIdRequest 22 "InitProducerId" 0..=4 => InitProducerIdResponse;
    // From 4 on for brokers among themselves.
    AddPartitionsToTxnRequest 24 "AddPartitionsToTxn" 0..=3 => AddPartitionsToTxnResponse;
    // From 5 on the answer holds another epoch, where the cluster has been told to.
    EndTxnRequest 26 "EndTxn" 0..=4 => EndTxnResponse;
    SaslAuthenticateRequest 36 "SaslAuthenticate" 0..=2 => SaslAuthenticateResponse;
}
