//! Which way a recorded packet crossed the fence.

use firewall_common::packet::{self, Frame, Kind, NO_VLAN, Packet};
use firewall_common::{Address, Direction};
use ipnet::IpNet;

use crate::engine::ip_address;

/// The prefixes behind the fence.
#[derive(Clone, Debug, Default)]
pub struct Inside {
    prefixes: Vec<IpNet>,
}

impl Inside {
    /// Behind the fence are these prefixes; with none of them every packet is inbound.
    pub fn new(prefixes: Vec<IpNet>) -> Self {
        Self { prefixes }
    }

    /// A packet from an inside prefix to elsewhere is outbound, all others are inbound: those to
    /// an inside prefix, also from one, and those that only pass by.
    pub fn direction(&self, frame: &[u8]) -> Direction {
        if self.prefixes.is_empty() {
            return Direction::Inbound;
        }
        let mut packet = Packet::default();
        packet::parse(&mut Frame::new(frame), NO_VLAN, &mut packet);
        let leaves = packet.kind == Kind::Ip
            && self.contains(packet.sender)
            && !self.contains(packet.destination);
        if leaves {
            Direction::Outbound
        } else {
            Direction::Inbound
        }
    }

    fn contains(&self, address: Address) -> bool {
        let address = ip_address(address);
        self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet_build::PacketBuilder;

    fn direction(source: &str, destination: &str, inside: &[&str]) -> Direction {
        let inside = inside.iter().map(|prefix| prefix.parse().unwrap());
        let packet = PacketBuilder::new(source.parse().unwrap(), destination.parse().unwrap());
        let frame = packet.unwrap().udp(1, 2).vlan(9).build();
        Inside::new(inside.collect()).direction(&frame)
    }

    #[test]
    fn only_packets_that_leave_the_inside_are_outbound() {
        let inside = ["198.51.100.0/25", "2001:db8::/48"];
        for (source, destination, expected) in [
            ("198.51.100.1", "203.0.113.1", Direction::Outbound),
            ("203.0.113.1", "198.51.100.1", Direction::Inbound),
            ("198.51.100.1", "198.51.100.2", Direction::Inbound),
            ("203.0.113.1", "203.0.113.2", Direction::Inbound),
            ("2001:db8::1", "2001:db8:1::1", Direction::Outbound),
            ("2001:db8:1::1", "2001:db8::1", Direction::Inbound),
        ] {
            assert_eq!(
                direction(source, destination, &inside),
                expected,
                "{source} {destination}"
            );
        }
        assert_eq!(
            direction("198.51.100.1", "203.0.113.1", &[]),
            Direction::Inbound
        );
    }

    #[test]
    fn frames_without_ip_are_inbound() {
        let inside = Inside::new(vec!["0.0.0.0/0".parse().unwrap()]);
        assert_eq!(inside.direction(&[0; 60]), Direction::Inbound);
        assert_eq!(inside.direction(&[]), Direction::Inbound);
    }
}
