//! Manifests as `millrace run` takes them: files and directories of YAML or JSON. Nothing is accepted here that `kubectl apply` would refuse, and nothing is written.
//!
//! ```text
//!  paths ─▶ read: documents with file and line ─▶ schema + CEL of the CRD ─▶ typed objects ─▶ Job
//! ```

mod cel;
mod error;
mod read;
mod schema;
mod secret;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use error::{Error, Origin};
pub use secret::LocalSecret;

use crate::job::{Job, StateLocation};
use crate::resolve::{self, References, resolve};
use crate::{GROUP, Pipeline, Sink, Source, VERSION};

/// An object and where it was written.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The object; its namespace is `default` unless the manifest names one.
    pub object: T,
    /// Where it was written.
    pub origin: Origin,
}

/// An object that local runs have no use for, such as a Namespace or a PersistentVolumeClaim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ignored {
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its `kind`.
    pub kind: String,
    /// Its name, empty if it has none.
    pub name: String,
    /// Where it was written.
    pub origin: Origin,
}

/// Everything that was loaded, in the order of files and documents.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// Sources.
    pub sources: Vec<Loaded<Source>>,
    /// Sinks.
    pub sinks: Vec<Loaded<Sink>>,
    /// Pipelines.
    pub pipelines: Vec<Loaded<Pipeline>>,
    /// Secrets.
    pub secrets: Vec<Loaded<LocalSecret>>,
    /// What is of other kinds.
    pub ignored: Vec<Ignored>,
}

impl Manifests {
    /// Loads files, and of directories the files that end in `.yaml`, `.yml` or `.json` (not those of directories below, as `kubectl apply -f`).
    ///
    /// # Errors
    /// Everything that is wrong with any of them, each with file, line and field; never an empty list.
    pub fn load<P: AsRef<Path>>(paths: &[P]) -> Result<Self, Vec<Error>> {
        let mut errors = Vec::new();
        let mut documents = Vec::new();
        for file in read::files(paths, &mut errors) {
            read::documents(&file, &mut documents, &mut errors);
        }
        let mut loader = Loader::new();
        for document in documents {
            loader.add(document, &mut errors);
        }
        if errors.is_empty() { Ok(loader.manifests) } else { Err(errors) }
    }

    /// The Job of a loaded Pipeline, from the Sources and Sinks of its namespace. Relative paths of `files` connectors
    /// are taken from the directory of the manifest that holds them.
    ///
    /// # Errors
    /// What the Pipeline refers to and is not there.
    pub fn job(&self, pipeline: &Pipeline, default_state: &StateLocation) -> Result<Job, Vec<resolve::Error>> {
        let namespace = pipeline.namespace();
        let mut references = References::default();
        for source in self.sources.iter().filter(|s| s.object.namespace() == namespace) {
            let mut spec = source.object.spec.clone();
            if let Some(files) = &mut spec.files {
                files.path = source.origin.absolute(&files.path);
            }
            references.sources.insert(source.object.name_any(), spec);
        }
        for sink in self.sinks.iter().filter(|s| s.object.namespace() == namespace) {
            let mut spec = sink.object.spec.clone();
            if let Some(files) = &mut spec.files {
                files.path = sink.origin.absolute(&files.path);
            }
            references.sinks.insert(sink.object.name_any(), spec);
        }
        resolve(pipeline, &references, default_state)
    }

    /// The Secret of a name in a namespace.
    #[must_use]
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&LocalSecret> {
        self.secrets.iter().map(|s| &s.object).find(|s| s.namespace == namespace && s.name == name)
    }
}

/// Gathers objects; remembers what it has seen, so that a name given twice is refused.
struct Loader {
    rules: BTreeMap<String, cel::Definition>,
    seen: BTreeMap<(String, String, String), Origin>,
    manifests: Manifests,
}

impl Loader {
    fn new() -> Self {
        let rules = crate::crd::all().iter().map(|d| (d.spec.names.kind.clone(), cel::Definition::new(d))).collect();
        Self { rules, seen: BTreeMap::new(), manifests: Manifests::default() }
    }

    fn add(&mut self, document: read::Document, errors: &mut Vec<Error>) {
        let read::Document { mut value, origin } = document;
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if api_version.is_empty() || kind.is_empty() {
            return errors.push(Error::NotAnObject { origin });
        }
        if kind == "List" && api_version == "v1" {
            for item in value["items"].as_array_mut().map(std::mem::take).unwrap_or_default() {
                self.add(read::Document { value: item, origin: origin.clone() }, errors);
            }
            return;
        }
        let ours = api_version.split('/').next() == Some(GROUP);
        let known = if ours { self.rules.contains_key(&kind) } else { (api_version.as_str(), kind.as_str()) == ("v1", "Secret") };
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if !known && !ours {
            return self.manifests.ignored.push(Ignored { api_version, kind, name, origin });
        }
        if ours && (!known || api_version != format!("{GROUP}/{VERSION}")) {
            return errors.push(Error::UnknownKind { origin, api_version, kind });
        }
        if name.is_empty() {
            return errors.push(Error::NoName { origin, kind });
        }
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.entry("namespace").or_insert_with(|| "default".into());
        }
        let namespace = value["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let object = format!("{kind} {namespace}/{name}");
        if let Some(first) = self.seen.insert((kind.clone(), namespace, name), origin.clone()) {
            return errors.push(Error::Duplicate { origin, object, first });
        }
        if let Some(definition) = self.rules.get(&kind) {
            let problems = definition.check(&mut value);
            if !problems.is_empty() {
                return errors.extend(problems.into_iter().map(|p| Error::Invalid {
                    origin: origin.clone(),
                    object: object.clone(),
                    field: p.field,
                    message: p.message,
                }));
            }
        }
        if let Err(source) = self.keep(&kind, value, &origin) {
            errors.push(Error::NotThatKind { origin, object, source });
        }
    }

    fn keep(&mut self, kind: &str, value: Value, origin: &Origin) -> serde_json::Result<()> {
        match kind {
            "Source" => self.manifests.sources.push(typed(value, origin)?),
            "Sink" => self.manifests.sinks.push(typed(value, origin)?),
            "Pipeline" => self.manifests.pipelines.push(typed(value, origin)?),
            _ => {
                let secret: Loaded<core::Secret> = typed(value, origin)?;
                let object = LocalSecret::from(secret.object);
                self.manifests.secrets.push(Loaded { object, origin: secret.origin });
            }
        }
        Ok(())
    }
}

fn typed<T: DeserializeOwned>(value: Value, origin: &Origin) -> serde_json::Result<Loaded<T>> {
    Ok(Loaded { object: serde_json::from_value(value)?, origin: origin.clone() })
}

impl Origin {
    /// A path as written in this manifest, from its directory unless it is absolute.
    fn absolute(&self, path: &str) -> String {
        let folder = self.file.parent().map(Path::to_path_buf).unwrap_or_default();
        let joined: PathBuf = folder.join(path).components().collect();
        std::path::absolute(&joined).unwrap_or(joined).to_string_lossy().into_owned()
    }
}
