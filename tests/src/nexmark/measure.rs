//! What a program used: CPU time and peak memory, as the kernel counts them. It never estimates.

use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};

/// Time between two looks at the memory; the peak only grows, so no more than the growth of the last of these is missed.
const LOOK: Duration = Duration::from_millis(20);

/// What a program and all that it started used.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// User and system time, seconds.
    pub cpu_seconds: f64,
    /// `VmHWM`, bytes.
    pub peak_memory: u64,
    /// How it ended.
    pub status: ExitStatus,
}

/// Runs a program to its end. Nothing else may be started and waited for by this process meanwhile: the kernel keeps one sum for all children.
///
/// # Errors
/// It cannot be started, or `/proc` cannot be read.
pub fn run(command: &mut Command) -> Result<Used> {
    let before = children_ticks()?;
    let mut child = command.spawn().with_context(|| format!("start {}", command.get_program().display()))?;
    let (peak_memory, status) = watch(&mut child)?;
    let ticks = children_ticks()?.saturating_sub(before);
    Ok(Used { cpu_seconds: ticks as f64 / ticks_per_second()?, peak_memory, status })
}

fn watch(child: &mut Child) -> Result<(u64, ExitStatus)> {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        if let Some(status) = child.try_wait().context("look at the program")? {
            return Ok((peak, status));
        }
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0);
        peak = peak.max(kibibytes * 1024);
        std::thread::sleep(LOOK);
    }
}

/// User and system time of all children that were waited for.
fn children_ticks() -> Result<u64> {
    let stat = std::fs::read_to_string(Path::new("/proc/self/stat")).context("read /proc/self/stat")?;
    // The second field, the name, ends with the last parenthesis; cutime and cstime are fields 16 and 17.
    let (_, rest) = stat.rsplit_once(") ").context("/proc has another form than known")?;
    let mut fields = rest.split(' ').skip(13).map(str::parse::<u64>);
    match (fields.next(), fields.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok(user + system),
        _ => anyhow::bail!("/proc has another form than known"),
    }
}

fn ticks_per_second() -> Result<f64> {
    let answer = Command::new("getconf").arg("CLK_TCK").output().context("run getconf")?;
    String::from_utf8_lossy(&answer.stdout).trim().parse().context("getconf CLK_TCK is no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen() {
        let used = run(Command::new("sh").args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done"])).unwrap();
        assert!(used.status.success() && used.cpu_seconds > 0.0 && used.peak_memory > 100_000, "{used:?}");
    }
}
