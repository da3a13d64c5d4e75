//! Running programs: to the end with their output, or in the background behind a guard.

use std::fmt;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::patience::stretched;

/// What a program that ran to its end left.
#[derive(Clone, Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The exit code; 128 plus the signal's number if a signal ended it, as a shell says it.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stdout, stderr, .. } = self;
        write!(f, "exit {}\n{stdout}{stderr}", self.code())
    }
}

/// Runs to the end, whatever the exit code.
pub fn finish(command: &mut Command) -> Result<Finished> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    Ok(Finished {
        status,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// Runs to the end; anything but success is an error with all that the program said.
pub fn succeed(command: &mut Command) -> Result<String> {
    let finished = finish(command)?;
    if !finished.success() {
        bail!("{command:?} failed: {finished}");
    }
    Ok(finished.stdout)
}

/// A child that is killed, by its process id, when this goes.
#[derive(Debug)]
pub struct Background {
    child: Child,
}

impl Background {
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        Ok(Self { child })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        // A child that has not been waited for keeps its process id, so no other process is hit.
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .context("the child has no process id")?;
        rustix::process::kill_process(pid, signal)?;
        Ok(())
    }

    /// Its standard input and output, where they are pipes; once.
    pub fn pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        self.child.stdin.take().zip(self.child.stdout.take())
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its own end, and gives what it wrote to a piped standard output. Only for a
    /// program that writes little: a full pipe would hold it up.
    pub fn output(mut self, patience: Duration) -> Result<String> {
        self.wait(patience)?;
        let mut output = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut output)?;
        }
        Ok(output)
    }

    /// Waits for its own end; an error if that does not come in time.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let patience = stretched(patience);
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if started.elapsed() > patience {
                bail!("process {} did not end within {patience:?}", self.id());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until `condition` holds; an error naming `what` if it does not in time.
pub fn wait_until(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let patience = stretched(patience);
    let started = Instant::now();
    loop {
        if condition()? {
            return Ok(started.elapsed());
        }
        if started.elapsed() > patience {
            bail!("{what}: not within {patience:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
