//! Options of the `opensearch` connector.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::reference::SecretRef;

/// Writes documents to OpenSearch by the bulk API; replays overwrite a document with itself.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.tls) || self.endpoint.startsWith('https://')").message("tls needs an https:// endpoint"))]
pub struct OpenSearchSink {
    /// URL of the cluster, for example `https://search.example.com:9200`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://.+"))]
    #[x_kube(validation = Rule::new("!self.matches('^https?://[^/]*@')").message("put no credentials into a URL: use basicAuth.secretRef"))]
    pub endpoint: String,
    /// Index, a template as `prefix` of the `s3` sink: `edge-{yyyy.MM.dd}`, `tenant-{tenant}`. Values are lower-cased, characters that OpenSearch refuses in a name are replaced by `_`.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^([^{}]|[{][^{}]+[}])*$')").message("braces must pair up: {column}, {column:yyyy-MM-dd} or {yyyy-MM-dd}"))]
    pub index: String,
    /// Columns whose values make the document's `_id`, joined by `|`; longer than 512 bytes they are hashed. Default: the record's place in the source (object and row, partition and offset), which is the same in every replay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = Rule::new("self.all(k, self.exists_one(other, other == k))").message("name each column once"))]
    pub id_from: Vec<String>,
    /// How documents are gathered into bulk requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk: Option<Bulk>,
    /// User name and password. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// TLS. Default: the system's roots; the host name is always verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<OpenSearchTls>,
}

/// When a bulk request is sent: at the first of these limits, at the end of an epoch, and whenever no request is under way.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bulk {
    /// Bytes of one request. Default 5,242,880 (5 MiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 104_857_600))]
    pub bytes: Option<i64>,
    /// Documents of one request. Default 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub count: Option<u32>,
    /// The longest a document waits for its request to fill while another request is under way. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 900))]
    pub seconds: Option<u32>,
}

/// HTTP basic authentication.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuth {
    /// Secret with the keys `username` and `password`.
    pub secret_ref: SecretRef,
}

/// TLS to OpenSearch.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenSearchTls {
    /// Secret with the key `ca.crt` (PEM, one or more certificates).
    pub secret_ref: SecretRef,
}
