//! What kinds of traffic a packet counts as.

use crate::layout::{TRAFFIC_KINDS, TrafficKind};
use crate::packet::{Kind, Packet, flag, mark, protocol};

/// Calls `count` for each kind that a packet is.
#[inline(always)]
pub fn kinds(packet: &Packet, mut count: impl FnMut(TrafficKind)) {
    match packet.kind {
        Kind::Other => return count(TrafficKind::NonIp),
        Kind::Malformed => return count(TrafficKind::Malformed),
        Kind::Ip => {}
    }
    if packet.is(mark::V6) {
        count(TrafficKind::V6);
    }
    if packet.fragment as u8 == crate::packet::Fragment::Later as u8 {
        count(TrafficKind::Fragment);
    }
    if packet.is(mark::REQUEST) {
        count(TrafficKind::Request);
    }
    if packet.is(mark::ICMP_ERROR) {
        return count(TrafficKind::IcmpError);
    }
    match packet.protocol {
        protocol::TCP => {
            count(TrafficKind::Tcp);
            if packet.tcp_flags & flag::SYN != 0 {
                let ack = packet.tcp_flags & flag::ACK != 0;
                count(if ack {
                    TrafficKind::SynAck
                } else {
                    TrafficKind::Syn
                });
            } else if packet.tcp_flags & flag::RST != 0 {
                count(TrafficKind::Reset);
            } else if packet.tcp_flags & flag::FIN != 0 {
                count(TrafficKind::Fin);
            }
        }
        protocol::UDP => {
            count(TrafficKind::Udp);
            if packet.is(mark::PORTS) && is_amplifier(packet.source_port) {
                count(TrafficKind::AmplifierReply);
            }
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let echo = packet.is(mark::ECHO_REQUEST);
            count(if echo {
                TrafficKind::Echo
            } else {
                TrafficKind::IcmpOther
            });
        }
        _ => count(TrafficKind::OtherProtocol),
    }
}

const _: () = assert!(TRAFFIC_KINDS == TrafficKind::OtherProtocol as usize + 1);

/// UDP services whose answers are larger than the questions (US-CERT TA14-017A).
#[inline(always)]
pub const fn is_amplifier(port: u16) -> bool {
    matches!(
        port,
        17 | 19
            | 53
            | 69
            | 111
            | 123
            | 137
            | 161
            | 389
            | 500
            | 520
            | 1434
            | 1900
            | 3283
            | 3702
            | 4500
            | 5351
            | 10001
            | 11211
    )
}
