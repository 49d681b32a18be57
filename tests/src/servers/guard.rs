//! A front of an HTTP server that lets in only who knows a password (Basic), and refuses the others as OpenSearch's security plugin does. It never changes what it lets through.
#![expect(clippy::disallowed_methods, reason = "the accept loop and each connection are tasks of the front, ended with it")]

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::ports;

/// The longest head of a request.
const LONGEST_HEAD: usize = 64 * 1024;
/// What the security plugin answers.
const REFUSAL: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"OpenSearch Security\"\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: 12\r\nConnection: close\r\n\r\nUnauthorized";

/// A front from an address of its own to a server; ends with its value.
#[derive(Debug)]
pub struct Guard {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Guard {
    /// Listens on a free port of `bind`, and lets requests of `user` with `password` through to `target`.
    ///
    /// # Errors
    /// `bind` is not an address of this machine.
    pub async fn start(bind: IpAddr, target: SocketAddr, user: &str, password: &str) -> Result<Self> {
        let address = SocketAddr::new(bind, ports::free(bind)?);
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen at {address}"))?;
        let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let task = tokio::spawn(async move {
            // Dropping the set ends the connections.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((client, _)) = accepted {
                        connections.spawn(connection(client, target, expected.clone()));
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address, task })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, until either side ends it or a request is refused. Its errors are what the two sides see.
async fn connection(client: TcpStream, target: SocketAddr, expected: String) -> Result<()> {
    let server = TcpStream::connect(target).await?;
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    let refused = tokio::select! {
        refused = requests(BufReader::new(from_client), to_server, &expected) => refused?,
        copied = tokio::io::copy(&mut from_server, &mut to_client) => { copied?; false }
    };
    if refused {
        to_client.write_all(REFUSAL).await?;
    }
    Ok(to_client.shutdown().await?)
}

/// Passes requests on, each after a look at its head; returns whether one was refused. Clients of HTTP/1.1 that wait for each answer need no more.
async fn requests(mut client: BufReader<OwnedReadHalf>, mut server: OwnedWriteHalf, expected: &str) -> Result<bool> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if client.read_until(b'\n', &mut head).await? == 0 {
                return Ok(false);
            }
            ensure!(head.len() < LONGEST_HEAD, "the head of a request is too long");
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let field = |name: &str| text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.eq_ignore_ascii_case(name));
        ensure!(field("transfer-encoding").is_none(), "bodies without a length are not passed on");
        let length = field("content-length").map_or(Ok(0), |(_, length)| length.trim().parse())?;
        if field("authorization").is_none_or(|(_, given)| given.trim() != expected) {
            // What is left unread would reset the connection before the refusal is read.
            tokio::io::copy(&mut (&mut client).take(length), &mut tokio::io::sink()).await?;
            return Ok(true);
        }
        server.write_all(&head).await?;
        tokio::io::copy(&mut (&mut client).take(length), &mut server).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LOOPBACK, http};
    use super::*;

    /// Answers every request with the length of its body, and keeps the connection.
    async fn server() -> Result<(SocketAddr, JoinHandle<Result<()>>)> {
        let listener = TcpListener::bind((LOOPBACK, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await?;
                tokio::spawn(async move {
                    let mut buffer = vec![0; 4096];
                    while let Ok(read) = stream.read(&mut buffer).await
                        && read > 0
                    {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                    }
                });
            }
        });
        Ok((address, task))
    }

    #[tokio::test]
    async fn lets_in_who_knows_the_password_and_refuses_the_others() -> Result<()> {
        let (target, serving) = server().await?;
        let guard = Guard::start(LOOPBACK, target, "ann", "right").await?;
        let client = http()?;
        // The same client, so the same connection: each request is looked at.
        for (password, status) in [("right", 200), ("wrong", 401), ("right", 200)] {
            let request = client.post(format!("http://{}/_bulk", guard.address())).basic_auth("ann", Some(password));
            assert_eq!(request.body("{}").send().await?.status().as_u16(), status, "{password}");
        }
        assert_eq!(client.get(format!("http://{}/", guard.address())).send().await?.status().as_u16(), 401);
        serving.abort();
        Ok(())
    }
}
