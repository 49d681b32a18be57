//! Real servers for tests, one file each. None of them outlives the test that started it, unless it was asked to stay.
//!
//! Each starts on free ports of the address it is given (loopback by default), in a folder of its own, with a small heap;
//! `start` returns when the server answers. `stop` and `start_again` make an outage with the same port and the same data
//! (moto keeps nothing on disk). Where a test must cut the connection rather than the server, put a [`proxy::Proxy`] in between;
//! where the program has to die between two requests, a [`tripwire::Tripwire`].

pub mod brokers;
pub mod etcd;
pub mod guard;
pub mod guarded_kafka;
pub mod kafka;
pub mod moto;
pub mod opensearch;
pub mod ports;
pub mod process;
pub mod proxy;
mod reaper;
pub mod tripwire;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

pub use self::brokers::Brokers;
pub use self::etcd::Etcd;
pub use self::guard::Guard;
pub use self::guarded_kafka::GuardedKafka;
pub use self::kafka::Kafka;
pub use self::moto::Moto;
pub use self::opensearch::OpenSearch;
pub use self::proxy::Proxy;
pub use self::tripwire::Tripwire;

/// The address that servers bind unless they are told another one.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How long a server may take until it answers, on a machine that is busy compiling.
pub(crate) const START_DEADLINE: Duration = Duration::from_mins(2);

/// The folder of one server: gone with it, or kept for one that outlives the process.
#[derive(Debug)]
pub enum Home {
    /// Removed when the server is dropped.
    Temporary(tempfile::TempDir),
    /// Left where it is; its server stays too.
    Kept(PathBuf),
}

impl Home {
    /// A new folder that is removed with the server.
    ///
    /// # Errors
    /// The folder for temporary files cannot be written.
    pub fn temporary(name: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(&format!("millrace-{name}-")).tempdir();
        Ok(Self::Temporary(folder.context("make a temporary folder")?))
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(path) => path,
        }
    }

    fn lifetime(&self) -> process::Lifetime {
        match self {
            Self::Temporary(_) => process::Lifetime::Owned,
            Self::Kept(_) => process::Lifetime::Detached,
        }
    }
}

/// A client for health checks that ignores the proxies of the machine.
pub(crate) fn http() -> Result<reqwest::Client> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10));
    client.build().context("build an HTTP client")
}
