//! The endpoint over real sockets, beside an API server of our own that answers TokenReviews: the token is the name of the pod.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::post;
use millrace_crds::report::{Assignment, REPORT_VERSION};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::report::registry::tests::{facts, report};

/// Reviews that were asked for.
type Reviews = Arc<AtomicUsize>;

async fn review(State(reviews): State<Reviews>, Json(review): Json<Value>) -> Json<Value> {
    reviews.fetch_add(1, Ordering::Relaxed);
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    let (namespace, pod) = token.split_once('/').unwrap_or(("", ""));
    let user = json!({
        "username": format!("system:serviceaccount:{namespace}:edge"),
        "extra": {"authentication.kubernetes.io/pod-name": [pod]},
    });
    let status = json!({"authenticated": token != "forged", "audiences": review["spec"]["audiences"], "user": user});
    Json(json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}, "status": status}))
}

async fn serve_router(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn endpoint(leads: bool) -> (SocketAddr, Arc<Registry>, Reviews) {
    let reviews = Reviews::default();
    let routes = Router::new().route("/apis/authentication.k8s.io/v1/tokenreviews", post(review));
    let api = serve_router(routes.with_state(Arc::clone(&reviews))).await;
    let client = crate::tls::client(kube::Config::new(format!("http://{api}").parse().unwrap())).unwrap();
    let leadership = Leadership::default();
    if leads {
        leadership.renewed(clock::monotonic());
    }
    let registry = Arc::new(Registry::default());
    let reports = Reports {
        leadership,
        authenticator: Authenticator::new(client),
        registry: Arc::clone(&registry),
        bells: Bells::default(),
        metrics: Metrics::new(),
    };
    (serve_router(router(Arc::new(reports))).await, registry, reviews)
}

/// Status code and body.
async fn send(address: SocketAddr, token: &str, body: &[u8]) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {REPORT_PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may answer before it has read everything.
    let _refused_early = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _reset_after_answer = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (code, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn body(worker: &str) -> Vec<u8> {
    serde_json::to_vec(&report(worker, 1)).unwrap()
}

#[tokio::test]
async fn a_known_worker_gets_its_assignment() {
    let (address, registry, _) = endpoint(true).await;
    assert_eq!(send(address, "ns/w0", &body("w0")).await.0, 503, "the Pipeline is not known yet");
    registry.observe(&Key::new("ns", "edge"), facts(["w0"]), clock::monotonic());
    let (code, answer) = send(address, "ns/w0", &body("w0")).await;
    assert_eq!(code, 200);
    let assignment: Assignment = serde_json::from_str(&answer).unwrap();
    assert_eq!(assignment.version, REPORT_VERSION);
    assert!(assignment.enumerate);
    assert_eq!(assignment.tasks.len(), 1);
    assert_eq!(send(address, "ns/w9", &body("w9")).await.0, 503, "no such worker");
}

#[tokio::test]
async fn nobody_speaks_for_another() {
    let (address, registry, _) = endpoint(true).await;
    registry.observe(&Key::new("ns", "edge"), facts(["w0"]), clock::monotonic());
    assert_eq!(send(address, "forged", &body("w0")).await.0, 401);
    assert_eq!(send(address, "", &body("w0")).await.0, 401);
    assert_eq!(send(address, "ns/w1", &body("w0")).await.0, 403);
    assert_eq!(send(address, "other/w0", &body("w0")).await.0, 403);
    assert_eq!(registry.snapshot(&Key::new("ns", "edge"), clock::monotonic()).workers.len(), 0);
}

#[tokio::test]
async fn what_is_no_report_is_refused() {
    let (address, ..) = endpoint(true).await;
    assert_eq!(send(address, "ns/w0", b"{}").await.0, 400);
    assert_eq!(send(address, "ns/w0", b"\xff").await.0, 400);
    assert_eq!(send(address, "ns/w0", &vec![b' '; MAX_BODY + 1]).await.0, 413);
}

#[tokio::test]
async fn only_the_leader_answers() {
    let (address, registry, _) = endpoint(false).await;
    registry.observe(&Key::new("ns", "edge"), facts(["w0"]), clock::monotonic());
    assert_eq!(send(address, "ns/w0", &body("w0")).await.0, 503);
}

#[tokio::test]
async fn a_token_is_reviewed_once_a_minute() {
    let (address, registry, reviews) = endpoint(true).await;
    registry.observe(&Key::new("ns", "edge"), facts(["w0"]), clock::monotonic());
    assert_eq!(send(address, "ns/w0", &body("w0")).await.0, 200);
    assert_eq!(send(address, "ns/w0", &serde_json::to_vec(&report("w0", 2)).unwrap()).await.0, 200);
    assert_eq!(reviews.load(Ordering::Relaxed), 1);
}
