//! Connections that the inside opened, in a plain map.

use std::collections::HashMap;
use std::net::IpAddr;

use firewall_common::Direction;

use super::parse::{ACK, Body, FIN, Fragment, ICMP, ICMPV6, Packet, RST, SYN, TCP, UDP, UDPLITE};

const SECOND: u64 = 1_000_000_000;

/// Who talks to whom: addresses, ports (an echo's identifier on our side) and protocol.
type Key = (IpAddr, IpAddr, u16, u16, u8);

#[derive(Debug, Default)]
pub struct Connections {
    entries: HashMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Kept to the second: a packet within a second of the last noted one is not noted.
    last: u64,
    answered: bool,
    closing: bool,
    /// The outbound rule that let the opening pass.
    rule: Option<String>,
}

impl Connections {
    /// If a packet belongs to a live connection: the rule that admitted it, where one did.
    pub fn belongs(
        &mut self,
        packet: &Packet,
        direction: Direction,
        now: u64,
    ) -> Option<Option<String>> {
        let may = match (packet.body, direction) {
            (Body::Tcp { flags, .. }, _) => flags & (SYN | ACK) != SYN,
            (Body::Ports { .. }, _) => matches!(packet.protocol, UDP | UDPLITE),
            (Body::Icmp { .. }, Direction::Inbound) => is_echo_reply(packet),
            (Body::Icmp { .. }, Direction::Outbound) => is_echo_request(packet),
            (Body::Opaque, _) => false,
        };
        if !may {
            return None;
        }
        let entry = self.entries.get_mut(&key(packet, direction))?;
        let life = match packet.protocol {
            TCP if entry.closing => 60,
            TCP if entry.answered => 7_440,
            TCP => 120,
            UDP | UDPLITE if entry.answered => 180,
            _ => 30,
        };
        let idle = now.saturating_sub(entry.last);
        if idle > life * SECOND {
            return None;
        }
        if !packet.is_error {
            entry.answered |= direction == Direction::Inbound;
            if let Body::Tcp { flags, .. } = packet.body {
                entry.closing |= flags & (FIN | RST) != 0;
            }
            if idle > SECOND {
                entry.last = now;
            }
        }
        Some(entry.rule.clone())
    }

    /// Enters the connection that an outbound packet opens.
    pub fn open(&mut self, packet: &Packet, rule: Option<&str>, now: u64) {
        let entry = Entry {
            last: now,
            answered: false,
            closing: false,
            rule: rule.map(str::to_owned),
        };
        self.entries.insert(key(packet, Direction::Outbound), entry);
    }
}

/// Whether an outbound packet that passes opens a connection, provided that its answer needs one.
pub fn opens(packet: &Packet) -> bool {
    !packet.is_error
        && packet.fragment != Fragment::Later
        && match packet.body {
            Body::Tcp { .. } => is_opening(packet),
            Body::Ports { .. } => matches!(packet.protocol, UDP | UDPLITE),
            Body::Icmp { .. } => is_echo_request(packet),
            Body::Opaque => false,
        }
}

/// Whether an outbound packet can be the answer to something that came in.
pub fn answers(packet: &Packet) -> bool {
    match packet.body {
        Body::Tcp { .. } => !is_opening(packet),
        Body::Ports { .. } => true,
        Body::Icmp { .. } => packet.is_error || is_echo_reply(packet),
        Body::Opaque => packet.is_error && packet.fragment != Fragment::Later,
    }
}

/// The packet that an outbound one answers, or that answers it.
pub fn turned_round(packet: &Packet) -> Packet {
    let v6 = packet.destination.is_ipv6();
    let body = match packet.body {
        Body::Tcp {
            from,
            to,
            flags,
            window,
        } => {
            let flags = if flags & (SYN | ACK) == SYN | ACK {
                SYN
            } else {
                ACK
            };
            Body::Tcp {
                from: to,
                to: from,
                flags,
                window,
            }
        }
        Body::Ports { from, to } => Body::Ports { from: to, to: from },
        Body::Icmp {
            identifier, code, ..
        } if is_echo_reply(packet) => {
            let kind = if v6 { 128 } else { 8 };
            Body::Icmp {
                kind,
                code,
                identifier,
            }
        }
        other => other,
    };
    Packet {
        sender: packet.destination,
        source: packet.destination,
        destination: packet.source,
        body,
        ..packet.clone()
    }
}

fn key(packet: &Packet, direction: Direction) -> Key {
    let (from, to) = match packet.body {
        Body::Tcp { from, to, .. } | Body::Ports { from, to } => (from, to),
        Body::Icmp { identifier, .. } if direction == Direction::Inbound => (0, identifier),
        Body::Icmp { identifier, .. } => (identifier, 0),
        Body::Opaque => (0, 0),
    };
    match direction {
        Direction::Inbound => (packet.destination, packet.source, to, from, packet.protocol),
        Direction::Outbound => (packet.source, packet.destination, from, to, packet.protocol),
    }
}

fn is_opening(packet: &Packet) -> bool {
    matches!(packet.body, Body::Tcp { flags, .. } if flags & (SYN | ACK | RST | FIN) == SYN)
}

fn is_echo_request(packet: &Packet) -> bool {
    matches!(
        (packet.protocol, packet.body),
        (ICMP, Body::Icmp { kind: 8, .. }) | (ICMPV6, Body::Icmp { kind: 128, .. })
    )
}

fn is_echo_reply(packet: &Packet) -> bool {
    matches!(
        (packet.protocol, packet.body),
        (ICMP, Body::Icmp { kind: 0, .. }) | (ICMPV6, Body::Icmp { kind: 129, .. })
    )
}
