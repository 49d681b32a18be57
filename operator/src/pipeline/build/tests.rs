//! Everything that is built, against committed files, and against the rules that hold for all of it. `MILLRACE_BLESS=1` writes the files anew.

use std::path::PathBuf;

use millrace_crds::pipeline::DesiredState;
use millrace_crds::report::CheckOutcome;
use serde::Serialize;
use serde_json::Value;

use super::*;
use crate::names::Owner;
use crate::pipeline::fixtures::{edge, references, workload};
use crate::pipeline::validate::validate;
use crate::settings::tests::settings;

fn validated(change: impl FnOnce(&mut millrace_crds::Pipeline)) -> Validated {
    let mut pipeline = edge();
    change(&mut pipeline);
    let owner = Owner::of(&pipeline).unwrap();
    validate(&pipeline, owner, &references(), &settings())
}

fn everything() -> Validated {
    validated(|pipeline| {
        pipeline.spec.workload = Some(serde_json::from_value(workload()).unwrap());
        pipeline.spec.service_account_name = Some("cloud-identity".into());
        let row = serde_json::json!({"time": "2026-01-01T00:00:00Z", "sc_status": 503});
        let test = serde_json::json!({
            "name": "errors go to the index",
            "given": [{"input": "logs", "rows": [row], "advanceTo": "2026-01-01T00:10:00Z"}],
            "expect": [{"output": "search", "rows": [row], "order": "Any"}],
        });
        pipeline.spec.tests = vec![serde_json::from_value(test).unwrap()];
        pipeline.spec.upgrade = Some(serde_json::from_value(serde_json::json!({"statePolicy": "ResetState"})).unwrap());
        pipeline.spec.observability = Some(serde_json::from_value(serde_json::json!({"logLevel": "Debug"})).unwrap());
    })
}

fn state() -> State {
    [("per_client/aggregate/0".to_owned(), "0123456789abcdef".to_owned())].into()
}

const TWO: Workers = Workers { replicas: 2, drained: false, draining: false };

/// The objects as the API server would be sent them.
fn objects(built: &Built) -> Vec<Value> {
    fn value<K: kube::Resource<DynamicType = ()> + Serialize>(object: &K) -> Value {
        let mut value = serde_json::to_value(object).unwrap();
        value["apiVersion"] = K::api_version(&()).into();
        value["kind"] = K::kind(&()).into();
        value
    }
    let mut objects = vec![value(&built.network_policy), value(&built.service), value(&built.pdb)];
    objects.extend(built.service_account.as_ref().map(value));
    objects.extend(built.config_map.as_ref().map(value));
    match &built.workload {
        Workload::Deployment(deployment) => objects.push(value(&**deployment)),
        Workload::Check(pod) => objects.push(value(&**pod)),
        Workload::Scale => {}
    }
    objects
}

/// Compares with a committed file, or writes it.
pub(crate) fn golden(name: &str, objects: &[Value]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = objects.iter().map(|object| serde_yaml::to_string(object).unwrap()).collect::<Vec<_>>().join("---\n");
    if std::env::var_os("MILLRACE_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(committed, text, "{} is stale: run the tests with MILLRACE_BLESS=1 and review the change", path.display());
}

/// The rules of Pod Security "restricted", and ours.
pub(crate) fn assert_hardened(pod: &Value) {
    let at = |pointer: &str| pod.pointer(pointer).cloned().unwrap_or(Value::Null);
    assert_eq!(at("/automountServiceAccountToken"), false);
    assert_eq!(at("/securityContext/runAsNonRoot"), true);
    assert_eq!(at("/securityContext/runAsUser"), 65532);
    assert_eq!(at("/securityContext/seccompProfile/type"), "RuntimeDefault");
    for forbidden in ["/hostNetwork", "/hostPID", "/hostIPC", "/hostUsers", "/initContainers", "/ephemeralContainers"] {
        assert_eq!(at(forbidden), Value::Null, "{forbidden}");
    }
    for container in pod["containers"].as_array().unwrap() {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["privileged"], false);
        assert_eq!(security["capabilities"], serde_json::json!({"drop": ["ALL"]}));
        assert!(security["seccompProfile"].is_null() && security["procMount"].is_null());
        assert!(container["resources"]["limits"]["memory"].is_string() && container["resources"]["limits"]["cpu"].is_string());
        for port in container["ports"].as_array().unwrap_or(&Vec::new()) {
            assert!(port["hostPort"].is_null());
        }
    }
    let allowed = ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    for volume in pod["volumes"].as_array().unwrap() {
        let kinds: Vec<_> = volume.as_object().unwrap().keys().filter(|key| *key != "name").collect();
        assert!(kinds.len() == 1 && allowed.contains(&kinds[0].as_str()), "{volume}");
    }
}

