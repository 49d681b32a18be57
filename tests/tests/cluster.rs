//! The cluster that other tests rely on: it runs restricted pods from images that we packed, resolves names, reaches the
//! servers of a test, starts again what was killed, and lets go of what is deleted. Nothing that Millrace does is tested here.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use millrace_tests::cluster::Cluster;
use millrace_tests::image::{self, Image};
use millrace_tests::poll;
use millrace_tests::servers::Moto;

/// For a pod to get somewhere on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// Ends the script of a pod that is to stay.
const STAY: &str = "read -t 3600 <> <(:)";

/// Makes a namespace under Pod Security `restricted`, without what an earlier, killed run has left in it.
async fn make_namespace(cluster: &Cluster, name: &str) -> Result<()> {
    delete_namespace(cluster, name).await?;
    let labels = "{pod-security.kubernetes.io/enforce: restricted}";
    cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {labels}}}}}")).await?;
    // A controller makes it; until then no pod is admitted.
    let account = async || cluster.kubectl(["get", "serviceaccount", "--namespace", name, "default"]).await;
    poll::until("the namespace has its service account", PATIENCE, account).await.map(drop)
}

/// Fails if it is not gone within a minute.
async fn delete_namespace(cluster: &Cluster, name: &str) -> Result<()> {
    cluster.kubectl(["delete", "namespace", name, "--ignore-not-found", "--timeout=60s"]).await.map(drop)
}

/// An image around bash, which is a shell and a client of DNS and TCP in one; packed as the worker's is.
async fn shell_image(cluster: &Cluster) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join(Image::Worker.program());
    std::fs::copy(Path::new("/bin/bash"), &program)?;
    let archive = image::pack_program(Image::Worker, &program, Some("shell"), &folder.path().join("image.tar"))?;
    cluster.load_image(&archive.path).await?;
    Ok(archive.reference)
}

/// A Deployment `probe` of one pod that runs `script`, with what it reads and a Service.
fn probe(image: &str, script: &str) -> String {
    let script = script.replace('\n', "\n          ");
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: probe}}
spec:
  selector: {{matchLabels: {{app: probe}}}}
  template:
    metadata: {{labels: {{app: probe}}}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      securityContext: {{runAsNonRoot: true, fsGroup: 65532, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: main
        image: {image}
        imagePullPolicy: Never
        args:
        - -c
        - |
          {script}
        env:
        - {{name: TOKEN, valueFrom: {{secretKeyRef: {{name: probe, key: token}}}}}}
        securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
        resources: {{limits: {{cpu: 200m, memory: 64Mi}}}}
        volumeMounts:
        - {{name: config, mountPath: /config}}
        - {{name: identity, mountPath: /identity}}
      volumes:
      - {{name: config, configMap: {{name: probe}}}}
      - {{name: identity, projected: {{sources: [{{serviceAccountToken: {{path: token, audience: millrace}}}}]}}}}
---
{{apiVersion: v1, kind: Secret, metadata: {{name: probe}}, stringData: {{token: from-the-secret}}}}
---
{{apiVersion: v1, kind: ConfigMap, metadata: {{name: probe}}, data: {{setting: from-the-config}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: probe}}, spec: {{selector: {{app: probe}}, ports: [{{port: 80}}]}}}}
"
    )
}

async fn apply(cluster: &Cluster, namespace: &str, manifests: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), manifests)?;
    let file = file.path().to_string_lossy().into_owned();
    cluster.kubectl(["apply", "--namespace", namespace, "--filename", &file]).await.map(drop)
}

/// The log of the probe, once it holds `text`.
async fn log_with(cluster: &Cluster, namespace: &str, text: &str) -> Result<String> {
    let look = async || {
        let log = cluster.kubectl(["logs", "--namespace", namespace, "deployment/probe"]).await?;
        ensure!(log.contains(text), "the log says:\n{log}");
        Ok::<_, anyhow::Error>(log)
    };
    poll::until(&format!("{text:?} in the log"), PATIENCE, look).await
}

