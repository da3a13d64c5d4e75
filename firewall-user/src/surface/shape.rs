//! Packets that rules look for: a first packet to a port, in the form that a rule asks for.

use std::net::IpAddr;

use firewall_common::packet::{flag, protocol};

use crate::host::Transport;
use crate::packet_build::PacketBuilder;
use crate::policy::{Payload, Rule};

/// A port that a client may choose (RFC 6335).
const CLIENT_PORT: u16 = 50_022;

/// What a first packet looks like beside its addresses and its port.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    from_port: u16,
    flags: u8,
    ttl: u8,
    window: Option<u16>,
    vlan: Option<u16>,
    length: Option<u16>,
    payload: Option<Payload>,
}

impl Shape {
    /// An ordinary one.
    pub(super) const PLAIN: Self = Self {
        from_port: CLIENT_PORT,
        flags: flag::SYN,
        ttl: 64,
        window: None,
        vlan: None,
        length: None,
        payload: None,
    };

    /// The most ordinary one that a rule lets in.
    pub(super) fn of(rule: &Rule) -> Self {
        fn within<T: PartialOrd + Copy>(ranges: &[(T, T)], liked: T) -> T {
            let there = |range: &(T, T)| range.0 <= liked && liked <= range.1;
            match ranges.first() {
                Some(first) if !ranges.iter().any(there) => first.0,
                _ => liked,
            }
        }
        let plain = Self::PLAIN;
        Self {
            from_port: within(&rule.from_ports, plain.from_port),
            flags: rule.tcp_flags.map_or(plain.flags, |flags| {
                (plain.flags | flags.set) & !flags.clear
            }),
            ttl: within(&rule.ttls, plain.ttl),
            window: rule.tcp_windows.first().map(|range| range.0),
            vlan: rule.vlans.first().copied(),
            length: rule.lengths.first().map(|range| range.0),
            payload: rule.payloads.first().copied(),
        }
    }

    /// The frame from one address to another; `None` between families.
    pub(super) fn frame(
        &self,
        from: IpAddr,
        to: IpAddr,
        transport: Transport,
        port: u16,
    ) -> Option<Vec<u8>> {
        const ETHERNET: usize = 14;
        const TAG: usize = 4;
        let mut packet = PacketBuilder::new(from, to)?.ttl(self.ttl);
        packet = match transport {
            Transport::Tcp => packet.tcp(self.from_port, port, self.flags),
            Transport::Udp => packet.udp(self.from_port, port),
        };
        if let (Some(window), protocol::TCP) = (self.window, transport.number()) {
            packet = packet.tcp_window(window);
        }
        let mut tag = 0;
        if let Some(vlan) = self.vlan {
            packet = packet.vlan(vlan);
            tag = TAG;
        }
        let mut payload = self
            .payload
            .map_or_else(Vec::new, |pattern| pattern.example());
        if let Some(length) = self.length {
            let bare = packet.build().len() - ETHERNET - tag;
            let wanted = usize::from(length).saturating_sub(bare);
            payload.resize(wanted.max(payload.len()), 0);
        }
        Some(packet.payload(&payload).build())
    }
}
