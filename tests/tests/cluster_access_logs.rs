//! The main job on the real cluster: `helm install`, `kubectl apply -f examples/access-logs`, and while lines flow workers are killed, the operator is deleted, replicas
//! change and OpenSearch is away. In the end every line is there exactly once. `MILLRACE_TEST_OBJECTS` and `MILLRACE_TEST_LINES` set the size.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use millrace_tests::access_logs::{Endpoints, Expected, Outcome, Workload, manifests};
use millrace_tests::cluster::Cluster;
use millrace_tests::install::{Namespace, install_operator, operator_log};
use millrace_tests::poll;
use millrace_tests::servers::proxy::Mode;
use millrace_tests::servers::{Moto, OpenSearch, Proxy};

/// For something to happen in the cluster on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

fn workload() -> Workload {
    let size = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    Workload { objects: size("MILLRACE_TEST_OBJECTS", 60), lines: size("MILLRACE_TEST_LINES", 250), one_malformed_in: 1000 }
}

/// For this many lines to get through a debug build on a busy machine.
fn patience(workload: &Workload) -> Duration {
    PATIENCE + Duration::from_millis(2) * u32::try_from(workload.objects * workload.lines).unwrap_or(u32::MAX)
}

#[tokio::test]
async fn every_line_arrives_once_whatever_happens() -> Result<()> {
    let cluster = Cluster::start().await?;
    let host = cluster.host()?;
    let moto = Moto::start_at(host).await?;
    let opensearch = OpenSearch::start_at(host).await?;
    let mut proxy = Proxy::start(host, opensearch.address()).await?;
    for bucket in ["logs", "lake", "state"] {
        moto.create_bucket(bucket).await?;
    }
    let queue = moto.create_queue("edge-logs").await?;
    let workload = workload();
    let patience = patience(&workload);
    workload.upload(&moto).await?;
    let announcements = workload.announcements();
    let expected = Expected::from(workload);
    install_operator(&cluster).await?;

    let namespace = Namespace::make(&cluster, "access-logs").await?;
    let endpoints = Endpoints { aws: moto.url(), opensearch: format!("http://{}", proxy.address()), queue: queue.clone() };
    let applied = Instant::now();
    namespace.apply(&manifests(&endpoints, "cluster")?).await?;
    announcements.send(&moto, &queue, 0.0, 0.2).await?;
    let arrived = async |share: f64| {
        let look = async || {
            let count = opensearch.count("edge-*").await?;
            let wanted = (expected.documents() as f64 * share) as u64;
            ensure!(count >= wanted, "{count} of {wanted} documents; pipelines:\n{}", namespace.get("pipelines").await?);
            Ok::<_, anyhow::Error>(())
        };
        poll::until(&format!("{share} of the lines arrive"), patience, look).await
    };
    arrived(0.001).await?;
    eprintln!("kubectl apply to first document: {:.1} s", applied.elapsed().as_secs_f64());
    arrived(0.1).await?;

    namespace.kill_a_worker("edge").await?;
    namespace.kubectl(["scale", "pipelines.millrace.dev/edge", "--replicas=3"]).await?;
    announcements.send(&moto, &queue, 0.2, 0.5).await?;
    arrived(0.25).await?;
    namespace.kill_a_worker("edge").await?;
    cluster
        .kubectl(["delete", "pod", "--namespace", "millrace-system", "--selector", "app.kubernetes.io/name=millrace", "--wait=false"])
        .await?;
    announcements.send(&moto, &queue, 0.5, 0.8).await?;
    arrived(0.4).await?;

    proxy.set(Mode::Refuse).await?;
    let down = Instant::now();
    let told = async {
        let said = namespace.condition("pipelines.millrace.dev/edge", "Ready", "False", "SinkStalled", PATIENCE).await?;
        eprintln!("OpenSearch down: Ready=False after {:.1} s: {said}", down.elapsed().as_secs_f64());
        Ok(said)
    };
    let ((), said) = tokio::try_join!(announcements.send(&moto, &queue, 0.8, 1.0), told)?;
    ensure!(said.contains("search"), "the message does not name the Sink: {said}");
    namespace.kill_a_worker("edge").await?;
    namespace.kubectl(["scale", "pipelines.millrace.dev/edge", "--replicas=1"]).await?;
    tokio::time::sleep(Duration::from_secs(30).saturating_sub(down.elapsed())).await;
    proxy.set(Mode::Pass).await?;

    let all = async || {
        let queued = moto.queue_length(&queue).await?;
        ensure!(queued == (0, 0), "the queue holds {queued:?}");
        // Everything is read back only once it can be there.
        let (indexed, wanted) = (opensearch.count("edge-*").await?, expected.documents());
        ensure!(indexed == wanted, "{indexed} of {wanted} documents");
        expected.check(&Outcome::read(&moto, &opensearch).await?)
    };
    let outcome = poll::until("every line has arrived", patience * 2, all).await;
    eprintln!("{} lines: everything is there and was compared after {:.0} s", expected.documents(), applied.elapsed().as_secs_f64());
    if outcome.is_err() {
        eprintln!("{}\n{}", namespace.describe().await, operator_log(&cluster).await);
    }
    outcome?;
    namespace.condition("pipelines.millrace.dev/edge", "Ready", "True", "", PATIENCE).await?;
    eprintln!("{}", namespace.get("pipelines,sources,sinks").await?);
    namespace.delete().await.context("the namespace is gone within a minute")
}
