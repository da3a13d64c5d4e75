//! One packet of a region, for people to look at and for `explain` to judge.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_common::packet::protocol;
use jiff::Timestamp;

use super::super::Payload;
use super::field::{
    FIRST, Field, LATER, NO_FLAGS, NO_ICMP, NO_PORT, NO_VLAN, NO_WINDOW, Range, WHOLE,
};
use super::region::Region;
use super::space::Space;
use crate::packet_build::PacketBuilder;
use crate::policy::protocol::{ICMP, ICMPV6, icmp_type_name, protocol_name, tcp_flag_names};

/// A packet by what rules can ask of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    pub from: IpAddr,
    pub to: IpAddr,
    pub protocol: u8,
    /// Source and destination.
    pub ports: Option<(u16, u16)>,
    pub tcp_flags: Option<u8>,
    pub tcp_window: Option<u16>,
    pub icmp_type: Option<u8>,
    /// Of the IP packet, in bytes.
    pub length: u16,
    pub ttl: u8,
    pub vlan: Option<u16>,
    /// `None`: none that a rule names.
    pub interface: Option<String>,
    /// What its payload shows.
    pub payload: Vec<Payload>,
    /// What it does not show, of all that the rules ask for.
    pub hidden: Vec<Payload>,
    pub fragment: Piece,
    /// When it comes.
    pub at: Timestamp,
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    Whole,
    First,
    Later,
}

/// Addresses for documentation (RFC 5737, RFC 3849).
const SENDER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const RECEIVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const SENDER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const RECEIVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const TTL: u128 = 64;
const WINDOW: u128 = 64_240;
const SYN: u128 = 2;
/// What payloads are filled with: the first that shows no pattern which should not be there.
const FILLINGS: [u8; 4] = [0, 0xa5, 0x5a, 0x33];

impl Example {
    /// A packet of a region in which every set is there: an ordinary one, if it has any.
    pub(super) fn of(space: &Space, region: &Region) -> Self {
        let context = &space.context;
        let ranges = |field: Field| match &region.fields[field as usize] {
            Some(classes) => space.ranges(field, classes),
            None => vec![(0, context.highest(field))],
        };
        let pick = |field: Field, liked: &[u128]| picked(&ranges(field), liked);
        let known = |value: u128, none: u128| (value != none).then_some(value);
        let address = |bits: u128| {
            if context.v6 {
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            } else {
                IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
            }
        };
        let [sender, receiver] = if context.v6 {
            [SENDER_V6.to_bits(), RECEIVER_V6.to_bits()]
        } else {
            [SENDER, RECEIVER].map(|address| address.to_bits().into())
        };
        let from = pick(Field::Source, &[sender]);
        let mut to = pick(Field::Destination, &[receiver]);
        if to == from {
            // A packet to its own sender is malformed.
            to = picked(&ranges(Field::Destination), &[from + 1]);
        }
        let source_port = known(pick(Field::SourcePort, &[40_000]), NO_PORT);
        let port = known(pick(Field::DestinationPort, &[443, 80]), NO_PORT);
        let shown = pick(Field::Payload, &[0]);
        let payloads = |wanted: bool| {
            let payloads = context.payloads.iter().enumerate();
            let wanted = payloads.filter(|(index, _)| (shown >> index & 1 != 0) == wanted);
            wanted.map(|(_, payload)| *payload).collect::<Vec<_>>()
        };
        let slot = pick(Field::Interface, &[context.interfaces.len() as u128]) as usize;
        let icmp_type = pick(Field::IcmpType, &[if context.v6 { 128 } else { 8 }]);
        let least = ranges(Field::Length).first().map_or(0, |range| range.0);
        let time = pick(Field::Time, &[0]);
        Self {
            from: address(from),
            to: address(to),
            protocol: pick(Field::Protocol, &[6, 17]) as u8,
            ports: source_port
                .zip(port)
                .map(|(from, to)| (from as u16, to as u16)),
            tcp_flags: known(pick(Field::TcpFlags, &[SYN]), NO_FLAGS).map(|flags| flags as u8),
            tcp_window: known(pick(Field::TcpWindow, &[WINDOW]), NO_WINDOW)
                .map(|window| window as u16),
            icmp_type: known(icmp_type, NO_ICMP).map(|kind| kind as u8),
            length: least as u16,
            ttl: pick(Field::Ttl, &[TTL]) as u8,
            vlan: known(pick(Field::Vlan, &[NO_VLAN]), NO_VLAN).map(|vlan| vlan as u16),
            interface: context.interfaces.get(slot).cloned(),
            payload: payloads(true),
            hidden: payloads(false),
            fragment: match pick(Field::Fragment, &[WHOLE]) {
                FIRST => Piece::First,
                LATER => Piece::Later,
                _ => Piece::Whole,
            },
            at: match (time as usize).checked_sub(1) {
                None => context.now,
                Some(passed) => context.ends[passed],
            },
        }
    }

