//! The images of worker and operator, made from their Dockerfiles without a container engine. They are never pushed anywhere.
//!
//! The last stage of a Dockerfile says how the image runs, `tests/images/rootfs.sh` says which files it holds; this module
//! follows both, so that there is one recipe. The archive has the form that `docker load`, `ctr images import` and
//! `kind load image-archive` take, and depends on nothing but the files: no time, no owner, no order of a directory.

mod archive;
mod recipe;
mod tar;

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;

pub use self::archive::write as write_archive;
pub use self::recipe::Config;
use crate::command;
use crate::installed;

/// An image of Millrace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The data plane: `millrace`.
    Worker,
    /// The control plane: `millrace-operator`.
    Operator,
}

impl Image {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Worker, Self::Operator];

    /// The folder with its Dockerfile.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Operator => "operator",
        }
    }

    /// The package, program and image name.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Worker => "millrace",
            Self::Operator => "millrace-operator",
        }
    }
}

/// How the program is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build.
    Dev,
    /// What users get.
    Release,
}

impl Profile {
    /// [`Profile::Dev`], or what `MILLRACE_TEST_PROFILE=release` asks for.
    #[must_use]
    pub fn for_tests() -> Self {
        if env::var("MILLRACE_TEST_PROFILE").is_ok_and(|profile| profile == "release") { Self::Release } else { Self::Dev }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// A finished image.
#[derive(Clone, Debug)]
pub struct Archive {
    /// `localhost/<name>:<tag>`.
    pub reference: String,
    /// The file.
    pub path: PathBuf,
    /// Its size, uncompressed, in bytes.
    pub size: u64,
}

impl Archive {
    /// About what a registry would store and a node download, in bytes.
    pub fn compressed_size(&self) -> Result<u64> {
        let mut counter = Counter(0);
        let mut encoder = GzEncoder::new(&mut counter, Compression::default());
        let mut file = File::open(&self.path).with_context(|| format!("open {}", self.path.display()))?;
        io::copy(&mut file, &mut encoder).and_then(|_| encoder.finish().map(drop)).context("compress the image")?;
        Ok(counter.0)
    }
}

/// Compiles the program and packs its image into the cache. The tag is that of its content unless one is given.
///
/// # Errors
/// It does not compile, or the recipe cannot be followed.
pub fn pack(image: Image, profile: Profile, tag: Option<&str>) -> Result<Archive> {
    let program = build(image, profile)?;
    let folder = installed::cache()?.join("images");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    // Written beside and moved into place: two tests may pack the same image at once.
    let unfinished = tempfile::NamedTempFile::new_in(&folder).context("make a file for the image")?;
    let archive = pack_program(image, &program, tag, unfinished.path())?;
    let path = folder.join(format!("{}.tar", image.program()));
    unfinished.persist(&path).with_context(|| format!("write {}", path.display()))?;
    Ok(Archive { path, ..archive })
}

/// Packs the image around a program that is compiled already.
///
/// # Errors
/// The recipe cannot be followed.
pub fn pack_program(image: Image, program: &Path, tag: Option<&str>, to: &Path) -> Result<Archive> {
    let dockerfile = installed::checkout().join(image.name()).join("Dockerfile");
    let text = fs::read_to_string(&dockerfile).with_context(|| format!("read {}", dockerfile.display()))?;
    let config = recipe::parse(&text).with_context(|| format!("follow {}", dockerfile.display()))?;
    let root = tempfile::tempdir().context("make a folder for the image's files")?;
    let rootfs = installed::checkout().join("tests/images/rootfs.sh");
    command::output(Command::new(rootfs).arg(program).arg(root.path()))?;

    let name = format!("localhost/{}", image.program());
    let digest = write_archive(root.path(), &config, &format!("{name}:{}", tag.unwrap_or("{digest}")), to)?;
    let size = fs::metadata(to).context("look at the image")?.len();
    Ok(Archive { reference: format!("{name}:{}", tag.unwrap_or(&digest)), path: to.to_owned(), size })
}

/// Lets cargo build the program, which is quick when nothing has changed, and returns it. If `MILLRACE_TEST_PROGRAM_WORKER` or `MILLRACE_TEST_PROGRAM_OPERATOR`
/// names one that is compiled already, that is taken instead, however it was compiled.
///
/// # Errors
/// It does not compile, or what is named is no file.
pub fn build(image: Image, profile: Profile) -> Result<PathBuf> {
    if let Some(given) = given(image)? {
        return Ok(given);
    }
    let target = target_folder()?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked"]).current_dir(installed::checkout());
    cargo.arg("--target-dir").arg(&target);
    // What cargo has told the running program of its own package is not for this build: `ring` is compiled anew, and all that is built on it, if it changes.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(of_a_package) {
            cargo.env_remove(name);
        }
    }
    match profile {
        Profile::Dev => &mut cargo,
        Profile::Release => cargo.arg("--release"),
    };
    // The whole workspace, as tests and benches build it: the features of dependencies are the same, so nothing is compiled twice.
    cargo.args(["--workspace", "--bins"]);
    command::output(&mut cargo)?;
    Ok(target.join(profile.folder()).join(image.program()))
}

/// A program that is compiled already, if a variable names one.
fn given(image: Image) -> Result<Option<PathBuf>> {
    let variable = format!("MILLRACE_TEST_PROGRAM_{}", image.name().to_uppercase());
    let Some(path) = env::var_os(&variable).filter(|path| !path.is_empty()).map(PathBuf::from) else { return Ok(None) };
    ensure!(path.is_file(), "{variable} is {}, which is no file", path.display());
    Ok(Some(path))
}

/// Whether cargo sets this variable for programs of one package, as for those that it tests.
fn of_a_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| variable.starts_with(prefix)) || variable == "CARGO_PRIMARY_PACKAGE"
}

/// Where cargo has put the program that runs now, so that nothing is compiled twice: `<target>/<profile>/[deps/]<program>`.
fn target_folder() -> Result<PathBuf> {
    let program = env::current_exe().context("find the running program")?;
    let profile = program.ancestors().find(|folder| folder.ends_with("debug") || folder.ends_with("release"));
    let target = profile.and_then(Path::parent).map(Path::to_owned);
    target.with_context(|| format!("{} is not where cargo puts programs", program.display()))
}

/// Counts the bytes written to it.
struct Counter(u64);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
