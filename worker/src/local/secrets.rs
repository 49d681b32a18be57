//! Secrets of local runs as files, as the kubelet would mount them. They live in a private temporary directory that goes with the process.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use millrace_crds::manifest::Manifests;
use tempfile::TempDir;

/// The directory; removed when dropped.
pub(super) struct SecretFiles(TempDir);

impl SecretFiles {
    /// Writes the Secrets of the manifests, and links those of `directory` that the manifests do not hold.
    pub(super) fn write(manifests: &Manifests, directory: Option<&Path>) -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("millrace-secrets-").tempdir()?;
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o700))?;
        let files = Self(root);
        for secret in &manifests.secrets {
            let folder = files.folder(&secret.object.namespace).join(&secret.object.name);
            std::fs::create_dir_all(&folder)?;
            for (key, value) in &secret.object.values {
                std::fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(folder.join(key))
                    .and_then(|mut file| file.write_all(value))
                    .with_context(|| format!("cannot write the Secret {} to a file", secret.object.name))?;
            }
        }
        for namespace in manifests.pipelines.iter().map(|pipeline| pipeline.object.metadata.namespace.as_deref().unwrap_or("default")) {
            files.link(namespace, directory)?;
        }
        Ok(files)
    }

    /// The directory of one namespace's Secrets.
    pub(super) fn folder(&self, namespace: &str) -> PathBuf {
        self.0.path().join(namespace)
    }

    fn link(&self, namespace: &str, directory: Option<&Path>) -> anyhow::Result<()> {
        let folder = self.folder(namespace);
        std::fs::create_dir_all(&folder)?;
        let Some(directory) = directory else { return Ok(()) };
        let entries = std::fs::read_dir(directory).with_context(|| format!("cannot read --secrets-dir {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let link = folder.join(entry.file_name());
            if !link.exists() {
                std::os::unix::fs::symlink(std::path::absolute(entry.path())?, link)?;
            }
        }
        Ok(())
    }
}
