//! A TCP proxy that fails on demand: an outage without stopping a server. It never drops or reorders bytes that it lets through.
#![expect(clippy::disallowed_methods, reason = "the accept loop and each connection are tasks of the proxy, ended with it")]

use std::io;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::ports;

/// How a proxy treats its connections, those that are open included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Lets everything through.
    Pass,
    /// Nobody listens: new connections are refused, open ones are closed.
    Refuse,
    /// Accepts, and lets no byte through in either direction; goes on where it was when the mode changes to [`Mode::Pass`].
    Hang,
    /// Accepts and resets; open ones are reset.
    Reset,
}

/// A proxy from an address of its own to a target; ends with its value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    listening: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of `bind`, and connects every connection to `target`.
    ///
    /// # Errors
    /// `bind` is not an address of this machine.
    pub async fn start(bind: IpAddr, target: SocketAddr) -> Result<Self> {
        let address = SocketAddr::new(bind, ports::free(bind)?);
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen at {address}"))?;
        let (mode, modes) = watch::channel(Mode::Pass);
        let (listens, listening) = watch::channel(true);
        let task = tokio::spawn(serve(listener, address, target, modes, listens));
        Ok(Self { address, mode, listening, task })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the mode; when this returns, new connections meet the new one.
    ///
    /// # Errors
    /// The port could not be bound again after [`Mode::Refuse`].
    pub async fn set(&mut self, mode: Mode) -> Result<()> {
        self.mode.send_replace(mode);
        let wanted = mode != Mode::Refuse;
        self.listening.wait_for(|listening| *listening == wanted).await.context("the proxy ended: its port is taken")?;
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts connections while the mode wants it. Ends if the port cannot be bound again.
async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    target: SocketAddr,
    mut modes: watch::Receiver<Mode>,
    listens: watch::Sender<bool>,
) {
    let mut listener = Some(listener);
    // Dropping the set ends the connections.
    let mut connections = JoinSet::new();
    loop {
        let mode = *modes.borrow_and_update();
        if mode == Mode::Refuse {
            listener = None;
        } else if listener.is_none() {
            let Ok(bound) = TcpListener::bind(address).await else { return };
            listener = Some(bound);
        }
        listens.send_replace(listener.is_some());
        tokio::select! {
            changed = modes.changed() => if changed.is_err() { return },
            accepted = accept(listener.as_ref()) => if let Ok((client, _)) = accepted {
                connections.spawn(connection(client, target, modes.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// One connection, until either side or the mode ends it. Its errors are what the two sides see.
async fn connection(mut client: TcpStream, target: SocketAddr, mut modes: watch::Receiver<Mode>) {
    let mut cuts = modes.clone();
    let cut = async move {
        let mode = cuts.wait_for(|mode| matches!(mode, Mode::Refuse | Mode::Reset)).await;
        mode.is_ok_and(|mode| *mode == Mode::Reset)
    };
    let reset = tokio::select! {
        reset = cut => reset,
        _ended = pass(&mut client, target, &mut modes) => false,
    };
    if reset {
        // The close that follows sends a reset. An error means that the client has closed first.
        let _ = client.set_zero_linger();
    }
}

/// Connects to the target once the mode lets it, and copies both directions until they end or one fails.
async fn pass(client: &mut TcpStream, target: SocketAddr, modes: &mut watch::Receiver<Mode>) -> io::Result<()> {
    if modes.wait_for(|mode| *mode == Mode::Pass).await.is_err() {
        return Ok(());
    }
    let mut server = TcpStream::connect(target).await?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(copy(from_client, to_server, modes.clone()), copy(from_server, to_client, modes.clone()))?;
    Ok(())
}

/// Copies one direction until its end, and holds back while the mode is not to pass.
async fn copy(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut modes: watch::Receiver<Mode>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if modes.wait_for(|mode| *mode == Mode::Pass).await.is_err() {
            return Ok(());
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

#[cfg(test)]
mod tests;
