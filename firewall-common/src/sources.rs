//! Who sends what: per-source counters in a fixed, set-associative table.
//!
//! Each CPU writes a stripe of its own, so that there are neither locks nor atomics; a reader adds
//! the stripes up. A bucket keeps its heaviest sources: every packet of a kept source adds to its
//! weight, every packet of a stranger takes one from the lightest, and only at 0 is a source
//! displaced (Misra and Gries 1982, per bucket). A source that sends more than its bucket's
//! strangers together is therefore never lost to a flood of random sources, and the counters of a
//! kept source are exact since it entered.

use crate::layout::{SOURCE_WAYS, SourceBucket, SourceCounters, TRAFFIC_KINDS, TrafficKind};
use crate::packet::{Kind, Packet, flag, mark, protocol};
use crate::{Address, Direction, Verdict};

/// A source that has been silent for this long gives up its place, whatever its weight.
pub const IDLE_MILLISECONDS: u32 = 60_000;

/// What is added to a source for one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// See [`Address::source_key`].
    pub key: u64,
    /// 1, or 0 when only a failed contact is credited to somebody who was answered.
    pub packets: u32,
    pub bytes: u32,
    pub drops: u32,
    pub syns: u32,
    pub requests: u32,
    pub failed: u32,
    /// Bits to set in [`SourceCounters::ports`].
    pub ports: u64,
    /// Bits to set in [`SourceCounters::hosts`].
    pub hosts: u64,
}

/// What became of an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Counted.
    Kept,
    /// Counted; another source was displaced for it.
    Displaced,
    /// Not counted: the bucket is full of heavier sources.
    TurnedAway,
}

/// What an inbound packet adds to its sender.
#[inline(always)]
pub fn observe(packet: &Packet, verdict: Verdict, established: bool) -> Observation {
    let dropped = (verdict as u32 == Verdict::Drop as u32) as u32;
    let syn = packet.is_syn() && !packet.is(mark::ICMP_ERROR);
    let mut observation = Observation {
        key: packet.sender.source_key(),
        packets: 1,
        bytes: packet.length,
        drops: dropped,
        syns: syn as u32,
        requests: packet.is(mark::REQUEST) as u32,
        ..Observation::default()
    };
    if !established && is_first_contact(packet, syn) {
        observation.failed = dropped;
        observation.ports = port_bit(packet.protocol, packet.destination_port);
        observation.hosts = host_bit(packet.destination);
    }
    observation
}

/// What a refusal (a RST for a connection that is not, an ICMP port or protocol unreachable) adds
/// to the source that it answers; `None` for any other packet.
#[inline(always)]
pub fn observe_refusal(packet: &Packet) -> Option<Observation> {
    let reset = packet.is(mark::REFUSAL) && !packet.is(mark::ICMP_ERROR);
    let unreachable = packet.is(mark::ICMP_ERROR)
        && if packet.is(mark::V6) {
            packet.icmp_type == 1 && matches!(packet.icmp_code, 1 | 4)
        } else {
            packet.icmp_type == 3 && matches!(packet.icmp_code, 2 | 3 | 9 | 10 | 13)
        };
    if !reset && !unreachable {
        return None;
    }
    Some(Observation {
        key: packet.destination.source_key(),
        failed: 1,
        ports: port_bit(packet.protocol, packet.source_port),
        hosts: host_bit(packet.source),
        ..Observation::default()
    })
}

/// Whether a packet opens, or pretends to open, something: replies, refusals, errors and segments
/// of connections do not.
#[inline(always)]
fn is_first_contact(packet: &Packet, syn: bool) -> bool {
    if packet.kind as u8 != Kind::Ip as u8 || packet.is(mark::ICMP_ERROR) {
        return false;
    }
    match packet.protocol {
        // No ACK and no RST: SYN, and what no connection contains (NULL, FIN, Xmas).
        protocol::TCP => {
            syn || (packet.is(mark::PORTS) && packet.tcp_flags & (flag::ACK | flag::RST) == 0)
        }
        // From a service's port to a client's it is an answer.
        protocol::UDP | protocol::UDPLITE => {
            packet.is(mark::PORTS)
                && !(packet.source_port < 1024 && packet.destination_port >= 1024)
        }
        protocol::ICMP | protocol::ICMPV6 | protocol::IGMP => false,
        _ => true,
    }
}

