//! Which ports ssh serves, where sshd's own sockets may not be looked at: what was opened in the control group
//! that systemd gives to its service.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::host::sock_diag::{LISTEN, Request, SockDiag};

/// Where systemd has the control groups of services.
const SLICE: &str = "/sys/fs/cgroup/system.slice";
const SERVICES: [&str; 3] = ["ssh.service", "sshd.service", "dropbear.service"];
/// Of linux/inet_diag.h: the number of a socket's control group. Told unasked, from Linux 5.8 on.
const CONTROL_GROUP: u16 = 21;

/// The ports that ssh services listen on; none where there is no systemd, or where it listens for them.
pub(super) fn ports() -> HashSet<u16> {
    let groups = SERVICES
        .iter()
        .filter_map(|service| number(&Path::new(SLICE).join(service)));
    listening_in(&groups.collect())
}

/// The number by which the kernel knows a control group is that of its folder.
fn number(group: &Path) -> Option<u64> {
    fs::metadata(group).ok().map(|about| about.ino())
}

fn listening_in(groups: &HashSet<u64>) -> HashSet<u16> {
    let mut ports = HashSet::new();
    if groups.is_empty() {
        return ports;
    }
    let request = Request {
        protocol: libc::IPPROTO_TCP,
        states: &[LISTEN],
        attributes: &[],
    };
    let dumped = SockDiag::open().and_then(|kernel| {
        kernel.dump(request, |socket| {
            let group = socket
                .attribute(CONTROL_GROUP)
                .and_then(|number| number.try_into().ok())
                .map(u64::from_ne_bytes);
            if group.is_some_and(|group| groups.contains(&group)) {
                ports.extend(socket.local_port());
            }
        })
    });
    if let Err(error) = dumped {
        tracing::warn!("the ports of ssh services are not known: {error:#}");
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_by_the_control_group_that_opened_it_and_by_no_other() {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let group = match own.lines().find_map(|line| line.strip_prefix("0::/")) {
            // The kernel's number for the root.
            Some("") => Some(1),
            Some(own) => number(&Path::new("/sys/fs/cgroup").join(own)),
            None => None,
        };
        let Some(group) = group else {
            println!("skipped: no control groups of version 2 here");
            return;
        };
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a socket");
        let port = socket.local_addr().expect("an address").port();
        assert!(listening_in(&HashSet::from([group])).contains(&port));
        assert!(!listening_in(&HashSet::from([u64::MAX])).contains(&port));
        assert_eq!(listening_in(&HashSet::new()), HashSet::new());
    }
}
