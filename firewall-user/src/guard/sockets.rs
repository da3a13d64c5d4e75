//! Who is connected to this host's ssh servers.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::lookout::{self, Servers};
use super::services;

/// A connection to an ssh server of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// It is the one of whoever asks.
    pub own: bool,
}

/// `SSH_CONNECTION` is not what sshd writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no SSH_CONNECTION: it has the peer's address and port, and the host's")]
pub struct SessionError(String);

impl FromStr for Session {
    type Err = SessionError;

    /// Reads the variable that sshd sets (ssh(1)): "peer port host port".
    fn from_str(text: &str) -> Result<Self, SessionError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let end = |address: &str, port: &str| -> Option<SocketAddr> {
            let address: IpAddr = address.split('%').next()?.parse().ok()?;
            Some(SocketAddr::new(address.to_canonical(), port.parse().ok()?))
        };
        let session = match words[..] {
            [peer, peer_port, local, local_port] => {
                end(peer, peer_port).zip(end(local, local_port))
            }
            _ => None,
        };
        let (peer, local) = session.ok_or_else(|| SessionError(text.to_owned()))?;
        if peer.is_ipv4() != local.is_ipv4() {
            return Err(SessionError(text.to_owned()));
        }
        Ok(Self {
            local,
            peer,
            own: true,
        })
    }
}

/// How ssh servers and their parts call themselves (`comm`, at most 15 bytes).
const SERVERS: [&str; 2] = ["sshd", "dropbear"];
const SSH: u16 = 22;
// States of include/net/tcp_states.h.
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;

/// A line of `/proc/net/tcp` or `tcp6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    local: SocketAddr,
    peer: SocketAddr,
    state: u8,
    inode: u64,
}

/// The sessions of this network namespace; `own` is found among them by its addresses. The second is
/// what could not be found out.
pub(super) fn sessions(own: Option<Session>) -> (Vec<Session>, Option<String>) {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let mut table = parse(&read("/proc/net/tcp"));
    table.extend(parse(&read("/proc/net/tcp6")));
    let Servers { sockets, hidden } = lookout::servers();
    let services = if hidden {
        services::ports()
    } else {
        HashSet::new()
    };
    let (ports, unknown) = ports(&table, &sockets, &services, hidden);
    (among(&table, &ports, own), unknown)
}

/// The ports that ssh servers serve. Where systemd listens for them, it is the connections that
/// tell.
fn ports(
    table: &[Entry],
    owned: &HashSet<u64>,
    services: &HashSet<u16>,
    hidden: bool,
) -> (HashSet<u16>, Option<String>) {
    let listening: HashSet<u16> = of_state(table, LISTEN)
        .map(|entry| entry.local.port())
        .collect();
    let ports: HashSet<u16> = table
        .iter()
        .filter(|entry| owned.contains(&entry.inode))
        .map(|entry| entry.local.port())
        .chain(services.iter().copied())
        .filter(|port| listening.contains(port))
        .collect();
    if !ports.is_empty() || !hidden {
        return (ports, None);
    }
    let unknown = "which sockets are sshd's may not be looked at (CAP_SYS_PTRACE is missing): port 22 is \
                   taken for it";
    let assumed = listening.contains(&SSH).then_some(SSH).into_iter();
    (assumed.collect(), Some(unknown.to_owned()))
}

/// One session for each peer and server address; the asker's own first.
fn among(table: &[Entry], ports: &HashSet<u16>, own: Option<Session>) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    for entry in of_state(table, ESTABLISHED) {
        let is_own = own.is_some_and(|own| own.peer == entry.peer && own.local == entry.local);
        if !is_own && !ports.contains(&entry.local.port()) {
            continue;
        }
        let same =
            |known: &&mut Session| known.peer.ip() == entry.peer.ip() && known.local == entry.local;
        match sessions.iter_mut().find(same) {
            Some(known) => known.own |= is_own,
            None => sessions.push(Session {
                local: entry.local,
                peer: entry.peer,
                own: is_own,
            }),
        }
    }
    sessions.sort_by_key(|session| !session.own);
    sessions
}

fn of_state(table: &[Entry], state: u8) -> impl Iterator<Item = &Entry> {
    table.iter().filter(move |entry| entry.state == state)
}

/// The inodes of the sockets that ssh servers hold, and whether some may not be looked at.
pub(super) fn sockets_of_servers() -> Servers {
    let mut sockets = HashSet::new();
    let mut hidden = false;
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let comm = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        if !SERVERS.iter().any(|server| comm.starts_with(server)) {
            continue;
        }
        match crate::host::sockets_of(&process.path()) {
            Some(held) => sockets.extend(held),
            None => hidden = true,
        }
    }
    Servers { sockets, hidden }
}

