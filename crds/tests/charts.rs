//! The charts, and the objects that the operator makes, by the tools that users have: Helm renders what is committed, kubeconform and checkov find nothing without
//! a written reason. It never looks at a cluster. Run by `cargo test -p millrace-crds --test charts`;
//! it needs those three tools and the Go module of Kubernetes, and fails without them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

const KUBERNETES: &str = "1.34.0";

/// Committed rendering, chart, and the values that differ from the defaults.
const RENDERINGS: [(&str, &str, &[&str]); 2] = [
    ("millrace.yaml", "millrace", &[]),
    (
        "millrace-namespaces.yaml",
        "millrace",
        &["--set=watchNamespaces={logs,orders}", "--set=replicas=2", "--set=defaultStateLocation=s3://state/millrace"],
    ),
];

/// What the operator makes, as its own tests have committed it: each a set of objects that are in a namespace together.
const GENERATED: [&[&str]; 3] = [&["pipeline-minimal.yaml", "check-pod.yaml"], &["pipeline-everything.yaml"], &["probe.yaml"]];

/// What checkov finds in them and is right as it is: kind, check, why. One that is no longer found must go.
const EXCEPTIONS: [(&str, &str, &str); 7] = [
    ("Deployment", "CKV_K8S_15", "a released tag never changes its content; `worker.image.pullPolicy` of the chart sets another"),
    ("Deployment", "CKV_K8S_43", "the digest is known to who mirrors the image, it is set by `worker.image.digest` of the chart"),
    ("Deployment", "CKV_K8S_35", "only if `workload.env` of the Pipeline asks for it; what Sources and Sinks refer to is mounted as files"),
    ("Pod", "CKV_K8S_15", "as for the workers: a check or probe must run the very image that they run"),
    ("Pod", "CKV_K8S_43", "as for the workers"),
    ("Pod", "CKV_K8S_8", "it runs once, and activeDeadlineSeconds ends it: nothing is to be started again"),
    ("Pod", "CKV_K8S_9", "it serves nothing"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where the set-up of the tests puts tools.
fn cache() -> PathBuf {
    let home = |path: &str| PathBuf::from(std::env::var_os("HOME").unwrap()).join(path);
    std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home(".cache"), PathBuf::from).join("millrace")
}

/// A tool on the PATH, or where the set-up of the tests puts it.
fn tool(name: &str) -> PathBuf {
    let on_path = std::env::var_os("PATH").unwrap();
    let versions = fs::read_dir(cache()).into_iter().flatten().flatten().map(|entry| entry.path());
    let own = versions
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("{name}-"))))
        .map(|path| path.join("bin"));
    let folders = std::env::split_paths(&on_path).chain([cache().join("bin")]).chain(own);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is neither on the PATH nor in {}: run tests/setup/install.sh", cache().display()))
}

/// Runs a command to its end; its output if it succeeds.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}:\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn render(chart: &str, values: &[&str]) -> String {
    let mut helm = Command::new(tool("helm"));
    helm.arg("template")
        .arg(chart)
        .arg(root().join("charts").join(chart))
        .args(["--namespace", "millrace", "--kube-version", KUBERNETES])
        .args(values);
    run(&mut helm)
}

#[test]
fn committed_renderings_are_current() {
    let mut stale = String::new();
    for (file, chart, values) in RENDERINGS {
        let path = root().join("charts/rendered").join(file);
        if fs::read_to_string(&path).unwrap_or_default() != render(chart, values) {
            let values: Vec<String> = values.iter().map(|value| format!("'{value}'")).collect();
            let _ = writeln!(
                stale,
                "helm template {chart} charts/{chart} -n millrace --kube-version {KUBERNETES} {} > charts/rendered/{file}",
                values.join(" ")
            );
        }
    }
    assert!(stale.is_empty(), "the charts have changed: look at the difference that these make, and commit it:\n{stale}");
}

#[test]
fn wrong_values_are_refused() {
    for value in
        ["--set=replica=2", "--set=watchNamespaces=logs", "--set=defaultStateLocation=/data", "--set=env[0].name=MILLRACE_WORKER_IMAGE"]
    {
        let mut helm = Command::new(tool("helm"));
        let output = helm
            .args(["template", "millrace"])
            .arg(root().join("charts/millrace"))
            .args(["--kube-version", KUBERNETES, value])
            .output()
            .unwrap();
        assert!(!output.status.success(), "{value} is accepted");
    }
}

