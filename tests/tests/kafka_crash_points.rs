//! `millrace run` killed at each point of an epoch, with real servers on both sides: Kafka in, windows in transactions to Kafka out, checkpoints in S3. A reader of
//! what is committed must find every window once, after each of the deaths. No cluster here.
//!
//! The points are requests: a proxy kills the worker before the server has one, or after the server has carried it out and before the worker knows. Nothing in the
//! worker is prepared for it. `MILLRACE_TEST_ROUNDS` is how often all points are gone through (1 unless set).

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use millrace_tests::dice::Dice;
use millrace_tests::image::{self, Image};
use millrace_tests::poll;
use millrace_tests::sales::{Input, manifests, windows};
use millrace_tests::servers::tripwire::{Protocol, When, Wire};
use millrace_tests::servers::{Home, Kafka, LOOPBACK, Moto, Tripwire, ports};
use serde_json::json;
use tokio::process::{Child, Command};

/// For something to happen on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);
/// Records that are there when a worker starts; more come while it runs.
const RECORDS: usize = 100;

/// Where requests go.
#[derive(Clone, Copy, Debug)]
enum To {
    Store,
    Broker,
}

/// A point: what happens there, and the request that it is told by.
type Point = (&'static str, To, &'static str, &'static str, u32, When);

/// In the order of an epoch, then what happens when a task is opened that has state. The first record that an owner writes is its claim.
const POINTS: [Point; 20] = [
    ("before the first rows of an epoch", To::Broker, "Produce", "\"total\":", 1, When::Before),
    ("rows written, before the barrier", To::Broker, "Produce", "\"total\":", 1, When::After),
    ("before the entry in the ledger", To::Broker, "Produce", "\"generation\":", 1, When::Before),
    ("prepared, before the record", To::Broker, "Produce", "\"generation\":", 1, When::After),
    ("before the state is stored", To::Store, "PUT", "/state/", 1, When::Before),
    ("the state stored", To::Store, "PUT", "/state/", 1, When::After),
    ("before the record of the epoch", To::Store, "PUT", ".record", 2, When::Before),
    ("the record written, before the commit", To::Store, "PUT", ".record", 2, When::After),
    ("before the transaction ends", To::Broker, "EndTxn", "", 1, When::Before),
    ("committed, before the mark", To::Broker, "EndTxn", "", 1, When::After),
    ("before the mark", To::Store, "PUT", ".committed", 1, When::Before),
    ("marked, before the source is told", To::Store, "PUT", ".committed", 1, When::After),
    ("before the offsets are committed", To::Broker, "OffsetCommit", "", 1, When::Before),
    ("an old epoch deleted in part", To::Store, "POST", "?delete", 1, When::After),
    ("before the task is claimed", To::Store, "PUT", ".record", 1, When::Before),
    ("claimed, and not told so", To::Store, "PUT", ".record", 1, When::After),
    ("before the state is read", To::Store, "GET", "/state/", 1, When::Before),
    ("the state read in vain", To::Store, "GET", "/state/", 1, When::After),
    ("before earlier writers are fenced", To::Broker, "InitProducerId", "", 1, When::Before),
    ("earlier writers fenced", To::Broker, "InitProducerId", "", 1, When::After),
];

struct Run {
    program: PathBuf,
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Run {
    fn start(&self) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(["run", "--quiet", "sales.yaml"]).current_dir(&self.folder).stdin(Stdio::null()).kill_on_drop(true);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.spawn().context("start millrace")
    }
}

fn rounds() -> Result<u32> {
    std::env::var("MILLRACE_TEST_ROUNDS").map_or(Ok(1), |text| text.parse().context("MILLRACE_TEST_ROUNDS is no number"))
}

async fn program() -> Result<PathBuf> {
    tokio::task::spawn_blocking(|| image::build(Image::Worker, image::Profile::for_tests())).await?
}

fn address() -> Result<SocketAddr> {
    Ok(SocketAddr::new(LOOPBACK, ports::free(LOOPBACK)?))
}

fn write_manifests(folder: &Path, kafka: &Kafka) -> Result<()> {
    // What is deleted is deleted soon: there are as few epochs as may be.
    let more = json!({"state": {"location": "s3://checkpoints/sales"}, "checkpoint": {"retainedCount": 3}});
    std::fs::write(folder.join("sales.yaml"), manifests(kafka, &["windows"], &more)?).context("write the manifests")
}

// The proxies must go on while the reader waits for the broker behind one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_are_exact_whichever_request_is_the_last() -> Result<()> {
    let (broker, advertised) = (address()?, address()?);
    let brokers = Tripwire::start(advertised, broker, Protocol::Kafka).await?;
    let kafka = Kafka::start_in(Home::temporary("kafka")?, broker, advertised).await?;
    let moto = Moto::start().await?;
    moto.create_bucket("checkpoints").await?;
    let stores = Tripwire::start(address()?, moto.address(), Protocol::Http).await?;
    let folder = tempfile::tempdir()?;
    write_manifests(folder.path(), &kafka)?;
    let mut environment = moto.env();
    environment.retain(|(name, _)| *name != "AWS_ENDPOINT_URL");
    environment.push(("AWS_ENDPOINT_URL", format!("http://{}", stores.address())));
    let run = Run { program: program().await?, folder: folder.path().to_owned(), environment };

    let mut input = Input::new(&kafka).await?;
    let mut dice = Dice::new(1);
    let mut deaths = 0;
    let (mut at_stores, mut at_brokers) = (0, 0);
    for round in 0..rounds()? {
        for (what, to, kind, holds, nth, when) in POINTS {
            input.write(&mut dice, RECORDS).await?;
            let mut millrace = run.start()?;
            let (wire, process) = (Wire { kind, holds, nth, when }, millrace.id().context("it has ended")?);
            let (proxy, before) = match to {
                To::Store => (&stores, &mut at_stores),
                To::Broker => (&brokers, &mut at_brokers),
            };
            proxy.draw(wire, process);
            let ended = tokio::select! {
                ended = tokio::time::timeout(PATIENCE, millrace.wait()) => ended,
                failed = input.go_on(&mut dice) => return failed,
            };
            let status = ended.with_context(|| format!("{what}: it does not come to {kind} {holds}"))??;
            ensure!(status.signal() == Some(9), "{what}: it ended by itself: {status}");
            *before = proxy.sprung(*before).await?;
            deaths += 1;
            windows(&kafka).with_context(|| format!("after a death of round {round}: {what}"))?;
        }
    }
    let mut millrace = run.start()?;
    input.finish().await?;
    let expected = input.windows();
    poll::until("all windows are committed", PATIENCE, async || {
        let found = windows(&kafka)?;
        let wrong = found.iter().find(|(window, values)| expected.get(*window) != Some(*values));
        ensure!(wrong.is_none(), "WRONG: {wrong:?}, should be {:?}", wrong.and_then(|(window, _)| expected.get(window)));
        ensure!(found.len() == expected.len(), "{} of {} windows", found.len(), expected.len());
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    millrace.kill().await?;
    assert_eq!(windows(&kafka)?, expected);
    println!("n = {deaths} deaths at {} points: {} records, {} windows, each exactly once", POINTS.len(), input.records(), expected.len());
    Ok(())
}
