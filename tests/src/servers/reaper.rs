//! Ends the servers of a test process that was itself killed. It never ends anything while that process lives.
//!
//! A shell holds the reading end of a pipe whose writing end is ours alone. However we end, the kernel closes it;
//! the shell then kills the process groups that it was told about and not told to forget.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

const SCRIPT: &str = r#"
groups=' '
while read -r verb group; do
    case $verb in
        watch) groups="$groups$group " ;;
        forget) groups="${groups%% $group *} ${groups#* $group }" ;;
    esac
done
for group in $groups; do kill -s TERM -- "-$group"; done
sleep 1
for group in $groups; do kill -s KILL -- "-$group"; done
"#;

static PIPE: Mutex<Option<ChildStdin>> = Mutex::new(None);

/// Have this process group killed if we end without [`forget`].
pub(super) fn watch(group: u32) -> Result<()> {
    tell("watch", group)
}

/// It has ended; its number may soon belong to another.
pub(super) fn forget(group: u32) -> Result<()> {
    tell("forget", group)
}

fn tell(verb: &str, group: u32) -> Result<()> {
    let mut pipe = PIPE.lock().unwrap_or_else(PoisonError::into_inner);
    if pipe.is_none() {
        *pipe = Some(start().context("start the shell that watches over the servers")?);
    }
    let pipe = pipe.as_mut().context("the pipe was just made")?;
    writeln!(pipe, "{verb} {group}").context("tell the shell that watches over the servers")
}

fn start() -> Result<ChildStdin> {
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own: an interrupt from the terminal ends us, and must not end it.
    let mut shell = shell.process_group(0).spawn()?;
    shell.stdin.take().context("the pipe was asked for")
}
