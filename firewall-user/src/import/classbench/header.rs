//! One header of a trace, and the packet that carries it.

use std::net::{IpAddr, Ipv4Addr};

use firewall_common::packet::{flag, protocol};

use super::cursor::{Cursor, Fault};
use super::filter::Masked;
use super::read_lines;
use crate::packet_build::PacketBuilder;
use crate::policy::PolicyErrors;

/// A header as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: u8,
    /// `None` where the filter takes any.
    pub flags: Option<Masked<u16>>,
    /// The filter that the header was drawn from, from 0: it matches, but need not be the first.
    pub filter: usize,
}

const SHAPE: &str = "a line is \"source destination source-port destination-port protocol flags filter\", all decimal";
/// ICMP's echo request, which stands for "any".
const ECHO_REQUEST: u8 = 8;

/// Reads a trace: a header a line. `name` is for the messages.
pub fn read_headers(text: &str, name: &str) -> Result<Vec<Header>, PolicyErrors> {
    read_lines(text, name, |cursor, _| read(cursor))
}

fn read(cursor: &mut Cursor<'_>) -> Result<Header, Fault> {
    let header = Header {
        source: Ipv4Addr::from_bits(cursor.number("source address", u32::MAX, SHAPE)?),
        destination: Ipv4Addr::from_bits(cursor.number("destination address", u32::MAX, SHAPE)?),
        source_port: cursor.number("source port", 0xffff, SHAPE)? as u16,
        destination_port: cursor.number("destination port", 0xffff, SHAPE)? as u16,
        protocol: cursor.number("protocol", 0xff, SHAPE)? as u8,
        flags: match cursor.number("flags field", u32::MAX, SHAPE)? {
            0 | u32::MAX => None,
            packed => Some(Masked {
                value: (packed >> 16) as u16,
                mask: packed as u16,
            }),
        },
        filter: cursor.number("filter", u32::MAX, SHAPE)? as usize,
    };
    cursor.end(SHAPE)?;
    Ok(header)
}

impl Header {
    /// A frame with this header.
    ///
    /// Ports go only where the protocol has them: a header of GRE or of protocol 255 becomes a packet
    /// without. "Any" flags become those of a packet that begins something, a SYN or an echo request.
    pub fn frame(&self) -> Vec<u8> {
        let (from, to) = (self.source_port, self.destination_port);
        let addresses = (IpAddr::V4(self.source), IpAddr::V4(self.destination));
        let Some(packet) = PacketBuilder::new(addresses.0, addresses.1) else {
            // Both addresses are IPv4.
            return Vec::new();
        };
        match self.protocol {
            protocol::TCP => {
                let flags = self.flags.map_or(flag::SYN, |flags| flags.high().value);
                packet.tcp(from, to, flags)
            }
            protocol::UDP => packet.udp(from, to),
            protocol::ICMP => {
                let (kind, code) = self.flags.map_or((ECHO_REQUEST, 0), |flags| {
                    (flags.high().value, flags.low().value)
                });
                packet.icmp(kind, code, [0, 1, 0, 1])
            }
            protocol::UDPLITE | protocol::SCTP | protocol::DCCP => {
                let mut transport = [0; 12];
                transport[..2].copy_from_slice(&from.to_be_bytes());
                transport[2..4].copy_from_slice(&to.to_be_bytes());
                packet.protocol(self.protocol).payload(&transport)
            }
            other => packet.protocol(other),
        }
        .build()
    }
}
