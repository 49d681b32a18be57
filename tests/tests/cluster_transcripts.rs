//! What `kubectl` prints of a Pipeline in each state, as the page `crds/CONDITIONS.md`; and that a wrong password, refused by real servers, is named and mended
//! without a restart. It looks only where users can look.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use millrace_tests::cluster::Cluster;
use millrace_tests::install::{Namespace, install_operator, operator_log};
use millrace_tests::servers::guarded_kafka::{PASSWORD, USER};
use millrace_tests::servers::proxy::Mode;
use millrace_tests::servers::{Guard, GuardedKafka, Moto, OpenSearch, Proxy};
use millrace_tests::transcript::Page;
use millrace_tests::{installed, poll};

/// For something to be seen in the cluster on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);
const PIPELINE: &str = "pipelines.millrace.dev/orders";
const SOURCE: &str = "sources.millrace.dev/orders";
const SINK: &str = "sinks.millrace.dev/search";
const SQL: &str = "SELECT id, status FROM orders WHERE status = 'paid'";

const HEAD: &str = "# What `kubectl` says, state by state

A Pipeline `orders` reads the Kafka Source `orders` and writes the OpenSearch Sink `search`; both want a password. This page holds what `kubectl` printed
in each state, on a real cluster with real servers; only ages, times, lags, revisions and addresses are levelled. `tests/tests/cluster_transcripts.rs` makes each of
these states and fails if one of them says something else.

Where to look: `Ready` of the Pipeline summarises, and its reason is the `STATUS` column. It names the first cause; the condition of that name has it too,
and the Source or Sink tells whether it is not reachable or does not let us in.
";

/// Orders from a topic to an index.
struct Case {
    namespace: Namespace,
    kafka: GuardedKafka,
    search: OpenSearch,
    _guard: Guard,
    proxy: Proxy,
    moto: Moto,
}

impl Case {
    async fn start(cluster: &std::sync::Arc<Cluster>) -> Result<Self> {
        let host = cluster.host()?;
        let (kafka, search) = (GuardedKafka::start_at(host).await?, OpenSearch::start_at(host).await?);
        let guard = Guard::start(host, search.address(), USER, PASSWORD).await?;
        let proxy = Proxy::start(host, guard.address()).await?;
        let moto = Moto::start_at(host).await?;
        moto.create_bucket("state").await?;
        install_operator(cluster).await?;
        Ok(Self { namespace: Namespace::make(cluster, "shop").await?, kafka, search, _guard: guard, proxy, moto })
    }

