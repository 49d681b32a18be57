//! What every connector is given besides its own options. It resolves references to secrets; it never logs or stores a secret.

use std::path::PathBuf;

use millrace_crds::pipeline::Limits;
use millrace_crds::reference::SecretRef;
use millrace_crds::report::ErrorReason;
use millrace_engine::connector::ConnectorError;

/// Surroundings of a connector: the same for all connectors of one worker.
#[derive(Clone, Debug)]
pub struct Context {
    /// Directory with a folder for each Secret and in it a file for each key, as the kubelet mounts them. Read again at each use, so rotated secrets take effect.
    pub secrets_dir: PathBuf,
    /// Bounds of memory.
    pub limits: ResolvedLimits,
}

/// [`Limits`] with the defaults filled in. Bytes, except the ratio.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResolvedLimits {
    /// Between source and sinks of one task.
    pub in_flight_bytes: usize,
    /// Of one record.
    pub record_bytes: usize,
    /// Bytes out for each byte in when decompressing.
    pub decompression_ratio: u64,
    /// Decompressed, of one object.
    pub object_bytes: u64,
    /// Of state in memory.
    pub state_bytes: usize,
}

impl From<&Limits> for ResolvedLimits {
    fn from(limits: &Limits) -> Self {
        let positive = |value: Option<i64>, default: u64| value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default);
        let size = |value, default| usize::try_from(positive(value, default)).unwrap_or(usize::MAX);
        Self {
            in_flight_bytes: size(limits.max_in_flight_bytes, 32 << 20),
            record_bytes: size(limits.max_record_bytes, 1 << 20),
            decompression_ratio: positive(limits.max_decompression_ratio, 200),
            object_bytes: positive(limits.max_object_bytes, 4 << 30),
            state_bytes: size(limits.max_state_bytes, 128 << 20),
        }
    }
}

impl Context {
    /// The value of `key` in the Secret, without a trailing newline.
    ///
    /// # Errors
    /// `SecretMissing` naming Secret and key if there is no such file.
    pub fn secret(&self, reference: &SecretRef, key: &str) -> Result<String, ConnectorError> {
        self.optional_secret(reference, key)?.ok_or_else(|| {
            ConnectorError::new(
                ErrorReason::SecretMissing,
                format!("Secret \"{}\" has no key \"{key}\"; create the Secret in the namespace of the Pipeline", reference.name),
            )
        })
    }

    /// As [`Context::secret`], `None` if there is no such key.
    ///
    /// # Errors
    /// If the file is there but cannot be read as UTF-8 text.
    pub fn optional_secret(&self, reference: &SecretRef, key: &str) -> Result<Option<String>, ConnectorError> {
        match std::fs::read_to_string(self.secrets_dir.join(&reference.name).join(key)) {
            Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ConnectorError::new(
                ErrorReason::SecretMissing,
                format!("key \"{key}\" of Secret \"{}\" cannot be read", reference.name),
            )
            .caused_by(error)),
        }
    }
}
