//! Starts the servers and the cluster that the tests use, for work by hand, and leaves them running. It also packs the images.
//! It never touches what it did not start.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use millrace_tests::image::{self, Image, Profile};
use millrace_tests::servers::{Home, Kafka, LOOPBACK, Moto, OpenSearch, ports, process};
use millrace_tests::{cluster, installed};

#[derive(Parser)]
#[command(about = "The servers and the cluster of Millrace's tests")]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start them, unless they are running, and say where they are
    Up {
        /// What to start
        #[arg(default_value = "cluster")]
        what: Vec<What>,
    },
    /// Stop them and remove their data
    Down {
        /// What to stop; everything by default
        what: Vec<What>,
    },
    /// Say what is running
    Status,
    /// Pack the images of worker and operator, without a container engine
    Images {
        /// Compile as for a release
        #[arg(long)]
        release: bool,
        /// The tag, by default one that follows from the content
        #[arg(long)]
        tag: Option<String>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Cluster,
    Kafka,
    Opensearch,
    Moto,
}

impl What {
    const ALL: [Self; 4] = [Self::Cluster, Self::Kafka, Self::Opensearch, Self::Moto];

    fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Kafka => "kafka",
            Self::Opensearch => "opensearch",
            Self::Moto => "moto",
        }
    }

    /// Where a server keeps its data; the cluster knows that itself.
    fn folder(self) -> Result<PathBuf> {
        Ok(installed::cache()?.join("servers").join(self.name()))
    }

    fn running(self) -> Result<Vec<String>> {
        if self == Self::Cluster { cluster::status() } else { process::running(&self.folder()?) }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Action::Up { what } => {
            for what in what {
                up(what).await?;
            }
        }
        Action::Down { what } => {
            let what = if what.is_empty() { What::ALL.to_vec() } else { what };
            for what in what {
                down(what).await?;
            }
        }
        Action::Status => {
            for what in What::ALL {
                let running = what.running()?;
                say(&format!("{:<11} {}", what.name(), if running.is_empty() { "-".to_owned() } else { running.join(" ") }))?;
            }
        }
        Action::Images { release, tag } => images(if release { Profile::Release } else { Profile::Dev }, tag.as_deref())?,
    }
    Ok(())
}

async fn up(what: What) -> Result<()> {
    if what == What::Cluster {
        let kubeconfig = cluster::up().await?;
        return say(&format!("export KUBECONFIG={}", kubeconfig.display()));
    }
    let folder = what.folder()?;
    let address_file = folder.join("address");
    if process::running(&folder)?.is_empty() {
        process::end_all(&folder)?;
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let (home, port) = (Home::Kept(folder), ports::free(LOOPBACK)?);
        let address = SocketAddr::new(LOOPBACK, port);
        match what {
            What::Kafka => drop(Kafka::start_in(home, address, address).await?),
            What::Opensearch => drop(OpenSearch::start_in(home, LOOPBACK, port).await?),
            What::Moto => drop(Moto::start_in(home, LOOPBACK, port).await?),
            What::Cluster => {}
        }
        fs::write(&address_file, address.to_string()).context("write down the address")?;
    }
    let address = fs::read_to_string(&address_file).context("read the address; `down` and `up` again")?;
    say(&format!("{} {address}", what.name()))
}

async fn down(what: What) -> Result<()> {
    if what == What::Cluster {
        return cluster::down().await;
    }
    let folder = what.folder()?;
    process::end_all(&folder)?;
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}

fn images(profile: Profile, tag: Option<&str>) -> Result<()> {
    for image in Image::ALL {
        let archive = image::pack(image, profile, tag)?;
        let (size, compressed) = (megabytes(archive.size), megabytes(archive.compressed_size()?));
        say(&format!("{} {compressed:.1} MB compressed, {size:.1} MB unpacked: {}", archive.reference, archive.path.display()))?;
    }
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn say(line: &str) -> Result<()> {
    writeln!(io::stdout(), "{line}").context("print")
}
