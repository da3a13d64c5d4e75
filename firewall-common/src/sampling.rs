//! Which packets detection is shown, and how many others each of them speaks for.
//!
//! Counts say how much comes, not what it is. So a bounded stream of packets is sent along: what opens,
//! closes or refuses (scans, logins, connections that are held), questions (tunnels), and a share of
//! all others. Each class has room for some packets in an interval of 17 ms; what comes beyond it is
//! counted, and the next that is sent speaks for it.

use crate::decide::Judgement;
use crate::layout::{CLASSES, Thinning, Uses};
use crate::packet::{Kind, Packet, flag, mark, protocol};
use crate::{Direction, Reason, Verdict, sources};

/// What a sampled packet is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A packet of no other class that was let through; one in many.
    Pass = 0,
    /// A packet of no other class that was dropped.
    Drop = 1,
    /// The first packet of something: a SYN, a datagram to a service, a probe.
    Contact = 2,
    /// What answers, ends or refuses: SYN-ACK, FIN, RST, ICMP errors.
    Control = 3,
    /// DNS over UDP, and echo in both directions.
    Query = 4,
    /// A rule asks for its packets to be logged.
    Log = 5,
}

impl Class {
    /// Every class, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Pass,
        Self::Drop,
        Self::Contact,
        Self::Control,
        Self::Query,
        Self::Log,
    ];

    /// The name people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Contact => "contact",
            Self::Control => "control",
            Self::Query => "query",
            Self::Log => "log",
        }
    }

    /// The class of a number.
    pub const fn from_index(index: u8) -> Option<Self> {
        if (index as usize) < Self::ALL.len() {
            Some(Self::ALL[index as usize])
        } else {
            None
        }
    }

    /// How many times the unit fits into an interval.
    #[inline(always)]
    const fn share(self) -> u32 {
        match self {
            Self::Contact => 4,
            Self::Control => 2,
            _ => 1,
        }
    }
}

/// Length of an interval as a power of two of nanoseconds: 16.8 ms.
pub const INTERVAL_BITS: u32 = 24;
/// Packets of all CPUs that each class may show in an interval, times its share.
pub const UNITS: u32 = 64;
/// Of what merely passes, one in so many packets or bytes is shown.
pub const PASSING_PACKETS: u64 = 256;
pub const PASSING_BYTES: u64 = 128 << 10;
/// And one in so many intervals, where there is less: 134 ms.
pub const PASSING_INTERVALS: u64 = 8;

/// Where what passes outward is thinned, behind the classes.
const PASSING_OUT: usize = Class::ALL.len();

/// What a packet is shown as.
#[inline(always)]
pub fn class(packet: &Packet, judgement: Judgement) -> Class {
    if judgement.log {
        return Class::Log;
    }
    if packet.kind as u8 == Kind::Ip as u8 {
        if packet.is(mark::ICMP_ERROR) {
            return Class::Control;
        }
        match packet.protocol {
            protocol::TCP => {
                if packet.tcp_flags & (flag::FIN | flag::RST) != 0
                    || packet.tcp_flags & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK
                {
                    // A FIN without ACK is no end but a probe.
                    if packet.tcp_flags & (flag::ACK | flag::RST) != 0 {
                        return Class::Control;
                    }
                }
            }
            protocol::UDP if packet.source_port == 53 || packet.destination_port == 53 => {
                return Class::Query;
            }
            _ => {
                if packet.marks & (mark::ECHO_REQUEST | mark::ECHO_REPLY) != 0 {
                    return Class::Query;
                }
            }
        }
        let established = judgement.reason as u32 == Reason::Established as u32;
        if !established && sources::is_first_contact(packet, packet.is_syn()) {
            return Class::Contact;
        }
    }
    if judgement.verdict as u32 == Verdict::Drop as u32 {
        Class::Drop
    } else {
        Class::Pass
    }
}

/// What a shown packet speaks for: itself, and those of its class since the last that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoken {
    pub packets: u64,
    pub bytes: u64,
}

/// Whether a packet is shown. `unit` is this CPU's share of [`UNITS`].
#[inline(always)]
pub fn offer(
    thinning: &mut Thinning,
    class: Class,
    direction: Direction,
    packets: u32,
    bytes: u32,
    unit: u32,
    now: u64,
) -> Option<Spoken> {
    // What passes is kept apart by direction: a packet speaks for none of the other.
    let passes_out =
        class as u8 == Class::Pass as u8 && direction as u32 == Direction::Outbound as u32;
    let slot = if passes_out {
        PASSING_OUT
    } else {
        class as usize
    };
    let own = &mut thinning.classes[slot & (CLASSES - 1)];
    own.packets += packets as u64;
    own.bytes += bytes as u64;
    let interval = now >> INTERVAL_BITS;
    if class as u8 == Class::Pass as u8
        && own.packets < PASSING_PACKETS
        && own.bytes < PASSING_BYTES
        && interval.wrapping_sub(own.interval) < PASSING_INTERVALS
    {
        return None;
    }
    if own.interval != interval {
        own.interval = interval;
        own.sent = 0;
    }
    if own.sent >= unit as u64 * class.share() as u64 {
        thinning.withheld += 1;
        return None;
    }
    own.sent += 1;
    let spoken = Spoken {
        packets: own.packets,
        bytes: own.bytes,
    };
    own.packets = 0;
    own.bytes = 0;
    Some(spoken)
}

