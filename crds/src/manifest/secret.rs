//! Secrets of local runs. Their values are never printed.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::Secret;

/// A Secret as the kubelet would mount it: `data` with `stringData` on top.
#[derive(Clone, Eq, PartialEq)]
pub struct LocalSecret {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Values by key, decoded.
    pub values: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for LocalSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSecret")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("keys", &self.values.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl From<Secret> for LocalSecret {
    fn from(secret: Secret) -> Self {
        let data = secret.data.into_iter().flatten().map(|(key, value)| (key, value.0));
        let text = secret.string_data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
        Self {
            namespace: secret.metadata.namespace.unwrap_or_default(),
            name: secret.metadata.name.unwrap_or_default(),
            values: data.chain(text).collect(),
        }
    }
}
