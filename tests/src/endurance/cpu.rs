//! CPU time of the processes that take part, from `/proc`. It sees them only if the cluster runs on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::measure::cpu_seconds;

/// Between two looks. What a worker has used since the last one is not counted when it is killed.
const LOOK: Duration = Duration::from_millis(500);

/// CPU seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CpuTime {
    /// All workers together.
    pub(super) workers: f64,
    /// How many processes these were.
    pub(super) processes: usize,
    /// The broker.
    pub(super) kafka: f64,
    /// This process: load, reader and looks.
    pub(super) own: f64,
}

/// Watches the workers in a namespace, and the broker, until told to stop.
pub(super) fn watch(namespace: &str, kafka: u32, stop: &AtomicBool) -> CpuTime {
    let own = std::process::id();
    let before = [kafka, own].map(|id| cpu_seconds(id).unwrap_or_default());
    let mut workers: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    loop {
        let last = stop.load(Ordering::Acquire);
        for id in processes(namespace) {
            let Ok(used) = cpu_seconds(id) else { continue };
            workers.entry(id).or_insert((used, used)).1 = used;
        }
        if last {
            break;
        }
        thread::sleep(LOOK);
    }
    let [kafka, own] = [(kafka, before[0]), (own, before[1])].map(|(id, before)| cpu_seconds(id).map_or(f64::NAN, |used| used - before));
    CpuTime { workers: workers.values().map(|(first, last)| last - first).sum(), processes: workers.len(), kafka, own }
}

/// Workers in the pods of a namespace.
fn processes(namespace: &str) -> Vec<u32> {
    let parts = |id: u32, file: &str| fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
    let is_worker = |id: &u32| {
        let command = parts(*id, "cmdline");
        let mut words = command.split(|byte| *byte == 0);
        let named = words.next().is_some_and(|program| program.ends_with(b"/millrace")) && words.next() == Some(b"worker");
        let wanted = format!("POD_NAMESPACE={namespace}");
        named && parts(*id, "environ").split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_worker).collect()
}
