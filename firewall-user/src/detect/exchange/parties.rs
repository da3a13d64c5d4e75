//! Between whom a packet passes: the two ends, with who began first.

use std::net::IpAddr;

use firewall_common::Address;
use firewall_common::packet::{Packet, mark, protocol};

use crate::engine::ip_address;

/// Both ends of an exchange. For echo the client's port is the identifier and the server's 0; for
/// protocols without ports both are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::detect) struct Parties {
    pub client: Address,
    pub server: Address,
    pub client_port: u16,
    pub server_port: u16,
    pub protocol: u8,
}

impl Parties {
    /// The ends of a packet, were it the first; for an ICMP error, those of the packet that it
    /// quotes turned round.
    pub fn of(packet: &Packet) -> Self {
        let quoted = packet.is(mark::ICMP_ERROR);
        let client = if quoted { packet.source } else { packet.sender };
        let echo = matches!(packet.protocol, protocol::ICMP | protocol::ICMPV6);
        // The identifier is the asker's, whichever way a packet goes.
        let (client_port, server_port) = if echo && packet.is(mark::ECHO_REPLY) {
            (0, packet.source_port)
        } else if echo {
            (packet.source_port, 0)
        } else {
            (packet.source_port, packet.destination_port)
        };
        Self {
            client,
            server: packet.destination,
            client_port,
            server_port,
            protocol: packet.protocol,
        }
    }

    /// The same exchange, had the other end begun.
    pub fn turned(self) -> Self {
        Self {
            client: self.server,
            server: self.client,
            client_port: self.server_port,
            server_port: self.client_port,
            protocol: self.protocol,
        }
    }

    /// The account of the client: an IPv4 address or an IPv6 /64.
    pub fn source(&self) -> u64 {
        self.client.source_key()
    }

    /// The client's address.
    pub fn client_address(&self) -> IpAddr {
        ip_address(self.client)
    }

    /// What is tried: a number that differs between ports and protocols of one host.
    pub fn target(&self) -> u32 {
        u32::from(self.protocol) << 16 | u32::from(self.server_port)
    }

    /// The neighbourhood of the server: an IPv4 /24 or an IPv6 /64.
    pub fn neighbourhood(&self) -> u64 {
        if self.server.is_v4() {
            self.server.source_key() >> 8
        } else {
            self.server.source_key()
        }
    }
}
