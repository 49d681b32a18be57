//! Writes an image as the archive that container engines load: a manifest, a configuration, one layer.
//! It never compresses: the archive is for this machine.

use std::env::consts::ARCH;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::recipe::Config;
use super::tar::Tar;
use crate::hex;

/// What stands for the content's own tag in a reference.
const DIGEST: &str = "{digest}";
/// How much of the digest is a tag.
const TAG_LENGTH: usize = 12;

/// Packs the files below `root` into `to`, named `reference`, in which `{digest}` becomes the tag of the content.
/// Returns that tag.
///
/// # Errors
/// A file cannot be read, or the archive not written.
pub fn write(root: &Path, config: &Config, reference: &str, to: &Path) -> Result<String> {
    let file = tempfile::tempfile().context("make a file for the layer")?;
    let mut layer = Tar::new(Hashing { to: BufWriter::new(file), hash: Sha256::new() });
    layer.add_tree(root)?;
    let Hashing { to: layer, hash } = layer.finish()?;
    let layer_id = hex::encode(hash.finalize().as_slice());
    let mut layer = layer.into_inner().context("write the layer")?;
    let size = layer.stream_position().context("measure the layer")?;
    layer.rewind().context("read the layer back")?;

    let architecture = match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let run = json!({"User": config.user, "Env": config.env, "Entrypoint": config.entrypoint, "WorkingDir": "/"});
    let files = json!({"type": "layers", "diff_ids": [format!("sha256:{layer_id}")]});
    let image = json!({"architecture": architecture, "os": "linux", "config": run, "rootfs": files}).to_string();
    let image_id = hex::encode(Sha256::digest(&image).as_slice());
    let tag = image_id[..TAG_LENGTH].to_owned();

    let reference = reference.replace(DIGEST, &tag);
    let layer_name = format!("{layer_id}/layer.tar");
    let manifest = json!([{"Config": format!("{image_id}.json"), "RepoTags": [reference], "Layers": [layer_name]}]).to_string();
    let mut tar = Tar::new(BufWriter::new(File::create(to).with_context(|| format!("write {}", to.display()))?));
    tar.add_file("manifest.json", 0o644, manifest.len() as u64, manifest.as_bytes())?;
    tar.add_file(&format!("{image_id}.json"), 0o644, image.len() as u64, image.as_bytes())?;
    tar.add_file(&layer_name, 0o644, size, layer)?;
    tar.finish()?;
    Ok(tag)
}

/// Writes on, and knows the digest of what went by.
struct Hashing<W> {
    to: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_same_files_make_the_same_archive() {
        let config = Config { user: "1:1".into(), env: Vec::new(), entrypoint: vec!["/x".into()] };
        let made = || {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().join("root");
            fs::create_dir(&root).unwrap();
            // In another order, and at another time, than they will be in the archive.
            fs::write(root.join("z"), "last").unwrap();
            fs::write(root.join("a"), "first").unwrap();
            let path = folder.path().join("image.tar");
            let tag = write(&root, &config, "localhost/x:{digest}", &path).unwrap();
            (tag, fs::read(path).unwrap())
        };
        let (first, second) = (made(), made());
        assert_eq!(first.0.len(), TAG_LENGTH);
        assert!(first == second, "two archives of the same files differ");
    }
}
