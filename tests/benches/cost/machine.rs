//! What it was measured on.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub processor: String,
    pub cpus: usize,
    /// As the kernel tells them: "L2 1024K".
    pub caches: Vec<String>,
    pub kernel: String,
    /// Load average of one minute, before and after.
    pub load_average: [String; 2],
    /// Versions of what stands beside Palisade.
    pub others: Vec<String>,
}

impl Machine {
    pub fn this() -> Self {
        let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = information
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split(':').nth(1))
            .map_or_else(
                || "unknown processor".to_owned(),
                |name| name.trim().to_owned(),
            );
        let kernel = rustix::system::uname();
        Self {
            processor,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            caches: caches(),
            kernel: kernel.release().to_string_lossy().into_owned(),
            load_average: [load_average(), String::new()],
            others: Vec::new(),
        }
    }

    pub fn line(&self) -> String {
        let [before, after] = &self.load_average;
        format!(
            "{}, {} CPUs ({}), Linux {}, load average {before} before and {after} after",
            self.processor,
            self.cpus,
            self.caches.join(", "),
            self.kernel,
        )
    }
}

pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Lets a process (0 is this one, and what it starts) go before what else the machine does. All that is
/// measured has the same preference, so that it says nothing about what is measured.
pub fn prefer(process: i32) -> Result<()> {
    let process = rustix::process::Pid::from_raw(process);
    rustix::process::setpriority_process(process, PREFERENCE).context("setting a priority")?;
    Ok(())
}

const PREFERENCE: i32 = -10;

/// The preference of a whole session, until this goes. Where the kernel groups processes by session (`sched_autogroup_enabled`),
/// a priority counts within the group only, and a group stands beside others, and beside the kernel's threads, with its
/// own.
pub struct PreferredSession {
    file: PathBuf,
    before: i32,
}

impl PreferredSession {
    /// Of the session of a process; nothing where the kernel has no such groups.
    pub fn of(process: u32) -> Result<Option<Self>> {
        let file = PathBuf::from(format!("/proc/{process}/autogroup"));
        // As in "/autogroup-17 nice 0".
        let before = fs::read_to_string(&file).ok();
        let before = before.and_then(|text| text.rsplit(' ').next()?.trim().parse().ok());
        let Some(before) = before else {
            return Ok(None);
        };
        fs::write(&file, PREFERENCE.to_string()).with_context(|| file.display().to_string())?;
        Ok(Some(Self { file, before }))
    }
}

impl Drop for PreferredSession {
    fn drop(&mut self) {
        // The session may be gone, and its group with it.
        let _ = fs::write(&self.file, self.before.to_string());
    }
}

/// Lets the calling thread, and what it starts, go to every CPU again: a test run binds it to one.
pub fn unbind(cpus: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    (0..cpus).for_each(|cpu| set.set(cpu));
    rustix::thread::sched_setaffinity(None, &set).context("unbinding a thread")
}

/// The caches that the first CPU reaches for data.
fn caches() -> Vec<String> {
    let folder = "/sys/devices/system/cpu/cpu0/cache";
    (0..8)
        .filter_map(|index| {
            let read = |name: &str| {
                let text = fs::read_to_string(format!("{folder}/index{index}/{name}")).ok()?;
                Some(text.trim().to_owned())
            };
            (read("type")? != "Instruction")
                .then_some(())
                .and_then(|()| Some(format!("L{} {}", read("level")?, read("size")?)))
        })
        .collect()
}
