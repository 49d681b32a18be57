//! Connections and clusters against a peer that follows a script. What a real broker says is tested elsewhere.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{FetchRequest, MetadataRequest, SaslAuthenticateRequest};
use millrace_crds::report::ErrorReason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::connection::Connection;
use super::error::Error;
use super::identity::Login;
use super::requests::Request as _;
use super::stream::Address;

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(30);

/// The other side of one connection.
struct Peer(TcpStream);

/// A request as the peer sees it.
struct Asked {
    key: i16,
    version: i16,
    correlation: i32,
    frame: Bytes,
}

impl Peer {
    async fn next(&mut self) -> Option<Asked> {
        let length = self.0.read_u32().await.ok()?;
        let mut frame = vec![0; length as usize];
        self.0.read_exact(&mut frame).await.ok()?;
        let number = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
        let correlation = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
        Some(Asked { key: number(0), version: number(2), correlation, frame: frame.into() })
    }

    async fn answer(&mut self, correlation: i32, body: &[u8]) {
        self.0.write_u32(u32::try_from(body.len() + 4).unwrap()).await.unwrap();
        self.0.write_i32(correlation).await.unwrap();
        self.0.write_all(body).await.unwrap();
    }

    /// Says which versions there are of some requests.
    async fn greet(&mut self, versions: &[(i16, i16, i16)]) {
        let asked = self.next().await.unwrap();
        assert_eq!((asked.key, asked.version), (18, 3));
        let mut body = BytesMut::new();
        body.extend_from_slice(&[0, 0, u8::try_from(versions.len() + 1).unwrap()]);
        for (key, oldest, newest) in versions {
            for number in [key, oldest, newest] {
                body.extend_from_slice(&number.to_be_bytes());
            }
            body.extend_from_slice(&[0]);
        }
        body.extend_from_slice(&[0, 0, 0, 0, 0]);
        self.answer(asked.correlation, &body).await;
    }

    /// Metadata in version 4: one broker of this number, no topic.
    async fn metadata(&mut self, correlation: i32, broker: i32) {
        let mut body = BytesMut::new();
        body.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
        body.extend_from_slice(&broker.to_be_bytes());
        body.extend_from_slice(b"\0\x01h\0\0\x23\x84\xff\xff\xff\xff\0\0\0\x01\0\0\0\0");
        self.answer(correlation, &body).await;
    }
}

const METADATA: (i16, i16, i16) = (3, 0, 4);

fn metadata() -> MetadataRequest {
    MetadataRequest::default().with_topics(Some(Vec::new())).with_allow_auto_topic_creation(false)
}

async fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!("an address of IPv4") };
    (listener, Address { host: address.ip().to_string(), port: address.port() })
}

async fn accept(listener: &TcpListener) -> Peer {
    Peer(listener.accept().await.unwrap().0)
}

/// A connection and its peer.
async fn connected(versions: &[(i16, i16, i16)]) -> (Connection, Peer) {
    let (listener, address) = listen().await;
    let greeting = async {
        let mut peer = accept(&listener).await;
        peer.greet(versions).await;
        peer
    };
    let (connection, peer) = tokio::join!(Connection::open(&address, None, None), greeting);
    (connection.unwrap(), peer)
}

#[tokio::test]
async fn several_requests_are_under_way_and_each_gets_its_own_answer() {
    let (connection, mut peer) = connected(&[METADATA]).await;
    let mut answers: Vec<_> = (0..3).map(|_| connection.send(&metadata()).unwrap()).collect();
    // Somebody loses interest: that answer is for nobody, and the others are not confused by it.
    answers.remove(1);
    let mut correlations = Vec::new();
    for _ in 0..3 {
        let asked = peer.next().await.unwrap();
        assert_eq!((asked.key, asked.version), (3, 4));
        correlations.push(asked.correlation);
    }
    // A wait that is dropped in between can be taken up again.
    assert!(tokio::time::timeout(Duration::from_millis(20), answers[0].wait()).await.is_err());
    for (broker, correlation) in (7..).zip(correlations) {
        peer.metadata(correlation, broker).await;
    }
    for (answer, broker) in answers.iter_mut().zip([7, 9]) {
        let response = tokio::time::timeout(DEADLINE, answer.wait()).await.unwrap().unwrap();
        assert_eq!(response.brokers[0].node_id.0, broker);
    }
}

