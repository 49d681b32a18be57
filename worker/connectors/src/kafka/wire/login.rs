//! The first words on a new connection: which versions the broker knows, and who we are (SASL). It sends no other request.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, ResponseHeader, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable as _, StrBytes};
use millrace_crds::connectors::kafka::SaslMechanism;
use tokio::io::AsyncWriteExt as _;

use super::error::Error;
use super::frame::CLIENT;
use super::identity::Login;
use super::requests::Request;
use super::scram::{Hash, Scram};
use super::stream::{self, Address, Stream};

/// What a broker says that does not know our version of the first question.
const UNSUPPORTED_VERSION: i16 = 35;

/// The versions of each request that a broker knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions(Vec<(i16, i16, i16)>);

impl Versions {
    fn of(response: &ApiVersionsResponse) -> Self {
        Self(response.api_keys.iter().map(|key| (key.api_key, key.min_version, key.max_version)).collect())
    }

    /// The newest version of a request that both know.
    pub(super) fn pick<R: Request>(&self, address: &Address) -> Result<i16, Error> {
        let theirs = self.0.iter().find(|(key, ..)| *key == R::KEY);
        let picked = theirs.map(|(_, oldest, newest)| (R::OLDEST.max(*oldest), R::NEWEST.min(*newest)));
        match picked {
            Some((oldest, newest)) if oldest <= newest => Ok(newest),
            _ => Err(Error::Version {
                address: address.clone(),
                request: R::NAME,
                theirs: theirs.map_or_else(|| "(none)".to_owned(), |(_, oldest, newest)| format!("{oldest} to {newest}")),
                ours: format!("{} to {}", R::OLDEST, R::NEWEST),
            }),
        }
    }
}

/// The correlation of an answer, whose first bytes it always is.
pub(super) fn correlation(frame: &[u8]) -> Option<i32> {
    frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
}

/// An answer without its head.
pub(super) fn decode<T: kafka_protocol::protocol::Decodable + kafka_protocol::protocol::HeaderVersion>(
    frame: &mut Bytes,
    version: i16,
    request: &'static str,
    address: &Address,
) -> Result<T, Error> {
    let read = ResponseHeader::decode(frame, T::header_version(version)).and_then(|_| T::decode(frame, version));
    read.map_err(|error| Error::Garbled { address: address.clone(), why: format!("the answer to {request} in version {version}: {error}") })
}

/// A connection before it has an owner: one question at a time.
pub(super) struct Greeting<'a> {
    pub(super) stream: &'a mut dyn Stream,
    pub(super) address: &'a Address,
    pub(super) hint: &'static str,
    correlation: i32,
    frames: stream::Frames,
}

impl<'a> Greeting<'a> {
    pub(super) fn new(stream: &'a mut dyn Stream, address: &'a Address, hint: &'static str) -> Self {
        Self { stream, address, hint, correlation: 0, frames: stream::Frames::default() }
    }

    async fn ask<R: Request>(&mut self, request: &R, version: i16) -> Result<Bytes, Error> {
        self.correlation -= 1;
        let lost = |error| stream::NoFrame::Io(error).at(self.address, self.hint);
        for piece in request.frame(version, self.correlation)? {
            self.stream.write_all(&piece).await.map_err(lost)?;
        }
        self.stream.flush().await.map_err(lost)?;
        let frame = self.frames.next(&mut self.stream).await.map_err(|error| error.at(self.address, self.hint))?;
        if correlation(&frame) != Some(self.correlation) {
            let why = format!("the answer to {} belongs to another question", R::NAME);
            return Err(Error::Garbled { address: self.address.clone(), why });
        }
        Ok(frame)
    }

    /// Which versions the broker knows.
    pub(super) async fn versions(&mut self) -> Result<Versions, Error> {
        let version = ApiVersionsRequest::NEWEST;
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(CLIENT))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut frame = self.ask(&request, version).await?;
        // An old broker answers as it can, whatever was asked.
        let is_too_new = frame.get(4..6) == Some(&UNSUPPORTED_VERSION.to_be_bytes()[..]);
        let version = if is_too_new { 0 } else { version };
        if is_too_new {
            frame = self.ask(&ApiVersionsRequest::default(), version).await?;
        }
        let response: ApiVersionsResponse = decode(&mut frame, version, ApiVersionsRequest::NAME, self.address)?;
        Error::refused(response.error_code, "")?;
        Ok(Versions::of(&response))
    }

    /// Logs in. Returns for how long that holds, if the broker says so.
    pub(super) async fn log_in(&mut self, login: &Login, versions: &Versions) -> Result<Option<Duration>, Error> {
        let (mechanism, hash) = match login.mechanism {
            SaslMechanism::Plain => ("PLAIN", None),
            SaslMechanism::ScramSha256 => ("SCRAM-SHA-256", Some(Hash::Sha256)),
            SaslMechanism::ScramSha512 => ("SCRAM-SHA-512", Some(Hash::Sha512)),
        };
        let address = self.address;
        let version = versions.pick::<SaslHandshakeRequest>(address)?;
        let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
        let mut frame = self.ask(&request, version).await?;
        let response: <SaslHandshakeRequest as Request>::Response = decode(&mut frame, version, SaslHandshakeRequest::NAME, address)?;
        if response.error_code != 0 {
            let offered: Vec<&str> = response.mechanisms.iter().map(StrBytes::as_str).collect();
            let why = format!("it takes the mechanisms [{}] and not {mechanism}: set sasl.mechanism", offered.join(", "));
            return Err(Error::Login { address: address.clone(), why });
        }
        let last = match hash {
            None => {
                let token = format!("\0{}\0{}", login.username, login.password);
                self.authenticate(token, versions).await?
            }
            Some(hash) => {
                let denied = |why| Error::Login { address: address.clone(), why };
                let nonce = format!("{:032x}", rand::random::<u128>());
                let scram = Scram::new(hash, &login.username, &login.password, nonce);
                let challenge = self.authenticate(scram.first(), versions).await?;
                let (proof, expected) = scram.prove(&text(&challenge)).map_err(denied)?;
                let last = self.authenticate(proof, versions).await?;
                expected.check(&text(&last)).map_err(denied)?;
                last
            }
        };
        let lifetime = u64::try_from(last.session_lifetime_ms).ok().filter(|millis| *millis > 0);
        Ok(lifetime.map(Duration::from_millis))
    }

    async fn authenticate(&mut self, token: String, versions: &Versions) -> Result<SaslAuthenticateResponse, Error> {
        let version = versions.pick::<SaslAuthenticateRequest>(self.address)?;
        let request = SaslAuthenticateRequest::default().with_auth_bytes(token.into_bytes().into());
        let mut frame = self.ask(&request, version).await?;
        let response: SaslAuthenticateResponse = decode(&mut frame, version, SaslAuthenticateRequest::NAME, self.address)?;
        if response.error_code != 0 {
            let said = response.error_message.as_ref().map_or("wrong user name or password", |said| said.as_str());
            return Err(Error::Login { address: self.address.clone(), why: said.to_owned() });
        }
        Ok(response)
    }
}

fn text(response: &SaslAuthenticateResponse) -> String {
    String::from_utf8_lossy(&response.auth_bytes).into_owned()
}
