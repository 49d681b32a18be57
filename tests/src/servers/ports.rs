//! Free TCP ports. It never hands out the same port twice in one process, nor one that the kernel may give to a client
//! while its server is stopped.

use std::net::{IpAddr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// Below the range for outgoing connections and below that of Kubernetes' node ports.
const FIRST: u32 = 20_000;
const COUNT: u32 = 10_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port on which nothing listens at `address`.
///
/// # Errors
/// None of the range is free, or the address is not one of this machine.
pub fn free(address: IpAddr) -> Result<u16> {
    // Processes that start together begin at different places.
    let start = process::id().wrapping_mul(31);
    let mut last = None;
    for _ in 0..COUNT {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).context("the range of ports fits u16")?;
        match TcpListener::bind((address, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    let last = last.context("no port was tried")?;
    Err(last).with_context(|| format!("no free port at {address} from {FIRST} to {}", FIRST + COUNT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::LOOPBACK;

    #[test]
    fn never_the_same_port_twice() {
        let first = free(LOOPBACK).unwrap();
        let second = free(LOOPBACK).unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let taken: Vec<_> = (0..5).map(|_| TcpListener::bind((LOOPBACK, free(LOOPBACK).unwrap())).unwrap()).collect();
        let port = free(LOOPBACK).unwrap();
        assert!(taken.iter().all(|listener| listener.local_addr().unwrap().port() != port));
    }
}
