//! `millrace run` between three brokers that are killed, frozen and handed over, one after the other: numbered records in, the same out in transactions. After each
//! of these a reader of what is committed must find every record once, and those of a partition in order. Then what no client can make good: a topic that is made
//! anew under the same name, and a log that an unclean leader has cut. No cluster of Kubernetes here.
//!
//! `MILLRACE_TEST_ROUNDS` is how many times something happens to the brokers (4 unless set), `MILLRACE_TEST_SEED` what they are drawn from (1 unless set). All kinds
//! have their turn before one comes again. The test prints how many there were of each, and what the brokers said to the worker.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use millrace_tests::dice::Dice;
use millrace_tests::image::{self, Image};
use millrace_tests::numbered::{GROUP, Numbers, OUTPUT, OUTPUTS, committed, manifests};
use millrace_tests::poll;
use millrace_tests::servers::Brokers;
use millrace_tests::servers::brokers::{GROUPS, TRANSACTIONS};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// For everything to arrive on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);
/// Partitions of the input at first.
const PARTITIONS: usize = 3;
/// Records that are written before something happens, and after it.
const RECORDS: usize = 150;
/// The worker's code when records are lost and the policy is to stop.
const LOST: i32 = 65;

/// What happens to brokers.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Act {
    /// A broker that leads partitions of the input dies.
    KillLeader,
    /// That which coordinates the transactions dies.
    KillTransactions,
    /// That which leads partitions of the output is frozen until others lead them, and wakes as it was.
    Freeze,
    /// The input has one partition more.
    Grow,
    /// A broker hands over what it leads, is away, and comes back; then leaders go home.
    HandOver,
    /// That which coordinates the consumer groups dies.
    KillGroups,
    /// A coordinator of transactions is frozen until there is another.
    FreezeTransactions,
    /// Two die: nothing can be written until one is back.
    KillTwo,
    /// A broker dies, and the worker with it.
    KillWorkerToo,
    /// Others join the group that offsets are committed to, commit what they like and leave; then the worker dies.
    ForeignMembers,
}

const ACTS: [Act; 10] = [
    Act::KillTransactions,
    Act::Freeze,
    Act::Grow,
    Act::KillLeader,
    Act::KillWorkerToo,
    Act::HandOver,
    Act::FreezeTransactions,
    Act::KillGroups,
    Act::KillTwo,
    Act::ForeignMembers,
];

/// How a Pipeline is started, and its process.
struct Worker {
    program: PathBuf,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Worker {
    async fn new(brokers: &Brokers, input: &str, on_position_lost: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("pipeline.yaml"), manifests(brokers, input, on_position_lost)?)?;
        let program = tokio::task::spawn_blocking(|| image::build(Image::Worker, image::Profile::for_tests())).await??;
        let mut worker = Self { program, folder, process: None };
        worker.start()?;
        Ok(worker)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.program);
        command.args(["run", "--quiet", "pipeline.yaml"]).current_dir(self.folder.path()).stdin(Stdio::null()).kill_on_drop(true);
        command.env("RUST_LOG", "warn,millrace_connectors=debug,millrace_engine=info").stdout(log.try_clone()?).stderr(log);
        self.process = Some(command.spawn().context("start millrace")?);
        Ok(())
    }

    fn process(&mut self) -> Result<&mut Child> {
        self.process.as_mut().context("millrace was not started")
    }

    async fn kill(&mut self) -> Result<()> {
        self.process()?.kill().await.context("kill millrace")
    }

    /// Waits for it to end by itself; its code and what it said last.
    async fn ended(&mut self) -> Result<(ExitStatus, String)> {
        let waiting = tokio::time::timeout(PATIENCE, self.process()?.wait()).await;
        let said = tail(&self.log());
        Ok((waiting.with_context(|| format!("it does not end; it said:\n{said}"))??, said))
    }

    /// Waits until everything that was written is committed.
    async fn until_passed(&mut self, brokers: &Brokers, numbers: &Numbers, what: &str) -> Result<()> {
        let log = self.log();
        let passed = poll::until(what, PATIENCE, async || {
            if let Some(status) = self.process()?.try_wait()? {
                return Ok(Err(format!("millrace has ended: {status}")));
            }
            match committed(brokers).await {
                // Waiting does not mend what is committed twice, or in another order.
                Err(wrong) if ["TWICE", "ORDER"].iter().any(|word| wrong.to_string().contains(word)) => Ok(Err(format!("{wrong:#}"))),
                found => numbers.all_in(&found?).map(Ok),
            }
        });
        let wrong = match passed.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(wrong)) => wrong,
            Err(late) => format!("{late:#}"),
        };
        bail!("{what}: {wrong}; millrace said:\n{}", tail(&log))
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn setting(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name} is no number")))
}