    /// A frame with this packet; `None` where it would take a payload that has to be found first, or
    /// where the packet is too short for its headers.
    pub fn frame(&self) -> Option<Vec<u8>> {
        const ETHERNET: usize = 14;
        const TAG: usize = 4;
        if !self.payload.is_empty() {
            return None;
        }
        let mut packet = PacketBuilder::new(self.from, self.to)?.ttl(self.ttl);
        let (from, to) = self.ports.unwrap_or_default();
        let mut payload = Vec::new();
        packet = match self.protocol {
            number if self.fragment == Piece::Later => packet.protocol(number),
            protocol::TCP => {
                let packet = packet.tcp(from, to, self.tcp_flags?);
                packet.tcp_window(self.tcp_window?)
            }
            protocol::UDP => packet.udp(from, to),
            number => match self.icmp_type {
                Some(kind) => packet.icmp(kind, 0, [0; 4]),
                None => {
                    if self.ports.is_some() {
                        payload.extend(from.to_be_bytes());
                        payload.extend(to.to_be_bytes());
                        let header: usize = if number == protocol::UDPLITE { 8 } else { 12 };
                        payload.resize(header, 0);
                    }
                    packet.protocol(number)
                }
            },
        };
        packet = match self.fragment {
            Piece::Whole => packet,
            Piece::First => packet.fragment(0, true),
            // Far enough in that no header could be overwritten (RFC 3128).
            Piece::Later => packet.fragment(64, false),
        };
        let mut tags = 0;
        if let Some(vlan) = self.vlan {
            packet = packet.vlan(vlan);
            tags = TAG;
        }
        packet = packet.payload(&payload);
        // Both headers are multiples of 8 bytes but for IPv4's, and all pieces but the last are too.
        let unaligned = if self.from.is_ipv4() { 4 } else { 0 };
        if self.fragment == Piece::First && self.length % 8 != unaligned {
            return None;
        }
        let shortest = packet.build().len() - ETHERNET - tags;
        let more = usize::from(self.length).checked_sub(shortest)?;
        let header = payload.len();
        for filling in FILLINGS {
            payload.truncate(header);
            payload.resize(header + more, filling);
            let behind = &payload[header..];
            if !self.hidden.iter().any(|pattern| pattern.is_in(behind)) {
                let frame = packet.payload(&payload).build();
                let expected = ETHERNET + tags + usize::from(self.length);
                return (frame.len() == expected).then_some(frame);
            }
        }
        None
    }
}

/// The first of the liked values that is there, or else the lowest.
fn picked(ranges: &[Range], liked: &[u128]) -> u128 {
    let there = |value: &&u128| {
        ranges
            .iter()
            .any(|range| (range.0..=range.1).contains(value))
    };
    match liked.iter().find(there) {
        Some(value) => *value,
        None => ranges.first().map_or(0, |range| range.0),
    }
}

impl fmt::Display for Example {
    /// `tcp 198.51.100.7:40000 to 203.0.113.5:443, syn`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |address: IpAddr, port: Option<u16>| match (address, port) {
            (address, None) => address.to_string(),
            (IpAddr::V4(address), Some(port)) => format!("{address}:{port}"),
            (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
        };
        let protocol = protocol_name(self.protocol);
        let from = end(self.from, self.ports.map(|ports| ports.0));
        let to = end(self.to, self.ports.map(|ports| ports.1));
        write!(formatter, "{protocol} {from} to {to}")?;
        if let Some(flags) = self.tcp_flags {
            let names: Vec<&str> = tcp_flag_names(flags).collect();
            match names.as_slice() {
                [] => formatter.write_str(", no flags")?,
                names => write!(formatter, ", {}", names.join(","))?,
            }
        }
        if let Some(kind) = self.icmp_type {
            let icmp = if self.from.is_ipv6() { ICMPV6 } else { ICMP };
            write!(formatter, ", {}", icmp_type_name(icmp, kind))?;
        }
        if let Some(window) = self
            .tcp_window
            .filter(|window| u128::from(*window) != WINDOW)
        {
            write!(formatter, ", window {window}")?;
        }
        if u128::from(self.ttl) != TTL {
            write!(formatter, ", ttl {}", self.ttl)?;
        }
        if let Some(vlan) = self.vlan {
            write!(formatter, ", vlan {vlan}")?;
        }
        if let Some(interface) = &self.interface {
            write!(formatter, ", interface {interface}")?;
        }
        match self.fragment {
            Piece::Whole => {}
            Piece::First => formatter.write_str(", a first fragment")?,
            Piece::Later => formatter.write_str(", a later fragment")?,
        }
        for payload in &self.payload {
            write!(formatter, ", payload {payload}")?;
        }
        Ok(())
    }
}
