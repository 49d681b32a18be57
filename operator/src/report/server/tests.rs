//! The endpoint over real sockets, beside an API server of our own that answers TokenReviews: the token is the name of the pod.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::post;
use millrace_crds::report::{Assignment, REPORT_VERSION};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::report::registry::tests::{facts, poll, report};

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

/// Status code and body of the answer to a report.
async fn send(address: SocketAddr, token: &str, body: &[u8]) -> (u16, String) {
    send_to(address, REPORT_PATH, token, body).await
}

/// The same to a poll.
async fn send_poll(address: SocketAddr, token: &str, worker: &str, sequence: u64) -> (u16, String) {
    send_to(address, POLL_PATH, token, &serde_json::to_vec(&poll(worker, sequence)).unwrap()).await
}

async fn send_to(address: SocketAddr, path: &str, token: &str, body: &[u8]) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
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

/// `w0` and `w1` have a split of the queue each, and `w0` waits.
async fn one_waits() -> (SocketAddr, Arc<Registry>, AbortOnDrop<(u16, String)>) {
    let (address, registry, _) = endpoint(true).await;
    registry.observe(&Key::new("ns", "edge"), facts([]), clock::monotonic());
    registry.observe(&Key::new("ns", "edge"), facts(["w0", "w1"]), clock::monotonic());
    for worker in ["w0", "w1"] {
        assert_eq!(send(address, &format!("ns/{worker}"), &body(worker)).await.0, 200);
    }
    let waits = waiting(address, "w0");
    until(&registry, 1).await;
    (address, registry, waits)
}

type AbortOnDrop<T> = tokio::task::JoinSet<T>;

fn waiting(address: SocketAddr, worker: &'static str) -> AbortOnDrop<(u16, String)> {
    let mut waits = tokio::task::JoinSet::new();
    waits.spawn(async move { send_poll(address, &format!("ns/{worker}"), worker, 1).await });
    waits
}

/// So many requests wait.
async fn until(registry: &Registry, count: usize) {
    while registry.waiting() != count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn changed((code, answer): &(u16, String)) -> bool {
    assert_eq!(*code, 200, "{answer}");
    serde_json::from_str::<Polled>(answer).unwrap().changed
}

#[tokio::test]
async fn a_poll_waits_until_the_assignment_is_another() {
    let (address, registry, mut waits) = one_waits().await;
    assert!(changed(&send_poll(address, "ns/w1", "w1", 7).await), "of a report that did not come here");
    registry.observe(&Key::new("ns", "edge"), facts(["w0"]), clock::monotonic());
    assert!(changed(&waits.join_next().await.unwrap().unwrap()), "what w1 had is left over");
    assert_eq!(registry.waiting(), 0);
}

#[tokio::test]
async fn a_connection_that_breaks_tells_of_a_death() {
    let (address, registry, mut waits) = one_waits().await;
    let (watched, mut watch) = (Arc::clone(&registry), tokio::task::JoinSet::new());
    watch.spawn(async move { watched.keep_watch(|_| {}).await });
    let broken = waiting(address, "w1");
    until(&registry, 2).await;
    drop(broken);
    until(&registry, 1).await;
    assert!(changed(&waits.join_next().await.unwrap().unwrap()));
    assert_eq!(registry.snapshot(&Key::new("ns", "edge"), clock::monotonic()).workers.len(), 1);
}

#[tokio::test]
async fn a_worker_that_does_not_poll_is_served_as_before() {
    let (address, registry, waits) = one_waits().await;
    for sequence in 2..5 {
        let (code, answer) = send(address, "ns/w1", &serde_json::to_vec(&report("w1", sequence)).unwrap()).await;
        assert_eq!(code, 200);
        assert_eq!(serde_json::from_str::<Assignment>(&answer).unwrap().tasks.len(), 1);
    }
    assert_eq!(registry.snapshot(&Key::new("ns", "edge"), clock::monotonic()).workers.len(), 2);
    drop(waits);
}

#[tokio::test]
async fn polls_are_refused_as_reports_are() {
    let (address, ..) = one_waits().await;
    assert_eq!(send_poll(address, "forged", "w0", 1).await.0, 401);
    assert_eq!(send_poll(address, "ns/w1", "w0", 1).await.0, 403);
    assert_eq!(send_poll(address, "ns/w9", "w9", 1).await.0, 503);
    assert_eq!(send_to(address, POLL_PATH, "ns/w0", b"{}").await.0, 400);
    assert_eq!(send_to(address, POLL_PATH, "ns/w0", &vec![b' '; MAX_POLL + 1]).await.0, 400);
    let (follower, registry, _) = endpoint(false).await;
    registry.observe(&Key::new("ns", "edge"), facts(["w0"]), clock::monotonic());
    assert_eq!(send_poll(follower, "ns/w0", "w0", 1).await.0, 503);
}
