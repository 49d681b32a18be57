//! The bytes between us and one broker: TCP or TLS, and frames with their length in front. It knows no message.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::Error;

/// No answer is longer: what says so is not Kafka. The largest batch of records that a topic takes must fit into it.
pub(super) const MAX_FRAME: usize = 128 << 20;

/// Where a broker listens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// From `host:port`, as the API server checks them; the host may be an IPv6 address in brackets.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.trim().rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok()?;
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(formatter, "[{}]:{}", self.host, self.port);
        }
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// Bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects. The caller bounds the time.
pub(super) async fn connect(address: &Address, tls: Option<&TlsConnector>) -> Result<Box<dyn Stream>, Error> {
    let unreachable = |why: String| Error::Unreachable { address: address.clone(), why };
    let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    let mut last = "the name has no address".to_owned();
    let mut connected = None;
    for place in found.map_err(|error| unreachable(format!("its name cannot be resolved: {error}")))? {
        match TcpStream::connect(place).await {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(error) => last = error.to_string(),
        }
    }
    let stream = connected.ok_or_else(|| unreachable(last))?;
    stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let failed = |why: String| Error::Tls { address: address.clone(), why };
    let name = ServerName::try_from(address.host.clone()).map_err(|error| failed(error.to_string()))?;
    match tls.connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(failed("the broker has closed the connection: this may not be a port for TLS".to_owned()))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Why there is no next frame.
#[derive(Debug)]
pub(super) enum NoFrame {
    /// The other side has closed the connection, between two frames.
    Closed,
    Io(io::Error),
    /// What comes is no frame.
    Length(u32),
}

/// The next frame, without its length.
pub(super) async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, NoFrame> {
    let mut length = [0; 4];
    let mut filled = 0;
    while filled < length.len() {
        match stream.read(&mut length[filled..]).await.map_err(NoFrame::Io)? {
            0 if filled == 0 => return Err(NoFrame::Closed),
            0 => return Err(NoFrame::Io(io::ErrorKind::UnexpectedEof.into())),
            read => filled += read,
        }
    }
    let length = u32::from_be_bytes(length);
    if length as usize > MAX_FRAME {
        return Err(NoFrame::Length(length));
    }
    let mut frame = BytesMut::with_capacity(length as usize);
    while frame.len() < length as usize {
        let left = length as usize - frame.len();
        if (&mut *stream).take(left as u64).read_buf(&mut frame).await.map_err(NoFrame::Io)? == 0 {
            return Err(NoFrame::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(frame.freeze())
}

impl NoFrame {
    /// As an error of the connection to `address`.
    pub(super) fn at(self, address: &Address, hint: &str) -> Error {
        let address = address.clone();
        match self {
            Self::Closed => Error::Lost { address, why: format!("the broker has closed it{hint}") },
            Self::Io(error) => Error::Lost { address, why: format!("{error}{hint}") },
            // The head of a TLS alert.
            Self::Length(length) if length >> 16 == 0x1503 => {
                Error::Garbled { address, why: "it speaks TLS on this port: set tls".to_owned() }
            }
            Self::Length(length) => {
                Error::Garbled { address, why: format!("an answer of {length} bytes is announced, and {MAX_FRAME} is the most") }
            }
        }
    }
}

/// How long connecting, and one question, may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
