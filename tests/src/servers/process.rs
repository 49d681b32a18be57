//! One server program: started with its log in a file, in a process group of its own, and ended with all it has started.
//! It never ends a process that it did not start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::reaper;
use crate::poll;

/// How long a program may take to end after it was asked to.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// How often to look whether a killed process of someone else's is gone, and how many times.
const KILL_PAUSE: Duration = Duration::from_millis(20);
const KILL_LOOKS: usize = 1_000;
/// How many bytes of a log an error or a failed test shows.
const TAIL: usize = 4_000;

/// Who ends a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The value that started it, when it is dropped, or whatever happens to its process.
    Owned,
    /// Someone else, later, by its pid file: [`end_all`].
    Detached,
}

/// A signal.
#[derive(Clone, Copy, Debug)]
enum Signal {
    Term,
    Kill,
    Stop,
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// A running or stopped program.
#[derive(Debug)]
pub struct Process {
    name: String,
    /// Kept to start it again just as it was.
    command: Command,
    child: Option<Child>,
    log: PathBuf,
    pid_file: PathBuf,
    lifetime: Lifetime,
}

impl Process {
    /// Starts `command`, with its output in `folder/<name>.log` and its process id in `folder/<name>.pid`.
    ///
    /// # Errors
    /// The folder cannot be written, or the program cannot be started.
    pub fn start(name: &str, folder: &Path, mut command: Command, lifetime: Lifetime) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).with_context(|| format!("open {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone().context("share the log")?).stderr(file).process_group(0);
        let pid_file = folder.join(format!("{name}.pid"));
        let mut process = Self { name: name.to_owned(), command, child: None, log, pid_file, lifetime };
        process.start_again()?;
        Ok(process)
    }

    /// Starts it once more, after it has ended.
    ///
    /// # Errors
    /// It is still running, or cannot be started.
    pub fn start_again(&mut self) -> Result<()> {
        if self.child.is_some() && self.ended()?.is_none() {
            bail!("{} is running already", self.name);
        }
        let program = self.command.get_program().to_owned();
        let child = self.command.spawn().with_context(|| format!("start {} ({})", self.name, program.display()))?;
        let id = child.id();
        self.child = Some(child);
        if self.lifetime == Lifetime::Owned {
            reaper::watch(id)?;
        }
        let born = born(id).with_context(|| format!("{} ended at once", self.name))?;
        fs::write(&self.pid_file, format!("{id} {born}\n")).with_context(|| format!("write {}", self.pid_file.display()))
    }

    /// Its process id, which is also the id of its process group.
    ///
    /// # Errors
    /// It is not running.
    pub fn id(&self) -> Result<u32> {
        Ok(self.child.as_ref().with_context(|| format!("{} is not running", self.name))?.id())
    }

    /// Waits until `check` succeeds, and fails as soon as the program ends.
    ///
    /// # Errors
    /// `deadline` passed or the program ended; with the end of its log.
    pub async fn ready<T>(&mut self, deadline: Duration, check: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        let what = format!("{} is ready", self.name);
        let answer = tokio::select! {
            answer = poll::until(&what, deadline, check) => answer,
            ended = self.until_ended() => Err(ended.map_or_else(|error| error, |status| anyhow!("it ended: {status}"))),
        };
        answer.with_context(|| format!("{} did not get ready; its log ends with:\n{}", self.name, self.log_tail()))
    }

    /// Asks it to end, and kills it if it does not.
    ///
    /// # Errors
    /// It cannot be ended.
    pub async fn stop(&mut self) -> Result<()> {
        if self.child.is_none() {
            return Ok(());
        }
        self.signal(Signal::Term)?;
        if tokio::time::timeout(STOP_DEADLINE, self.until_ended()).await.is_err() {
            return self.kill();
        }
        self.forget()
    }

    /// Kills it and everything in its process group, at once.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), Signal::Kill)?;
            child.wait().with_context(|| format!("wait for {} to end", self.name))?;
            self.child = Some(child);
        }
        self.forget()
    }

    /// Freezes it: it keeps its connections and answers nothing.
    ///
    /// # Errors
    /// It is not running.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::Stop)
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// It is not running.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::Continue)
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(TAIL)..]).into_owned()
    }

    fn signal(&self, what: Signal) -> Result<()> {
        signal(self.id()?, what).with_context(|| format!("signal {}", self.name))
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let child = self.child.as_mut().with_context(|| format!("{} is not running", self.name))?;
        child.try_wait().with_context(|| format!("look at {}", self.name))
    }

    async fn until_ended(&mut self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn forget(&mut self) -> Result<()> {
        let Some(child) = self.child.take() else { return Ok(()) };
        if self.lifetime == Lifetime::Owned {
            reaper::forget(child.id())?;
        }
        match fs::remove_file(&self.pid_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("remove the pid file"),
            _ => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Detached {
            return;
        }
        if thread::panicking() {
            report(&format!("--- the log of {} ends with:\n{}", self.name, self.log_tail()));
        }
        if let Err(error) = self.kill() {
            report(&format!("{} may be left running: {error:#}", self.name));
        }
    }
}

/// Kills every process whose pid file is in `folder`, with its group, and waits until they are gone.
///
/// # Errors
/// The folder cannot be read, or a process does not end.
pub fn end_all(folder: &Path) -> Result<()> {
    let recorded = recorded(folder)?;
    for id in recorded.iter().filter_map(|(_, id, _)| *id) {
        signal(id, Signal::Kill)?;
    }
    for (name, id, pid_file) in recorded {
        for _ in 0..KILL_LOOKS {
            if id.is_none_or(is_gone) {
                break;
            }
            thread::sleep(KILL_PAUSE);
        }
        if !id.is_none_or(is_gone) {
            bail!("{name} does not end");
        }
        fs::remove_file(&pid_file).with_context(|| format!("remove {}", pid_file.display()))?;
    }
    Ok(())
}

/// The names of the programs whose pid file is in `folder` and that are running, sorted.
///
/// # Errors
/// The folder cannot be read.
pub fn running(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<_> = recorded(folder)?.into_iter().filter(|(_, id, _)| id.is_some()).map(|(name, ..)| name).collect();
    names.sort();
    Ok(names)
}

/// Name, process id if it is still the same process, and pid file.
fn recorded(folder: &Path) -> Result<Vec<(String, Option<u32>, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("read {}", folder.display()))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.context("read a folder entry")?.path();
        if path.extension().is_none_or(|extension| extension != "pid") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let id = text.trim().split_once(' ').and_then(|(id, then)| {
            let id = id.parse().ok()?;
            (born(id).is_ok_and(|now| now == then)).then_some(id)
        });
        found.push((name, id, path));
    }
    Ok(found)
}

/// When a process was started, in clock ticks since boot: with its id, its identity.
fn born(id: u32) -> Result<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).with_context(|| format!("process {id} is gone"))?;
    // The second field, the name, may contain anything but ends with the last parenthesis; the start time is field 22.
    let (_, rest) = stat.rsplit_once(") ").context("/proc has another form than known")?;
    rest.split(' ').nth(19).map(str::to_owned).context("/proc has fewer fields than known")
}

/// Whether a process has ended, be it that its parent has not yet asked how.
fn is_gone(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn signal(group: u32, what: Signal) -> Result<()> {
    // The shell's own `kill`: there is no safe call for it in the standard library. Success or not, the group may have just ended.
    let kill = Command::new("sh").args(["-c", "kill -s \"$1\" -- \"-$2\"", "sh", what.name(), &group.to_string()]).output();
    kill.map(drop).context("run kill")
}

/// Tells whoever looks at a failed test what happened; there is nowhere to return an error to.
fn report(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