#[tokio::test]
async fn a_restricted_pod_runs_and_reaches_what_it_needs() -> Result<()> {
    let (cluster, namespace) = (Cluster::start().await?, "harness-reach");
    let moto = Moto::start_at(cluster.host()?).await?;
    make_namespace(&cluster, namespace).await?;
    let script = format!(
        "echo secret $TOKEN config $(</config/setting) user $UID
[ -s /identity/token ] && echo identity
exec 3<>/dev/tcp/kubernetes.default/443 && echo api-server
exec 3<>/dev/tcp/{}/{} && echo host-server
(: > /written) 2>/dev/null || echo read-only
echo done; {STAY}",
        moto.address().ip(),
        moto.address().port()
    );
    apply(&cluster, namespace, &probe(&shell_image(&cluster).await?, &script)).await?;
    let log = log_with(&cluster, namespace, "done").await?;
    for line in ["secret from-the-secret config from-the-config user 65532", "identity", "api-server", "host-server", "read-only"] {
        assert!(log.lines().any(|found| found == line), "no line {line:?} in:\n{log}");
    }
    delete_namespace(&cluster, namespace).await
}

#[tokio::test]
async fn a_killed_container_starts_again() -> Result<()> {
    let (cluster, namespace) = (Cluster::start().await?, "harness-kill");
    make_namespace(&cluster, namespace).await?;
    apply(&cluster, namespace, &probe(&shell_image(&cluster).await?, &format!("echo started; {STAY}"))).await?;
    log_with(&cluster, namespace, "started").await?;

    let pods = async |path: &str| cluster.kubectl(["get", "pods", "--namespace", namespace, "--output", path]).await;
    let containers = "jsonpath={.items[*].status.containerStatuses[?(@.state.running)].containerID}";
    let first = pods(containers).await?;
    cluster.kill_pod(namespace, &pods("jsonpath={.items[0].metadata.name}").await?).await?;
    let another = async || {
        let now = pods(containers).await?;
        ensure!(!now.is_empty() && now != first, "running: {now:?}");
        Ok::<_, anyhow::Error>(())
    };
    poll::until("another container runs", PATIENCE, another).await?;
    log_with(&cluster, namespace, "started").await?;
    delete_namespace(&cluster, namespace).await
}

#[tokio::test]
async fn a_pod_without_restrictions_is_refused() -> Result<()> {
    let (cluster, namespace) = (Cluster::start().await?, "harness-refuse");
    make_namespace(&cluster, namespace).await?;
    let run = cluster.kubectl(["run", "root", "--namespace", namespace, "--image=localhost/none:1"]).await;
    let error = format!("{:#}", run.unwrap_err());
    assert!(error.contains("violates PodSecurity"), "{error}");
    delete_namespace(&cluster, namespace).await
}

#[tokio::test]
async fn the_images_of_millrace_run() -> Result<()> {
    let (cluster, namespace) = (Cluster::start().await?, "harness-images");
    make_namespace(&cluster, namespace).await?;
    for image in Image::ALL {
        let reference = cluster.image(image).await?;
        let pod = include_str!("cluster-image-pod.yaml").replace("$NAME", image.name()).replace("$IMAGE", &reference);
        apply(&cluster, namespace, &pod).await?;
        let done = "--for=jsonpath={.status.phase}=Succeeded";
        cluster.kubectl(["wait", "--namespace", namespace, &format!("pod/{}", image.name()), done, "--timeout=120s"]).await?;
    }
    delete_namespace(&cluster, namespace).await
}

#[tokio::test]
async fn helm_answers() -> Result<()> {
    let cluster = Cluster::start().await?;
    assert_eq!(cluster.helm(["list", "--all-namespaces", "--short", "--filter=^no-such-release$"]).await?, "");
    Ok(())
}
