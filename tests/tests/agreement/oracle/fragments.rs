//! Datagrams whose first fragment was let through, in a plain map.

use std::collections::HashMap;
use std::net::IpAddr;

use firewall_common::Direction;

use super::parse::{Fragment, Packet};

/// Who sends to whom, which way, the identification, and in IPv4 the protocol.
type Key = (IpAddr, IpAddr, bool, u32, Option<u8>);

#[derive(Debug, Default)]
pub struct Fragments {
    entries: HashMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    seen: u64,
    end: usize,
    rule: Option<String>,
}

/// What a later fragment is.
#[derive(Debug, PartialEq, Eq)]
pub enum Later {
    Stray,
    /// The first was let through, by a rule where one decided.
    Follows(Option<String>),
    Overlaps,
}

impl Fragments {
    pub fn of(&self, packet: &Packet, direction: Direction, now: u64) -> Later {
        if packet.fragment != Fragment::Later || packet.is_error {
            return Later::Stray;
        }
        let seconds = if packet.source.is_ipv4() { 30 } else { 60 };
        match self.entries.get(&key(packet, direction)) {
            Some(entry) if now - entry.seen <= seconds * 1_000_000_000 => {
                if packet.piece.1 < entry.end {
                    Later::Overlaps
                } else {
                    Later::Follows(entry.rule.clone())
                }
            }
            _ => Later::Stray,
        }
    }

    /// A packet was let through.
    pub fn passed(&mut self, packet: &Packet, direction: Direction, rule: Option<&str>, now: u64) {
        if packet.fragment == Fragment::First && !packet.is_error {
            let entry = Entry {
                seen: now,
                end: packet.piece.2,
                rule: rule.map(str::to_owned),
            };
            self.entries.insert(key(packet, direction), entry);
        }
    }
}

fn key(packet: &Packet, direction: Direction) -> Key {
    (
        packet.source,
        packet.destination,
        direction == Direction::Inbound,
        packet.piece.0,
        packet.source.is_ipv4().then_some(packet.protocol),
    )
}
