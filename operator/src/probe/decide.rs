//! Whether a Source or Sink is to be probed by a pod of its own, and what is known of it. Pure.

use std::time::Duration;

use millrace_crds::report::ProbeResult;
use millrace_crds::source::ProbeMode;

/// Until the next look at what stands still.
pub(crate) const SLOW: Duration = Duration::from_mins(5);
/// Until the next look at what is on its way.
const SOON: Duration = Duration::from_secs(5);
/// So long after a change a Pipeline that uses it may still be on its way: its workers would probe it anyway.
const GRACE: Duration = Duration::from_secs(10);
/// A probe pod that has not ended after so many seconds has failed.
const DEADLINE: i64 = 180;
/// Seconds until a probe that could not be made is tried again.
const AGAIN: i64 = 60;

/// What is known of a Source or Sink.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// Whether it is probed at all.
    pub(crate) mode: ProbeMode,
    /// Time between probes of what failed.
    pub(crate) interval: Duration,
    /// Whether a pod without the Pipeline's volumes can see it.
    pub(crate) can_be_probed_alone: bool,
    /// Whether workers use it.
    pub(crate) served: bool,
    /// What workers that have its present spec say.
    pub(crate) reported: Option<ProbeResult>,
    /// The pod that probes its present generation.
    pub(crate) pod: OneShotProbe,
    /// What its status says of the present generation: `None` nothing, else whether it is well.
    pub(crate) known: Option<bool>,
    /// How long ago its present generation was seen first.
    pub(crate) seen: Duration,
    /// How long ago it was probed by a pod.
    pub(crate) tried: Option<Duration>,
}

/// How far a probe pod is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum OneShotProbe {
    /// There is none.
    Absent,
    /// It has not ended.
    Underway {
        /// Seconds since it was made.
        age: i64,
        /// What it waits for.
        waits_for: Option<String>,
    },
    /// It has said what it saw.
    Answered(ProbeResult),
    /// It ended without saying anything.
    Failed {
        /// Seconds since then.
        age: i64,
        /// What is known.
        message: String,
    },
}

/// What to do, and what to say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Decision {
    /// It is not probed, because the user says so.
    Off,
    /// It cannot be probed without a Pipeline.
    Alone,
    /// Workers have looked.
    Reported(ProbeResult),
    /// Workers will look.
    AwaitWorkers,
    /// A moment more, a Pipeline may come.
    Grace,
    /// Make the pod.
    Start,
    /// The pod has not ended.
    AwaitPod(Option<String>),
    /// The pod has looked; it can go.
    Read(ProbeResult),
    /// The probe could not be made.
    Broken {
        /// Why.
        message: String,
        /// Whether it is time to remove the pod, so that it is tried again.
        again: bool,
    },
    /// What is known still holds.
    Keep,
}

/// Decides.
pub(crate) fn decide(observed: &Observed) -> Decision {
    if observed.mode == ProbeMode::Off {
        return Decision::Off;
    }
    if let Some(result) = &observed.reported {
        return Decision::Reported(result.clone());
    }
    if observed.served {
        return if observed.known.is_some() { Decision::Keep } else { Decision::AwaitWorkers };
    }
    if !observed.can_be_probed_alone {
        return Decision::Alone;
    }
    match &observed.pod {
        OneShotProbe::Answered(result) => Decision::Read(result.clone()),
        OneShotProbe::Underway { age, waits_for } if *age >= DEADLINE => {
            let waits_for = waits_for.as_deref().unwrap_or("its end");
            Decision::Broken { message: format!("the probe pod waited {age} s for {waits_for}"), again: true }
        }
        OneShotProbe::Underway { waits_for, .. } => Decision::AwaitPod(waits_for.clone()),
        OneShotProbe::Failed { age, message } => Decision::Broken { message: message.clone(), again: *age >= AGAIN },
        OneShotProbe::Absent => match observed.known {
            Some(true) => Decision::Keep,
            Some(false) if observed.tried.is_some_and(|tried| tried < observed.interval) => Decision::Keep,
            _ if observed.tried.is_some_and(|tried| tried < SOON) => Decision::Keep,
            _ if observed.seen < GRACE => Decision::Grace,
            _ => Decision::Start,
        },
    }
}

/// When to look again.
pub(crate) fn next_look(decision: &Decision) -> Duration {
    match decision {
        Decision::Off | Decision::Alone | Decision::Reported(ProbeResult::Ok { .. } | ProbeResult::Unsupported) => SLOW,
        // What workers stop reporting, and failures that are due again, come without a change of any object.
        Decision::Reported(ProbeResult::Failed { .. }) | Decision::Keep => Duration::from_secs(30),
        Decision::AwaitWorkers
        | Decision::Grace
        | Decision::Start
        | Decision::AwaitPod(_)
        | Decision::Read(_)
        | Decision::Broken { .. } => SOON,
    }
}
