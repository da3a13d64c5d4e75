//! Clears what a run that was killed could not: its namespaces, what still runs in them, and its
//! folders of pinned maps. Nothing of a process that lives is touched.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::namespace::{FOLDER, PREFIX};
use crate::process::succeed;

/// The BPF file system that test daemons pin under.
pub const BPF_FOLDER: &str = "/sys/fs/bpf";
/// How a test daemon's pin folder starts; the process id follows.
pub const PIN_PREFIX: &str = "palisade-test-";

/// Clears the leftovers of dead processes. What cannot be cleared is said and left.
pub fn clear() {
    for name in names_of_the_dead(FOLDER, PREFIX) {
        let inhabitants =
            succeed(Command::new("ip").args(["netns", "pids", &name])).unwrap_or_default();
        for pid in inhabitants
            .lines()
            .filter_map(|line| line.trim().parse().ok())
            .filter_map(rustix::process::Pid::from_raw)
        {
            // It may have ended by itself meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        if let Err(error) = succeed(Command::new("ip").args(["netns", "del", &name])) {
            eprintln!("leftover network namespace {name}: {error:#}");
        }
    }
    for name in names_of_the_dead(BPF_FOLDER, PIN_PREFIX) {
        remove_pins(&Path::new(BPF_FOLDER).join(name));
    }
}

/// The network namespaces that this process made, by inode.
static MADE: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// Notes that this process made a network namespace.
pub(crate) fn remember(namespace: &Path) {
    if let Ok(metadata) = fs::metadata(namespace) {
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.push(metadata.ino());
    }
}

/// The programs that still run in network namespaces that this process made, although all that it knows of has
/// ended. What was just killed is given a moment.
pub fn own() -> Vec<String> {
    let made = MADE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut left = Vec::new();
    for _ in 0..50 {
        left = running_in(&made);
        if left.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    left
}

/// Processes in these network namespaces: number and name.
fn running_in(namespaces: &[u64]) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let there = entries.flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let inode = fs::metadata(entry.path().join("ns/net")).ok()?.ino();
        namespaces.contains(&inode).then(|| {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            format!("{pid} {}", name.trim())
        })
    });
    there.collect()
}

/// Unpins everything under `folder`, which takes down what only pins hold up.
pub fn remove_pins(folder: &Path) {
    if !folder.exists() {
        return;
    }
    if let Err(error) = fs::remove_dir_all(folder) {
        eprintln!("pins stay behind in {}: {error}", folder.display());
    }
}

fn names_of_the_dead(folder: &str, prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| owner(name, prefix).is_some_and(|pid| !lives(pid)))
        .collect()
}

/// The process id in a name such as `palisade-123-0-inside`.
fn owner(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.split('-').next()?.parse().ok()
}

fn lives(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_which_process_made_it() {
        assert_eq!(owner("palisade-123-0-inside", PREFIX), Some(123));
        assert_eq!(owner("palisade-test-77-1", PIN_PREFIX), Some(77));
        assert_eq!(owner("palisade", PREFIX), None);
        assert_eq!(owner("somebody-123", PREFIX), None);
    }

    #[test]
    fn this_process_lives() {
        assert!(lives(std::process::id()));
        assert!(!lives(u32::MAX));
    }
}
