//! What benches of this crate measure with: the CPU time of a thread, and the spread of some figures. It prints nothing.

/// CPU-seconds of this thread that `work` takes.
pub(crate) fn cpu(work: impl FnOnce()) -> f64 {
    let before = on_cpu_nanos();
    work();
    (on_cpu_nanos() - before) as f64 / 1e9
}

/// The first figure of the kernel's scheduler statistics: nanoseconds that this thread has run.
fn on_cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Median, minimum and maximum.
pub(crate) fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}
