//! A proxy that knows requests, and kills the program that sends a given one: before the server has it, or after the server has answered and before the program
//! knows. So a program dies at a point between two writes that nobody in it had to prepare. It changes no request.
#![expect(clippy::disallowed_methods, reason = "the accept loop and each connection are tasks of the proxy, ended with it")]

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Requests larger than this are none.
const MOST: usize = 256 << 20;

/// How requests are told apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.1 without TLS: the kind of a request is its method, what it holds its first line.
    Http,
    /// Kafka without TLS: the kind is the name of the request, what it holds all its bytes.
    Kafka,
}

/// When the program is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// The server never sees the request.
    Before,
    /// The server has carried it out, and its answer does not arrive.
    After,
}

/// A request to wait for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wire {
    /// `PUT`, `EndTxn`.
    pub kind: &'static str,
    /// What has to be in it; empty for any.
    pub holds: &'static str,
    /// Which one, from when the wire is drawn: 1 is the first.
    pub nth: u32,
    /// When the program is killed.
    pub when: When,
}

#[derive(Debug)]
struct Drawn {
    wire: Wire,
    process: u32,
    seen: u32,
}

#[derive(Debug)]
struct Shared {
    protocol: Protocol,
    target: SocketAddr,
    drawn: Mutex<Option<Drawn>>,
    /// How often a program was killed.
    sprung: watch::Sender<u32>,
}

/// A proxy to a server; ends with its value.
#[derive(Debug)]
pub struct Tripwire {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Tripwire {
    /// Listens at `address`, and connects every connection to `target`.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(address: SocketAddr, target: SocketAddr, protocol: Protocol) -> Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen at {address}"))?;
        let shared = Arc::new(Shared { protocol, target, drawn: Mutex::default(), sprung: watch::Sender::new(0) });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Draws the wire: `process` is killed by it, whichever program sends the request. One at a time.
    pub fn draw(&self, wire: Wire, process: u32) {
        *self.shared.drawn() = Some(Drawn { wire, process, seen: 0 });
    }

    /// Waits until a wire that was drawn has killed a program; `before` is what this returned the time before, 0 at first.
    ///
    /// # Errors
    /// The proxy has ended.
    pub async fn sprung(&self, before: u32) -> Result<u32> {
        let mut sprung = self.shared.sprung.subscribe();
        Ok(*sprung.wait_for(|count| *count > before).await.context("the proxy has ended")?)
    }
}

impl Drop for Tripwire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn drawn(&self) -> MutexGuard<'_, Option<Drawn>> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this request is the one, and whose end it is.
    fn trips(&self, request: &[u8]) -> Option<(When, u32)> {
        let mut drawn = self.drawn();
        let one = drawn.as_mut().filter(|drawn| self.protocol.is(request, drawn.wire.kind, drawn.wire.holds))?;
        one.seen += 1;
        if one.seen < one.wire.nth {
            return None;
        }
        let found = (one.wire.when, one.process);
        *drawn = None;
        Some(found)
    }

    fn kill(&self, process: u32) {
        let killed = std::process::Command::new("kill").args(["-KILL", &process.to_string()]).status();
        if killed.is_ok_and(|status| status.success()) {
            self.sprung.send_modify(|count| *count += 1);
        }
    }
}

impl Protocol {
    fn is(self, request: &[u8], kind: &str, holds: &str) -> bool {
        let (found, content) = match self {
            Self::Http => {
                let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
                let method = line.split(|byte| *byte == b' ').next().unwrap_or_default();
                (method == kind.as_bytes(), line)
            }
            Self::Kafka => (request.get(4..6).is_some_and(|key| name(i16::from_be_bytes([key[0], key[1]])) == kind), request),
        };
        found && (holds.is_empty() || content.windows(holds.len()).any(|part| part == holds.as_bytes()))
    }
}

/// The names of Kafka's requests that tests wait for, by their keys: <https://kafka.apache.org/protocol#protocol_api_keys>.
fn name(key: i16) -> &'static str {
    match key {
        0 => "Produce",
        1 => "Fetch",
        8 => "OffsetCommit",
        22 => "InitProducerId",
        24 => "AddPartitionsToTxn",
        26 => "EndTxn",
        _ => "",
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropping the set ends the connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                let shared = Arc::clone(&shared);
                connections.spawn(async move { connection(client, &shared).await });
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection. Its errors are what the two sides see.
async fn connection(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut server = TcpStream::connect(shared.target).await?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let awaited = Awaited::default();
    let awaited = &awaited;
    tokio::select! {
        ended = requests(from_client, to_server, shared, awaited) => ended,
        ended = answers(from_server, to_client, shared, awaited) => ended,
    }
}

/// The process to kill when an answer comes; of Kafka's, the one with this number.
type Awaited = Mutex<Option<(Option<[u8; 4]>, u32)>>;

async fn requests(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, shared: &Shared, awaited: &Awaited) -> io::Result<()> {
    let mut read = Vec::new();
    loop {
        let length = loop {
            if let Some(length) = whole(&read, shared.protocol)? {
                break length;
            }
            if from.read_buf(&mut read).await? == 0 {
                return to.shutdown().await;
            }
        };
        let request: Vec<u8> = read.drain(..length).collect();
        match shared.trips(&request) {
            None => {}
            Some((When::Before, process)) => {
                shared.kill(process);
                return Ok(());
            }
            Some((When::After, process)) => {
                let number = (shared.protocol == Protocol::Kafka).then(|| request.get(8..12)?.try_into().ok()).flatten();
                *awaited.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, process));
            }
        }
        to.write_all(&request).await?;
    }
}

