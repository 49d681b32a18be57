//! What can be wrong with manifests, and where. Nothing is read here.

use std::fmt;
use std::path::PathBuf;

/// Where an object is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The file, as it was given or found.
    pub file: PathBuf,
    /// Which document of the file, counted from 1.
    pub document: usize,
    /// The document's first line that is not a separator, counted from 1.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)?;
        if self.document > 1 { write!(f, " (document {})", self.document) } else { Ok(()) }
    }
}

/// What is wrong with manifests.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory cannot be read.
    #[error("{} cannot be read: give files, or directories with .yaml, .yml or .json files", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A directory without any manifest.
    #[error("{} holds no .yaml, .yml or .json file: give a directory with manifests", path.display())]
    NoFiles {
        /// The directory.
        path: PathBuf,
    },
    /// Not YAML or JSON. The line is that of the mistake.
    #[error("{origin}: not valid YAML: {message}")]
    Syntax {
        /// File, document and line of the mistake.
        origin: Origin,
        /// What the parser says.
        message: String,
    },
    /// A document that is no Kubernetes object.
    #[error("{origin}: not a Kubernetes object: apiVersion and kind must be set")]
    NotAnObject {
        /// Where.
        origin: Origin,
    },
    /// A kind or version of our group that does not exist.
    #[error("{origin}: there is no kind {kind:?} in {api_version:?}: write Source, Sink or Pipeline of millrace.dev/v1alpha1")]
    UnknownKind {
        /// Where.
        origin: Origin,
        /// The `apiVersion`.
        api_version: String,
        /// The `kind`.
        kind: String,
    },
    /// An object without a name.
    #[error("{origin}: this {kind} has no metadata.name: give it one")]
    NoName {
        /// Where.
        origin: Origin,
        /// The `kind`.
        kind: String,
    },
    /// The same object twice.
    #[error("{origin}: {object} is there already, from {first}: rename or remove one of them")]
    Duplicate {
        /// Where the second is.
        origin: Origin,
        /// Kind, namespace and name.
        object: String,
        /// Where the first is.
        first: Origin,
    },
    /// A field that the API server would refuse, with the message it would give.
    #[error("{origin}: {object}: {field}: {message}")]
    Invalid {
        /// Where.
        origin: Origin,
        /// Kind, namespace and name.
        object: String,
        /// Path of the field, for example `spec.outputs[0].from`.
        field: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// An object that passed the schema and yet is not of its kind.
    #[error("{origin}: {object} cannot be read as its kind")]
    NotThatKind {
        /// Where.
        origin: Origin,
        /// Kind, namespace and name.
        object: String,
        /// Why.
        source: serde_json::Error,
    },
}
