//! Where `tests/setup/install.sh` has put the programs, and where tests keep what they write.
//! It never installs anything itself.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The folder of the `kafka` component, with its `lib`.
pub const KAFKA: &str = "kafka-4.1.0";
/// The folder of the `opensearch` component, with its `lib` and `classes`.
pub const OPENSEARCH: &str = "opensearch-2.19.1.0";
/// The virtual environment of the `moto` component.
pub const MOTO: &str = "moto-5.2.5";

/// `$XDG_CACHE_HOME/millrace`, or the same under `~/.cache`.
///
/// # Errors
/// Neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|set| !set.is_empty()) {
        Some(base) => PathBuf::from(base),
        None => Path::new(&env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("millrace"))
}

/// A file or folder of the cache that the installation made.
///
/// # Errors
/// It is not there: says how to install it.
pub fn path(relative: impl AsRef<Path>) -> Result<PathBuf> {
    let path = cache()?.join(relative);
    ensure!(path.exists(), "{} is missing: run tests/setup/install.sh first", path.display());
    Ok(path)
}

/// A program that the installation built, such as `kubectl` or `helm`.
///
/// # Errors
/// It is not there: says how to install it.
pub fn program(name: &str) -> Result<PathBuf> {
    path(Path::new("bin").join(name))
}

/// The root of the checkout that these tests were compiled in.
#[must_use]
pub fn checkout() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}
