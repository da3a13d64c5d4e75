//! Layouts of what kernel and user space share in maps. All are `repr(C)` without padding.

use crate::Address;
use crate::packet::Packet;

/// The version of every layout in this module; part of the pin folder's name, so that programs
/// of another layout never reuse these maps.
pub const LAYOUT_VERSION: u32 = 7;

/// Rule counters in each CPU's stripe: built-in rules first, then the policy's rules, by a stable number per name.
pub const RULE_COUNTERS: u32 = 32_768;
/// The first counter that belongs to the policy's rules.
pub const FIRST_POLICY_COUNTER: u32 = 32;
/// No rule.
pub const NO_RULE: u32 = u32::MAX;

/// How many interfaces one daemon can protect.
pub const INTERFACES: u32 = 16;

/// Packets and bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

/// Index into the verdict totals: (interface slot, direction, verdict, reason), 256 interfaces' worth
/// of power-of-two strides.
#[inline(always)]
pub const fn total_index(interface: u32, direction: u32, verdict: u32, reason: u32) -> u32 {
    interface << 5 | direction << 4 | verdict << 3 | reason
}
/// Entries of the verdict totals.
pub const TOTALS: u32 = INTERFACES << 5;

/// A ban's key: the masked address and its length in the 128-bit form (IPv4 /32 is 128), and what
/// is done about it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BanKey {
    pub address: Address,
    pub length: u32,
    /// 1 if the prefix is not banned but held to the automatic limit.
    pub limited: u32,
}

impl BanKey {
    /// The key of the prefix of `address` with `length` bits in the 128-bit form.
    #[inline(always)]
    pub const fn new(address: Address, length: u32) -> Self {
        Self {
            address: address.masked(length),
            length,
            limited: 0,
        }
    }
}

/// A connection's key, seen from this host: `local` is the address behind the fence.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub local: Address,
    pub remote: Address,
    /// Host order. For ICMP echo the identifier, with `remote_port` 0.
    pub local_port: u16,
    pub remote_port: u16,
    pub protocol: u8,
    pub reserved: [u8; 3],
}

/// What is known about a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// CLOCK_MONOTONIC nanoseconds of its latest packet.
    pub last_seen: u64,
    /// Counter of the rule that admitted it, or [`NO_RULE`].
    pub rule: u32,
    /// See [`CONNECTION_ASSURED`] and [`CONNECTION_CLOSING`].
    pub flags: u32,
}

/// Packets were seen both ways: it may idle for long.
pub const CONNECTION_ASSURED: u32 = 1;
/// A FIN or RST was seen: it goes soon.
pub const CONNECTION_CLOSING: u32 = 2;

/// Connections kept at once.
pub const CONNECTIONS: u32 = 1 << 18;

/// Lines of the table of limits; a power of two. 4 MiB, 262,144 buckets.
pub const LIMIT_LINES: u32 = 1 << 16;

/// A line of the table of limits: key and time in turn (see [`crate::limit::table`]).
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct LimitLine {
    pub words: [[u64; 2]; crate::limit::table::WAYS],
}

/// One accounted source.
///
/// Counters run from when the source entered the table; the bitmaps are cleared by the reader.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceCounters {
    pub packets: u64,
    pub bytes: u64,
    pub drops: u64,
    /// TCP SYN without ACK.
    pub syns: u32,
    /// HTTP requests, TLS ClientHellos, QUIC Initials, DNS queries, ICMP echo requests.
    pub requests: u32,
    /// First contacts that nobody answered for: dropped, or towards a closed port.
    pub failed: u32,
    /// Milliseconds (CLOCK_MONOTONIC, wrapping) of entry into the table.
    pub first_seen: u32,
    /// A bit per hash of (protocol, destination port) seen: distinct ports by linear counting.
    pub ports: u64,
    /// A bit per hash of destination host seen.
    pub hosts: u64,
    pub reserved: u64,
}

/// Buckets of the source table in each CPU's stripe; a power of two. 10.5 MiB, 131,072 sources.
pub const SOURCE_BUCKETS: u32 = 1 << 15;
/// Ways of a source bucket.
pub const SOURCE_WAYS: usize = 4;

/// What a stranger's packet looks at of a bucket: a word for each place (see [`crate::sources::Front`]). Four
/// buckets stand in a cache line, and a table of the usual size in the second cache, whoever floods it.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceFronts {
    pub words: [u32; SOURCE_WAYS],
}

/// Who has the places of a bucket of the source table: one cache line, and all that is written for a source
/// that sent one packet only.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceHeads {
    /// See [`Address::source_key`]; 0 is empty.
    pub keys: [u64; SOURCE_WAYS],
    /// See [`crate::sources::Meta`].
    pub metas: [u64; SOURCE_WAYS],
}

