//! What went wrong with Kafka, and whose problem it is. Never a secret: values of options are left out of messages.

use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// Whose problem an error code is.
pub(crate) fn reason(code: Code) -> ErrorReason {
    match code {
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::MessageTimedOut
        | Code::RequestTimedOut
        | Code::NetworkException
        | Code::BrokerDestroy
        | Code::WaitingForCoordinator
        | Code::SSL => ErrorReason::Unreachable,
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SecurityDisabled
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => ErrorReason::AccessDenied,
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::UnknownTopicId => ErrorReason::NotFound,
        Code::ThrottlingQuotaExceeded => ErrorReason::Throttled,
        Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::KafkaStorageError
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::OffsetNotAvailable
        | Code::PreferredLeaderNotAvailable
        | Code::EligibleLeadersNotAvailable
        | Code::ReassignmentInProgress
        // A newer producer of the same transactional id, or a transaction that was aborted: opening the task again mends it.
        | Code::Fenced
        | Code::ProducerFenced
        | Code::InvalidProducerEpoch
        | Code::InvalidTransactionalState
        | Code::Fatal
        | Code::ConcurrentTransactions
        | Code::TransactionCoordinatorFenced
        | Code::Unknown => ErrorReason::ServerError,
        Code::BadMessage | Code::BadCompression | Code::InvalidMessage => ErrorReason::Corrupt,
        Code::AutoOffsetReset | Code::LogTruncation | Code::OffsetOutOfRange => ErrorReason::DataLost,
        Code::InvalidTopic
        | Code::InvalidConfig
        | Code::InvalidArgument
        | Code::InvalidRequest
        | Code::InvalidRecord
        | Code::InvalidRequiredAcks
        | Code::InvalidTransactionTimeout
        | Code::MessageSizeTooLarge
        | Code::PolicyViolation
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType => ErrorReason::Invalid,
        _ => ErrorReason::Internal,
    }
}

/// Whether the broker (or the client, for size) refuses the records themselves, whatever is retried.
pub(crate) fn is_refusal(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord | Code::InvalidTimestamp)
}

/// An error of `doing` something, as connectors report it.
pub(crate) fn error(doing: &str, error: KafkaError) -> ConnectorError {
    let (reason, said) = match &error {
        // The fourth field is the value: it may be a password or a key.
        KafkaError::ClientConfig(_, description, option, _) => {
            return ConnectorError::new(ErrorReason::Invalid, format!("{doing}: option {option} of the client: {description}"));
        }
        KafkaError::ClientCreation(description) => (ErrorReason::Invalid, description.clone()),
        other => match other.rdkafka_error_code() {
            Some(code) => (reason(code), code.to_string()),
            None => (ErrorReason::Internal, other.to_string()),
        },
    };
    ConnectorError::new(reason, format!("{doing}: {said}")).caused_by(error)
}

/// Whether an error is about the consumer group only, which nothing depends on.
pub(crate) fn is_about_group(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::GroupAuthorizationFailed | Code::CoordinatorNotAvailable | Code::NotCoordinator | Code::CoordinatorLoadInProgress)
    )
}