/// Adds an observation to its bucket.
#[inline(always)]
pub fn record(bucket: &mut SourceBucket, observation: &Observation, now: u64) -> Recorded {
    let now = (now / 1_000_000) as u32;
    let key = observation.key;
    let mut way = SOURCE_WAYS;
    let mut lightest = 0;
    let mut least = u32::MAX;
    for candidate in 0..SOURCE_WAYS {
        if bucket.keys[candidate] == key {
            way = candidate;
            break;
        }
        let idle = now.wrapping_sub(bucket.last_seen[candidate]) > IDLE_MILLISECONDS;
        let empty = bucket.keys[candidate] == 0;
        let weight = if idle || empty {
            0
        } else {
            bucket.weights[candidate]
        };
        if weight < least {
            least = weight;
            lightest = candidate;
        }
    }
    let mut recorded = Recorded::Kept;
    if way == SOURCE_WAYS {
        // An answered contact alone makes nobody a source worth a place that is taken.
        if least > 0 {
            if observation.packets > 0 {
                bucket.weights[lightest & (SOURCE_WAYS - 1)] = least - 1;
            }
            return Recorded::TurnedAway;
        }
        way = lightest;
        if bucket.keys[way & (SOURCE_WAYS - 1)] != 0 {
            recorded = Recorded::Displaced;
        }
        bucket.keys[way & (SOURCE_WAYS - 1)] = key;
        bucket.weights[way & (SOURCE_WAYS - 1)] = 0;
        bucket.counters[way & (SOURCE_WAYS - 1)] = SourceCounters {
            first_seen: now,
            ..SourceCounters::default()
        };
    }
    // Spelled out so that the verifier sees the bound.
    let way = way & (SOURCE_WAYS - 1);
    bucket.weights[way] = bucket.weights[way].saturating_add(1);
    bucket.last_seen[way] = now;
    let counters = &mut bucket.counters[way];
    counters.packets += observation.packets as u64;
    counters.bytes += observation.bytes as u64;
    counters.drops += observation.drops as u64;
    counters.syns = counters.syns.wrapping_add(observation.syns);
    counters.requests = counters.requests.wrapping_add(observation.requests);
    counters.failed = counters.failed.wrapping_add(observation.failed);
    if observation.ports | observation.hosts != 0 {
        counters.ports |= observation.ports;
        counters.hosts |= observation.hosts;
    }
    recorded
}

/// Index of a key's bucket among `buckets`, a power of two.
#[inline(always)]
pub const fn bucket_index(key: u64, seed: u32, buckets: u32) -> u32 {
    (mix(key ^ (seed as u64) << 32 ^ seed as u64) >> 32) as u32 & (buckets - 1)
}

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
const fn is_amplifier(port: u16) -> bool {
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

#[inline(always)]
const fn port_bit(protocol: u8, port: u16) -> u64 {
    1 << (mix((protocol as u64) << 16 | port as u64) >> 58)
}

#[inline(always)]
const fn host_bit(host: Address) -> u64 {
    1 << (mix(host.high ^ host.low) >> 58)
}

/// Mixes all bits of a word into the upper ones (the finaliser of Steele, Lea and Flood 2014,
/// "SplitMix", with one multiplication less).
#[inline(always)]
pub(crate) const fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Whether a packet's direction makes its sender a source: only strangers are accounted.
#[inline(always)]
pub const fn is_accounted(direction: Direction) -> bool {
    matches!(direction, Direction::Inbound)
}
