//! What a program used: CPU time and peak memory, as the kernel counts them. It never estimates.

use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Time between two looks at the memory; the peak only grows, so no more than the growth of the last of these is missed.
const LOOK: Duration = Duration::from_millis(20);
/// The shell's own clock has milliseconds where `/proc` has ticks of ten; the first line it prints is the id of the program.
const TIMED: &str = "TIMEFORMAT='%3U %3S'; errors=$1; shift; time { \"$@\" 2>\"$errors\" >/dev/null & echo $!; wait $!; }";

/// What a program and all that it started used.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// User and system time, seconds, to the millisecond.
    pub cpu_seconds: f64,
    /// `VmHWM`, bytes.
    pub peak_memory: u64,
    /// How it ended.
    pub status: ExitStatus,
}

/// Runs a program to its end, without input and output, in the folder and environment that `command` has. What it says as errors is returned too.
///
/// # Errors
/// It cannot be started, or `/proc` cannot be read.
pub fn run(command: &Command) -> Result<(Used, String)> {
    let program = command.get_program();
    let errors = tempfile::NamedTempFile::new().context("make a file for errors")?;
    let mut timed = Command::new("bash");
    timed.args(["-c", TIMED, "bash"]).arg(errors.path()).arg(program).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        timed.current_dir(folder);
    }
    timed.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = timed.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("start bash")?;
    let (peak_memory, status) = watch(&mut child).with_context(|| format!("run {}", program.display()))?;
    let mut said = String::new();
    child.stderr.take().context("errors are a pipe")?.read_to_string(&mut said).context("read what bash says")?;
    let times = said.lines().last().unwrap_or_default();
    let seconds = times.split(' ').map(str::parse::<f64>).collect::<Result<Vec<_>, _>>();
    let cpu_seconds = seconds.with_context(|| format!("bash says no times: {said}"))?.iter().sum();
    let errors = fs::read_to_string(errors.path()).context("read the errors")?;
    Ok((Used { cpu_seconds, peak_memory, status }, errors))
}

fn watch(shell: &mut Child) -> Result<(u64, ExitStatus)> {
    let mut id = String::new();
    let mut out = shell.stdout.take().context("standard output is a pipe")?;
    let mut byte = [0];
    while out.read(&mut byte).context("read the id of a program")? == 1 && byte != *b"\n" {
        id.push(char::from(byte[0]));
    }
    let id: u32 = id.parse().with_context(|| format!("{id:?} is no id"))?;
    let mut peak = 0;
    loop {
        if let Some(status) = shell.try_wait().context("look at the program")? {
            return Ok((peak, status));
        }
        peak = peak.max(peak_memory(id).unwrap_or(0));
        std::thread::sleep(LOOK);
    }
}

/// The most memory that a running program has had at once, `VmHWM`, in bytes.
///
/// # Errors
/// It does not run.
pub fn peak_memory(id: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).context("read /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the program has ended")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().context("/proc has another form than known")?;
    Ok(kibibytes * 1024)
}

/// User and system time of a running program, all threads, in seconds. Exact, but cut to a tick of ten milliseconds.
///
/// # Errors
/// It does not run.
pub fn cpu_seconds(id: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).context("read /proc")?;
    // The second field, the name, ends with the last parenthesis; utime and stime are fields 14 and 15.
    let (_, rest) = stat.rsplit_once(") ").context("/proc has another form than known")?;
    let ticks: Vec<u64> = rest.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    ensure!(ticks.len() == 2, "/proc has another form than known");
    Ok(ticks.iter().sum::<u64>() as f64 / ticks_per_second()?)
}

fn ticks_per_second() -> Result<f64> {
    let answer = Command::new("getconf").arg("CLK_TCK").output().context("run getconf")?;
    String::from_utf8_lossy(&answer.stdout).trim().parse().context("getconf CLK_TCK is no number")
}

/// What figures depend on: date, commit, machine, load.
///
/// # Errors
/// `/proc` cannot be read, or git does not run.
pub fn circumstances() -> Result<String> {
    let said = |program: &str, arguments: &[&str]| -> Result<String> {
        let output = Command::new(program).args(arguments).current_dir(crate::installed::checkout()).output();
        let output = output.with_context(|| format!("run {program}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let processors = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let models: Vec<&str> =
        processors.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name)).collect();
    let changed = if said("git", &["status", "--porcelain", "--untracked-files=no", "--", "worker", "crds"])?.is_empty() {
        ""
    } else {
        " with changes"
    };
    Ok(format!(
        "{}, commit {}{changed}: {} cores of {}, Linux {}, load {} before it began",
        said("date", &["-u", "+%F"])?,
        said("git", &["rev-parse", "--short", "HEAD"])?,
        models.len(),
        models.first().unwrap_or(&"an unknown processor"),
        said("uname", &["-r"])?,
        load()?
    ))
}

/// Programs that ran or wanted to, on average over a minute.
///
/// # Errors
/// `/proc` cannot be read.
pub fn load() -> Result<String> {
    let load = fs::read_to_string("/proc/loadavg").context("read /proc/loadavg")?;
    Ok(load.split(' ').next().unwrap_or_default().to_owned())
}

/// Whether something is to be measured, where `only` some may have been asked for.
#[must_use]
pub fn wants(only: &[String], name: &str) -> bool {
    only.is_empty() || only.iter().any(|wanted| wanted == name)
}

/// Median, lowest and highest of some figures.
#[must_use]
pub fn spread(figures: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (lowest, highest) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[middle - 1], sorted[middle]) } else { sorted[middle] };
    Some((median, lowest, highest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen() {
        let mut work = Command::new("sh");
        let (used, errors) = run(work.args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done; echo done >&2; exit 3"])).unwrap();
        assert!(used.cpu_seconds > 0.0 && used.peak_memory > 100_000, "{used:?}");
        assert_eq!((used.status.code(), errors.as_str()), (Some(3), "done\n"));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_ones() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((2.0, 1.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some((2.5, 1.0, 4.0)));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_running_program_is_seen() {
        let own = std::process::id();
        assert!(peak_memory(own).unwrap() > 1_000_000 && cpu_seconds(own).unwrap() >= 0.0);
        assert!(cpu_seconds(u32::MAX).is_err());
    }
}