/// The counters of a bucket's sources, a cache line each, from their second packet on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceBody {
    pub counters: [SourceCounters; SOURCE_WAYS],
}

/// Connections and requests that a rule let in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    pub connections: u64,
    pub requests: u64,
}

/// Size of the ring buffer of sampled packets in bytes; a power of two.
pub const EVENTS_BYTES: u32 = 4 << 20;

/// Bytes of the packet that an event carries.
pub const EVENT_BYTES: usize = 160;

/// A sampled packet, through the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// CLOCK_MONOTONIC nanoseconds, in steps of the kernel's tick.
    pub time: u64,
    /// How many packets and bytes it speaks for (see [`crate::sampling`]).
    pub packets: u64,
    pub bytes: u64,
    pub packet: Packet,
    /// Counter of the rule, or [`NO_RULE`].
    pub rule: u32,
    /// Interface slot.
    pub interface: u32,
    pub direction: u8,
    pub verdict: u8,
    pub reason: u8,
    /// See [`crate::sampling::Class`].
    pub class: u8,
    /// Bytes of `frame` that are filled.
    pub captured: u8,
    pub reserved: [u8; 3],
    /// The first bytes of the frame.
    pub frame: [u8; EVENT_BYTES],
}

/// Classes of sampled packets, as a power of two (see [`crate::sampling::Class`]).
pub const CLASSES: usize = 8;

/// How far a class of sampled packets has been shown, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassThinning {
    /// Since the last that was shown.
    pub packets: u64,
    pub bytes: u64,
    /// The interval in which the last was shown, and how many were.
    pub interval: u64,
    pub sent: u64,
}

/// What was shown and what was not, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Thinning {
    pub classes: [ClassThinning; CLASSES],
    /// Packets that were due but had no room in their interval.
    pub withheld: u64,
}

/// Counters that are about Palisade itself, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    /// Events for which the ring buffer had no room.
    pub events_lost: u64,
    /// Connections that could not be entered.
    pub connections_refused: u64,
    /// Sources that displaced another, or were turned away, because their bucket was full.
    pub sources_contended: u64,
    /// Of sampled packets.
    pub thinning: Thinning,
}

/// What a packet is, for the counts of the whole host. A packet counts under every kind that fits.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrafficKind {
    Tcp = 0,
    /// SYN without ACK.
    Syn = 1,
    /// SYN with ACK.
    SynAck = 2,
    /// RST.
    Reset = 3,
    /// FIN.
    Fin = 4,
    Udp = 5,
    /// ICMP and ICMPv6, neither echo nor error.
    IcmpOther = 6,
    /// Echo requests.
    Echo = 7,
    /// Errors: unreachable, time exceeded, too big, parameter problem, quench.
    IcmpError = 8,
    /// Not the first fragment of a packet.
    Fragment = 9,
    /// As [`SourceCounters::requests`].
    Request = 10,
    /// UDP from a port whose services are abused for amplification.
    AmplifierReply = 11,
    /// IPv6, of any kind.
    V6 = 12,
    /// No IP.
    NonIp = 13,
    /// Contradicts itself.
    Malformed = 14,
    /// Any other protocol over IP.
    OtherProtocol = 15,
}
/// How many kinds there are.
pub const TRAFFIC_KINDS: usize = 16;

/// Packets of one direction by [`TrafficKind`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostKinds {
    pub counts: [u64; TRAFFIC_KINDS],
}

#[cfg(feature = "user")]
mod pod {
    use super::*;

    // SAFETY: repr(C), made of integers only, without padding; any bit pattern is valid.
    unsafe impl aya::Pod for Address {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Counter {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Uses {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Connection {}
    // SAFETY: as above.
    unsafe impl aya::Pod for LimitLine {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SourceFronts {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SourceHeads {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SourceBody {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Health {}
    // SAFETY: as above.
    unsafe impl aya::Pod for HostKinds {}
}

const _: () = {
    assert!(size_of::<SourceCounters>() == 64);
    assert!(size_of::<SourceFronts>() == 16);
    assert!(size_of::<SourceHeads>() == 64);
    assert!(size_of::<SourceBody>() == 256);
    assert!(size_of::<LimitLine>() == 64);
    assert!(size_of::<FlowKey>() == 40);
    assert!(size_of::<BanKey>() == 24);
    assert!(size_of::<Event>() == 40 + size_of::<Packet>() + EVENT_BYTES);
    assert!(EVENT_BYTES <= u8::MAX as usize);
};
