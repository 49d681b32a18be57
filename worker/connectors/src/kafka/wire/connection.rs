//! One connection to one broker: requests go out in order, several under way, and answers come back in that order. It retries nothing.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, HeaderVersion};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::error::Error;
use super::frame::Frame;
use super::identity::Login;
use super::login::{self, Greeting, Versions};
use super::requests::Request;
use super::stream::{self, Address, Frames, NoFrame, PATIENCE, Stream};

/// What is said where a connection ends before anything was answered, and TLS or a login might be missing.
const BARE_HINT: &str = " before it answered: it may want TLS or a login (set tls or sasl)";
const LOGGED_IN_HINT: &str = " before it answered: this may be a port for TLS (set tls), or the login may have failed";
/// The longest that a broker is believed when it says that it answers nothing for a while: the connection may be half open.
const LONGEST_HOLD: Duration = Duration::from_secs(120);

/// A connection, for as long as somebody holds it or waits for an answer.
#[derive(Clone, Debug)]
pub(crate) struct Connection(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    address: Address,
    versions: Versions,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    correlation: AtomicI32,
    /// Why it is over.
    ended: Arc<OnceLock<Error>>,
    /// When the login is over.
    expires: Option<Instant>,
    /// Until when the broker answers nothing, as it has said.
    held: Mutex<Option<Instant>>,
    task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Outgoing {
    frame: Frame,
    correlation: i32,
    answer: oneshot::Sender<Bytes>,
}

/// An answer that is on its way. The request has been sent, and will be carried out whether this is waited for or not.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    connection: Arc<Shared>,
    frame: oneshot::Receiver<Bytes>,
    version: i16,
    request: &'static str,
    deadline: Instant,
    patience: Duration,
    response: PhantomData<fn() -> T>,
}

impl Connection {
    /// Connects, asks which versions the broker knows, and logs in.
    pub(crate) async fn open(address: &Address, tls: Option<&TlsConnector>, login: Option<&Login>) -> Result<Self, Error> {
        let opening = async {
            let mut stream = stream::connect(address, tls).await?;
            let hint = if login.is_some() { LOGGED_IN_HINT } else { BARE_HINT };
            let mut greeting = Greeting::new(&mut *stream, address, hint);
            let versions = greeting.versions().await?;
            let lifetime = match login {
                None => None,
                Some(login) => greeting.log_in(login, &versions).await?,
            };
            Ok((stream, versions, lifetime))
        };
        let seconds = PATIENCE.as_secs();
        let (stream, versions, lifetime) = timeout(PATIENCE, opening).await.unwrap_or_else(|_elapsed| {
            Err(Error::Unreachable { address: address.clone(), why: format!("not connected within {seconds} s") })
        })?;
        // A login that is about to end is not used any more.
        let expires = lifetime.map(|lifetime| Instant::now() + lifetime.mul_f64(0.85));
        Ok(Self::start(stream, address.clone(), versions, expires, login.is_none()))
    }

    #[expect(clippy::disallowed_methods, reason = "the task ends with the connection, which owns it")]
    fn start(stream: Box<dyn Stream>, address: Address, versions: Versions, expires: Option<Instant>, is_bare: bool) -> Self {
        let (outgoing, queue) = mpsc::unbounded_channel();
        let ended = Arc::new(OnceLock::new());
        let hint = if is_bare { BARE_HINT } else { "" };
        let task = AbortOnDropHandle::new(tokio::spawn(carry(stream, queue, Arc::clone(&ended), address.clone(), hint)));
        let (correlation, held) = (AtomicI32::new(0), Mutex::default());
        Self(Arc::new(Shared { address, versions, outgoing, correlation, ended, expires, held, task }))
    }

    /// Whether requests can be sent. One that says so may be over a moment later.
    pub(crate) fn is_open(&self) -> bool {
        self.0.ended.get().is_none() && !self.0.outgoing.is_closed() && self.0.expires.is_none_or(|at| Instant::now() < at)
    }

    /// Why no more requests can be sent.
    pub(crate) fn lost(&self) -> Error {
        self.0.reason()
    }

    /// The version in which requests of a kind are sent.
    pub(crate) fn version<R: Request>(&self) -> Result<i16, Error> {
        self.0.versions.pick::<R>(&self.0.address)
    }

    /// Sends a request now, behind all that were sent before.
    pub(crate) fn send<R: Request>(&self, request: &R) -> Result<Answer<R::Response>, Error> {
        self.send_patiently(request, PATIENCE)
    }

    /// As [`Connection::send`], for what may take its time: the broker is given up after `patience`.
    pub(crate) fn send_patiently<R: Request>(&self, request: &R, patience: Duration) -> Result<Answer<R::Response>, Error> {
        self.send_as(request, self.version::<R>()?, patience)
    }

