//! Metrics in Prometheus' text format, straight from task reports: nothing is counted twice. Labels are names of the Pipeline, never data.

use std::fmt::Write as _;

use millrace_crds::report::{TaskPhase, TaskReport};

struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&TaskReport) -> Option<f64>,
}

const METRICS: [Metric; 15] = [
    Metric {
        name: "millrace_records_in_total",
        kind: "counter",
        help: "Records taken in, good and bad.",
        value: |t| Some(t.records_in as f64),
    },
    Metric {
        name: "millrace_records_out_total",
        kind: "counter",
        help: "Rows handed to sinks, over all outputs.",
        value: |t| Some(t.records_out as f64),
    },
    Metric {
        name: "millrace_records_dead_lettered_total",
        kind: "counter",
        help: "Records written to dead-letter sinks.",
        value: |t| Some(t.dead_lettered as f64),
    },
    Metric {
        name: "millrace_records_dropped_total",
        kind: "counter",
        help: "Bad records dropped by policy.",
        value: |t| Some(t.dropped as f64),
    },
    Metric { name: "millrace_bytes_in_total", kind: "counter", help: "Uncompressed bytes taken in.", value: |t| Some(t.bytes_in as f64) },
    Metric {
        name: "millrace_lag_records",
        kind: "gauge",
        help: "Records or announcements not yet taken in.",
        value: |t| t.lag_records.map(|v| v as f64),
    },
    Metric { name: "millrace_lag_seconds", kind: "gauge", help: "Age of the oldest of them.", value: |t| t.lag_seconds.map(|v| v as f64) },
    Metric { name: "millrace_epoch", kind: "gauge", help: "Last committed epoch.", value: |t| Some(t.epoch as f64) },
    Metric {
        name: "millrace_epoch_timestamp_seconds",
        kind: "gauge",
        help: "When it was found complete.",
        value: |t| t.epoch_at_millis.map(|v| v as f64 / 1000.0),
    },
    Metric { name: "millrace_generation", kind: "gauge", help: "Generation of the task.", value: |t| Some(t.generation as f64) },
    Metric {
        name: "millrace_task_watermark_seconds",
        kind: "gauge",
        help: "Event time up to which the input is believed complete; tasks that keep state only.",
        value: |t| t.watermark_millis.map(|v| v as f64 / 1000.0),
    },
    Metric {
        name: "millrace_task_state_bytes",
        kind: "gauge",
        help: "Bytes of memory that state takes; tasks that keep state only.",
        value: |t| t.state_bytes.map(|v| v as f64),
    },
    Metric {
        name: "millrace_task_spilled_bytes",
        kind: "gauge",
        help: "Bytes of disk that state takes which has no room in memory; tasks with such state only.",
        value: |t| t.spilled_bytes.map(|v| v as f64),
    },
    Metric {
        name: "millrace_task_failures_total",
        kind: "counter",
        help: "How often the task has failed and was opened again at its last epoch.",
        value: |t| Some(t.failures.unwrap_or(0) as f64),
    },
    Metric {
        name: "millrace_task_running",
        kind: "gauge",
        help: "1 while the task runs or drains.",
        value: |t| Some(f64::from(u8::from(matches!(t.phase, TaskPhase::Running | TaskPhase::Draining)))),
    },
];

/// The text for all tasks of all Pipelines of this process.
pub(crate) fn render<'a>(pipelines: impl Iterator<Item = (&'a str, Vec<TaskReport>)>) -> String {
    let pipelines: Vec<_> = pipelines.collect();
    let mut text = String::new();
    for metric in &METRICS {
        let _infallible = writeln!(text, "# HELP {0} {1}\n# TYPE {0} {2}", metric.name, metric.help, metric.kind);
        for (pipeline, tasks) in &pipelines {
            for task in tasks {
                if let Some(value) = (metric.value)(task) {
                    let labels = format!(
                        "pipeline=\"{}\",input=\"{}\",split=\"{}\"",
                        escape(pipeline),
                        escape(&task.task.input),
                        escape(&task.task.split)
                    );
                    let _infallible = writeln!(text, "{}{{{labels}}} {value}", metric.name);
                }
            }
        }
    }
    let name = "millrace_trouble";
    let _infallible = writeln!(text, "# HELP {name} 1 for each part that is in trouble now.\n# TYPE {name} gauge");
    for (pipeline, tasks) in &pipelines {
        for task in tasks {
            for trouble in &task.troubles {
                let _infallible = writeln!(
                    text,
                    "{name}{{pipeline=\"{}\",input=\"{}\",split=\"{}\",part=\"{:?}\",name=\"{}\",reason=\"{:?}\"}} 1",
                    escape(pipeline),
                    escape(&task.task.input),
                    escape(&task.task.split),
                    trouble.part,
                    escape(&trouble.name),
                    trouble.reason
                );
            }
        }
    }
    text
}

/// A label value: backslash, quote and line feed escaped, as the format asks.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_crds::report::TaskRef;

    #[test]
    fn hostile_names_stay_inside_their_label() {
        let report = TaskReport {
            task: TaskRef { input: "logs".into(), split: "a\"} 1\nmillrace_fake 2 \\".into() },
            phase: TaskPhase::Running,
            generation: 1,
            epoch: 2,
            epoch_at_millis: None,
            records_in: 3,
            records_out: 0,
            dead_lettered: 0,
            dropped: 0,
            bytes_in: 0,
            lag_records: None,
            lag_seconds: None,
            idle: false,
            watermark_millis: Some(1_700_000_000_500),
            state_bytes: None,
            spilled_bytes: Some(7),
            failures: Some(3),
            troubles: Vec::new(),
        };
        let text = render(std::iter::once(("ns/p", vec![report])));
        assert!(text.contains("millrace_records_in_total{pipeline=\"ns/p\",input=\"logs\",split=\"a\\\"} 1\\nmillrace_fake 2 \\\\\"} 3\n"));
        assert!(!text.lines().any(|line| line.starts_with("millrace_fake")));
        assert!(text.contains("} 1700000000.5\n"), "{text}");
        assert!(!text.contains("millrace_lag_records{"), "an unknown value has no sample");
        assert!(text.lines().any(|line| line.starts_with("millrace_task_spilled_bytes{") && line.ends_with("} 7")), "{text}");
        assert!(text.lines().any(|line| line.starts_with("millrace_task_failures_total{") && line.ends_with("} 3")), "{text}");
        assert!(!text.contains("millrace_task_state_bytes{"), "a task without state has no sample");
    }
}
