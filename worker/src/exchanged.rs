//! A plan that keeps state, shared through an exchange: which plans can be, and what its tasks are given. It opens no connection.

use std::sync::Arc;
use std::time::Duration;

use millrace_connectors::context::Context;
use millrace_connectors::exchange::{Channel, KafkaExchange, Upstream};
use millrace_crds::job::Job;
use millrace_crds::report::{Distribution, EXCHANGE, Problem, TaskRef};
use millrace_engine::plan::Plan;
use millrace_engine::plan::stages::Exchange;
use millrace_engine::runtime::{BackStage, EXCHANGE_WRITER, FrontStage, InputBinding, OutputBinding, Splits, Stage};

use crate::assemble::AssembledInput;

/// What the exchange is called where reports name Sources and Sinks.
const NAME: &str = "spec.exchange.kafka";

/// The exchange of a plan.
pub(crate) struct Exchanged {
    exchange: Exchange,
    pub(crate) kafka: KafkaExchange,
}

impl Exchanged {
    /// The exchange that the Job asks for; none if its plan keeps no state, and so needs none.
    pub(crate) fn of(job: &Job, plan: &Plan, inputs: &[AssembledInput], context: &Context) -> Result<Option<Self>, Problem> {
        let Some(options) = job.exchange.as_ref().filter(|_| plan.is_stateful()) else { return Ok(None) };
        let alone = "remove spec.exchange: one worker then does all the work";
        if let Some(queue) = inputs.iter().find(|input| input.source.distribution() == Distribution::Competing) {
            let message = format!(
                "input {} is a queue: which of its tasks there are changes with the workers, so nobody knows whom to wait for",
                queue.name
            );
            return Err(refused(
                message,
                format!("{alone}, or send the queue's records on through a Pipeline that keeps no state, to Kafka"),
            ));
        }
        if let Some(table) = inputs.iter().find(|input| plan.is_table(&input.name)) {
            let message = format!("input {} is a table in which rows look things up, and each task would need all of it", table.name);
            return Err(refused(message, alone.to_owned()));
        }
        if plan.reads_clock() {
            let message =
                "the plan goes by processing time, and a row that waits in the exchange would be counted where it comes out of it"
                    .to_owned();
            return Err(refused(message, format!("{alone}, or go by event time")));
        }
        let exchange =
            plan.exchange().map_err(|reason| refused(format!("the plan cannot be shared by key: {reason}"), alone.to_owned()))?.condensed();
        let front = exchange.front_hash();
        let channels = exchange.channels().iter().map(|channel| {
            let timed: Vec<bool> = channel.inputs.iter().map(|input| plan.event_time(input).is_some()).collect();
            if timed.iter().any(|one| *one != timed[0]) {
                let message = format!("inputs {} come together, and only some of them have event times", channel.inputs.join(", "));
                return Err(refused(message, "set eventTime on all of their Sources".to_owned()));
            }
            Ok(Channel {
                name: channel.name.clone(),
                schema: Arc::clone(&channel.schema),
                key: channel.key.clone(),
                timed: timed.first() == Some(&true),
                front,
            })
        });
        let channels = channels.collect::<Result<Vec<_>, _>>()?;
        let kafka = KafkaExchange::new(&options.kafka, &job.pipeline.uid, &channels, context);
        Ok(Some(Self { exchange, kafka: kafka.map_err(|error| refused(error.message, alone.to_owned()))? }))
    }

    /// What is on its way between tasks when a revision ends, in the form of states of operators.
    pub(crate) fn signatures(&self) -> Vec<(Arc<str>, String)> {
        let shape = (Arc::from(EXCHANGE), format!("{} partitions", self.kafka.partitions()));
        let channels = self.exchange.channels().iter().map(|channel| {
            let columns = channel.schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
            let signature = format!("{} by {:?}", columns.collect::<Vec<_>>().join(", "), channel.key);
            (Arc::from(format!("{EXCHANGE}/{}", channel.name)), signature)
        });
        std::iter::once(shape).chain(channels).collect()
    }