#[tokio::test]
async fn a_connection_ends_with_its_last_handle() {
    let (connection, mut peer) = connected(&[METADATA]).await;
    let other = connection.clone();
    drop(connection);
    let mut answer = other.send(&metadata()).unwrap();
    drop(other);
    // Who waits for an answer holds it too.
    let asked = peer.next().await.unwrap();
    peer.metadata(asked.correlation, 1).await;
    answer.wait().await.unwrap();
    drop(answer);
    let mut rest = Vec::new();
    tokio::time::timeout(DEADLINE, peer.0.read_to_end(&mut rest)).await.expect("it is still open").unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn when_the_broker_goes_all_who_wait_are_told_why() {
    let (connection, mut peer) = connected(&[METADATA]).await;
    let mut answers: Vec<_> = (0..3).map(|_| connection.send(&metadata()).unwrap()).collect();
    peer.next().await.unwrap();
    drop(peer);
    for answer in &mut answers {
        let error = answer.wait().await.unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "{error}");
        assert_eq!(error.reason(), ErrorReason::Unreachable);
    }
    assert!(!connection.is_open());
    assert!(matches!(connection.call(&metadata()).await, Err(Error::Lost { .. })));
}

#[tokio::test]
async fn a_broker_that_is_silent_is_given_up_together_with_what_was_asked_later() {
    let (connection, mut peer) = connected(&[METADATA]).await;
    let mut first = connection.send_patiently(&metadata(), Duration::from_millis(20)).unwrap();
    let mut second = connection.send(&metadata()).unwrap();
    peer.next().await.unwrap();
    let error = first.wait().await.unwrap_err();
    assert!(error.to_string().contains("has not answered Metadata"), "{error}");
    assert_eq!(second.wait().await.unwrap_err(), error);
    assert!(!connection.is_open());
}

#[tokio::test]
async fn a_broker_that_said_that_it_will_not_answer_for_a_while_is_not_given_up() {
    let (connection, mut peer) = connected(&[METADATA]).await;
    let mut answer = connection.send_patiently(&metadata(), Duration::from_millis(1)).unwrap();
    connection.hold(DEADLINE);
    let asked = peer.next().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), answer.wait()).await.is_err(), "it is still waited for");
    assert!(connection.is_open());
    peer.metadata(asked.correlation, 3).await;
    assert_eq!(answer.wait().await.unwrap().brokers[0].node_id.0, 3);
}

#[tokio::test]
async fn what_is_no_answer_of_kafka_is_named() {
    for (bytes, said) in [
        (&b"\x15\x03\x03\x00\x02\x02\x46"[..], "set tls"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "1213486160 bytes"),
        (b"\0\0\0\x06\0\0\0\x63\0\0", "belongs to no question"),
        (b"\0\0\0\x02\0\0", "belongs to no question"),
    ] {
        let (connection, mut peer) = connected(&[METADATA]).await;
        let mut answer = connection.send(&metadata()).unwrap();
        peer.next().await.unwrap();
        peer.0.write_all(bytes).await.unwrap();
        let error = answer.wait().await.unwrap_err();
        assert!(matches!(error, Error::Garbled { .. }) && error.to_string().contains(said), "{error}");
    }
    // A frame that can be told from others but not read: only its own question fails.
    let (connection, mut peer) = connected(&[METADATA]).await;
    let mut answers: Vec<_> = (0..2).map(|_| connection.send(&metadata()).unwrap()).collect();
    let (first, second) = (peer.next().await.unwrap(), peer.next().await.unwrap());
    peer.answer(first.correlation, &[0, 0]).await;
    peer.metadata(second.correlation, 5).await;
    assert!(answers[0].wait().await.unwrap_err().to_string().contains("Metadata in version 4"));
    assert_eq!(answers[1].wait().await.unwrap().brokers[0].node_id.0, 5);
}