#[test]
fn the_chart_carries_the_definitions_unchanged() {
    let rendered = render("millrace-crds", &[]);
    let documents = serde_yaml::Deserializer::from_str(&rendered).map(|d| <Value as serde::Deserialize>::deserialize(d).unwrap());
    let mut found: Vec<Value> = documents.filter(|o| o["kind"] == "CustomResourceDefinition").collect();
    for definition in millrace_crds::crd::all() {
        let wanted: Value = serde_yaml::from_str(&millrace_crds::crd::to_yaml(&definition)).unwrap();
        let at = found.iter().position(|o| o["metadata"]["name"] == wanted["metadata"]["name"]).unwrap();
        let found = found.remove(at);
        assert_eq!(found["spec"], wanted["spec"], "{}", wanted["metadata"]["name"]);
        assert_eq!(found["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    assert_eq!(found, Vec::<Value>::new());
}

#[test]
fn scanners_find_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write_schemas(folder.path());
    let schemas = format!("{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", folder.path().display());
    let mut files: Vec<PathBuf> = RENDERINGS.iter().map(|(file, _, _)| root().join("charts/rendered").join(file)).collect();
    files.push(folder.path().join("millrace-crds.yaml"));
    fs::write(&files[2], render("millrace-crds", &[])).unwrap();
    for file in files {
        run(Command::new(tool("kubeconform")).args(["-strict", "-schema-location", &schemas]).arg(&file));
        run(Command::new(tool("checkov"))
            .args(["--framework", "kubernetes", "--quiet", "--compact", "--skip-download", "--file"])
            .arg(&file));
    }
}

#[test]
fn scanners_find_nothing_in_what_the_operator_makes_but_what_has_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    write_schemas(folder.path());
    let schemas = format!("{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", folder.path().display());
    let mut found = BTreeSet::new();
    for names in GENERATED {
        let texts = names.iter().map(|name| fs::read_to_string(root().join("operator/tests/golden").join(name)).unwrap());
        let file = folder.path().join(names[0]);
        fs::write(&file, texts.collect::<Vec<_>>().join("---\n")).unwrap();
        run(Command::new(tool("kubeconform")).args(["-strict", "-schema-location", &schemas]).arg(&file));
        let options = ["--framework", "kubernetes", "--quiet", "--compact", "--skip-download", "--soft-fail", "--output=json", "--file"];
        let report: Value = serde_json::from_str(&run(Command::new(tool("checkov")).args(options).arg(&file))).unwrap();
        assert!(report["summary"]["passed"].as_i64() > Some(0) && report["summary"]["parsing_errors"] == 0, "{}", report["summary"]);
        for finding in report["results"]["failed_checks"].as_array().unwrap() {
            let text = |field: &str| finding[field].as_str().unwrap().to_owned();
            // `Deployment.shop.edge`
            let kind = text("resource").split('.').next().unwrap().to_owned();
            found.insert((kind, text("check_id")));
        }
    }
    let reasoned: BTreeSet<_> = EXCEPTIONS.iter().map(|(kind, check, _)| ((*kind).to_owned(), (*check).to_owned())).collect();
    assert_eq!(
        found, reasoned,
        "mend what is new on the left, or write down why it stays; remove the exceptions that are only on the right"
    );
}

/// Writes the schemas that kubeconform wants, from the definitions that Kubernetes is released with; unknown fields are refused.
fn write_schemas(folder: &Path) {
    let module = root().join("tests/setup/kubernetes");
    let kubernetes = run(Command::new("go").current_dir(module).args(["list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"]));
    let swagger = fs::read_to_string(Path::new(kubernetes.trim()).join("api/openapi-spec/swagger.json")).unwrap();
    let mut swagger: Value = serde_json::from_str(&swagger).unwrap();
    let definitions = swagger["definitions"].as_object_mut().unwrap();
    for definition in definitions.values_mut() {
        refuse_unknown_fields(definition);
    }
    for (name, number) in [("api.resource.Quantity", "number"), ("util.intstr.IntOrString", "integer")] {
        definitions.insert(format!("io.k8s.apimachinery.pkg.{name}"), json!({"oneOf": [{"type": "string"}, {"type": number}]}));
    }
    for (name, definition) in definitions.iter() {
        for kind in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            let text = |key: &str| kind[key].as_str().unwrap().to_lowercase();
            let group =
                text("group").split('.').next().map(|g| if g.is_empty() { String::new() } else { format!("-{g}") }).unwrap_or_default();
            let file = folder.join(format!("{}{group}-{}.json", text("kind"), text("version")));
            fs::write(file, json!({"$ref": format!("_definitions.json#/definitions/{name}")}).to_string()).unwrap();
        }
    }
    fs::write(folder.join("_definitions.json"), json!({"definitions": definitions}).to_string()).unwrap();
}

fn refuse_unknown_fields(schema: &mut Value) {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        schema["$ref"] = reference.replace("#/definitions/", "_definitions.json#/definitions/").into();
        return;
    }
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if object.contains_key("properties") {
        object.entry("additionalProperties").or_insert(json!(false));
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(refuse_unknown_fields);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key).filter(|inner| inner.is_object()) {
            refuse_unknown_fields(inner);
        }
    }
}
