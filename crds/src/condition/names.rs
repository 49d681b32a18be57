//! The closed sets of condition types and reasons, each with its meaning. When one applies is decided elsewhere.

/// A closed set of CamelCase names: the enum, all its members, and each as Kubernetes sees it.
macro_rules! names {
    ($(#[$doc:meta])* $set:ident { $(#[doc = $meaning:literal] $member:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $set {
            $(#[doc = $meaning] $member),*
        }

        impl $set {
            /// Every member, in the order of the declaration.
            pub const ALL: &[Self] = &[$(Self::$member),*];

            /// The name as it stands in the object.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$member => stringify!($member)),*
                }
            }

            /// What the member means: the text of its documentation, with its leading space.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$member => $meaning),*
                }
            }
        }

        impl std::fmt::Display for $set {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

names! {
    /// Condition types of a Pipeline.
    PipelineCondition {
        /// Accepted, available, references ready, data flowing, checkpoints healthy; or stopped on purpose.
        Ready,
        /// Work toward this generation is under way. True is not normal.
        Reconciling,
        /// A human is needed. True is not normal.
        Stalled,
        /// This spec was planned by the image that will run it and is valid.
        Accepted,
        /// All Sources exist and their probes succeed.
        SourcesReady,
        /// All Sinks, those of dead letters among them, exist and their probes succeed.
        SinksReady,
        /// All Secrets and ConfigMaps that are referred to exist with the keys they must hold, as the kubelet and the workers see it.
        SecretsResolved,
        /// At least one worker, and no fewer than the minimum, is available.
        WorkloadAvailable,
        /// Records make progress, or there provably are none.
        DataFlowing,
        /// The last epoch of every task is young enough.
        CheckpointHealthy,
        /// Records went to dead-letter Sinks lately. True is not normal.
        DeadLettering,
    }
}

names! {
    /// Reasons of a Pipeline's conditions.
    PipelineReason {
        /// Nothing has been looked at yet; every condition starts so.
        Pending,
        /// As it should be.
        Running,
        /// Stopped on purpose: `desiredState` is Paused.
        Paused,
        /// Stopped on purpose, with nothing left in flight: `desiredState` is Drained.
        Drained,
        /// Scaled to no workers: `scale.replicas` is 0.
        ScaledToZero,
        /// Ready, and the sources have nothing to give.
        Idle,
        /// Every input has ended and everything is durable.
        Completed,
        /// On the way; the message says to what.
        Progressing,
        /// Something is wrong; the message says what.
        Degraded,
        /// A sink takes nothing; the message names it.
        SinkStalled,
        /// A source cannot be read; the message names it.
        SourceStalled,
        /// A new revision is checked before it replaces the running one.
        Checking,
        /// Workers of a new revision replace those of the old one.
        RollingOut,
        /// Tasks restore their last epoch.
        Restoring,
        /// What is in flight is finished.
        Draining,
        /// Nothing is left to do for this generation.
        UpToDate,
        /// Planned and valid.
        Planned,
        /// The plan is refused; the message names step and position.
        PlanInvalid,
        /// A query names a column that does not exist.
        UnknownColumn,
        /// A query names a table that is neither input nor step.
        UnknownTable,
        /// Steps read each other in a circle.
        Cycle,
        /// SQL that is valid but not supported yet.
        NotSupported,
        /// SQL that cannot be parsed.
        SyntaxError,
        /// The columns of a Source are wrong.
        SchemaInvalid,
        /// A template of a Sink is wrong.
        TemplateInvalid,
        /// A column has not the type that is needed.
        TypeMismatch,
        /// The check itself could not be made; the message says why, and it is tried again.
        CheckFailed,
        /// An object of the same name exists that the operator did not make; it is left alone.
        NameConflict,
        /// A quota of the namespace is exhausted.
        QuotaExceeded,
        /// The API server refused an object of this Pipeline; the message says which and why.
        Forbidden,
        /// All references are there and answer.
        Resolved,
        /// Nothing of this kind is referred to.
        NotNeeded,
        /// An object that is referred to does not exist.
        NotFound,
        /// A system does not let us in.
        AccessDenied,
        /// A system does not answer.
        Unreachable,
        /// A system refuses for good what we ask; the message says what.
        Invalid,
        /// A Secret, or one of its keys, is missing.
        SecretMissing,
        /// A Source or Sink has not been probed yet, or cannot be.
        NotProbed,
        /// As many workers as wanted are available.
        Available,
        /// As many workers as wanted are available, and one does all the work: the plan keeps state, and records are not exchanged between workers.
        NeedsExchange,
        /// Fewer workers than wanted are available.
        Unavailable,
        /// The image cannot be pulled.
        ImagePullBackOff,
        /// A worker took more memory than it may.
        OOMKilled,
        /// Workers end with an error; the message holds the last one.
        CrashLoopBackOff,
        /// No node has room for the workers, or may run them.
        Unschedulable,
        /// No worker has reported lately.
        NoReports,
        /// Records flow.
        Flowing,
        /// There are records to read, and none makes it to the sinks.
        NoProgress,
        /// The sources have nothing to give.
        SourceIdle,
        /// Sinks are slower than sources.
        Backpressured,
        /// A record is refused and the policy is to stop.
        PoisonRecord,
        /// Records at the position are gone from the source.
        DataLost,
        /// Epochs are durable in time.
        Healthy,
        /// An epoch was not durable in time.
        Timeout,
        /// The checkpoint store does not answer, or refuses.
        StoreUnavailable,
        /// A checkpoint is damaged.
        Corrupt,
        /// No epoch has been closed yet.
        NoCheckpointYet,
        /// Records were dead-lettered.
        RecordsDeadLettered,
        /// No record was dead-lettered.
        NoDeadLetters,
        /// The Pipeline is being deleted.
        Terminating,
    }
}

names! {
    /// Condition types of a Source or Sink.
    EndpointCondition {
        /// It was reached, we were let in, and its secrets are there; or it is not probed on purpose.
        Ready,
        /// A probe is under way. True is not normal.
        Reconciling,
        /// A human is needed. True is not normal.
        Stalled,
        /// The system answers.
        Reachable,
        /// The system lets us do what will be done.
        Authorized,
        /// All Secrets that are referred to exist with the keys they must hold.
        SecretsResolved,
    }
}

names! {
    /// Reasons of a Source's or Sink's conditions.
    EndpointReason {
        /// Nothing has been looked at yet; every condition starts so.
        Pending,
        /// A probe saw that all is well.
        ProbeSucceeded,
        /// A probe is under way.
        Probing,
        /// `probe.mode` is Off: nothing was looked at.
        ProbeOff,
        /// This connector cannot be probed: nothing was looked at.
        ProbeUnsupported,
        /// The probe itself could not be made; the message says why, and it is tried again.
        ProbeFailed,
        /// The probe says nothing of this.
        NotObserved,
        /// No connection: name, network, refused, TLS, time-out.
        Unreachable,
        /// The system does not know us, or we may not.
        AccessDenied,
        /// What we were told to use does not exist.
        NotFound,
        /// The system asks us to slow down.
        Throttled,
        /// The system answers with an error of its own.
        ServerError,
        /// The configuration is wrong; trying again will not help.
        Invalid,
        /// A Secret, or one of its keys, is missing.
        SecretMissing,
        /// All Secrets are there.
        Resolved,
        /// No Secret is referred to.
        NotNeeded,
        /// Nothing is left to do for this generation.
        UpToDate,
    }
}