/// What a packet that was let in adds to the use of the rule that let it in: a connection, a request.
#[inline(always)]
pub fn uses(packet: &Packet, judgement: Judgement) -> Uses {
    if judgement.verdict as u32 != Verdict::Pass as u32 || packet.is(mark::ICMP_ERROR) {
        return Uses::default();
    }
    let opens = packet.is_syn() && judgement.reason as u32 == Reason::Rule as u32;
    Uses {
        connections: opens as u64,
        requests: packet.is(mark::REQUEST) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::NO_RULE;

    const UNIT: u32 = 2;
    const INTERVAL: u64 = 1 << INTERVAL_BITS;

    fn judged(verdict: Verdict, reason: Reason) -> Judgement {
        Judgement {
            verdict,
            reason,
            rule: NO_RULE,
            log: false,
        }
    }

    fn tcp(flags: u8) -> Packet {
        Packet {
            kind: Kind::Ip,
            protocol: protocol::TCP,
            tcp_flags: flags,
            marks: mark::PORTS,
            ..Packet::default()
        }
    }

    #[test]
    fn what_opens_answers_and_ends_is_told_from_what_goes_on() {
        let class_of = |flags, reason| class(&tcp(flags), judged(Verdict::Pass, reason));
        assert_eq!(class_of(flag::SYN, Reason::Rule), Class::Contact);
        assert_eq!(class_of(0, Reason::Default), Class::Contact);
        assert_eq!(class_of(flag::FIN, Reason::Default), Class::Contact);
        assert_eq!(
            class_of(flag::FIN | flag::PSH | flag::URG, Reason::Default),
            Class::Contact
        );
        assert_eq!(
            class_of(flag::SYN | flag::ACK, Reason::Rule),
            Class::Control
        );
        assert_eq!(
            class_of(flag::FIN | flag::ACK, Reason::Established),
            Class::Control
        );
        assert_eq!(class_of(flag::RST, Reason::Rule), Class::Control);
        assert_eq!(class_of(flag::ACK, Reason::Established), Class::Pass);
        let dropped = judged(Verdict::Drop, Reason::Default);
        assert_eq!(class(&tcp(flag::ACK), dropped), Class::Drop);
        let logged = Judgement {
            log: true,
            ..dropped
        };
        assert_eq!(class(&tcp(flag::SYN), logged), Class::Log);
    }

    #[test]
    fn every_packet_is_spoken_for_once_and_an_interval_shows_no_more_than_its_share() {
        let mut thinning = Thinning::default();
        let (mut spoken, mut shown) = (0, 0);
        for packet in 0..1_000_u64 {
            let now = packet * INTERVAL / 100;
            if let Some(told) = offer(
                &mut thinning,
                Class::Drop,
                Direction::Inbound,
                1,
                60,
                UNIT,
                now,
            ) {
                assert_eq!(told.bytes, told.packets * 60);
                spoken += told.packets;
                shown += 1;
            }
        }
        assert_eq!(shown, 10 * u64::from(UNIT));
        assert_eq!(thinning.withheld, 1_000 - shown);
        let waiting = thinning.classes[Class::Drop as usize].packets;
        assert_eq!(spoken + waiting, 1_000);
    }

    #[test]
    fn of_what_passes_one_in_many_packets_bytes_or_intervals_is_shown() {
        let shown = |packets: u64, bytes: u32, apart: u64| {
            let mut thinning = Thinning::default();
            thinning.classes[Class::Pass as usize].interval = 1_000;
            (0..packets)
                .filter(|packet| {
                    let now = 1_000 * INTERVAL + packet * apart;
                    offer(
                        &mut thinning,
                        Class::Pass,
                        Direction::Inbound,
                        1,
                        bytes,
                        1_000,
                        now,
                    )
                    .is_some()
                })
                .count()
        };
        assert_eq!(shown(2_560, 60, 0), 10);
        assert_eq!(shown(100, 65_536, 0), 50);
        assert_eq!(shown(100, 60, INTERVAL), 12);
    }

    #[test]
    fn connections_and_requests_belong_to_the_rule_that_let_them_in() {
        let by_rule = judged(Verdict::Pass, Reason::Rule);
        assert_eq!(uses(&tcp(flag::SYN), by_rule).connections, 1);
        assert_eq!(uses(&tcp(flag::ACK), by_rule).connections, 0);
        assert_eq!(
            uses(&tcp(flag::SYN), judged(Verdict::Drop, Reason::Rule)),
            Uses::default()
        );
        let request = Packet {
            marks: mark::PORTS | mark::REQUEST,
            ..tcp(flag::ACK | flag::PSH)
        };
        let established = judged(Verdict::Pass, Reason::Established);
        assert_eq!(uses(&request, established).requests, 1);
    }
}
