//! A sampled packet, as detectors and people are shown it.

use std::net::IpAddr;

use firewall_common::layout::EVENT_BYTES;
use firewall_common::packet::{Fragment, Packet, mark, protocol};
use firewall_common::sampling::Class;
use firewall_common::{Direction, Reason, Verdict};

use super::Time;
use crate::engine::ip_address;

/// Where the length of a TCP header stands in it.
const TCP_DATA_OFFSET: usize = 12;

/// One packet of many: it also speaks for those of its class that were not shown.
///
/// Which are shown is decided in [`firewall_common::sampling`], in the kernel and in a replay alike.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    pub time: Time,
    pub direction: Direction,
    pub verdict: Verdict,
    pub reason: Reason,
    pub class: Class,
    /// Counter of the rule that decided, or [`firewall_common::layout::NO_RULE`].
    pub rule: u32,
    /// Slot of the interface.
    pub interface: u32,
    /// How many packets and bytes it speaks for, its own among them.
    pub packets: u64,
    pub bytes: u64,
    pub packet: Packet,
    pub head: Head,
}

/// The first bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    captured: u8,
    bytes: [u8; EVENT_BYTES],
}

impl Head {
    /// What is kept of a frame.
    pub fn new(frame: &[u8]) -> Self {
        let mut bytes = [0; EVENT_BYTES];
        let captured = frame.len().min(EVENT_BYTES);
        bytes[..captured].copy_from_slice(&frame[..captured]);
        Self {
            // EVENT_BYTES fit.
            captured: captured as u8,
            bytes,
        }
    }
}

impl Sighting {
    /// A sighting of a frame that speaks for itself.
    pub fn new(time: Time, packet: Packet, class: Class, frame: &[u8]) -> Self {
        Self {
            time,
            direction: Direction::Inbound,
            verdict: Verdict::Pass,
            reason: Reason::Default,
            class,
            rule: firewall_common::layout::NO_RULE,
            interface: 0,
            packets: 1,
            bytes: packet.length.into(),
            packet,
            head: Head::new(frame),
        }
    }

    /// The first bytes of the frame.
    pub fn frame(&self) -> &[u8] {
        &self.head.bytes[..usize::from(self.head.captured)]
    }

    /// How many bytes of transport header there are; `None` where no payload begins, as in a later
    /// fragment and in an ICMP error, of which the rest belongs to another packet.
    fn header(&self) -> Option<u32> {
        let packet = &self.packet;
        if packet.fragment == Fragment::Later || packet.is(mark::ICMP_ERROR) {
            return None;
        }
        Some(match packet.protocol {
            protocol::TCP => {
                let at = packet.transport as usize + TCP_DATA_OFFSET;
                u32::from(self.frame().get(at)? >> 4) * 4
            }
            protocol::UDP | protocol::UDPLITE | protocol::ICMP | protocol::ICMPV6 => 8,
            _ => 0,
        })
    }

    /// How long the payload is, seen or not.
    pub fn payload_length(&self) -> u32 {
        self.header()
            .map_or(0, |header| self.packet.payload.saturating_sub(header))
    }

    /// What of the payload is among the first bytes of the frame.
    pub fn payload(&self) -> &[u8] {
        let Some(header) = self.header() else {
            return &[];
        };
        let from = self.packet.transport.saturating_add(header) as usize;
        let rest = self.frame().get(from..).unwrap_or_default();
        // What stands behind the packet's end is padding.
        &rest[..rest.len().min(self.payload_length() as usize)]
    }

    /// Who sent it.
    pub fn sender(&self) -> IpAddr {
        ip_address(self.packet.sender)
    }

    /// Whom it is for.
    pub fn destination(&self) -> IpAddr {
        ip_address(self.packet.destination)
    }
}