/// Two consumers share the topic as a group, one after the other, and commit the first offsets that they see.
async fn foreign_members(mut config: rdkafka::ClientConfig, topic: String) -> Result<()> {
    config.set("group.id", GROUP).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    let members = tokio::task::spawn_blocking(move || -> Result<()> {
        let began = Instant::now();
        let one: BaseConsumer = config.create()?;
        one.subscribe(&[&topic])?;
        let mut other: Option<BaseConsumer> = None;
        loop {
            ensure!(began.elapsed() < PATIENCE, "the members of the group are not given partitions");
            if let Some(Ok(record)) = one.poll(Duration::from_millis(200)) {
                one.commit_message(&record, CommitMode::Sync)?;
                if other.is_none() {
                    let member: BaseConsumer = config.create()?;
                    member.subscribe(&[&topic])?;
                    other = Some(member);
                }
            }
            if let Some(other) = &other {
                // It has what the first one had to give up.
                if other.poll(Duration::from_millis(200)).is_some_and(|record| record.is_ok()) {
                    return Ok(());
                }
            }
        }
    });
    members.await?
}

/// Lets it happen, and ends when it is over: all brokers are there and have everything.
async fn happens(act: Act, brokers: &mut Brokers, worker: &mut Worker, input: &str, chance: u64) -> Result<()> {
    let hit = match act {
        Act::Grow => {
            let partitions = brokers.partitions(input).await?.len();
            return brokers.grow_topic(input, partitions + 1).await;
        }
        Act::ForeignMembers => {
            foreign_members(brokers.config(), input.to_owned()).await?;
            worker.kill().await?;
            return worker.start();
        }
        Act::KillTransactions | Act::FreezeTransactions => brokers.leader(TRANSACTIONS, 0).await?,
        Act::KillGroups => brokers.leader(GROUPS, 0).await?,
        Act::Freeze => brokers.leader(OUTPUT, usize::try_from(chance)? % OUTPUTS as usize).await?,
        Act::KillLeader | Act::HandOver | Act::KillTwo | Act::KillWorkerToo => {
            brokers.leader(input, usize::try_from(chance)? % PARTITIONS).await?
        }
    };
    let topics = [input, OUTPUT, TRANSACTIONS];
    match act {
        Act::Freeze | Act::FreezeTransactions => {
            brokers.freeze(hit)?;
            for topic in topics {
                brokers.until_led_by_others(topic, hit).await?;
            }
            brokers.thaw(hit)?;
        }
        Act::HandOver => {
            brokers.stop(hit).await?;
            brokers.start_again(hit).await?;
        }
        Act::KillTwo => {
            let other = hit % 3 + 1;
            brokers.kill(hit)?;
            brokers.kill(other)?;
            brokers.start_again(other).await?;
            brokers.start_again(hit).await?;
        }
        Act::KillWorkerToo => {
            brokers.kill(hit)?;
            worker.kill().await?;
            worker.start()?;
            brokers.start_again(hit).await?;
        }
        _ => {
            brokers.kill(hit)?;
            // Back at once, or after others have taken over.
            if !chance.is_multiple_of(3) {
                for topic in topics {
                    brokers.until_led_by_others(topic, hit).await?;
                }
            }
            brokers.start_again(hit).await?;
        }
    }
    for topic in topics {
        brokers.until_in_sync(topic).await?;
    }
    Ok(())
}

async fn every_record_is_passed_on_once_whatever_happens_to_brokers(brokers: &mut Brokers) -> Result<String> {
    let (rounds, seed) = (setting("MILLRACE_TEST_ROUNDS", 4)?, setting("MILLRACE_TEST_SEED", 1)?);
    let input = "rounds";
    brokers.create_topic(input, PARTITIONS as i32, 3, &[]).await?;
    let (mut dice, mut luck) = (Dice::new(seed), Dice::new(seed + 1));
    let mut numbers = Numbers::new(brokers, input, PARTITIONS, 1)?;
    let mut worker = Worker::new(brokers, input, "Fail").await?;
    numbers.write(&mut dice, RECORDS).await?;
    worker.until_passed(brokers, &numbers, "at first").await?;
    let mut counts = BTreeMap::<Act, u32>::new();
    for round in 0..rounds {
        let act = ACTS[usize::try_from(round)? % ACTS.len()];
        let chance = luck.below(1000);
        numbers.write(&mut dice, RECORDS).await?;
        let what = format!("after round {round} of seed {seed}, {act:?}");
        tokio::select! {
            over = happens(act, brokers, &mut worker, input, chance) => over.with_context(|| what.clone())?,
            failed = numbers.go_on(&mut dice) => failed?,
        }
        if act == Act::Grow {
            numbers.grow();
        }
        numbers.flush().await?;
        numbers.write(&mut dice, RECORDS).await?;
        worker.until_passed(brokers, &numbers, &what).await?;
        *counts.entry(act).or_default() += 1;
    }
    let said = said(&fs::read_to_string(worker.log())?);
    worker.kill().await?;
    let passed = format!("{} records of {} partitions, each once and in order", numbers.records(), numbers.partitions());
    Ok(format!("n = {rounds} (seed {seed}): {counts:?}; {passed}\nwhat brokers said: {said:?}"))
}

