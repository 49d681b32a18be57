//! A tier for state that has no room in memory: bytes by name, of no use after the process. It knows no state, and never grows beyond its bound.

use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where bytes are put that come back soon, such as a folder of the local disk. Called from threads that may block.
///
/// What [`Tier::put`] has taken, [`Tier::get`] MUST give back until [`Tier::delete`]; nothing has to outlive the process. A name is put once.
pub trait Tier: Send + Sync {
    /// Keeps bytes under a name.
    ///
    /// # Errors
    /// If they cannot be kept; then nothing is left of them.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// The bytes of a name.
    ///
    /// # Errors
    /// If they cannot be had.
    fn get(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Forgets a name.
    ///
    /// # Errors
    /// If what it takes cannot be freed.
    fn delete(&self, name: &str) -> io::Result<()>;
}

/// The room that all tasks of a process share in a tier.
pub struct SpillSpace {
    tier: Box<dyn Tier>,
    limit: u64,
    used: AtomicU64,
    next: AtomicU64,
}

/// Bytes in a tier; deleted with the last that knows them.
pub(super) struct Spilled {
    space: Arc<SpillSpace>,
    name: String,
    length: u64,
    checksum: u64,
}

/// Why state could not be put aside or brought back.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// There is no more room.
    #[error(
        "state that has no room in memory would take {wanted} bytes of the disk, limits.maxSpillBytes allows {limit}: raise it, or keep less: shorter windows \
         or intervals, fewer keys, a shorter state.ttlSeconds"
    )]
    Full {
        /// With what is there.
        wanted: u64,
        /// The bound.
        limit: u64,
    },
    /// The tier has failed.
    #[error("state that has no room in memory cannot be {doing} disk: the task goes on from its last epoch")]
    Failed {
        /// What was done with it.
        doing: &'static str,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// It has given back something else.
    #[error("state that was put aside came back damaged ({detail}): the task goes on from its last epoch; have a look at the disk")]
    Damaged {
        /// What is wrong with it.
        detail: String,
    },
    /// State that cannot be put into a file. A defect.
    #[error("state cannot be encoded: {0}")]
    Encode(String),
}

impl SpillSpace {
    /// At most so many bytes of a tier that holds nothing.
    #[must_use]
    pub fn new(tier: Box<dyn Tier>, limit: u64) -> Self {
        Self { tier, limit, used: AtomicU64::new(0), next: AtomicU64::new(0) }
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Keeps bytes.
    pub(super) fn put(self: &Arc<Self>, bytes: &[u8]) -> Result<Spilled, Error> {
        let length = bytes.len() as u64;
        let wanted = self.used.fetch_add(length, Ordering::Relaxed) + length;
        if wanted > self.limit {
            self.used.fetch_sub(length, Ordering::Relaxed);
            return Err(Error::Full { wanted, limit: self.limit });
        }
        let name = format!("{:016x}.state", self.next.fetch_add(1, Ordering::Relaxed));
        if let Err(source) = self.tier.put(&name, bytes) {
            self.used.fetch_sub(length, Ordering::Relaxed);
            return Err(Error::Failed { doing: "written to", source });
        }
        Ok(Spilled { space: Arc::clone(self), name, length, checksum: checksum(bytes) })
    }
}

impl std::fmt::Debug for SpillSpace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SpillSpace").field("limit", &self.limit).field("used", &self.used).finish_non_exhaustive()
    }
}

impl Spilled {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The bytes, as they were put there.
    pub(super) fn get(&self) -> Result<Vec<u8>, Error> {
        let bytes = self.space.tier.get(&self.name).map_err(|source| Error::Failed { doing: "read from", source })?;
        if checksum(&bytes) != self.checksum {
            return Err(Error::Damaged { detail: format!("{} is not what was written", self.name) });
        }
        Ok(bytes)
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        let deleted = self.space.tier.delete(&self.name);
        // What somebody else has deleted takes no room either.
        match deleted.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }) {
            Ok(()) => drop(self.space.used.fetch_sub(self.length, Ordering::Relaxed)),
            // What it takes stays counted.
            Err(error) => tracing::warn!(name = self.name, %error, "a file of state that is not needed any more cannot be deleted"),
        }
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;

    /// A tier in memory, which breaks when it is told to.
    #[derive(Clone, Default)]
    pub(in crate::runtime) struct Memory {
        pub(in crate::runtime) files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
        pub(in crate::runtime) broken: Arc<Mutex<bool>>,
    }

    impl Memory {
        fn check(&self) -> io::Result<()> {
            if *self.broken.lock().unwrap() { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
        }
    }

    impl Tier for Memory {
        fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
            self.check()?;
            assert!(self.files.lock().unwrap().insert(name.to_owned(), bytes.to_vec()).is_none());
            Ok(())
        }

        fn get(&self, name: &str) -> io::Result<Vec<u8>> {
            self.check()?;
            self.files.lock().unwrap().get(name).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        }

        fn delete(&self, name: &str) -> io::Result<()> {
            self.files.lock().unwrap().remove(name).map(drop).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        }
    }

    #[test]
    fn a_tier_is_bounded_and_forgets_what_nobody_knows() {
        let memory = Memory::default();
        let space = Arc::new(SpillSpace::new(Box::new(memory.clone()), 10));
        let first = space.put(b"123456").unwrap();
        let error = space.put(b"12345").err().unwrap();
        assert!(error.to_string().contains("11 bytes of the disk, limits.maxSpillBytes allows 10"), "{error}");
        assert_eq!((space.used(), first.get().unwrap()), (6, b"123456".to_vec()));
        drop(first);
        assert_eq!((space.used(), memory.files.lock().unwrap().len()), (0, 0));
        let deleted = space.put(b"1234").unwrap();
        memory.files.lock().unwrap().clear();
        drop(deleted);
        assert_eq!(space.used(), 0, "what somebody else has deleted takes no room");
    }

    #[test]
    fn what_fails_or_is_damaged_is_said() {
        let memory = Memory::default();
        let space = Arc::new(SpillSpace::new(Box::new(memory.clone()), 10));
        let file = space.put(b"123456").unwrap();
        memory.files.lock().unwrap().values_mut().for_each(|bytes| bytes[2] ^= 1);
        assert!(matches!(file.get(), Err(Error::Damaged { .. })));
        *memory.broken.lock().unwrap() = true;
        assert!(matches!(file.get(), Err(Error::Failed { doing: "read from", .. })));
        assert!(matches!(space.put(b"1"), Err(Error::Failed { doing: "written to", .. })));
        assert_eq!(space.used(), 6);
    }
}