#[tokio::test]
async fn versions_are_agreed_on() {
    let (connection, _peer) = connected(&[METADATA, (1, 0, 3)]).await;
    assert_eq!(connection.version::<MetadataRequest>().unwrap(), 4);
    for error in [connection.version::<FetchRequest>().unwrap_err(), connection.version::<SaslAuthenticateRequest>().unwrap_err()] {
        assert_eq!(error.reason(), ErrorReason::Invalid);
    }
    let error = connection.version::<FetchRequest>().unwrap_err().to_string();
    assert!(error.contains("takes Fetch in versions 0 to 3, and Millrace sends 4 to 13"), "{error}");

    // A broker that does not know our version of the first question is asked again in its own.
    let (listener, address) = listen().await;
    let old = async {
        let mut peer = accept(&listener).await;
        let asked = peer.next().await.unwrap();
        peer.answer(asked.correlation, &[0, 35, 0, 0, 0, 0]).await;
        let asked = peer.next().await.unwrap();
        assert_eq!((asked.key, asked.version), (18, 0));
        peer.answer(asked.correlation, &[0, 0, 0, 0, 0, 1, 0, 3, 0, 0, 0, 9]).await;
        peer
    };
    let (connection, _peer) = tokio::join!(Connection::open(&address, None, None), old);
    assert_eq!(connection.unwrap().version::<MetadataRequest>().unwrap(), 9);
}

#[tokio::test]
async fn a_refused_login_says_so_and_shows_no_password() {
    for mechanism_refused in [true, false] {
        let (listener, address) = listen().await;
        let refusing = async {
            let mut peer = accept(&listener).await;
            peer.greet(&[(17, 0, 1), (36, 0, 1)]).await;
            let asked = peer.next().await.unwrap();
            if mechanism_refused {
                peer.answer(asked.correlation, b"\0\x21\0\0\0\x01\0\x05OTHER").await;
                return peer;
            }
            peer.answer(asked.correlation, b"\0\0\0\0\0\x01\0\x05PLAIN").await;
            let asked = peer.next().await.unwrap();
            assert_eq!(asked.key, SaslAuthenticateRequest::KEY);
            assert!(asked.frame.ends_with(b"\0\0\0\x0c\0ann\0hunter2"), "{:?}", asked.frame);
            peer.answer(asked.correlation, b"\0\x3a\0\x04away\0\0\0\0\0\0\0\0\0\0\0\0").await;
            peer
        };
        let login = Login {
            mechanism: millrace_crds::connectors::kafka::SaslMechanism::Plain,
            username: "ann".to_owned(),
            password: "hunter2".to_owned(),
        };
        let (connection, _peer) = tokio::join!(Connection::open(&address, None, Some(&login)), refusing);
        let error = connection.unwrap_err();
        assert_eq!(error.reason(), ErrorReason::AccessDenied);
        let said = error.to_string();
        assert!(said.contains(if mechanism_refused { "[OTHER] and not PLAIN" } else { "away" }) && !said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_a_name_without_address_too() {
    let (listener, address) = listen().await;
    drop(listener);
    let nowhere = Address { host: "no-such-host.invalid".to_owned(), port: 9092 };
    for (address, said) in [(address, "refused"), (nowhere, "resolved")] {
        let error = Connection::open(&address, None, None).await.unwrap_err();
        assert_eq!(error.reason(), ErrorReason::Unreachable);
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn addresses_are_read() {
    let read = |text: &str| Address::parse(text).map(|address| address.to_string());
    assert_eq!(read("kafka:9092").as_deref(), Some("kafka:9092"));
    assert_eq!(read("[::1]:9092").as_deref(), Some("[::1]:9092"));
    for broken in ["kafka", "kafka:", ":9092", "kafka:99999"] {
        assert_eq!(read(broken), None, "{broken}");
    }
}