    /// What a task behind the exchange reads; `None` if there is no such partition.
    pub(crate) fn inputs(&self, task: &TaskRef, upstream: impl Fn(&str) -> Option<Upstream>) -> Option<Vec<InputBinding>> {
        let partition: u16 = task.split.parse().ok()?;
        if partition >= self.kafka.partitions() {
            return None;
        }
        let bind = |(index, channel): (usize, &millrace_engine::plan::stages::Channel)| InputBinding {
            name: channel.name.clone(),
            source: self.kafka.source(index, channel.inputs.iter().filter_map(|input| upstream(input)).collect()),
            source_name: NAME.to_owned(),
            event_time: None,
            max_delay: Duration::ZERO,
            splits: Splits::One(partition.to_string()),
        };
        Some(self.exchange.channels().iter().enumerate().map(bind).collect())
    }

    /// The part of the plan of a task in front.
    pub(crate) fn front(&self) -> Stage {
        let output =
            OutputBinding { name: EXCHANGE_WRITER.to_owned(), sink: self.kafka.sink(), sink_name: NAME.to_owned(), dead_letter: None };
        Stage::Front(Arc::new(FrontStage { exchange: self.exchange.clone(), output }))
    }

    /// The part of the plan of a task behind. `event_times`: the event-time column of each output.
    pub(crate) fn back(&self, event_times: Vec<Option<String>>) -> Stage {
        Stage::Back(Arc::new(BackStage { exchange: self.exchange.clone(), event_times }))
    }

    /// For people.
    pub(crate) fn explain(&self) -> String {
        let topics = self.kafka.topic_names().enumerate().map(|(channel, topic)| {
            let what = match self.exchange.partial(channel) {
                Ok(partials) => format!("partial aggregates, {partials}"),
                Err(why) => {
                    let columns = self.exchange.channels()[channel].schema.fields().iter().map(|field| field.name().as_str());
                    format!("rows ({}): {why}", columns.collect::<Vec<_>>().join(", "))
                }
            };
            format!("\n    {topic}\n        {what}")
        });
        format!(
            "exchange through Kafka, {} partitions; what is written is read at once; topics{}\n",
            self.kafka.partitions(),
            topics.collect::<String>()
        )
    }
}