fn parse(table: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        Some(Entry {
            local: end(fields.next()?)?,
            peer: end(fields.next()?)?,
            state: u8::from_str_radix(fields.next()?, 16).ok()?,
            inode: fields.nth(5)?.parse().ok()?,
        })
    };
    table.lines().skip(1).filter_map(entry).collect()
}

/// Reads `0100007F:0016`: an address as words in the order in which the host keeps them.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| -> Option<[u8; 4]> {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let address: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (part, at) in bytes.chunks_exact_mut(4).zip([0, 8, 16, 24]) {
                part.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        \x20  0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 x 100 0 0 10 0\n\
        \x20  1: 016433C6:0016 076433C6:C350 01 00000000:00000000 02:000A7D2C 00000000     0        0 101 2 x 20 4 1 10 -1\n\
        \x20  2: 016433C6:0016 076433C6:C351 01 00000000:00000000 02:000A7D2C 00000000     0        0 102 2 x 20 4 1 10 -1\n\
        \x20  3: 016433C6:1F40 086433C6:C352 01 00000000:00000000 02:000A7D2C 00000000     0        0 103 2 x 20 4 1 10 -1\n";
    const V6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        \x20  0: 00000000000000000000000000000000:08AE 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 200 1 x 100 0 0 10 0\n\
        \x20  1: B80D0120000051000000000001000000:08AE B80D0120000051000000000009000000:C353 01 00000000:00000000 02:00 00000000     0        0 201 2 x 20 4 1 10 -1\n\
        \x20  2: 0000000000000000FFFF0000016433C6:08AE 0000000000000000FFFF0000056433C6:C354 01 00000000:00000000 02:00 00000000     0        0 202 2 x 20 4 1 10 -1\n";

    fn table() -> Vec<Entry> {
        [parse(V4), parse(V6)].concat()
    }

    fn shown(sessions: &[Session]) -> Vec<String> {
        let line = |session: &Session| {
            let own = if session.own { " own" } else { "" };
            format!("{} {}{own}", session.peer, session.local)
        };
        sessions.iter().map(line).collect()
    }

    #[test]
    fn sessions_are_what_is_connected_to_a_server_s_port() {
        if cfg!(target_endian = "big") {
            return;
        }
        let table = table();
        let owned = HashSet::from([100, 101, 201, 999]);
        let (ports, unknown) = ports(&table, &owned, &HashSet::new(), false);
        assert_eq!(ports, HashSet::from([22, 2222]));
        assert_eq!(unknown, None);
        let sessions = among(&table, &ports, None);
        assert_eq!(
            shown(&sessions),
            [
                "198.51.100.7:50000 198.51.100.1:22",
                "[2001:db8:51::9]:50003 [2001:db8:51::1]:2222",
                "198.51.100.5:50004 198.51.100.1:2222",
            ]
        );
    }

    #[test]
    fn the_asker_s_own_session_is_one_whoever_owns_its_socket() {
        if cfg!(target_endian = "big") {
            return;
        }
        let own: Session = "198.51.100.8 50002 198.51.100.1 8000".parse().unwrap();
        let sessions = among(&table(), &HashSet::from([22]), Some(own));
        assert_eq!(
            shown(&sessions),
            [
                "198.51.100.8:50002 198.51.100.1:8000 own",
                "198.51.100.7:50000 198.51.100.1:22",
            ]
        );
        // A variable that somebody made up names no connection.
        let own: Session = "203.0.113.8 50002 198.51.100.1 8000".parse().unwrap();
        assert_eq!(among(&table(), &HashSet::new(), Some(own)), []);
    }

    #[test]
    fn where_sockets_cannot_be_looked_at_the_usual_port_is_taken_for_ssh() {
        if cfg!(target_endian = "big") {
            return;
        }
        let none = HashSet::new();
        let (assumed, unknown) = ports(&table(), &none, &HashSet::new(), true);
        assert_eq!(assumed, HashSet::from([22]));
        assert!(unknown.unwrap().contains("CAP_SYS_PTRACE"));
        // Unless systemd says which service has opened them; of a port that is closed it says nothing.
        let (known, unknown) = ports(&table(), &none, &HashSet::from([2222, 2223]), true);
        assert_eq!(known, HashSet::from([2222]));
        assert_eq!(unknown, None);
    }

    #[test]
    fn a_variable_that_sshd_did_not_write_is_refused() {
        for wrong in [
            "",
            "198.51.100.8 50002 198.51.100.1",
            "198.51.100.8 50002 198.51.100.1 99999",
            "198.51.100.8 50002 2001:db8::1 22",
        ] {
            assert!(wrong.parse::<Session>().is_err(), "{wrong:?}");
        }
    }
}
