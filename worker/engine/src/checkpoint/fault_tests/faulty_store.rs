//! A store in memory that misbehaves at one chosen request.
//! It never misbehaves by chance.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Notify;

/// What happens to the chosen request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::checkpoint) enum Fault {
    /// It fails, and did nothing.
    FailBefore,
    /// It is applied, and fails.
    LoseReply,
    /// The process dies before it.
    CrashBefore,
    /// The process dies after it, without the reply.
    CrashAfter,
    /// The process sleeps before it, until released.
    PauseBefore,
    /// The process sleeps before it gets the reply, until released.
    PauseAfter,
    /// A create is told of a conflict with an object that does not exist.
    PhantomConflict,
    /// A reply is cut short.
    CutReply,
    /// A bit of the reply is flipped.
    FlipReply,
    /// A listing comes back empty.
    EmptyListing,
    /// Not one request but all of them fail from here on, with 503.
    Outage,
    /// From here on nothing that is read is found, though it is listed.
    HideObjects,
    /// From here on a create overwrites.
    IgnoreCondition,
    /// From here on a conditional create is not implemented.
    NoCondition,
}

/// One process's view of a shared store.
#[derive(Clone)]
pub(in crate::checkpoint) struct FaultyStore {
    inner: Arc<InMemory>,
    state: Arc<State>,
}

struct State {
    plan: Option<(usize, Fault)>,
    requests: AtomicUsize,
    dead: AtomicBool,
    paused: Notify,
    released: Notify,
}

impl FaultyStore {
    pub(in crate::checkpoint) fn new(inner: Arc<InMemory>, plan: Option<(usize, Fault)>) -> Self {
        let state =
            State { plan, requests: AtomicUsize::new(0), dead: AtomicBool::new(false), paused: Notify::new(), released: Notify::new() };
        Self { inner, state: Arc::new(state) }
    }

    /// How many requests there were.
    pub(in crate::checkpoint) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Returns once the process sleeps.
    pub(in crate::checkpoint) async fn paused(&self) {
        self.state.paused.notified().await;
    }

    /// Wakes the process.
    pub(in crate::checkpoint) fn release(&self) {
        self.state.released.notify_one();
    }

    /// The fault of the next request, if it is the chosen one, or comes after it and the fault lasts.
    fn next_fault(&self) -> Option<Fault> {
        let number = self.state.requests.fetch_add(1, Ordering::SeqCst);
        let lasting = |fault| matches!(fault, Fault::Outage | Fault::HideObjects | Fault::IgnoreCondition | Fault::NoCondition);
        self.state.plan.filter(|(chosen, fault)| number == *chosen || (number > *chosen && lasting(*fault))).map(|(_, fault)| fault)
    }

    async fn around<T>(&self, fault: Option<Fault>, request: impl Future<Output = Result<T>>) -> Result<T> {
        if self.state.dead.load(Ordering::SeqCst) {
            return Err(crashed());
        }
        match fault {
            Some(Fault::FailBefore | Fault::Outage) => Err(unavailable()),
            Some(Fault::LoseReply) => request.await.and(Err(unavailable())),
            Some(Fault::CrashBefore) => {
                self.state.dead.store(true, Ordering::SeqCst);
                Err(crashed())
            }
            Some(Fault::CrashAfter) => {
                let _applied = request.await;
                self.state.dead.store(true, Ordering::SeqCst);
                Err(crashed())
            }
            Some(Fault::PauseBefore) => {
                self.pause().await;
                request.await
            }
            Some(Fault::PauseAfter) => {
                let reply = request.await;
                self.pause().await;
                reply
            }
            _ => request.await,
        }
    }

    async fn pause(&self) {
        self.state.paused.notify_one();
        self.state.released.notified().await;
    }

    fn listed(&self, objects: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, fault) = (self.clone(), self.next_fault());
        let listing = async move {
            let mut listed = store.around(fault, objects.try_collect::<Vec<_>>()).await?;
            if fault == Some(Fault::EmptyListing) {
                listed.clear();
            }
            Ok::<_, Error>(stream::iter(listed.into_iter().map(Ok)))
        };
        stream::once(listing).try_flatten().boxed()
    }
}

fn unavailable() -> Error {
    Error::Generic { store: "faulty", source: "Server returned non-2xx status code: 503 Service Unavailable: ".into() }
}

/// An error that nobody retries, so that the process ends here.
fn crashed() -> Error {
    Error::PermissionDenied { path: String::new(), source: "crashed".into() }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({:?})", self.state.plan)
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let fault = self.next_fault();
        match fault {
            Some(Fault::PhantomConflict) => return Err(Error::AlreadyExists { path: location.to_string(), source: "409".into() }),
            Some(Fault::IgnoreCondition) => options.mode = PutMode::Overwrite,
            Some(Fault::NoCondition) => {
                return Err(Error::NotImplemented { operation: "create".into(), implementer: self.to_string() });
            }
            _ => {}
        }
        self.around(fault, self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "multipart".into(), implementer: self.to_string() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.next_fault();
        let reply = self.around(fault, self.inner.get_opts(location, options)).await?;
        let damage: fn(&mut Vec<u8>) = match fault {
            Some(Fault::HideObjects) => return Err(Error::NotFound { path: location.to_string(), source: "404".into() }),
            Some(Fault::CutReply) => |bytes| bytes.truncate(bytes.len() / 2),
            Some(Fault::FlipReply) => |bytes| bytes.iter_mut().rev().take(1).for_each(|byte| *byte ^= 4),
            _ => return Ok(reply),
        };
        let (meta, range, attributes) = (reply.meta.clone(), reply.range.clone(), reply.attributes.clone());
        let mut bytes = reply.bytes().await?.to_vec();
        damage(&mut bytes);
        let payload = GetResultPayload::Stream(stream::once(async move { Ok(bytes.into()) }).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let deleted = locations.then(move |location| {
            let store = store.clone();
            async move {
                let location = location?;
                let fault = store.next_fault();
                store.around(fault, store.inner.delete(&location)).await.map(|()| location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: self.to_string() })
    }
}
