//! `millrace run` on the access-log example, against real servers: killed, stopped and started again, every line arrives exactly once. No cluster here.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use millrace_tests::access_logs::{Endpoints, Expected, Outcome, Workload, manifests};
use millrace_tests::image::{self, Image};
use millrace_tests::poll;
use millrace_tests::servers::{Moto, OpenSearch};
use tokio::process::{Child, Command};

/// For everything to arrive on a busy machine.
const PATIENCE: Duration = Duration::from_mins(4);
/// What is sent: small enough for every run of the suite.
const WORKLOAD: Workload = Workload { objects: 60, lines: 200, one_malformed_in: 1000 };

struct Run<'a> {
    moto: &'a Moto,
    manifest: &'a Path,
}

impl Run<'_> {
    async fn start(&self) -> Result<Child> {
        let program = tokio::task::spawn_blocking(|| image::build(Image::Worker, image::Profile::for_tests())).await??;
        Command::new(program)
            .arg("run")
            .arg(self.manifest)
            .envs(self.moto.env())
            .current_dir(self.manifest.parent().context("the manifest has a directory")?)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start millrace")
    }
}

#[tokio::test]
async fn every_line_arrives_once_through_kills() -> Result<()> {
    let (moto, opensearch) = (Moto::start().await?, OpenSearch::start().await?);
    for bucket in ["logs", "lake", "state"] {
        moto.create_bucket(bucket).await?;
    }
    let queue = moto.create_queue("edge-logs").await?;
    WORKLOAD.upload(&moto).await?;
    let announcements = WORKLOAD.announcements();
    let endpoints = Endpoints { aws: moto.url(), opensearch: opensearch.url(), queue: queue.clone() };
    let folder = tempfile::tempdir()?;
    let manifest = folder.path().join("access-logs.yaml");
    std::fs::write(&manifest, manifests(&endpoints, "local")?)?;
    let run = Run { moto: &moto, manifest: &manifest };
    let expected = Expected::from(WORKLOAD);

    let mut millrace = run.start().await?;
    for kill in 1..=3_u64 {
        let part = kill as f64 / 4.0;
        announcements.send(&moto, &queue, part - 0.25, part).await?;
        let some = async || {
            let count = opensearch.count("edge-*").await?;
            ensure!(count >= expected.documents() * kill / 6, "{count} documents");
            Ok::<_, anyhow::Error>(())
        };
        poll::until("some lines arrive", PATIENCE, some).await?;
        millrace.kill().await.context("kill millrace")?;
        millrace = run.start().await?;
    }
    announcements.send(&moto, &queue, 0.75, 1.0).await?;
    let all = async || {
        let queued = moto.queue_length(&queue).await?;
        ensure!(queued == (0, 0), "the queue holds {queued:?}");
        let outcome = Outcome::read(&moto, &opensearch).await?;
        expected.check(&outcome)
    };
    poll::until("every line has arrived", PATIENCE, all).await?;

    let id = millrace.id().context("millrace is running")?;
    ensure!(Command::new("kill").args(["-TERM", &id.to_string()]).status().await?.success(), "cannot send SIGTERM");
    let status = tokio::time::timeout(PATIENCE, millrace.wait()).await.context("millrace does not drain")??;
    ensure!(status.code() == Some(0), "millrace ended with {status}");
    expected.check(&Outcome::read(&moto, &opensearch).await?)
}
