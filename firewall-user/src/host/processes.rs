//! Which process holds which socket.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// A process of the host.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Process {
    pub pid: u32,
    /// As it calls itself (`comm`), without what does not print.
    pub name: String,
}

/// Sockets by inode, with the process that answers for each; and whether some processes may not be
/// looked at.
pub(super) fn of_sockets() -> (HashMap<u64, Process>, bool) {
    let mut holders: HashMap<u64, Process> = HashMap::new();
    let mut hidden = false;
    for pid in pids() {
        let folder = Path::new("/proc").join(pid.to_string());
        let Some(sockets) = sockets_of(&folder) else {
            hidden |= folder.exists();
            continue;
        };
        if sockets.is_empty() {
            continue;
        }
        let process = Process {
            pid,
            name: name(&folder),
        };
        for inode in sockets {
            let entry = holders.entry(inode).or_insert_with(|| process.clone());
            // The first process holds what it listens on for others until they take it over.
            if entry.pid == 1 {
                *entry = process.clone();
            }
        }
    }
    (holders, hidden)
}

/// A process of the own network namespace with one of these names.
pub(super) fn named(names: &[&str]) -> Option<Process> {
    let namespace = |folder: &Path| fs::read_link(folder.join("ns/net")).ok();
    let own = namespace(Path::new("/proc/self"));
    pids().find_map(|pid| {
        let folder = Path::new("/proc").join(pid.to_string());
        let name = name(&folder);
        let is_here = || own.is_some() && namespace(&folder) == own;
        (names.contains(&name.as_str()) && is_here()).then_some(Process { pid, name })
    })
}

/// The inodes of the sockets that a process holds; `None` if it may not be looked at.
pub(crate) fn sockets_of(process: &Path) -> Option<Vec<u64>> {
    let descriptors = fs::read_dir(process.join("fd")).ok()?;
    let inode = |descriptor: fs::DirEntry| {
        let target = fs::read_link(descriptor.path()).ok()?;
        let number = target.to_str()?.strip_prefix("socket:[")?;
        number.strip_suffix(']')?.parse().ok()
    };
    Some(descriptors.flatten().filter_map(inode).collect())
}

/// In ascending order.
fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.into_iter()
}

fn name(folder: &Path) -> String {
    let name = fs::read(folder.join("comm")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    // Whoever runs a process names it: nothing of that may steer a terminal or end a comment.
    let shown = |letter: char| if letter.is_control() { '?' } else { letter };
    name.trim_end_matches('\n').chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_socket_leads_to_the_process_that_holds_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let link = format!("/proc/self/fd/{}", listener.as_raw_fd());
        let link = fs::read_link(link).unwrap().display().to_string();
        let inode = link.trim_start_matches("socket:[").trim_end_matches(']');
        let (holders, _) = of_sockets();
        let holder = &holders[&inode.parse().unwrap()];
        assert_eq!(holder.pid, std::process::id());
        let here = name(Path::new("/proc/self"));
        assert_eq!(holder.name, here);
    }
}
