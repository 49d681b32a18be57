//! What is guaranteed to whoever reads an output, and what a Pipeline demands. How a sink keeps it is not known here.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often the effect of each record is seen in a sink, after any number of crashes. A weaker guarantee is lower.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[expect(clippy::enum_variant_names, reason = "the words of the field")]
pub enum Guarantee {
    /// At least once; a record may be seen again after a crash, under the same identity.
    AtLeastOnce,
    /// It may be written again, but over itself: the result is as if it had been written once.
    EffectivelyOnce,
    /// Once, for readers that keep to the sink's contract (manifests, committed transactions).
    ExactlyOnce,
}

impl Guarantee {
    /// As it stands in manifests and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "AtLeastOnce",
            Self::EffectivelyOnce => "EffectivelyOnce",
            Self::ExactlyOnce => "ExactlyOnce",
        }
    }
}

/// What a Pipeline demands of its outputs.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The least that every output must guarantee; a Pipeline with a weaker one is refused and names it. Default `AtLeastOnce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<Guarantee>,
}

/// What the running plan guarantees.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStatus {
    /// The weakest guarantee of all outputs.
    pub effective: Guarantee,
    /// Each output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 32))]
    pub per_output: Vec<OutputDelivery>,
}

/// What one output guarantees.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputDelivery {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// What holds after any number of crashes.
    pub guarantee: Guarantee,
    /// Why it is that, and for whom it holds.
    #[schemars(length(max = 1024))]
    pub reason: String,
}