/// How often brokers have said what tells that something has moved.
fn said(log: &str) -> BTreeMap<&'static str, usize> {
    let words = [
        "not leader or follower",
        "fenced leader epoch",
        "unknown leader epoch",
        "unknown topic id",
        "unknown topic or partition",
        "not coordinator",
        "coordinator not available",
        "coordinator load in progress",
        "concurrent transactions",
        "invalid producer epoch",
        "not enough replicas",
        "request timed out",
        "was lost",
        "has not answered",
        "no broker at",
        "has no leader",
        "opened again",
    ];
    words.into_iter().map(|word| (word, log.matches(word).count())).filter(|(_, count)| *count > 0).collect()
}

/// One broker sleeps through it and wakes with what it knew before.
async fn make_anew(brokers: &mut Brokers, input: &str) -> Result<()> {
    let sleeper = brokers.leader(input, 0).await?;
    brokers.freeze(sleeper)?;
    brokers.until_led_by_others(input, sleeper).await?;
    brokers.delete_topic(input).await?;
    poll::until("the topic is gone", PATIENCE, async || {
        let partitions = brokers.partitions(input).await?;
        ensure!(partitions.is_empty(), "{partitions:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    brokers.thaw(sleeper)?;
    brokers.create_topic(input, PARTITIONS as i32, 3, &[]).await
}

async fn a_topic_that_was_made_anew_is_known_by_its_id(brokers: &mut Brokers) -> Result<()> {
    let mut dice = Dice::new(3);
    for (input, policy, era) in [("stops", "Fail", 10), ("goes-on", "Earliest", 20)] {
        brokers.create_topic(input, PARTITIONS as i32, 3, &[]).await?;
        let mut numbers = Numbers::new(brokers, input, PARTITIONS, era)?;
        numbers.write(&mut dice, RECORDS).await?;
        let mut worker = Worker::new(brokers, input, policy).await?;
        worker.until_passed(brokers, &numbers, "before the topic is made anew").await?;
        make_anew(brokers, input).await?;
        let mut anew = Numbers::new(brokers, input, PARTITIONS, era + 1)?;
        // More than there were: an offset alone would tell nothing.
        anew.write(&mut dice, 3 * RECORDS).await?;
        if policy == "Fail" {
            let (status, said) = worker.ended().await?;
            ensure!(status.code() == Some(LOST) && said.contains("was deleted and created again"), "{status}: {said}");
            ensure!(committed(brokers).await?.of_era(era + 1) == 0, "something of the new topic was passed on");
        } else {
            worker.until_passed(brokers, &anew, "after the topic was made anew").await?;
            worker.kill().await?;
        }
        numbers.all_in(&committed(brokers).await?)?;
    }
    Ok(())
}

/// Two replicas: one is away when the other takes more, and comes back as the only one.
async fn cut(brokers: &mut Brokers, worker: &mut Worker, input: &str, numbers: &mut Numbers, dice: &mut Dice) -> Result<()> {
    let leader = brokers.leader(input, 0).await?;
    let replicas = brokers.partitions(input).await?.remove(0).replicas;
    let other = *replicas.iter().find(|replica| **replica != leader).context("another replica")?;
    brokers.kill(other)?;
    poll::until("the leader is alone", PATIENCE, async || {
        let partition = brokers.partitions(input).await?.remove(0);
        ensure!(partition.in_sync == [leader], "{partition:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    numbers.write(dice, RECORDS).await?;
    worker.until_passed(brokers, numbers, "what is about to be lost").await?;
    brokers.kill(leader)?;
    brokers.start_again(other).await?;
    brokers.until_led_by_others(input, leader).await?;
    brokers.start_again(leader).await?;
    brokers.until_in_sync(input).await
}

async fn a_log_that_was_cut_is_noticed(brokers: &mut Brokers) -> Result<()> {
    let mut dice = Dice::new(4);
    let settings = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
    for (input, policy, era) in [("cut", "Fail", 30), ("cut-and-on", "Earliest", 40)] {
        brokers.create_topic(input, 1, 2, &settings).await?;
        let mut numbers = Numbers::new(brokers, input, 1, era)?;
        numbers.write(&mut dice, RECORDS).await?;
        let mut worker = Worker::new(brokers, input, policy).await?;
        worker.until_passed(brokers, &numbers, "before the log is cut").await?;
        cut(brokers, &mut worker, input, &mut numbers, &mut dice).await?;
        let mut after = Numbers::new(brokers, input, 1, era + 1)?;
        after.write(&mut dice, 3 * RECORDS).await?;
        if policy == "Fail" {
            let (status, said) = worker.ended().await?;
            ensure!(status.code() == Some(LOST) && said.contains("truncated"), "{status}: {said}");
        } else {
            worker.until_passed(brokers, &after, "after the log was cut").await?;
            worker.kill().await?;
        }
        numbers.all_in(&committed(brokers).await?)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_come_and_go() -> Result<()> {
    let mut brokers = Brokers::start().await?;
    brokers.create_topic(OUTPUT, OUTPUTS, 3, &[]).await?;
    println!("{}", every_record_is_passed_on_once_whatever_happens_to_brokers(&mut brokers).await?);
    a_topic_that_was_made_anew_is_known_by_its_id(&mut brokers).await?;
    a_log_that_was_cut_is_noticed(&mut brokers).await
}
