//! The writer against an API server of our own that records what it is asked and holds one ConfigMap.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::*;
use crate::names::Key;

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    held: Option<ConfigMap>,
    requests: Vec<(Method, String, Value)>,
}

impl Fake {
    async fn answer(State(fake): State<Self>, method: Method, uri: Uri, body: Bytes) -> Response {
        let mut recorded = fake.0.lock().unwrap();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        recorded.requests.push((method.clone(), uri.to_string(), body));
        match (method, &recorded.held) {
            (Method::GET, None) => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"});
                (StatusCode::NOT_FOUND, axum::Json(status)).into_response()
            }
            (_, Some(held)) => axum::Json(held.clone()).into_response(),
            (_, None) => axum::Json(ConfigMap::default()).into_response(),
        }
    }

    async fn writer(&self) -> Writer {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(Self::answer).with_state(self.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut config = kube::Config::new(url.parse().unwrap());
        config.default_retry = false;
        let leadership = Leadership::default();
        leadership.renewed(clock::monotonic());
        Writer::new(crate::tls::client(config).unwrap(), leadership, Metrics::new())
    }

    fn writes(&self) -> Vec<(String, Value)> {
        let recorded = self.0.lock().unwrap();
        recorded.requests.iter().filter(|(method, ..)| *method != Method::GET).map(|(_, uri, body)| (uri.clone(), body.clone())).collect()
    }
}

fn owner() -> Owner {
    let reference = OwnerReference { uid: "ours".into(), name: "edge".into(), controller: Some(true), ..OwnerReference::default() };
    Owner { key: Key::new("ns", "edge"), reference }
}

fn desired() -> ConfigMap {
    let data = Some([("a".to_owned(), "1".to_owned())].into());
    ConfigMap { metadata: crate::names::meta(&owner(), "edge".into(), [].into()), data, ..ConfigMap::default() }
}

/// As the API server would give it back.
fn stored(owner_uid: &str) -> ConfigMap {
    let mut stored = desired();
    let hash = short_hash(to_json(&desired(), &Target::of(&desired()).unwrap()).unwrap().to_string().as_bytes());
    stored.metadata.uid = Some("object".into());
    stored.metadata.annotations = Some([(APPLIED.to_owned(), hash)].into());
    stored.metadata.owner_references.as_mut().unwrap()[0].uid = owner_uid.into();
    stored
}

#[tokio::test]
async fn an_absent_object_is_applied_after_the_server_was_asked() {
    let fake = Fake::default();
    fake.writer().await.apply(&owner(), &desired(), None).await.unwrap();
    let writes = fake.writes();
    assert_eq!(writes.len(), 1);
    assert!(writes[0].0.contains("fieldManager=millrace-operator") && writes[0].0.contains("force=true"), "{}", writes[0].0);
    assert_eq!(writes[0].1["kind"], "ConfigMap");
    assert_eq!(writes[0].1["metadata"]["uid"], Value::Null);
}

#[tokio::test]
async fn what_is_as_it_should_be_is_not_written() {
    let fake = Fake::default();
    let writer = fake.writer().await;
    writer.apply(&owner(), &desired(), Some(&stored("ours"))).await.unwrap();
    assert!(fake.0.lock().unwrap().requests.is_empty());
}

#[tokio::test]
async fn what_somebody_changed_is_repaired_for_that_very_object() {
    let fake = Fake::default();
    let mut changed = stored("ours");
    changed.data = Some([("a".to_owned(), "2".to_owned())].into());
    fake.writer().await.apply(&owner(), &desired(), Some(&changed)).await.unwrap();
    assert_eq!(fake.writes()[0].1["metadata"]["uid"], "object");
}

#[tokio::test]
async fn what_we_no_longer_want_is_removed() {
    // The object holds everything that is desired, but was written with more.
    let fake = Fake::default();
    let mut more = stored("ours");
    more.metadata.annotations = Some([(APPLIED.to_owned(), "an older hash".to_owned())].into());
    fake.writer().await.apply(&owner(), &desired(), Some(&more)).await.unwrap();
    assert_eq!(fake.writes().len(), 1);
}

#[tokio::test]
async fn a_foreign_object_is_left_alone() {
    let fake = Fake::default();
    let writer = fake.writer().await;
    let mut without_owner = stored("ours");
    without_owner.metadata.owner_references = None;
    for foreign in [stored("another"), without_owner] {
        fake.0.lock().unwrap().held = Some(foreign.clone());
        let error = writer.apply(&owner(), &desired(), None).await.unwrap_err();
        assert_eq!(error.needs_a_human(), Some(millrace_crds::condition::PipelineReason::NameConflict));
        writer.apply(&owner(), &desired(), Some(&foreign)).await.unwrap_err();
        writer.delete(&owner(), &foreign).await.unwrap_err();
    }
    assert_eq!(fake.writes(), []);
}

#[tokio::test]
async fn who_does_not_lead_does_not_write() {
    let fake = Fake::default();
    let mut writer = fake.writer().await;
    writer.leadership = Leadership::default();
    assert!(matches!(writer.apply(&owner(), &desired(), None).await, Err(Error::NotLeading)));
    assert!(matches!(writer.delete(&owner(), &stored("ours")).await, Err(Error::NotLeading)));
    assert!(matches!(writer.status(&desired(), &json!({})).await, Err(Error::NotLeading)));
    assert_eq!(fake.writes(), []);
}
