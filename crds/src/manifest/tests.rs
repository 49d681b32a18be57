//! Tests of loading manifests, and of every rule of the definitions through the cases in `tests/cases`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::cel::Definition;
use super::{Error, Manifests};
use crate::connectors::aws::AwsAccess;
use crate::job::StateLocation;
use crate::{crd, resolve};

#[derive(Deserialize)]
struct Base {
    kind: String,
    spec: Value,
}

/// A case: a patch of a base, and how it is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    of: String,
    patch: Value,
    /// A patch of the older object, for changes.
    #[serde(default)]
    from: Value,
    /// Fields set as they are, nulls among them.
    #[serde(default)]
    raw: BTreeMap<String, Value>,
    #[serde(default)]
    metadata: Option<Value>,
    #[serde(default)]
    field: String,
    #[serde(default)]
    message: String,
}

struct Cases {
    base: BTreeMap<String, Base>,
    definitions: BTreeMap<String, Definition>,
}

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name);
    serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

impl Cases {
    fn new() -> Self {
        let definitions = crd::all().iter().map(|d| (d.spec.names.kind.clone(), Definition::new(d))).collect();
        Self { base: read("base.yaml"), definitions }
    }

    fn object(&self, case: &Case, patch: &Value) -> Value {
        let base = &self.base[&case.of];
        let mut object = json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": base.kind,
            "metadata": case.metadata.clone().unwrap_or_else(|| json!({"name": "edge"})), "spec": base.spec,
        });
        if !patch.is_null() {
            merge(&mut object["spec"], patch);
        }
        for (key, value) in &case.raw {
            object["spec"][key] = value.clone();
        }
        object
    }

    /// The messages of all problems at the case's field, and all problems as text.
    fn check(&self, case: &Case, change: bool) -> (Vec<String>, String) {
        let definition = &self.definitions[&self.base[&case.of].kind];
        let mut object = self.object(case, &case.patch);
        let mut problems = definition.check(&mut object);
        if change && problems.is_empty() {
            problems = definition.check_rules(&object, Some(&self.object(case, &case.from)));
        }
        let all: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
        (problems.into_iter().filter(|p| p.field == case.field).map(|p| p.message).collect(), all.join("\n"))
    }
}

#[test]
fn bases_and_accepted_cases_are_accepted() {
    let cases = Cases::new();
    let mut accepted: Vec<Case> = read("accepted.yaml");
    let bases = cases.base.keys().map(|of| json!({"name": of, "of": of, "patch": {}}));
    accepted.extend(bases.map(|case| serde_json::from_value(case).unwrap()));
    for case in accepted {
        let (_, all) = cases.check(&case, false);
        assert_eq!(all, "", "{}", case.name);
    }
}

#[test]
fn refused_cases_are_refused_where_they_say() {
    let cases = Cases::new();
    for case in read::<Vec<Case>>("refused.yaml") {
        let (here, all) = cases.check(&case, false);
        assert!(here.iter().any(|message| message.contains(&case.message)), "{}: refused as:\n{all}", case.name);
        assert_eq!(all.lines().count(), 1, "{}: more than one problem:\n{all}", case.name);
    }
}

#[test]
fn changes_are_judged_against_the_older_object() {
    let cases = Cases::new();
    for case in read::<Vec<Case>>("changes.yaml") {
        let (here, all) = cases.check(&case, true);
        if case.message.is_empty() {
            assert_eq!(all, "", "{}", case.name);
        } else {
            assert!(here.iter().any(|message| message.contains(&case.message)), "{}: refused as:\n{all}", case.name);
        }
    }
}

#[test]
fn every_rule_refuses_a_case() {
    let cases = Cases::new();
    let mut seen = BTreeSet::new();
    for (file, change) in [("refused.yaml", false), ("changes.yaml", true)] {
        for case in read::<Vec<Case>>(file) {
            seen.extend(cases.check(&case, change).0);
        }
    }
    let mut unseen = Vec::new();
    for definition in crd::all() {
        rules(&crd::schema(&definition), &mut |message| {
            if !seen.contains(message) {
                unseen.push(format!("{}: {message}", definition.spec.names.kind));
            }
        });
    }
    assert!(unseen.is_empty(), "rules without a case: {unseen:#?}");
}

fn rules(schema: &Value, visit: &mut impl FnMut(&str)) {
    match schema {
        Value::Object(object) => {
            for rule in object.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                visit(rule["message"].as_str().unwrap());
            }
            object.values().for_each(|inner| rules(inner, visit));
        }
        Value::Array(items) => items.iter().for_each(|inner| rules(inner, visit)),
        _ => {}
    }
}

const TWO: &str = "\
# a comment first
---
apiVersion: millrace.dev/v1alpha1
kind: Source
metadata: {name: in}
spec: {files: {path: data}, format: {raw: {}}}
---
# only a comment
---

apiVersion: millrace.dev/v1alpha1
kind: Sink
metadata: {name: out}
spec: {stdout: {}}
";

const PIPELINE: &str = r#"{"apiVersion": "millrace.dev/v1alpha1", "kind": "Pipeline", "metadata": {"name": "p"}, "spec": {
    "inputs": [{"name": "lines", "sourceRef": {"name": "in"}}],
    "outputs": [{"name": "all", "from": "lines", "sinkRef": {"name": "out"}}]}}"#;

const OTHERS: &str = "\
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: n}}
- apiVersion: v1
  kind: Secret
  metadata: {name: keys}
  data: {a: eA==, b: eQ==}
  stringData: {b: z}
";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn messages(files: &[(&str, &str)]) -> Vec<String> {
    let folder = folder(files);
    let prefix = format!("{}/", folder.path().display());
    let errors = Manifests::load(&[folder.path()]).unwrap_err();
    errors.iter().map(|error| error.to_string().replace(&prefix, "")).collect()
}

