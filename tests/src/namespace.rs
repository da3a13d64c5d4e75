//! A network namespace of one's own, gone when its guard goes.

use std::ffi::OsStr;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{Background, Finished, finish, succeed};
use crate::{leftovers, need_tools};

/// Where `ip netns` keeps the names.
pub(crate) const FOLDER: &str = "/run/netns";
/// How every name starts; the process id follows.
pub(crate) const PREFIX: &str = "palisade-";

/// A network namespace. Dropping it deletes it with every interface in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace whose name holds `role`, this process and a count, with `lo` up and
    /// without duplicate address detection, so that addresses can be used at once.
    pub fn create(role: &str) -> Result<Self> {
        static CLEAR: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        need_tools(&["ip", "nsenter", "unshare"])?;
        CLEAR.call_once(leftovers::clear);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{count}-{role}", std::process::id());
        succeed(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        leftovers::remember(&namespace.path());
        for interfaces in ["all", "default"] {
            namespace.sysctl(&format!("ipv6/conf/{interfaces}/accept_dad"), "0")?;
        }
        namespace.run("ip link set lo up")?;
        Ok(namespace)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from(FOLDER).join(&self.name)
    }

    /// A command that will run in here. Only the network changes: unlike with `ip netns exec`,
    /// the BPF file system stays in sight.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// As [`Self::command`], for a program that starts others: they have a process namespace of their own, and
    /// when the command is killed, none of them is left.
    pub fn household(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command("unshare");
        command
            .args(["--pid", "--fork", "--kill-child=KILL", "--"])
            .arg(program);
        command
    }

    /// Runs a line of words, split at spaces, to success.
    pub fn run(&self, line: &str) -> Result<String> {
        succeed(&mut self.words(line)?)
    }

    /// Runs a line of words, split at spaces, to its end, whatever that is.
    pub fn try_run(&self, line: &str) -> Result<Finished> {
        finish(&mut self.words(line)?)
    }

    /// Starts a line of words, split at spaces, in the background, and ends it with all that it starts. What it
    /// says is lost.
    pub fn spawn(&self, line: &str) -> Result<Background> {
        let mut words = line.split_whitespace();
        let mut command = self.household(words.next().context("an empty command line")?);
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Background::spawn(&mut command)
    }

    fn words(&self, line: &str) -> Result<Command> {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().context("an empty command line")?);
        command.args(words);
        Ok(command)
    }

    /// Runs `work` on a thread of its own in here, and waits for it.
    pub fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        join(self.thread(work)?)
    }

    /// Runs `work` on a thread of its own in here. Sockets that it opens stay in here wherever
    /// they are used later.
    pub fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let name = self.name.clone();
        let namespace = File::open(self.path())
            .with_context(|| format!("network namespace {name} cannot be opened"))?;
        Ok(std::thread::spawn(move || {
            use std::os::fd::AsFd;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("network namespace {name} cannot be entered"))?;
            work()
        }))
    }

    /// Sets a value under /proc/sys/net, which shows each thread its own namespace's.
    pub fn sysctl(&self, key: &str, value: &'static str) -> Result<()> {
        let path = format!("/proc/sys/net/{key}");
        self.inside(move || {
            std::fs::write(&path, value).with_context(|| format!("{path} cannot be set to {value}"))
        })
    }
}

/// Waits for a thread's result; its panic goes on here.
pub fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = succeed(Command::new("ip").args(["netns", "del", &self.name])) {
            eprintln!("network namespace {} stays behind: {error:#}", self.name);
        }
    }
}