    /// Source, Sink and Pipeline.
    fn manifests(&self, sql: &str) -> String {
        let variables: String =
            self.moto.env().iter().map(|(name, value)| format!("    - {{name: {name}, value: \"{value}\"}}\n")).collect();
        format!(
            "
apiVersion: millrace.dev/v1alpha1
kind: Source
metadata: {{name: orders}}
spec:
  kafka:
    bootstrapServers: \"{}\"
    topics: [orders]
    tls: {{secretRef: {{name: kafka-authority}}}}
    sasl: {{mechanism: ScramSha512, secretRef: {{name: kafka-login}}}}
  format: {{json: {{}}}}
  schema: {{columns: [{{name: id, type: BigInt}}, {{name: status, type: Varchar}}]}}
  probe: {{intervalSeconds: 10}}
---
apiVersion: millrace.dev/v1alpha1
kind: Sink
metadata: {{name: search}}
spec:
  opensearch: {{endpoint: \"http://{}\", index: orders, idFrom: [id], basicAuth: {{secretRef: {{name: search-login}}}}}}
  probe: {{intervalSeconds: 10}}
---
apiVersion: millrace.dev/v1alpha1
kind: Pipeline
metadata: {{name: orders}}
spec:
  inputs: [{{name: orders, sourceRef: {{name: orders}}}}]
  steps: [{{name: paid, sql: \"{sql}\"}}]
  outputs: [{{name: paid, from: paid, sinkRef: {{name: search}}}}]
  errorPolicy: {{onPoison: Drop}}
  state: {{location: \"s3://state/transcripts\"}}
  checkpoint: {{intervalSeconds: 1}}
  workload:
    env:
{variables}",
            self.kafka.address(),
            self.proxy.address()
        )
    }

    /// Writes the Secret `name` with the user and this password.
    async fn login(&self, name: &str, password: &str) -> Result<()> {
        let data = format!("{{username: {USER}, password: {password}}}");
        self.namespace.apply(&format!("{{apiVersion: v1, kind: Secret, metadata: {{name: {name}}}, stringData: {data}}}")).await.map(drop)
    }

    /// Waits for conditions of the present generation: object, type, status, reason.
    async fn settle(&self, wanted: &[(&str, &str, &str, &str)]) -> Result<()> {
        for (object, kind, status, reason) in wanted {
            self.namespace.condition(object, kind, status, reason, PATIENCE).await?;
        }
        Ok(())
    }

    /// Everything is well.
    async fn well(&self) -> Result<()> {
        let wanted = [(PIPELINE, "Ready", "True", ""), (SOURCE, "Ready", "True", ""), (SINK, "Ready", "True", "")];
        self.settle(&wanted).await
    }

    /// Waits until these conditions say `words`: the last word of a system that is down comes after the first one, and messages alone are written twice a minute.
    async fn says(&self, words: &str, conditions: &[(&str, &str)]) -> Result<()> {
        for (object, kind) in conditions {
            let look = async || {
                let said = self.namespace.condition(object, kind, "False", "", PATIENCE).await?;
                ensure!(said.contains(words), "it says {said}");
                Ok::<_, anyhow::Error>(())
            };
            poll::until(&format!("{kind} of {object} says {words}"), PATIENCE, look).await?;
        }
        Ok(())
    }

    /// Waits until the last checkpoint is known, and the lag is or is not: numbers follow conditions within half a minute.
    async fn counted(&self, lag: bool) -> Result<()> {
        let look = async || {
            let status = self.namespace.object(PIPELINE).await?["status"].clone();
            let known = status["lag"]["records"].is_number() == lag && status["checkpoint"]["lastCompletedTime"].is_string();
            ensure!(known, "lag {}, checkpoint {}", status["lag"], status["checkpoint"]);
            Ok::<_, anyhow::Error>(())
        };
        poll::until(&format!("the checkpoint is known, and the lag: {lag}"), PATIENCE, look).await
    }

    /// What `kubectl get` says of all three.
    async fn show(&self, page: &mut Page) -> Result<()> {
        page.table("kubectl get pipelines,sources,sinks", &self.namespace.kubectl(["get", "pipelines,sources,sinks"]).await?);
        Ok(())
    }

    /// What `kubectl describe` says of these conditions of an object.
    async fn describe(&self, page: &mut Page, kind: &str, name: &str, types: &[&str]) -> Result<()> {
        let printed = self.namespace.kubectl(["describe", &format!("{kind}.millrace.dev"), name]).await?;
        page.conditions(&format!("kubectl describe {kind} {name}"), &printed, types)
    }

    /// Sends an order that is paid.
    async fn order(&self, id: u32) -> Result<()> {
        self.kafka.produce(&[&format!("{{\"id\": {id}, \"status\": \"paid\"}}")]).await
    }

    async fn arrived(&self, count: u64) -> Result<()> {
        let look = async || {
            let found = self.search.count("orders").await?;
            ensure!(found == count, "{found} of {count} orders are in OpenSearch");
            Ok::<_, anyhow::Error>(())
        };
        poll::until("orders arrive", PATIENCE, look).await
    }

    /// Name of the worker, and how often it was started again.
    async fn worker(&self) -> Result<String> {
        let path = "--output=jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount}{end}";
        self.namespace.kubectl(["get", "pods", "--selector=app.kubernetes.io/component=worker", path]).await
    }
}

#[tokio::test]
async fn every_state_says_what_the_page_says() -> Result<()> {
    let cluster = Cluster::start().await?;
    let mut case = Case::start(&cluster).await?;
    let levelled =
        [(case.kafka.address().to_string(), "kafka.example.com:9092"), (case.proxy.address().to_string(), "search.example.com:9200")];
    let mut page = Page::new(HEAD, &levelled);
    if let Err(error) = states(&mut case, &mut page).await {
        return Err(error.context(format!("{}\n{}", case.namespace.describe().await, operator_log(&cluster).await)));
    }
    page.settle(&installed::checkout().join("crds/CONDITIONS.md"))
}

async fn states(case: &mut Case, page: &mut Page) -> Result<()> {
    refused(case, page).await?;

    page.section("Healthy", "Records flow, or there is nothing to do.");
    case.order(1).await?;
    case.arrived(1).await?;
    case.well().await?;
    case.counted(true).await?;
    case.show(page).await?;
    case.describe(page, "pipelines", "orders", &["Ready", "SourcesReady", "SinksReady", "SecretsResolved"]).await?;

    page.section("Invalid SQL", "A change is checked before it touches what runs: the revision before it stays.");
    case.namespace.apply(&case.manifests("SELECT id, statuss FROM orders")).await?;
    case.settle(&[(PIPELINE, "Accepted", "False", ""), (PIPELINE, "Ready", "False", "")]).await?;
    case.counted(true).await?;
    case.show(page).await?;
    case.describe(page, "pipelines", "orders", &["Ready", "Accepted"]).await?;
    case.namespace.apply(&case.manifests(SQL)).await?;
    case.settle(&[(PIPELINE, "Accepted", "True", "")]).await?;
    case.well().await?;

    page.section("A Sink is down", "Nothing is lost: the workers try again, and records wait at the Source.");
    case.proxy.set(Mode::Refuse).await?;
    let down = Instant::now();
    case.order(2).await?;
    case.settle(&[(PIPELINE, "Ready", "False", "SinkStalled")]).await?;
    eprintln!("OpenSearch down: Ready=False after {:.1} s", down.elapsed().as_secs_f64());
    case.settle(&[(PIPELINE, "SinksReady", "False", "Unreachable"), (SINK, "Reachable", "False", "Unreachable")]).await?;
    let told = [(PIPELINE, "Ready"), (PIPELINE, "SinksReady"), (PIPELINE, "DataFlowing"), (SINK, "Reachable")];
    case.says("Connection refused", &told).await?;
    case.counted(true).await?;
    case.show(page).await?;
    case.describe(page, "pipelines", "orders", &["Ready", "SinksReady", "DataFlowing"]).await?;
    case.describe(page, "sinks", "search", &["Reachable", "Authorized"]).await?;
    case.proxy.set(Mode::Pass).await?;
    case.arrived(2).await?;
    case.well().await?;

    page.section(
        "A Secret is missing",
        "Also if a Source or Sink that runs is pointed at one that does not exist yet. It is noticed when it comes.",
    );
    let elsewhere = case.manifests(SQL).replace("{name: search-login}", "{name: search-keys}");
    case.namespace.apply(&elsewhere).await?;
    case.settle(&[(PIPELINE, "SecretsResolved", "False", "SecretMissing"), (SINK, "SecretsResolved", "False", "SecretMissing")]).await?;
    case.settle(&[(PIPELINE, "Ready", "False", "SecretMissing")]).await?;
    case.counted(false).await?;
    case.show(page).await?;
    case.describe(page, "pipelines", "orders", &["Ready", "SecretsResolved"]).await?;
    case.describe(page, "sinks", "search", &["SecretsResolved"]).await?;
    case.login("search-keys", PASSWORD).await?;
    case.well().await?;

    page.section("The Source is deleted", "Nothing is torn down, so that a mistake costs nothing: the workers go on with what they know.");
    case.namespace.kubectl(["delete", SOURCE]).await?;
    case.settle(&[(PIPELINE, "SourcesReady", "False", "NotFound"), (PIPELINE, "Ready", "False", "NotFound")]).await?;
    case.counted(true).await?;
    case.show(page).await?;
    case.describe(page, "pipelines", "orders", &["Ready", "SourcesReady"]).await?;
    ensure!(!case.worker().await?.is_empty(), "the workers were torn down");

    page.section(
        "The namespace is deleted",
        "Everything in it goes with it, within a minute: there are no finalizers.\nThen `kubectl get` finds no resources.",
    );
    case.namespace.delete().await.context("the namespace is gone within a minute")?;
    let left = case.namespace.kubectl(["get", "pipelines,sources,sinks,pods"]).await?;
    ensure!(left.is_empty(), "left: {left}");
    Ok(())
}

/// Both servers refuse the password; once the Secrets are right, the very same worker goes on.
async fn refused(case: &Case, page: &mut Page) -> Result<()> {
    page.section(
        "Wrong credentials",
        "The servers answer, and refuse the login. When the Secrets are mended, the workers take them up without a restart.",
    );
    let authority = std::fs::read_to_string(case.kafka.authority())?;
    let indented: String = authority.lines().map(|line| format!("    {line}\n")).collect();
    let secret = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: kafka-authority}}\nstringData:\n  ca.crt: |\n{indented}");
    case.namespace.apply(&secret).await?;
    case.login("kafka-login", "wrong").await?;
    case.login("search-login", "wrong").await?;
    let applied = Instant::now();
    case.namespace.apply(&case.manifests(SQL)).await?;
    case.settle(&[(PIPELINE, "Ready", "False", "AccessDenied")]).await?;
    eprintln!("wrong credentials: the Pipeline says so {:.1} s after kubectl apply", applied.elapsed().as_secs_f64());
    case.settle(&[(SOURCE, "Authorized", "False", "AccessDenied"), (SINK, "Authorized", "False", "AccessDenied")]).await?;
    eprintln!("wrong credentials: Source and Sink too after {:.1} s", applied.elapsed().as_secs_f64());
    case.settle(&[(PIPELINE, "SourcesReady", "False", "AccessDenied"), (PIPELINE, "SinksReady", "False", "AccessDenied")]).await?;
    let told = [(PIPELINE, "Ready"), (PIPELINE, "SourcesReady"), (SOURCE, "Authorized")];
    case.says("refuses the login", &told).await?;
    let said = case.namespace.kubectl(["get", "pipelines,sources,sinks", "--output=yaml"]).await?;
    ensure!(!said.contains("wrong"), "the password is shown:\n{said}");
    case.show(page).await?;
    case.describe(page, "pipelines", "orders", &["Ready", "SourcesReady", "SinksReady"]).await?;
    case.describe(page, "sources", "orders", &["Reachable", "Authorized"]).await?;
    case.describe(page, "sinks", "search", &["Reachable", "Authorized"]).await?;

    let worker = case.worker().await?;
    case.login("kafka-login", PASSWORD).await?;
    case.login("search-login", PASSWORD).await?;
    let mended = Instant::now();
    case.well().await?;
    eprintln!("the Secrets are mended: all is well {:.1} s later", mended.elapsed().as_secs_f64());
    let now = case.worker().await?;
    ensure!(worker == now && worker.ends_with(" 0"), "the worker was {worker:?} and is {now:?}");
    Ok(())
}
