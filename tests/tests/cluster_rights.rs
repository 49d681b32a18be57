//! The rights of the operator: what the API server has written down of its requests, against what its roles grant. It looks at all that was done on this cluster
//! since it started, and does itself what the operator has rights for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use millrace_tests::cluster::Cluster;
use millrace_tests::install::{Namespace, SYSTEM, install_operator, operator_log};
use millrace_tests::poll;
use millrace_tests::servers::Moto;
use serde_json::Value;

/// For something to be seen in the cluster on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);
const PIPELINE: &str = "pipelines.millrace.dev/rights";

/// Granted and not needed at every run: right, why. Everything else that is granted must have been used.
const EXCEPTIONS: [(&str, &str); 1] = [(
    "/pods get",
    "only if a pod of the name is there that the cache has not seen yet: the operator looks whose it is before it takes it for its own",
)];

/// Group, resource (with subresource), verb.
type Right = (String, String, String);

/// From a queue that stays empty to the log of the worker.
fn manifests(moto: &Moto, queue: &str, sql: &str, account: &str) -> String {
    let variables: String = moto.env().iter().map(|(name, value)| format!("    - {{name: {name}, value: \"{value}\"}}\n")).collect();
    format!(
        "
apiVersion: millrace.dev/v1alpha1
kind: Source
metadata: {{name: rights}}
spec:
  s3: {{sqs: {{queueUrl: \"{queue}\"}}}}
  format: {{cloudFront: {{}}}}
---
apiVersion: millrace.dev/v1alpha1
kind: Sink
metadata: {{name: rights}}
spec: {{stdout: {{}}}}
---
apiVersion: millrace.dev/v1alpha1
kind: Pipeline
metadata: {{name: rights}}
spec:
  inputs: [{{name: logs, sourceRef: {{name: rights}}}}]
  steps: [{{name: all, sql: \"{sql}\"}}]
  outputs: [{{name: all, from: all, sinkRef: {{name: rights}}}}]
  errorPolicy: {{onPoison: Drop}}
  state: {{location: \"s3://state/rights\"}}
  {account}
  workload:
    env:
{variables}"
    )
}

/// A Sink that no Pipeline uses, so that a pod probes it.
const LONELY: &str = "
apiVersion: millrace.dev/v1alpha1
kind: Sink
metadata: {name: lonely}
spec: {opensearch: {endpoint: \"http://127.0.0.1:9\", index: lonely}}
";

#[tokio::test]
async fn the_operator_is_granted_what_it_uses_and_nothing_else() -> Result<()> {
    let cluster = Cluster::start().await?;
    if cluster.audit_log()?.is_none() {
        eprintln!("NOT LOOKED AT: the cluster is not ours, so there is no audit log");
        return Ok(());
    }
    let moto = Moto::start_at(cluster.host()?).await?;
    moto.create_bucket("state").await?;
    let queue = moto.create_queue("rights").await?;
    install_operator(&cluster).await?;
    let namespace = Namespace::make(&cluster, "rights").await?;
    if let Err(error) = live(&cluster, &namespace, &moto, &queue).await {
        return Err(error.context(format!("{}\n{}", namespace.describe().await, operator_log(&cluster).await)));
    }
    namespace.delete().await?;
    compare(&cluster).await
}

/// The life of a Pipeline and of a Sink, with everything that the operator writes and removes.
async fn live(cluster: &Cluster, namespace: &Namespace, moto: &Moto, queue: &str) -> Result<()> {
    namespace.apply(LONELY).await?;
    namespace.apply(&manifests(moto, queue, "SELECT c_ip FROM logs", "")).await?;
    namespace.condition(PIPELINE, "Ready", "True", "", PATIENCE).await?;
    // The probe pod is made, read, and removed.
    namespace.condition("sinks.millrace.dev/lonely", "Reachable", "False", "Unreachable", PATIENCE).await?;
    let gone = async || {
        let left = namespace.kubectl(["get", "pods", "--selector=millrace.dev/probe-kind", "--output=name"]).await?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok::<_, anyhow::Error>(())
    };
    poll::until("the probe pod is removed", PATIENCE, gone).await?;

    // A new revision under an account of the user: checked by a pod, rolled out, what the old one needed is removed.
    namespace.kubectl(["create", "serviceaccount", "theirs"]).await?;
    namespace.apply(&manifests(moto, queue, "SELECT c_ip, cs_method FROM logs", "serviceAccountName: theirs")).await?;
    let replaced = async || {
        let accounts = namespace.kubectl(["get", "serviceaccounts", "--selector=millrace.dev/pipeline", "--output=name"]).await?;
        let jobs = namespace.kubectl(["get", "configmaps", "--selector=millrace.dev/pipeline", "--output=name"]).await?;
        let checks = namespace.kubectl(["get", "pods", "--selector=app.kubernetes.io/component=check", "--output=name"]).await?;
        ensure!(accounts.is_empty() && checks.is_empty() && jobs.lines().count() == 1, "accounts {accounts}, jobs {jobs}, checks {checks}");
        Ok::<_, anyhow::Error>(())
    };
    poll::until("what the old revision needed is removed", PATIENCE, replaced).await?;
    namespace.condition(PIPELINE, "Ready", "True", "", PATIENCE).await?;

    // What somebody has deleted is made again; workers come and go; the next operator takes the Lease.
    namespace.kubectl(["delete", "networkpolicies,services,poddisruptionbudgets", "--selector=millrace.dev/pipeline"]).await?;
    namespace.kubectl(["scale", PIPELINE, "--replicas=2"]).await?;
    cluster.kubectl(["rollout", "restart", "--namespace", SYSTEM, "deployment"]).await?;
    cluster.kubectl(["rollout", "status", "--namespace", SYSTEM, "deployment/millrace", "--timeout=180s"]).await?;
    let scaled = async || {
        let object = namespace.object(PIPELINE).await?;
        ensure!(object["status"]["readyReplicas"] == 2, "{}", object["status"]["readyReplicas"]);
        let kinds = namespace.kubectl([
            "get",
            "networkpolicies,services,poddisruptionbudgets",
            "--selector=millrace.dev/pipeline",
            "--output=name",
        ]);
        let there = kinds.await?;
        ensure!(there.lines().count() == 3, "there are only {there}");
        Ok::<_, anyhow::Error>(())
    };
    poll::until("two workers, and what was deleted", PATIENCE, scaled).await
}

/// Used within granted; granted within used, but for the exceptions.
async fn compare(cluster: &Cluster) -> Result<()> {
    let account = cluster.kubectl(["get", "pods", "--namespace", SYSTEM, "--output=jsonpath={.items[0].spec.serviceAccountName}"]).await?;
    let user = format!("system:serviceaccount:{SYSTEM}:{account}");
    let granted = granted(cluster, &account).await?;
    let used = used(&cluster.audit_log()?.context("it is our cluster")?, &user)?;
    let show =
        |rights: &[&Right]| rights.iter().map(|(group, resource, verb)| format!("\n  {group}/{resource} {verb}")).collect::<String>();
    let sum = |rights: &BTreeSet<Right>| {
        let mut verbs: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (group, resource, verb) in rights {
            verbs.entry(format!("{group}/{resource}")).or_default().push(verb);
        }
        verbs.iter().map(|(resource, verbs)| format!("\n  {resource}: {}", verbs.join(" "))).collect::<String>()
    };
    let used_rights: BTreeSet<Right> = used.keys().cloned().collect();
    eprintln!("used by {user}:{}", sum(&used_rights));

    let refused: Vec<_> = used.iter().filter(|(_, refused)| **refused).map(|(right, _)| right).collect();
    ensure!(refused.is_empty(), "the API server has refused:{}", show(&refused));
    let more: Vec<_> = used_rights.difference(&granted).collect();
    ensure!(more.is_empty(), "used, and granted by none of the operator's own roles:{}", show(&more));
    let idle: Vec<_> = granted.difference(&used_rights).collect();
    let excused = |right: &Right| EXCEPTIONS.iter().any(|(name, _)| *name == format!("{}/{} {}", right.0, right.1, right.2));
    let unexcused: Vec<_> = idle.iter().copied().filter(|right| !excused(right)).collect();
    ensure!(unexcused.is_empty(), "granted and never used; take it from charts/millrace, or say here why it stays:{}", show(&unexcused));
    let stale: Vec<_> = EXCEPTIONS
        .iter()
        .filter(|(name, _)| !granted.iter().any(|right| *name == format!("{}/{} {}", right.0, right.1, right.2)))
        .collect();
    ensure!(stale.is_empty(), "no exceptions any more: {stale:?}");
    Ok(())
}

/// What the roles that are bound to a ServiceAccount of ours grant.
async fn granted(cluster: &Cluster, account: &str) -> Result<BTreeSet<Right>> {
    let bindings = cluster.kubectl(["get", "clusterrolebindings,rolebindings", "--all-namespaces", "--output=json"]).await?;
    let bindings: Value = serde_json::from_str(&bindings)?;
    let mut rights = BTreeSet::new();
    for binding in bindings["items"].as_array().context("bindings")? {
        let subjects = binding["subjects"].as_array().cloned().unwrap_or_default();
        if !subjects.iter().any(|s| s["kind"] == "ServiceAccount" && s["name"] == account && s["namespace"] == SYSTEM) {
            continue;
        }
        let (kind, name) = (&binding["roleRef"]["kind"], binding["roleRef"]["name"].as_str().context("a name")?);
        let mut arguments = vec!["get".to_owned(), format!("{}/{name}", kind.as_str().context("a kind")?), "--output=json".to_owned()];
        if kind == "Role" {
            arguments.push(format!("--namespace={}", binding["metadata"]["namespace"].as_str().context("a namespace")?));
        }
        let role: Value = serde_json::from_str(&cluster.kubectl(&arguments).await?)?;
        for rule in role["rules"].as_array().context("rules")? {
            let list = |field: &str| -> Vec<String> {
                rule[field].as_array().into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
            };
            for group in list("apiGroups") {
                for resource in list("resources") {
                    for verb in list("verbs") {
                        ensure!(!verb.contains('*') && !resource.contains('*') && !group.contains('*'), "role {name} grants *: {rule}");
                        rights.insert((group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
    }
    ensure!(!rights.is_empty(), "no role is bound to {account}");
    Ok(rights)
}

/// What a user has asked for, and whether that was refused.
fn used(log: &str, user: &str) -> Result<BTreeMap<Right, bool>> {
    let mut rights = BTreeMap::new();
    // The last line may be half written.
    for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(|event| event["user"]["username"] == user) {
        let reference = &event["objectRef"];
        // What is not about a resource, like the discovery of APIs, is everybody's.
        let Some(resource) = reference["resource"].as_str() else { continue };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = reference["subresource"].as_str().map_or_else(|| resource.to_owned(), |sub| format!("{resource}/{sub}"));
        let (group, verb) = (text(&reference["apiGroup"]), text(&event["verb"]));
        // Server-side apply of what is not there needs the right to create, too.
        if verb == "patch" && event["responseStatus"]["code"] == 201 {
            rights.entry((group.clone(), resource.clone(), "create".to_owned())).or_insert(false);
        }
        let right = (group, resource, verb);
        // In a namespace that is being deleted nothing can be made: that is no matter of rights.
        let refused = event["annotations"]["authorization.k8s.io/decision"] == "forbid";
        *rights.entry(right).or_insert(false) |= refused;
    }
    ensure!(!rights.is_empty(), "the audit log says nothing of {user}");
    Ok(rights)
}