fn refused(message: String, hint: String) -> Problem {
    Problem { reason: "NotSupported".to_owned(), location: "exchange".to_owned(), message, hint: Some(hint) }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use millrace_crds::report::InputPlan;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use serde_json::json;

    use super::*;
    use crate::assemble::{Assembled, Store, assemble};
    use crate::clock::SystemClock;

    const COUNTS: &str = "SELECT window_start, at, count(*) AS n FROM TABLE(TUMBLE(TABLE logs, DESCRIPTOR(at), INTERVAL '1' MINUTE)) \
                          GROUP BY window_start, window_end, at";

    /// A Job with an exchange of eight partitions and this one step.
    fn job(sql: &str) -> Job {
        let mut job: Job = serde_json::from_str(include_str!("../../crds/tests/golden/job-exchange-v1.json")).unwrap();
        job.steps = vec![millrace_crds::pipeline::Step { name: "counts".into(), sql: sql.into() }];
        job.outputs[0].from = "counts".into();
        job.state_ttl_seconds = Some(60);
        job
    }

    fn assembled(job: Job) -> Assembled {
        assemble(job, PathBuf::new()).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn refusal(job: Job) -> Problem {
        let mut problems = assemble(job, PathBuf::new()).err().unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.remove(0)
    }

    #[test]
    fn a_plan_is_shared_by_split_and_by_partition() {
        let shared = assembled(job(COUNTS));
        let inputs = ["logs", EXCHANGE].map(|input| InputPlan { input: input.into(), distribution: Distribution::Partitioned });
        assert_eq!(shared.outcome().plan.unwrap().inputs, inputs);
        let store = Store { store: Arc::new(InMemory::new()), base: Path::default(), clock: Arc::new(SystemClock), spill: None };
        let task = |input: &str, split: &str| shared.task(&TaskRef { input: input.into(), split: split.into() }, &store);
        assert!(matches!(task("logs", "logs/0").unwrap().stage, Stage::Front(_)));
        assert!(matches!(task(EXCHANGE, "7").unwrap().stage, Stage::Back(_)));
        assert!(task(EXCHANGE, "8").is_none() && task("*", "all").is_none() && task("other", "0").is_none());
        assert_eq!(shared.exchange_tasks().count(), 8);
        assert!(shared.exchanged.as_ref().unwrap().explain().contains(".counts."));
    }

    #[test]
    fn what_goes_through_is_said_and_another_form_is_another_state() {
        let explained = |sql: &str| assembled(job(sql)).exchanged.unwrap().explain();
        let partials = explained(COUNTS);
        assert!(partials.contains("partial aggregates, one row for each key and slice of TUMBLE(size 60s): count(*)"), "{partials}");
        let rows = explained(&COUNTS.replace("count(*)", "array_agg(at)"));
        assert!(rows.contains("rows (at, window_end): array_agg(") && rows.contains("needs every row"), "{rows}");
        let signatures = |sql: &str| {
            let all = assembled(job(sql)).exchanged.unwrap().signatures();
            all.into_iter().find(|(id, _)| id.starts_with("*exchange/")).unwrap().1
        };
        let counts = signatures(COUNTS);
        assert!(counts.contains("rows Int64") && counts.ends_with("by [1]"), "{counts}");
        for other in [COUNTS.replace("'1' MINUTE", "'2' MINUTE"), COUNTS.replace("count(*)", "count(*) FILTER (WHERE at > '2026-01-01')")] {
            assert_ne!(signatures(&other), counts);
        }
    }

    #[test]
    fn a_plan_that_keeps_no_state_needs_none() {
        let plain = assembled(job("SELECT at FROM logs"));
        assert!(plain.exchanged.is_none() && plain.exchange_tasks().next().is_none());
        assert_eq!(plain.outcome().plan.unwrap().inputs.len(), 1);
    }

    #[test]
    fn what_cannot_be_shared_is_refused_with_the_reason() {
        let whole = refusal(job("SELECT count(*) AS n FROM logs"));
        assert_eq!((whole.reason.as_str(), whole.location.as_str()), ("NotSupported", "exchange"));
        assert!(whole.message.contains("counts/") && whole.hint.unwrap().contains("remove spec.exchange"), "{}", whole.message);

        let mut queue =
            job("SELECT window_start, c_ip, count(*) AS n FROM TABLE(TUMBLE(TABLE logs, DESCRIPTOR(time), INTERVAL '1' MINUTE)) \
             GROUP BY window_start, window_end, c_ip");
        let source = json!({"s3": {"sqs": {"queueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/q"}}, "format": {"cloudFront": {}},
                            "eventTime": {"column": "time"}});
        queue.inputs[0].source = serde_json::from_value(source).unwrap();
        let queue = refusal(queue);
        assert!(queue.message.contains("logs is a queue"), "{}", queue.message);
    }

    #[test]
    fn what_is_written_beside_the_exchange_or_behind_it_can_be_in_transactions() {
        let kafka = json!({"kafka": {"bootstrapServers": "a:1", "topic": "t", "transactional": "Auto", "format": {"json": {}}}});
        let mut beside = job(COUNTS);
        beside.sinks.insert("tx".into(), serde_json::from_value(kafka).unwrap());
        let mut behind = beside.clone();
        behind.outputs[0].sink = "tx".into();
        behind.sinks.remove("out");
        drop(assembled(behind));
        let raw = json!({"name": "raw", "from": "logs", "sink": "tx"});
        beside.outputs.push(serde_json::from_value(raw).unwrap());
        drop(assembled(beside));
    }
}
