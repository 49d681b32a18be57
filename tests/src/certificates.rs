//! A certificate authority for one test, and a server's key and certificate that it has signed. Nothing of it is trusted by anybody else.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Makes `ca.crt`, and `server.key` and `server.crt` for an address (and for no name), in PEM, in `folder`.
///
/// # Errors
/// `openssl` is missing or fails.
pub fn make(folder: &Path, address: IpAddr) -> Result<()> {
    fs::write(folder.join("names"), format!("subjectAltName=IP:{address}\n")).context("write the names of the server")?;
    for arguments in [
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt",
        "req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt",
    ] {
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().context("run openssl")?;
        ensure!(made.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
    }
    Ok(())
}
