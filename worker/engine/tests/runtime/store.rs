//! One process's view of the checkpoint store, which may fail, lose replies and be slow. It never damages what is stored.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use crate::process::{Dice, Process};
use crate::world::World;

/// How the store misbehaves towards one process.
#[derive(Debug)]
pub(crate) struct Chaos {
    pub(crate) dice: Dice,
    /// Requests in a thousand that something happens to.
    pub(crate) per_mille: usize,
}

impl Chaos {
    pub(crate) fn none() -> Self {
        Self { dice: Dice::new(0), per_mille: 0 }
    }
}

#[derive(Clone)]
pub(crate) struct WatchedStore {
    world: Arc<World>,
    process: Arc<Process>,
    chaos: Arc<Mutex<Chaos>>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Fault {
    FailBefore,
    LoseReply,
    Slow(Duration),
}

impl WatchedStore {
    pub(crate) fn new(world: Arc<World>, process: Arc<Process>, chaos: Chaos) -> Self {
        Self { world, process, chaos: Arc::new(Mutex::new(chaos)) }
    }

    fn inner(&self) -> &dyn ObjectStore {
        self.world.store.as_ref()
    }

    fn fault(&self) -> Option<Fault> {
        if self.world.store_is_down() {
            return Some(Fault::FailBefore);
        }
        let mut chaos = self.chaos.lock().unwrap();
        let hit = chaos.dice.below(1000) < chaos.per_mille;
        hit.then(|| match chaos.dice.below(3) {
            0 => Fault::FailBefore,
            1 => Fault::LoseReply,
            _ => Fault::Slow(Duration::from_millis(chaos.dice.below(8_000) as u64)),
        })
    }

    /// One request, with a step before it, and one after it if it changes something.
    async fn request<T>(&self, what: &str, writes: bool, request: impl Future<Output = Result<T>>) -> Result<T> {
        let before = if writes { format!("{what}: before") } else { what.to_owned() };
        self.process.step(&before).await;
        let fault = self.fault();
        match fault {
            Some(Fault::FailBefore) => return Err(unavailable()),
            Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
            _ => {}
        }
        let reply = request.await;
        if writes {
            self.process.step(&format!("{what}: after")).await;
        }
        if fault == Some(Fault::LoseReply) { Err(unavailable()) } else { reply }
    }

    fn listed(&self, objects: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let listing = async move {
            let listed = store.request("store: list", false, objects.try_collect::<Vec<_>>()).await?;
            Ok::<_, Error>(stream::iter(listed.into_iter().map(Ok)))
        };
        stream::once(listing).try_flatten().boxed()
    }
}

fn unavailable() -> Error {
    Error::Generic { store: "watched", source: "Server returned non-2xx status code: 503 Service Unavailable: ".into() }
}

fn kind(path: &Path) -> &str {
    path.as_ref().rsplit_once('.').map_or("other", |(_, kind)| kind)
}

impl fmt::Debug for WatchedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchedStore")
    }
}

impl fmt::Display for WatchedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchedStore")
    }
}

#[async_trait]
impl ObjectStore for WatchedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let bytes = Bytes::from(payload.clone());
        let put = async {
            let reply = self.inner().put_opts(location, payload, options).await;
            if reply.is_ok() {
                self.world.was_stored(location, &bytes);
            }
            reply
        };
        self.request(&format!("store: put {}", kind(location)), true, put).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "multipart".into(), implementer: self.to_string() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let what = if options.head { "store: head" } else { "store: get" };
        self.request(what, false, self.inner().get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let deleted = locations.then(move |location| {
            let store = store.clone();
            async move {
                let location = location?;
                store.request(&format!("store: delete {}", kind(&location)), true, store.inner().delete(&location)).await?;
                Ok(location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.inner().list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.inner().list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner().list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: self.to_string() })
    }
}
