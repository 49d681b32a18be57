//! The bytes between us and one broker: TCP or TLS, and frames with their length in front. It knows no message.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
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

/// What is read at a time of frames that are short: most answers come with one read, and none is waited for.
const AHEAD: usize = 8 << 10;

/// Frames as they come.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Read, and not given out.
    ahead: BytesMut,
}

impl Frames {
    /// The next one, without its length. A dropped call may lose bytes.
    pub(super) async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, NoFrame> {
        while self.ahead.len() < size_of::<u32>() {
            self.ahead.reserve(AHEAD - self.ahead.len());
            if (&mut *stream).take((AHEAD - self.ahead.len()) as u64).read_buf(&mut self.ahead).await.map_err(NoFrame::Io)? == 0 {
                return Err(if self.ahead.is_empty() { NoFrame::Closed } else { unfinished() });
            }
        }
        let length = self.ahead.get_u32();
        if length as usize > MAX_FRAME {
            return Err(NoFrame::Length(length));
        }
        // Memory of its own: what is kept of a short one does not keep others.
        let mut frame = BytesMut::with_capacity(length as usize);
        frame.extend_from_slice(&self.ahead.split_to(self.ahead.len().min(length as usize)));
        while frame.len() < length as usize {
            let left = length as usize - frame.len();
            if (&mut *stream).take(left as u64).read_buf(&mut frame).await.map_err(NoFrame::Io)? == 0 {
                return Err(unfinished());
            }
        }
        Ok(frame.freeze())
    }
}

fn unfinished() -> NoFrame {
    NoFrame::Io(io::ErrorKind::UnexpectedEof.into())
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

#[cfg(test)]
mod tests {
    use tokio_util::io::StreamReader;

    use super::*;

    /// Gives these pieces, one with each read.
    fn pieces(pieces: &[&[u8]]) -> impl AsyncRead + Unpin + use<> {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok::<_, io::Error>(Bytes::copy_from_slice(piece))).collect();
        StreamReader::new(futures::stream::iter(pieces))
    }

    fn framed(length: usize) -> Vec<u8> {
        let body = (0..length).map(|n| n as u8);
        u32::try_from(length).unwrap().to_be_bytes().into_iter().chain(body).collect()
    }

    #[tokio::test]
    async fn frames_come_whole_and_apart_however_they_are_cut() {
        let lengths = [0, 3, AHEAD - 8, AHEAD, 5, 3 * AHEAD, 1];
        let sent: Vec<u8> = lengths.iter().flat_map(|length| framed(*length)).collect();
        for cut in [1, 5, AHEAD - 1, AHEAD, AHEAD + 1, sent.len()] {
            let (mut stream, mut frames) = (pieces(&sent.chunks(cut).collect::<Vec<_>>()), Frames::default());
            for length in lengths {
                assert!(frames.next(&mut stream).await.unwrap() == framed(length)[4..], "{length} in pieces of {cut}");
            }
            assert!(matches!(frames.next(&mut stream).await, Err(NoFrame::Closed)));
        }
    }

    #[tokio::test]
    async fn an_end_within_a_frame_is_told_from_one_between_two() {
        for cut in [1, 4, 9] {
            let mut stream = pieces(&[&framed(10)[..cut]]);
            assert!(matches!(Frames::default().next(&mut stream).await, Err(NoFrame::Io(_))), "after {cut}");
        }
        let mut stream = pieces(&[&0x1503_0301_u32.to_be_bytes()]);
        assert!(matches!(Frames::default().next(&mut stream).await, Err(NoFrame::Length(0x1503_0301))));
    }
}