    /// As above, in a version of which the caller knows that it can be sent.
    pub(crate) fn send_as<R: Request>(&self, request: &R, version: i16, patience: Duration) -> Result<Answer<R::Response>, Error> {
        let correlation = self.0.correlation.fetch_add(1, Ordering::Relaxed);
        let frame = request.frame(version, correlation)?;
        let (sender, receiver) = oneshot::channel();
        let outgoing = Outgoing { frame, correlation, answer: sender };
        self.0.outgoing.send(outgoing).map_err(|_closed| self.0.reason())?;
        Ok(Answer {
            connection: Arc::clone(&self.0),
            frame: receiver,
            version,
            request: R::NAME,
            deadline: Instant::now() + patience,
            patience,
            response: PhantomData,
        })
    }

    /// The broker answers nothing for a while, as it has said: that is no silence.
    pub(crate) fn hold(&self, throttled: Duration) {
        if !throttled.is_zero() {
            let until = Instant::now() + throttled.min(LONGEST_HOLD);
            let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
            *held = (*held).max(Some(until));
        }
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn call<R: Request>(&self, request: &R) -> Result<R::Response, Error> {
        self.send(request)?.wait().await
    }
}

impl Shared {
    fn held(&self) -> Option<Instant> {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reason(&self) -> Error {
        let unknown = || Error::Lost { address: self.address.clone(), why: "its login has ended".to_owned() };
        self.ended.get().cloned().unwrap_or_else(unknown)
    }
}

impl<T: Decodable + HeaderVersion> Answer<T> {
    /// Waits for the answer. Cancel-safe: what was dropped can be called again. Not to be called after it has returned.
    pub(crate) async fn wait(&mut self) -> Result<T, Error> {
        let connection = &self.connection;
        loop {
            let held = connection.held();
            let deadline = held.map_or(self.deadline, |until| self.deadline.max(until + self.patience));
            return match timeout_at(deadline, &mut self.frame).await {
                Ok(Ok(mut frame)) => login::decode(&mut frame, self.version, self.request, &connection.address),
                Ok(Err(_ended)) => Err(connection.reason()),
                Err(_elapsed) if connection.held() > held => continue,
                // Whatever was asked later waits behind this: nobody will be answered here.
                Err(_elapsed) => {
                    let seconds = self.patience.as_secs();
                    let error = Error::Silent { address: connection.address.clone(), request: self.request, seconds };
                    let _first = connection.ended.set(error.clone());
                    connection.task.abort();
                    Err(error)
                }
            };
        }
    }
}

/// Those who wait for answers, in the order of their requests.
type Waiting = Mutex<VecDeque<(i32, oneshot::Sender<Bytes>)>>;

/// Carries requests out and answers back, until either side ends.
async fn carry(
    stream: Box<dyn Stream>,
    mut queue: mpsc::UnboundedReceiver<Outgoing>,
    ended: Arc<OnceLock<Error>>,
    address: Address,
    hint: &'static str,
) {
    let (reader, writer) = tokio::io::split(stream);
    let waiting = Waiting::default();
    let error = tokio::select! {
        error = write(writer, &mut queue, &waiting) => NoFrame::Io(error).at(&address, ""),
        error = read(reader, &waiting, &address, hint) => error,
    };
    // Known before anybody is told: dropping `waiting` and `queue` tells them.
    let _first = ended.set(error);
}

async fn write(
    mut writer: tokio::io::WriteHalf<Box<dyn Stream>>,
    queue: &mut mpsc::UnboundedReceiver<Outgoing>,
    waiting: &Waiting,
) -> std::io::Error {
    while let Some(Outgoing { frame, correlation, answer }) = queue.recv().await {
        waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back((correlation, answer));
        let written = async {
            for piece in &frame {
                writer.write_all(piece).await?;
            }
            writer.flush().await
        };
        if let Err(error) = written.await {
            return error;
        }
    }
    // Nobody can ask any more, so nobody is left: the task is ended by whoever let go last.
    std::future::pending().await
}

async fn read(mut reader: tokio::io::ReadHalf<Box<dyn Stream>>, waiting: &Waiting, address: &Address, mut hint: &'static str) -> Error {
    let mut frames = Frames::default();
    loop {
        let frame = match frames.next(&mut reader).await {
            Ok(frame) => frame,
            Err(error) => return error.at(address, hint),
        };
        hint = "";
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match next {
            Some((correlation, answer)) if login::correlation(&frame) == Some(correlation) => {
                // Who does not wait any more has left its place all the same.
                let _nobody = answer.send(frame);
            }
            _ => return Error::Garbled { address: address.clone(), why: "an answer belongs to no question".to_owned() },
        }
    }
}
