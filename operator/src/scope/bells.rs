//! Asking for reconciliations. Whether there is anything to do is found out by them, not here.

use std::sync::Arc;

use futures::channel::mpsc::UnboundedSender;
use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use millrace_crds::report::TroublePart;
use millrace_crds::{Pipeline, Sink, Source};

use crate::metrics::Metrics;
use crate::names::{Key, PIPELINE, PROBE_KIND, PROBE_NAME};

/// Asks for reconciliations in one scope.
#[derive(Clone)]
pub(super) struct Bell {
    pub(super) namespace: Option<String>,
    pub(super) pipelines: UnboundedSender<ObjectRef<Pipeline>>,
    pub(super) sources: UnboundedSender<ObjectRef<Source>>,
    pub(super) sinks: UnboundedSender<ObjectRef<Sink>>,
    pub(super) metrics: Metrics,
}

impl Bell {
    /// A Pipeline is to be looked at.
    pub(super) fn pipeline(&self, key: &Key) {
        self.ring("Pipeline", &self.pipelines, key);
    }

    /// A Source or Sink is to be looked at.
    pub(super) fn endpoint(&self, part: TroublePart, key: &Key) {
        match part {
            TroublePart::Source => self.ring("Source", &self.sources, key),
            TroublePart::Sink => self.ring("Sink", &self.sinks, key),
            TroublePart::State | TroublePart::Task => {}
        }
    }

    fn ring<K: Resource<DynamicType = ()>>(&self, kind: &'static str, bell: &UnboundedSender<ObjectRef<K>>, key: &Key) {
        self.metrics.triggered(kind);
        // Without a controller there is nobody to ask: the process is ending.
        let _ending = bell.unbounded_send(ObjectRef::new(&key.name).within(&key.namespace));
    }

    /// Rings for the owner that labels name.
    pub(super) fn owner_of(&self, object: &impl Resource) {
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        let label = |name: &str| object.meta().labels.as_ref().and_then(|labels| labels.get(name));
        if let Some(pipeline) = label(PIPELINE) {
            self.pipeline(&Key::new(&namespace, pipeline));
        }
        if let (Some(kind), Some(name)) = (label(PROBE_KIND), label(PROBE_NAME)) {
            let part = if kind == "Sink" { TroublePart::Sink } else { TroublePart::Source };
            self.endpoint(part, &Key::new(&namespace, name));
        }
    }
}

/// Asks for reconciliations in the scope that an object belongs to.
#[derive(Clone, Default)]
pub(crate) struct Bells(Arc<Vec<Bell>>);

impl Bells {
    /// The bells of all scopes.
    pub(super) fn new(bells: Vec<Bell>) -> Self {
        Self(Arc::new(bells))
    }

    /// A Pipeline is to be looked at.
    pub(crate) fn pipeline(&self, key: &Key) {
        self.of(&key.namespace).for_each(|bell| bell.pipeline(key));
    }

    /// A Source or Sink is to be looked at.
    pub(crate) fn endpoint(&self, part: TroublePart, key: &Key) {
        self.of(&key.namespace).for_each(|bell| bell.endpoint(part, key));
    }

    fn of(&self, namespace: &str) -> impl Iterator<Item = &Bell> {
        self.0.iter().filter(move |bell| bell.namespace.as_deref().is_none_or(|own| own == namespace))
    }
}