async fn answers(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, shared: &Shared, awaited: &Awaited) -> io::Result<()> {
    let mut read = Vec::new();
    loop {
        if from.read_buf(&mut read).await? == 0 {
            return to.shutdown().await;
        }
        loop {
            // Answers of HTTP need not be told apart: there is one at a time.
            let length = match shared.protocol {
                Protocol::Http => (!read.is_empty()).then_some(read.len()),
                Protocol::Kafka => whole(&read, Protocol::Kafka)?,
            };
            let Some(length) = length else { break };
            let answer: Vec<u8> = read.drain(..length).collect();
            let is_it = |(number, _): &mut (Option<[u8; 4]>, u32)| number.is_none_or(|number| answer.get(4..8) == Some(&number[..]));
            let found = awaited.lock().unwrap_or_else(PoisonError::into_inner).take_if(is_it);
            if let Some((_, process)) = found {
                shared.kill(process);
                return Ok(());
            }
            to.write_all(&answer).await?;
        }
    }
}

/// Bytes of the first request, if it is there as a whole.
fn whole(read: &[u8], protocol: Protocol) -> io::Result<Option<usize>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let length = match protocol {
        Protocol::Kafka => {
            let Some(length) = read.first_chunk::<4>() else { return Ok(None) };
            usize::try_from(i32::from_be_bytes(*length)).map_err(|_| wrong("a negative length"))? + 4
        }
        Protocol::Http => {
            let Some(end) = read.windows(4).position(|part| part == b"\r\n\r\n") else { return Ok(None) };
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            if head.contains("\r\ntransfer-encoding:") {
                return Err(wrong("a body of unknown length"));
            }
            let body =
                head.split("\r\n").find_map(|line| line.strip_prefix("content-length:")).map_or(Ok(0), |text| text.trim().parse::<usize>());
            end + 4 + body.map_err(|_| wrong("a length that is no number"))?
        }
    };
    if length > MOST { Err(wrong("a request that is too long")) } else { Ok((read.len() >= length).then_some(length)) }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;
    use crate::servers::LOOPBACK;

    /// A server that answers each request of HTTP; what it was asked.
    async fn server() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let lines = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let lines = Arc::clone(&lines);
                tokio::spawn(async move {
                    let mut read = Vec::new();
                    while stream.read_buf(&mut read).await.is_ok_and(|count| count > 0) {
                        while let Ok(Some(length)) = whole(&read, Protocol::Http) {
                            let request: Vec<u8> = read.drain(..length).collect();
                            let line = String::from_utf8_lossy(&request).lines().next().unwrap().to_owned();
                            lines.lock().unwrap().push(line);
                            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                        }
                    }
                });
            }
        });
        (address, asked)
    }

    async fn ask(stream: &mut TcpStream, line: &str) -> io::Result<usize> {
        stream.write_all(format!("{line} HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").as_bytes()).await?;
        stream.read(&mut [0; 100]).await
    }

    #[tokio::test]
    async fn a_program_dies_before_or_after_its_request() {
        for (when, arrived) in [(When::Before, 2), (When::After, 3)] {
            let (target, asked) = server().await;
            let address = SocketAddr::new(LOOPBACK, crate::servers::ports::free(LOOPBACK).unwrap());
            let wire = Tripwire::start(address, target, Protocol::Http).await.unwrap();
            let mut victim = tokio::process::Command::new("sleep").arg("600").stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap();
            wire.draw(Wire { kind: "PUT", holds: ".record", nth: 2, when }, victim.id().unwrap());
            let mut client = TcpStream::connect(wire.address()).await.unwrap();
            assert!(ask(&mut client, "PUT /1.record").await.unwrap() > 0, "the first one passes");
            assert!(ask(&mut client, "PUT /1.committed").await.unwrap() > 0, "so does another one");
            assert!(!ask(&mut client, "PUT /2.record").await.is_ok_and(|count| count > 0), "no answer");
            wire.sprung(0).await.unwrap();
            assert!(!victim.wait().await.unwrap().success());
            assert_eq!(asked.lock().unwrap().len(), arrived, "{when:?}");
        }
    }

    #[test]
    fn requests_of_kafka_are_known_by_their_key() {
        let mut request = 14_i32.to_be_bytes().to_vec();
        request.extend([0, 26, 0, 4, 0, 0, 0, 9]);
        request.extend(b"txn-id");
        assert_eq!(whole(&request[..17], Protocol::Kafka).unwrap(), None);
        assert_eq!(whole(&request, Protocol::Kafka).unwrap(), Some(18));
        assert!(Protocol::Kafka.is(&request, "EndTxn", "txn-id") && Protocol::Kafka.is(&request, "EndTxn", ""));
        assert!(!Protocol::Kafka.is(&request, "Produce", "") && !Protocol::Kafka.is(&request, "EndTxn", "other"));
        assert!(whole(&[0xff; 8], Protocol::Kafka).is_err());
    }
}