fn pod_spec(object: &Value) -> Option<&Value> {
    match object["kind"].as_str()? {
        "Deployment" => object.pointer("/spec/template/spec"),
        "Pod" => object.pointer("/spec"),
        _ => None,
    }
}

#[test]
fn a_pipeline_with_the_least() {
    let built = build(&validated(|_| {}), &Decision::Start, TWO, None);
    golden("pipeline-minimal.yaml", &objects(&built));
}

#[test]
fn a_pipeline_with_everything() {
    let built = build(&everything(), &Decision::Follow, TWO, Some(&state()));
    golden("pipeline-everything.yaml", &objects(&built));
}

#[test]
fn a_check_pod() {
    let built = build(&everything(), &Decision::Check, TWO, Some(&state()));
    let Workload::Check(pod) = &built.workload else { panic!("{:?}", built.workload) };
    let checked = objects(&built).into_iter().filter(|object| object["kind"] == "Pod" || object["kind"] == "ConfigMap");
    golden("check-pod.yaml", &checked.collect::<Vec<_>>());
    // It connects to nothing: no secret, no identity, nothing of the user's.
    let text = serde_json::to_string(pod).unwrap();
    for absent in ["secret-0", "aws-keys", "serviceAccountToken", "cloud-identity", "/data", "AWS_ENDPOINT_URL"] {
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn workers_get_no_tests() {
    let job = |decision: &Decision| built_job(&build(&everything(), decision, TWO, None));
    for decision in [Decision::Start, Decision::Follow, Decision::Switch(CheckOutcome::default())] {
        assert!(!job(&decision).1.contains("errors go to the index"), "{decision:?}");
    }
    for decision in [Decision::Check, Decision::Refuse(CheckOutcome::default())] {
        assert!(job(&decision).1.contains("errors go to the index"), "{decision:?}");
    }
    // Each content has its own name: what is mounted never changes.
    assert_ne!(job(&Decision::Check).0, job(&Decision::Follow).0);
    let plain = |decision: &Decision| built_job(&build(&validated(|_| {}), decision, TWO, None));
    assert_eq!(plain(&Decision::Check), plain(&Decision::Follow));
}

/// Name and text of the Job.
fn built_job(built: &Built) -> (String, String) {
    let job = built.config_map.clone().unwrap();
    (job.metadata.name.unwrap(), job.data.unwrap().remove("job.json").unwrap())
}

#[test]
fn every_object_is_ours_and_every_pod_is_hardened() {
    let mut pods = 0;
    for (validated, decision) in [(validated(|_| {}), Decision::Start), (everything(), Decision::Follow), (everything(), Decision::Check)] {
        for object in objects(&build(&validated, &decision, TWO, None)) {
            let meta = &object["metadata"];
            assert_eq!(meta["ownerReferences"][0]["uid"], "11111111-2222-3333-4444-555555555555", "{object}");
            assert_eq!(meta["ownerReferences"][0]["controller"], true);
            assert_eq!(meta["labels"]["app.kubernetes.io/managed-by"], "millrace-operator");
            assert_eq!(meta["labels"]["millrace.dev/pipeline"], "edge");
            assert_eq!(meta["namespace"], "shop");
            if let Some(pod) = pod_spec(&object) {
                assert_hardened(pod);
                pods += 1;
            }
        }
    }
    assert_eq!(pods, 3);
}

#[test]
fn secrets_are_mounted_never_read_and_never_required() {
    let built = build(&validated(|_| {}), &Decision::Start, TWO, None);
    let Workload::Deployment(deployment) = built.workload else { panic!() };
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    let secrets: Vec<_> = pod.volumes.iter().flatten().filter_map(|volume| volume.secret.as_ref()).collect();
    assert_eq!(secrets.iter().map(|secret| secret.secret_name.as_deref().unwrap()).collect::<Vec<_>>(), ["aws-keys", "search-login"]);
    assert!(secrets.iter().all(|secret| secret.optional == Some(true) && secret.items.is_none()));
    let env = pod.containers[0].env.clone().unwrap_or_default();
    assert!(env.iter().all(|variable| variable.value_from.as_ref().is_none_or(|from| from.secret_key_ref.is_none())));
}

#[test]
fn the_users_variables_come_last_and_no_name_twice() {
    let built = build(&everything(), &Decision::Follow, TWO, Some(&state()));
    let Workload::Deployment(deployment) = built.workload else { panic!() };
    let env = deployment.spec.unwrap().template.spec.unwrap().containers[0].env.clone().unwrap();
    let names: Vec<_> = env.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names, ["MILLRACE_OPERATOR_URL", "MILLRACE_WORKER_NAME", "POD_NAMESPACE", "AWS_ENDPOINT_URL", "RUST_LOG", "PASSWORD"]);
}

#[test]
fn what_must_not_touch_the_running_revision_builds_no_deployment() {
    let validated = validated(|_| {});
    let outcome = CheckOutcome::default;
    for decision in [
        Decision::Hold,
        Decision::AwaitCheck { waits_for: None },
        Decision::CheckFailed { message: String::new(), again: true },
        Decision::Refuse(outcome()),
    ] {
        assert!(matches!(build(&validated, &decision, TWO, None).workload, Workload::Scale), "{decision:?}");
    }
    assert!(matches!(build(&validated, &Decision::Check, TWO, Some(&state())).workload, Workload::Check(_)));
    for decision in [Decision::Start, Decision::Follow, Decision::Switch(outcome())] {
        assert!(matches!(build(&validated, &decision, TWO, None).workload, Workload::Deployment(_)), "{decision:?}");
    }
}

#[test]
fn a_pipeline_that_cannot_be_resolved_still_has_its_policies() {
    let mut missing = edge();
    missing.spec.inputs[0].source_ref.name = "gone".into();
    missing.spec.desired_state = DesiredState::Running;
    let owner = Owner::of(&missing).unwrap();
    let built = build(&validate(&missing, owner, &references(), &settings()), &Decision::Hold, TWO, None);
    assert!(built.config_map.is_none() && built.service_account.is_some());
    assert!(matches!(built.workload, Workload::Scale));
}

mod arbitrary {
    //! Whatever users wish for, the pod is hardened, or the Pipeline is refused.

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn word() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "a",
            "team",
            "millrace.dev/pipeline",
            "app.kubernetes.io/name",
            "container.apparmor.security.beta.kubernetes.io/worker",
            "MILLRACE_WORKER_NAME",
            "PATH",
            "RUST_LOG",
            "seccomp.security.alpha.kubernetes.io/pod",
            "example.com/x",
        ])
        .prop_map(str::to_owned)
    }

    fn path() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "/data",
            "/etc/millrace/job",
            "/var/run/secrets/millrace",
            "/tmp/x",
            "/proc/self",
            "/etc/ssl/certs",
            "/",
            "/data/../proc",
        ])
        .prop_map(str::to_owned)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_wish_softens_a_pod(
            labels in prop::collection::btree_map(word(), word(), 0..4),
            annotations in prop::collection::btree_map(word(), word(), 0..4),
            env in prop::collection::btree_map(word(), word(), 0..4),
            volumes in prop::collection::vec(path(), 0..3),
            cpu in prop::option::of(1..64_u32),
        ) {
            let env: Vec<_> = env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            let volumes: Vec<_> = volumes.iter().enumerate().map(|(n, path)| json!({"name": format!("v{n}"), "mountPath": path, "configMap": {"name": "c"}})).collect();
            let mut workload = json!({"podLabels": labels, "podAnnotations": annotations, "env": env, "volumes": volumes});
            if let Some(cpu) = cpu {
                workload["resources"] = json!({"limits": {"cpu": cpu.to_string(), "memory": "1Gi"}});
            }
            let validated = validated(|pipeline| pipeline.spec.workload = Some(serde_json::from_value(workload).unwrap()));
            for object in objects(&build(&validated, &Decision::Start, TWO, None)) {
                let Some(pod) = pod_spec(&object) else { continue };
                assert_hardened(pod);
                let template = &object["spec"]["template"]["metadata"];
                prop_assert_eq!(&template["labels"]["millrace.dev/pipeline"], "edge");
                prop_assert_eq!(&template["labels"]["app.kubernetes.io/name"], "millrace");
                let profile = |key: &String| key.contains("apparmor") || key.contains("seccomp");
                prop_assert!(!template["annotations"].as_object().unwrap().keys().any(profile));
                let worker = pod["containers"][0]["env"].as_array().unwrap().iter().find(|v| v["name"] == "MILLRACE_WORKER_NAME").unwrap();
                prop_assert_eq!(&worker["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");
                for mount in pod["containers"][0]["volumeMounts"].as_array().unwrap() {
                    let (name, path) = (mount["name"].as_str().unwrap(), mount["mountPath"].as_str().unwrap());
                    prop_assert!(!name.starts_with("user-") || path == "/data" || path == "/tmp/x", "{} {}", name, path);
                }
            }
        }
    }
}
