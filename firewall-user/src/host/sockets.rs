//! What listens here, and who is connected.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context;

use super::sock_diag::{CLOSE, ESTABLISHED, LISTEN, Message, Request, SockDiag};
use super::{Interface, Process};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The IP protocol.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// A socket that takes what anybody sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub transport: Transport,
    pub address: SocketAddr,
    /// Bound to `::`, it takes IPv4 as well.
    pub both_families: bool,
    /// The interface that it is bound to.
    pub interface: Option<String>,
    pub uid: u32,
    /// `None` for the kernel's own, and where processes may not be looked at.
    pub process: Option<Process>,
    /// Opened by the kernel itself.
    pub of_kernel: bool,
    /// A datagram socket on a port that the kernel gives to clients: most probably no service.
    pub of_client: bool,
}

impl Listener {
    /// Only the host itself reaches it.
    pub fn is_local(&self) -> bool {
        self.address.ip().is_loopback() || self.interface.as_deref() == Some("lo")
    }

    /// Answers of DHCP pass by built-in rules.
    pub fn is_built_in(&self) -> bool {
        self.transport == Transport::Udp && matches!(self.address.port(), 68 | 546)
    }

    /// Whether it takes packets to an address of the host.
    pub fn takes(&self, address: IpAddr) -> bool {
        let bound = self.address.ip();
        if bound.is_unspecified() {
            bound.is_ipv4() == address.is_ipv4() || self.both_families
        } else {
            bound == address
        }
    }
}

/// A connection, or a datagram socket with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub transport: Transport,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub uid: u32,
    pub process: Option<Process>,
    /// The peer opened it.
    pub inbound: bool,
}

/// Sessions that are read at most: more do not tell more.
const MOST: usize = 1 << 17;

/// Listeners, and sessions with other hosts.
pub(super) fn read(
    interfaces: &[Interface],
    holders: &HashMap<u64, Process>,
) -> anyhow::Result<(Vec<Listener>, Vec<Session>)> {
    let diag = SockDiag::open()?;
    let mut table = Table {
        listeners: Vec::new(),
        sessions: Vec::new(),
        interfaces,
        holders,
        client_ports: client_ports(),
    };
    for (transport, protocol, states) in [
        (Transport::Tcp, libc::IPPROTO_TCP, [LISTEN, ESTABLISHED]),
        (Transport::Udp, libc::IPPROTO_UDP, [CLOSE, ESTABLISHED]),
    ] {
        let request = Request {
            protocol,
            states: &states,
            attributes: &[],
        };
        diag.dump(request, |message| {
            table.message(transport, message);
        })
        .with_context(|| {
            let name = transport.name();
            format!("the {name} sockets cannot be listed (the kernel needs CONFIG_INET_DIAG and {name}_diag)")
        })?;
    }
    Ok(table.finish())
}

struct Table<'a> {
    listeners: Vec<Listener>,
    sessions: Vec<Session>,
    interfaces: &'a [Interface],
    holders: &'a HashMap<u64, Process>,
    client_ports: (u16, u16),
}

impl Table<'_> {
    fn message(&mut self, transport: Transport, message: Message<'_>) -> Option<()> {
        let local = message.local()?;
        let inode = message.inode()?;
        let process = self.holders.get(&inode).cloned();
        let uid = message.uid()?;
        if message.state()? == ESTABLISHED {
            if self.sessions.len() < MOST {
                self.sessions.push(Session {
                    transport,
                    local,
                    peer: message.peer()?,
                    uid,
                    process,
                    inbound: false,
                });
            }
            return Some(());
        }
        if local.port() == 0 {
            return None;
        }
        let interface = message.interface().and_then(|index| {
            let mut interfaces = self.interfaces.iter();
            interfaces.find(|interface| interface.index == index)
        });
        let (low, high) = self.client_ports;
        let of_kernel = inode == 0;
        self.listeners.push(Listener {
            transport,
            address: local,
            both_families: local.is_ipv6() && local.ip().is_unspecified() && !message.only_v6(),
            interface: interface.map(|interface| interface.name.clone()),
            uid,
            process,
            of_kernel,
            of_client: transport == Transport::Udp
                && (low..=high).contains(&local.port())
                && !of_kernel,
        });
        Some(())
    }

    fn finish(mut self) -> (Vec<Listener>, Vec<Session>) {
        let key = |one: &Listener| (one.transport, one.address.port(), one.address.ip());
        self.listeners.sort_by_key(key);
        // Several processes may share a port; one line says it.
        self.listeners.dedup_by(|later, first| {
            key(later) == key(first)
                && later.interface == first.interface
                && later.process.as_ref().map(|process| &process.name)
                    == first.process.as_ref().map(|process| &process.name)
        });
        let own: HashSet<IpAddr> = self
            .interfaces
            .iter()
            .flat_map(|interface| interface.addresses.iter().copied())
            .collect();
        self.sessions.retain(|session| {
            let peer = session.peer.ip();
            !peer.is_loopback() && !peer.is_unspecified() && !own.contains(&peer)
        });
        let listeners = &self.listeners;
        for session in &mut self.sessions {
            session.inbound = listeners.iter().any(|listener| {
                listener.transport == session.transport
                    && listener.address.port() == session.local.port()
                    && listener.takes(session.local.ip())
            });
        }
        self.sessions
            .sort_by_key(|session| (session.transport, session.local.port(), session.peer));
        (self.listeners, self.sessions)
    }
}

/// The ports that the kernel gives to who asks for none.
fn client_ports() -> (u16, u16) {
    const USUAL: (u16, u16) = (32_768, 60_999);
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(low)), Some(Ok(high))) => (low, high),
        _ => USUAL,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn listeners_are_found_with_their_families_and_sessions_with_the_host_itself_are_not() {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let both = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let _client = TcpStream::connect(v4.local_addr().unwrap()).unwrap();
        let (listeners, sessions) = read(&[], &HashMap::new()).unwrap();
        let found = |address: SocketAddr| {
            let mut listeners = listeners.iter();
            listeners
                .find(|listener| listener.address == address)
                .unwrap()
        };
        let v4 = found(v4.local_addr().unwrap());
        assert!(v4.is_local() && !v4.of_client && !v4.both_families);
        let both = found(both.local_addr().unwrap());
        assert!(both.both_families && !both.is_local());
        assert!(both.takes(Ipv4Addr::new(198, 51, 100, 1).into()));
        let datagrams = found(datagrams.local_addr().unwrap());
        assert_eq!(datagrams.transport, Transport::Udp);
        assert!(datagrams.of_client, "the kernel chose its port");
        assert!(
            sessions
                .iter()
                .all(|session| !session.peer.ip().is_loopback())
        );
    }
}
