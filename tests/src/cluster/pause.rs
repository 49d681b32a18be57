//! The image of the container that holds a pod's namespaces. There is no registry to pull it from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::image::{Config, write_archive};
use crate::installed;

/// What the image is called.
pub(super) const REFERENCE: &str = "localhost/pause:1";

/// Writes the image into `folder` and returns the archive.
pub(super) fn archive(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("pause");
    fs::create_dir_all(&root).context("make a folder for the pause image")?;
    fs::copy(installed::program("pause")?, root.join("pause")).context("copy pause")?;
    let archive = folder.join("pause.tar");
    let config = Config { user: "65532:65532".to_owned(), env: Vec::new(), entrypoint: vec!["/pause".to_owned()] };
    write_archive(&root, &config, REFERENCE, &archive)?;
    Ok(archive)
}
