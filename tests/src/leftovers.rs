//! Clears what a run that was killed could not: its namespaces, what still runs in them, and its
//! folders of pinned maps. Nothing of a process that lives is touched.

use std::fs;
use std::path::Path;
use std::process::Command;

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
