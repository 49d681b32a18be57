//! What `kubectl get` and `kubectl describe` say when something is wrong: the condition, its reason, and what the message names. Each case in a namespace of its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use millrace_tests::cluster::Cluster;
use millrace_tests::install::{Namespace, install_operator};
use millrace_tests::poll;
use millrace_tests::servers::{Kafka, Moto};

/// For something to be seen in the cluster on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);
/// The Pipeline of every case.
const PIPELINE: &str = "pipelines.millrace.dev/orders";

/// Orders from a topic to a bucket; `variables` are those of the AWS clients.
fn manifests(kafka: &str, moto: &Moto, sql: &str) -> String {
    let variables: String = moto.env().iter().map(|(name, value)| format!("    - {{name: {name}, value: \"{value}\"}}\n")).collect();
    format!(
        "
apiVersion: millrace.dev/v1alpha1
kind: Source
metadata: {{name: orders}}
spec:
  kafka: {{bootstrapServers: \"{kafka}\", topics: [orders]}}
  format: {{json: {{}}}}
  schema: {{columns: [{{name: id, type: BigInt}}, {{name: status, type: Varchar}}]}}
  probe: {{intervalSeconds: 10}}
---
apiVersion: millrace.dev/v1alpha1
kind: Sink
metadata: {{name: lake}}
spec:
  s3: {{bucket: lake, prefix: orders/, format: {{json: {{}}}}}}
  probe: {{intervalSeconds: 10}}
---
apiVersion: millrace.dev/v1alpha1
kind: Pipeline
metadata: {{name: orders}}
spec:
  inputs: [{{name: orders, sourceRef: {{name: orders}}}}]
  steps: [{{name: paid, sql: \"{sql}\"}}]
  outputs: [{{name: paid, from: paid, sinkRef: {{name: lake}}}}]
  errorPolicy: {{onPoison: Drop}}
  state: {{location: \"s3://state/conditions\"}}
  checkpoint: {{intervalSeconds: 1}}
  workload:
    env:
{variables}"
    )
}

const SQL: &str = "SELECT id, status FROM orders WHERE status = 'paid'";

struct Case {
    namespace: Namespace,
    kafka: Kafka,
    moto: Moto,
}

impl Case {
    /// A namespace with the Pipeline running.
    async fn start(name: &str) -> Result<Self> {
        let cluster = Cluster::start().await?;
        let host = cluster.host()?;
        let (kafka, moto) = (Kafka::start_at(host).await?, Moto::start_at(host).await?);
        kafka.create_topic("orders", 2).await?;
        for bucket in ["lake", "state"] {
            moto.create_bucket(bucket).await?;
        }
        install_operator(&cluster).await?;
        let namespace = Namespace::make(&cluster, name).await?;
        let case = Self { namespace, kafka, moto };
        case.namespace.apply(&manifests(&case.kafka.bootstrap(), &case.moto, SQL)).await?;
        case.namespace.condition(PIPELINE, "Ready", "True", "", PATIENCE).await?;
        Ok(case)
    }

    /// The workers, and how often each was started again.
    async fn workers(&self) -> Result<String> {
        let path = "--output=jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].restartCount};{end}";
        let selector = "--selector=millrace.dev/pipeline=orders,app.kubernetes.io/component=worker";
        self.namespace.kubectl(["get", "pods", selector, path]).await
    }

    /// Writes a paid order, and waits until it is in the bucket.
    async fn order_passes(&self, id: u32) -> Result<()> {
        let row = format!("{{\"id\":{id},\"status\":\"paid\"}}");
        self.kafka.produce("orders", &[(0, "", &row)]).await?;
        poll::until(&format!("order {id} is in the lake"), PATIENCE, async || {
            let keys = self.moto.list_objects("lake", "orders/").await?;
            for key in &keys {
                if String::from_utf8_lossy(&self.moto.get_object("lake", key).await?).contains(&row) {
                    return Ok(());
                }
            }
            anyhow::bail!("it is in none of {keys:?}")
        })
        .await
    }
}

#[tokio::test]
async fn the_life_of_a_pipeline() -> Result<()> {
    let case = Case::start("conditions").await?;
    let namespace = &case.namespace;
    eprintln!("healthy:\n{}", namespace.get("pipelines,sources,sinks").await?);
    for (object, condition) in
        [("sources.millrace.dev/orders", "Reachable"), ("sinks.millrace.dev/lake", "Reachable"), ("sinks.millrace.dev/lake", "Ready")]
    {
        namespace.condition(object, condition, "True", "", PATIENCE).await?;
    }

    // Invalid SQL: the change is refused, the running revision stays.
    let before = namespace.object(PIPELINE).await?["status"]["revision"]["current"].clone();
    namespace.apply(&manifests(&case.kafka.bootstrap(), &case.moto, "SELECT id, statuss FROM orders")).await?;
    let said = namespace.condition(PIPELINE, "Accepted", "False", "", PATIENCE).await?;
    eprintln!("invalid SQL: {said}");
    ensure!(said.contains("statuss") && said.contains("paid"), "the message names neither step nor column: {said}");
    ensure!(namespace.object(PIPELINE).await?["status"]["revision"]["current"] == before, "the running revision was touched");
    namespace.apply(&manifests(&case.kafka.bootstrap(), &case.moto, SQL)).await?;
    namespace.condition(PIPELINE, "Accepted", "True", "", PATIENCE).await?;

    // A test that fails: the same, and what runs goes on with its work. Once it passes nothing is restarted for it, because the Job that runs is the same.
    let tested = |expected: u32| {
        let test = format!(
            "{{name: paid orders only, given: [{{input: orders, rows: [{{id: 1, status: paid}}, {{id: 2, status: open}}]}}], \
             expect: [{{output: paid, rows: [{{id: {expected}, status: paid}}]}}]}}"
        );
        format!("{}  tests: [{test}]\n", manifests(&case.kafka.bootstrap(), &case.moto, SQL))
    };
    let running = case.workers().await?;
    namespace.apply(&tested(7)).await?;
    let said = namespace.condition(PIPELINE, "TestsPassed", "False", "TestsFailed", PATIENCE).await?;
    eprintln!("failing test: {said}");
    ensure!(
        said.contains("paid orders only") && said.contains("id: expected 7, got 1"),
        "the message says neither test nor difference: {said}"
    );
    namespace.condition(PIPELINE, "Stalled", "True", "TestsFailed", PATIENCE).await?;
    case.order_passes(4711).await?;
    ensure!(namespace.object(PIPELINE).await?["status"]["revision"]["current"] == before, "the running revision was touched");
    ensure!(case.workers().await? == running, "workers were replaced or restarted for a change whose test fails");
    namespace.apply(&tested(1)).await?;
    namespace.condition(PIPELINE, "TestsPassed", "True", "Passed", PATIENCE).await?;
    let status = namespace.object(PIPELINE).await?["status"].clone();
    ensure!(status["revision"]["current"] == before && status["tests"]["passed"] == 1, "{status}");
    ensure!(case.workers().await? == running, "workers were replaced for a test");

    // Paused and running again.
    let patch = |state: &str| format!("--patch={{\"spec\": {{\"desiredState\": \"{state}\"}}}}");
    namespace.kubectl(["patch", PIPELINE, "--type=merge", &patch("Paused")]).await?;
    namespace.condition(PIPELINE, "Ready", "True", "Paused", PATIENCE).await?;
    namespace.kubectl(["patch", PIPELINE, "--type=merge", &patch("Running")]).await?;
    namespace
        .condition(PIPELINE, "Ready", "True", "Running", PATIENCE)
        .await
        .or(namespace.condition(PIPELINE, "Ready", "True", "Idle", PATIENCE).await)?;

    // The Source goes away: said, and nothing is torn down.
    namespace.kubectl(["delete", "sources.millrace.dev/orders"]).await?;
    let said = namespace.condition(PIPELINE, "SourcesReady", "False", "NotFound", PATIENCE).await?;
    eprintln!("Source deleted: {said}");
    ensure!(said.contains("orders"), "the message does not name the Source: {said}");
    let pods = namespace.kubectl(["get", "pods", "--selector=millrace.dev/pipeline=orders", "--output=name"]).await?;
    ensure!(!pods.trim().is_empty(), "the workers were torn down");
    namespace.delete().await
}

#[tokio::test]
async fn a_missing_secret_is_named_and_its_arrival_is_noticed() -> Result<()> {
    let case = Case::start("conditions-secret").await?;
    let namespace = &case.namespace;
    let with_secret = manifests(&case.kafka.bootstrap(), &case.moto, SQL)
        .replace("format: {json: {}}}\n  probe", "format: {json: {}}, secretRef: {name: lake-keys}}\n  probe");
    namespace.apply(&with_secret).await?;
    let said = namespace.condition(PIPELINE, "SecretsResolved", "False", "", PATIENCE).await?;
    eprintln!("missing Secret: {said}");
    ensure!(said.contains("lake-keys"), "the message does not name the Secret: {said}");
    let secret =
        "{apiVersion: v1, kind: Secret, metadata: {name: lake-keys}, stringData: {AWS_ACCESS_KEY_ID: test, AWS_SECRET_ACCESS_KEY: test}}";
    namespace.apply(secret).await?;
    namespace.condition(PIPELINE, "SecretsResolved", "True", "", PATIENCE).await?;
    namespace.delete().await
}