fn default_state() -> StateLocation {
    StateLocation { location: "file:///state".to_owned(), aws: None }
}

#[test]
fn a_directory_becomes_a_job() {
    let folder = folder(&[("a.yaml", TWO), ("b.json", PIPELINE), ("c.yml", OTHERS), ("notes.txt", "not: {a manifest")]);
    let manifests = Manifests::load(&[folder.path()]).unwrap();
    assert_eq!((manifests.sources.len(), manifests.sinks.len(), manifests.pipelines.len()), (1, 1, 1));
    assert_eq!(manifests.ignored.iter().map(|i| i.kind.as_str()).collect::<Vec<_>>(), ["Namespace"]);
    assert_eq!((manifests.sinks[0].origin.document, manifests.sinks[0].origin.line), (2, 11));

    let secret = manifests.secret("default", "keys").unwrap();
    assert_eq!((secret.values["a"].as_slice(), secret.values["b"].as_slice()), (&b"x"[..], &b"z"[..]));
    assert!(!format!("{secret:?}").contains('z'));

    let job = manifests.job(&manifests.pipelines[0].object, &default_state()).unwrap();
    assert_eq!(job.pipeline.uid, "local-default-p");
    assert_eq!(job.state, default_state());
    let path = &job.inputs[0].source.files.as_ref().unwrap().path;
    assert_eq!(Path::new(path), std::path::absolute(folder.path().join("data")).unwrap());
}

#[test]
fn what_is_missing_is_named() {
    let folder = folder(&[("b.json", PIPELINE)]);
    let manifests = Manifests::load(&[folder.path().join("b.json")]).unwrap();
    let errors = manifests.job(&manifests.pipelines[0].object, &default_state()).unwrap_err();
    let expected = |kind, name: &str, field: &str| resolve::Error::NotFound {
        kind,
        name: name.to_owned(),
        namespace: "default".to_owned(),
        field: field.to_owned(),
    };
    let wanted =
        [expected(resolve::Kind::Source, "in", "inputs[lines].sourceRef"), expected(resolve::Kind::Sink, "out", "outputs[all].sinkRef")];
    assert_eq!(errors, wanted);
}

#[test]
fn relative_paths_mean_nothing_without_a_manifest() {
    let folder = folder(&[("a.yaml", TWO), ("b.json", PIPELINE)]);
    let manifests = Manifests::load(&[folder.path()]).unwrap();
    let references = resolve::References {
        sources: BTreeMap::from([("in".to_owned(), manifests.sources[0].object.spec.clone())]),
        sinks: BTreeMap::from([("out".to_owned(), manifests.sinks[0].object.spec.clone())]),
    };
    let errors = resolve::resolve(&manifests.pipelines[0].object, &references, &default_state()).unwrap_err();
    assert!(matches!(&errors[..], [resolve::Error::RelativePath { path, .. }] if path == "data"), "{errors:?}");
}

#[test]
fn a_state_of_its_own_goes_before_the_default() {
    let own = PIPELINE.replace("\"inputs\"", r#""state": {"location": "s3://b/p", "aws": {"region": "eu-west-1"}}, "inputs""#);
    let folder = folder(&[("a.yaml", TWO), ("b.json", &own)]);
    let manifests = Manifests::load(&[folder.path()]).unwrap();
    let job = manifests.job(&manifests.pipelines[0].object, &default_state()).unwrap();
    let aws = AwsAccess { region: Some("eu-west-1".to_owned()), ..AwsAccess::default() };
    assert_eq!(job.state, StateLocation { location: "s3://b/p".to_owned(), aws: Some(aws) });
}

#[test]
fn errors_say_file_line_document_and_field() {
    let broken = TWO.replace("{stdout: {}}", "{stdout: {layuot: Table}}");
    assert_eq!(
        messages(&[("a.yaml", &broken)]),
        [r#"a.yaml:11 (document 2): Sink default/out: spec.stdout.layuot: unknown field: did you mean "layout"?"#]
    );
}

#[test]
fn a_mistake_in_yaml_has_its_line() {
    let broken = TWO.replace("spec: {stdout: {}}", "spec: {stdout: {}");
    let found = messages(&[("a.yaml", &broken)]);
    assert!(found.len() == 1 && found[0].starts_with("a.yaml:1"), "{found:?}");
    let twice = TWO.replace("metadata: {name: out}", "metadata: {name: out}\nkind: Sink");
    let found = messages(&[("a.yaml", &twice)]);
    assert!(found.len() == 1 && found[0].contains("duplicate"), "{found:?}");
}

#[test]
fn strangers_are_refused() {
    for (from, to, expected) in [
        ("kind: Sink", "kind: Skin", "there is no kind \"Skin\""),
        ("kind: Sink", "knd: Sink", "apiVersion and kind must be set"),
        ("name: out", "nam: out", "has no metadata.name"),
        ("millrace.dev/v1alpha1", "millrace.dev/v1", "millrace.dev/v1alpha1"),
    ] {
        let found = messages(&[("a.yaml", &TWO.replace(from, to))]);
        assert!(found.iter().any(|message| message.contains(expected)), "{expected}: {found:?}");
    }
    let found = messages(&[("a.yaml", TWO), ("b.yaml", TWO)]);
    assert!(found.iter().any(|m| m.contains("b.yaml:3: Source default/in is there already, from a.yaml:3")), "{found:?}");
}

#[test]
fn nothing_to_read_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(&Manifests::load(&[empty.path()]).unwrap_err()[..], [Error::NoFiles { .. }]));
    let missing = empty.path().join("missing.yaml");
    assert!(matches!(&Manifests::load(&[missing]).unwrap_err()[..], [Error::Read { .. }]));
}
