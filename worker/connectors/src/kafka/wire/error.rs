//! What goes wrong between us and brokers, and whose problem it is. Never a secret.

use std::fmt::Write as _;

use kafka_protocol::ResponseError as Code;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;

use super::stream::Address;

/// Why there is no answer, or what a broker has answered instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Error {
    #[error("no broker at {address}: {why}")]
    Unreachable { address: Address, why: String },
    #[error("TLS (SSL) with {address} failed: {why}")]
    Tls { address: Address, why: String },
    #[error("{address} refuses the login: {why}")]
    Login { address: Address, why: String },
    #[error("the connection to {address} was lost: {why}")]
    Lost { address: Address, why: String },
    #[error("{address} has not answered {request} within {seconds} s")]
    Silent { address: Address, request: &'static str, seconds: u64 },
    #[error("what {address} answers is not Kafka's protocol: {why}")]
    Garbled { address: Address, why: String },
    #[error("{address} takes {request} in versions {theirs}, and Millrace sends {ours}: use brokers from 0.11 on, or a newer Millrace")]
    Version { address: Address, request: &'static str, theirs: String, ours: String },
    #[error("{} cannot be written in version {version}: {why}", request)]
    Request { request: &'static str, version: i16, why: String },
    #[error("{}", said(*code, detail))]
    Refused { code: Code, detail: String },
    #[error("topic {topic} does not exist")]
    NoTopic { topic: String },
    #[error("topic {topic} has no partition {partition}")]
    NoPartition { topic: String, partition: i32 },
    #[error("partition {topic}/{partition} has no leader: its replicas are down")]
    NoLeader { topic: String, partition: i32 },
    #[error("broker {id} is not in the cluster's metadata")]
    NoBroker { id: i32 },
}

impl Error {
    /// An answer with an error code other than none.
    pub(crate) fn refused(code: i16, detail: impl Into<String>) -> Result<(), Self> {
        Code::try_from_code(code).map_or(Ok(()), |code| Err(Self::Refused { code, detail: detail.into() }))
    }

    /// The broker's code, if it has answered one.
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whose problem it is.
    pub(crate) fn reason(&self) -> ErrorReason {
        match self {
            Self::Unreachable { .. } | Self::Tls { .. } | Self::Lost { .. } | Self::Silent { .. } | Self::Garbled { .. } => {
                ErrorReason::Unreachable
            }
            Self::Login { .. } => ErrorReason::AccessDenied,
            Self::Version { .. } => ErrorReason::Invalid,
            Self::Request { .. } => ErrorReason::Internal,
            Self::Refused { code, .. } => reason(*code),
            Self::NoTopic { .. } | Self::NoPartition { .. } => ErrorReason::NotFound,
            Self::NoLeader { .. } | Self::NoBroker { .. } => ErrorReason::ServerError,
        }
    }

    /// Whether what was known of leaders and brokers is old: to be asked anew before the next attempt.
    pub(crate) fn is_stale(&self) -> bool {
        match self {
            Self::NoLeader { .. }
            | Self::NoBroker { .. }
            | Self::NoPartition { .. }
            | Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::Silent { .. } => true,
            Self::Refused { code, .. } => matches!(
                code,
                Code::NotLeaderOrFollower
                    | Code::LeaderNotAvailable
                    | Code::ReplicaNotAvailable
                    | Code::BrokerNotAvailable
                    | Code::FencedLeaderEpoch
                    | Code::UnknownLeaderEpoch
                    | Code::OffsetNotAvailable
                    | Code::KafkaStorageError
                    | Code::UnknownTopicOrPartition
                    | Code::UnknownTopicId
                    | Code::InconsistentTopicId
                    | Code::NetworkException
            ),
            _ => false,
        }
    }

    /// As connectors report it: an error of `doing` something.
    pub(crate) fn of(self, doing: &str) -> ConnectorError {
        ConnectorError::new(self.reason(), format!("{doing}: {self}")).caused_by(self)
    }
}

/// What a broker has said: `broker: topic authorization failed`.
fn said(code: Code, detail: &str) -> String {
    let mut said = String::from("broker: ");
    match code {
        Code::Unknown(code) => drop(write!(said, "error {code}")),
        code => said.push_str(&words(&format!("{code:?}"))),
    }
    if !detail.is_empty() {
        said.push_str(": ");
        said.push_str(detail);
    }
    said
}

/// `NotLeaderOrFollower` as `not leader or follower`.
fn words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 8);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// Whose problem a broker's error is.
pub(crate) fn reason(code: Code) -> ErrorReason {
    match code {
        Code::RequestTimedOut | Code::NetworkException => ErrorReason::Unreachable,
        Code::SaslAuthenticationFailed
        | Code::UnsupportedSaslMechanism
        | Code::IllegalSaslState
        | Code::SecurityDisabled
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => ErrorReason::AccessDenied,
        Code::UnknownTopicOrPartition | Code::UnknownTopicId => ErrorReason::NotFound,
        Code::ThrottlingQuotaExceeded => ErrorReason::Throttled,
        Code::CorruptMessage => ErrorReason::Corrupt,
        Code::OffsetOutOfRange => ErrorReason::DataLost,
        Code::InvalidTopicException
        | Code::InvalidConfig
        | Code::InvalidRequest
        | Code::InvalidRecord
        | Code::InvalidRequiredAcks
        | Code::InvalidTransactionTimeout
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::MessageTooLarge
        | Code::PolicyViolation
        | Code::UnsupportedVersion
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::FetchSessionTopicIdError => ErrorReason::Invalid,
        Code::OutOfOrderSequenceNumber | Code::DuplicateSequenceNumber | Code::Unknown(_) => ErrorReason::Internal,
        // Leaders and coordinators that move or load, fenced producers: opening again mends it.
        _ => ErrorReason::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_the_broker_said_and_whose_problem_it_is() {
        for (code, reason, text) in [
            (29, ErrorReason::AccessDenied, "broker: topic authorization failed"),
            (3, ErrorReason::NotFound, "broker: unknown topic or partition"),
            (6, ErrorReason::ServerError, "broker: not leader or follower"),
            (1, ErrorReason::DataLost, "broker: offset out of range"),
            (2, ErrorReason::Corrupt, "broker: corrupt message"),
            (12345, ErrorReason::Internal, "broker: error 12345"),
        ] {
            let error = Error::refused(code, "").unwrap_err();
            assert_eq!((error.reason(), error.to_string().as_str()), (reason, text));
        }
        Error::refused(0, "").unwrap();
        let error = Error::refused(58, "no such user").unwrap_err().of("reading partition a/0");
        assert_eq!(error.message, "reading partition a/0: broker: sasl authentication failed: no such user");
    }
}
