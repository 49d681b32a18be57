//! The files that are made from the types: CRD YAML, the chart that carries it, the reference page. It returns their text and writes nothing.

mod reference;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::crd;

const HEAD: &str = "# Generated from the types in crds/src by `make generate`. Do not edit.\n";

/// A generated file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Generated {
    /// Path below the root of the repository.
    pub path: String,
    /// The whole content.
    pub text: String,
}

/// Every generated file.
#[must_use]
pub fn files() -> Vec<Generated> {
    let mut files = Vec::new();
    for definition in crd::all() {
        let plural = &definition.spec.names.plural;
        let yaml = crd::to_yaml(&definition);
        files.push(Generated { path: format!("crds/yaml/{plural}.yaml"), text: format!("{HEAD}{yaml}") });
        files.push(Generated {
            path: format!("charts/millrace-crds/templates/{plural}.yaml"),
            text: format!("{HEAD}{}", chart_template(&definition)),
        });
    }
    files.push(Generated { path: "crds/REFERENCE.md".to_owned(), text: reference::page(&crd::all()) });
    files
}

/// The definition as an ordinary template (unlike those of a chart's `crds` folder, `helm upgrade` upgrades it), kept when the chart is
/// uninstalled, since the API server would delete every Pipeline with it.
fn chart_template(definition: &CustomResourceDefinition) -> String {
    let mut definition = definition.clone();
    definition.metadata.annotations.get_or_insert_default().insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
    let yaml = crd::to_yaml(&definition);
    let labels = "metadata:\n  labels:\n    {{- include \"millrace-crds.labels\" . | nindent 4 }}\n";
    // Text that looks like a template directive would be run as one.
    yaml.replace("{{", "{{ \"{{\" }}").replacen("metadata:\n", labels, 1)
}
