//! Who sends what: per-source counters in a fixed, set-associative table.
//!
//! Each CPU writes a stripe of its own, so that there are neither locks nor atomics; a reader adds
//! the stripes up. A bucket keeps its heaviest sources: every packet of a kept source adds to its
//! weight, every packet of a stranger takes one from the lightest, and only at 0 is a source
//! displaced (Misra and Gries 1982, per bucket). A source that sends more than [`CREDIT`] times as much as its
//! bucket's strangers together is therefore never lost to a flood of random sources (as long as fewer than
//! [`MAX_WEIGHT`] strangers come between two of its packets), and the counters of a kept source are
//! exact since it entered.
//!
//! In a flood with forged sources nearly every source sends once, and the memory of a source is far away: a
//! processor that reads it waits, and other programs have taken the line from the third cache by the time that
//! its turn comes again. So what decides about a stranger ([`Front`], 32 bits for a place) stands by itself, small enough for the second
//! cache. A bucket's keys stand in one cache line together with all that a first packet says: for a stranger it is
//! at most written, which nobody waits for. The line of a source's own counters is touched from its second packet on.

mod front;
mod kinds;

pub use front::{CREDIT, Front, IDLE_MILLISECONDS, MAX_WEIGHT};
pub use kinds::{is_amplifier, kinds};

use crate::layout::{SOURCE_WAYS, SourceBody, SourceCounters, SourceFronts, SourceHeads};
use crate::packet::{Kind, Packet, flag, mark, protocol};
use crate::{Address, Direction, Verdict};

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
    /// Whether it is a contact: a bit to set in [`SourceCounters::ports`] and in
    /// [`SourceCounters::hosts`].
    pub contact: bool,
    /// Numbers of these bits.
    pub port: u8,
    pub host: u8,
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
        observation.contact = true;
        observation.port = port_bit(packet.protocol, packet.destination_port);
        observation.host = host_bit(packet.destination);
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
        contact: true,
        port: port_bit(packet.protocol, packet.source_port),
        host: host_bit(packet.source),
        ..Observation::default()
    })
}

/// Whether a packet opens, or pretends to open, something: replies, refusals, errors and segments
/// of connections do not.
#[inline(always)]
pub(crate) fn is_first_contact(packet: &Packet, syn: bool) -> bool {
    if packet.kind as u8 != Kind::Ip as u8 || packet.is(mark::ICMP_ERROR) {
        return false;
    }
    match packet.protocol {
        // No ACK and no RST: SYN, and what no connection contains (NULL, FIN, Xmas).
        protocol::TCP => {
            syn || (packet.is(mark::PORTS) && packet.tcp_flags & (flag::ACK | flag::RST) == 0)
        }
        // From a service's port to a client's it is an answer, asked for or not.
        protocol::UDP | protocol::UDPLITE => {
            packet.is(mark::PORTS)
                && !(packet.destination_port >= 1024
                    && (packet.source_port < 1024 || is_amplifier(packet.source_port)))
        }
        protocol::ICMP | protocol::ICMPV6 | protocol::IGMP => false,
        _ => true,
    }
}

/// What a bucket's line says of a source beside its key, in one word: when it was last seen (19 bits, in
/// steps of 2^24 nanoseconds; the 16 below are free) and, until its second packet, what the first one
/// was (29 bits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta(pub u64);

const SEEN_SHIFT: u32 = 16;
const SEEN_MASK: u64 = (1 << 19) - 1;
const FIRST_SHIFT: u32 = 35;
/// A step of the time last seen, as a power of two of nanoseconds: 16.8 ms.
pub const STEP_BITS: u32 = 24;
/// The time last seen wraps after so many steps (2 h 26 min). The last eighth is taken for times that
/// are yet to come: a packet may be counted while a reader that asked for the time before is reading.
pub const STEPS: u64 = SEEN_MASK + 1;
const TO_COME: u64 = STEPS - STEPS / 8;
const WAY_BITS: u32 = SOURCE_WAYS.ilog2();

// A first packet: whether there is one, length, what else it counts as, and the numbers of its bits.
const FIRST: u64 = 1;
const FIRST_LENGTH_SHIFT: u32 = 1;
const FIRST_LENGTH_MASK: u64 = (1 << 11) - 1;
const FIRST_DROP_SHIFT: u32 = 12;
const FIRST_SYN_SHIFT: u32 = 13;
const FIRST_REQUEST_SHIFT: u32 = 14;
const FIRST_FAILED_SHIFT: u32 = 15;
const FIRST_CONTACT_SHIFT: u32 = 16;
const FIRST_PORT_SHIFT: u32 = 17;
const FIRST_HOST_SHIFT: u32 = 23;

impl Meta {
    /// Milliseconds from when the source was last seen to `now`.
    pub const fn age(self, now: u64) -> u64 {
        (self.idle(now) << STEP_BITS) / 1_000_000
    }

    /// Steps since the source was last seen.
    #[inline(always)]
    pub const fn idle(self, now: u64) -> u64 {
        ((now >> STEP_BITS).wrapping_sub(self.0 >> SEEN_SHIFT)) & SEEN_MASK
    }

    /// Whether the source was seen within the last `steps` before `now`, or has been seen since.
    #[inline(always)]
    pub const fn is_within(self, steps: u64, now: u64) -> bool {
        // Times to come stand before all others.
        self.idle(now).wrapping_add(STEPS - TO_COME) & SEEN_MASK <= steps + (STEPS - TO_COME)
    }

    /// `now`, or when the source was last seen if that is later.
    pub const fn present(self, now: u64) -> u64 {
        let idle = self.idle(now);
        if idle >= TO_COME {
            now + ((STEPS - idle) << STEP_BITS)
        } else {
            now
        }
    }

    /// Milliseconds of the clock at the beginning of the step in which the source was last seen.
    #[inline(always)]
    const fn seen(self, now: u64) -> u32 {
        (((now >> STEP_BITS).wrapping_sub(self.idle(now)) << STEP_BITS) / 1_000_000) as u32
    }

    #[inline(always)]
    const fn first(self) -> u64 {
        self.0 >> FIRST_SHIFT
    }

    /// The counters of a source that sent one packet; `None` once it has counters of its own.
    pub const fn counters(self, now: u64) -> Option<SourceCounters> {
        let first = self.first();
        if first & FIRST == 0 {
            return None;
        }
        let mut counters = of_first(first);
        // Of the step, and not of `now`: whoever asks again is told the same.
        counters.first_seen = self.seen(now);
        Some(counters)
    }
}

/// A first packet in 29 bits, if it fits: it is no longer than an ordinary frame.
#[inline(always)]
const fn first_of(observation: &Observation) -> u64 {
    let contact = observation.contact as u64;
    FIRST
        | (observation.bytes as u64) << FIRST_LENGTH_SHIFT
        | (observation.drops as u64) << FIRST_DROP_SHIFT
        | (observation.syns as u64) << FIRST_SYN_SHIFT
        | (observation.requests as u64) << FIRST_REQUEST_SHIFT
        | (observation.failed as u64) << FIRST_FAILED_SHIFT
        | contact << FIRST_CONTACT_SHIFT
        | (observation.port as u64) << FIRST_PORT_SHIFT
        | (observation.host as u64) << FIRST_HOST_SHIFT
}

#[inline(always)]
const fn of_first(first: u64) -> SourceCounters {
    let contact = first >> FIRST_CONTACT_SHIFT & 1;
    SourceCounters {
        packets: 1,
        bytes: first >> FIRST_LENGTH_SHIFT & FIRST_LENGTH_MASK,
        drops: first >> FIRST_DROP_SHIFT & 1,
        syns: (first >> FIRST_SYN_SHIFT) as u32 & 1,
        requests: (first >> FIRST_REQUEST_SHIFT) as u32 & 1,
        failed: (first >> FIRST_FAILED_SHIFT) as u32 & 1,
        first_seen: 0,
        ports: contact << (first >> FIRST_PORT_SHIFT & 63),
        hosts: contact << (first >> FIRST_HOST_SHIFT & 63),
        reserved: 0,
    }
}

/// Where an observation belongs in its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub way: u32,
    /// Whether it met a stranger's place: one of the two sources had to do without.
    pub contended: bool,
    /// Whether [`add`] has to be called.
    pub adds: bool,
    /// Whether the source has a place now.
    kept: bool,
    /// Whether the counters begin anew, with the first packet that `before` holds.
    begins: bool,
    before: Meta,
}

impl Placed {
    /// What became of it.
    pub const fn recorded(&self) -> Recorded {
        match (self.contended, self.kept) {
            (false, _) => Recorded::Kept,
            (true, true) => Recorded::Displaced,
            (true, false) => Recorded::TurnedAway,
        }
    }
}

/// Finds or makes the place of an observation's source, and keeps a first packet there. `mark` is the source's.
///
/// In a flood with forged sources nobody can foresee which source of a bucket is the lightest, and a branch
/// foreseen wrongly costs as much as fifty instructions: so it is found in arithmetic. `opaque` is the identity; a compiler must
/// not see through it, or it makes branches of it again.
#[inline(always)]
pub fn place(
    fronts: &mut SourceFronts,
    heads: &mut SourceHeads,
    mark: u32,
    observation: &Observation,
    now: u64,
    opaque: impl Fn(u64) -> u64,
) -> Placed {
    let key = observation.key;
    let seen = ((now >> STEP_BITS) & SEEN_MASK) << SEEN_SHIFT;
    for way in 0..SOURCE_WAYS {
        let front = Front(fronts.words[way]);
        if front.may_be(mark) && heads.keys[way] == key {
            fronts.words[way] = front.heavier(now).0;
            let before = Meta(heads.metas[way]);
            heads.metas[way] = seen;
            return Placed {
                way: way as u32,
                contended: false,
                adds: true,
                kept: true,
                begins: before.first() & FIRST != 0,
                before,
            };
        }
    }
    // All bits if the word is negative as a signed number, else none.
    let negative = |word: u64| opaque(((word as i64) >> 63) as u64);
    // The lightest, and the first of equals: weights with the number of their place in the lowest bits.
    let mut lightest = u64::MAX >> 1;
    for way in 0..SOURCE_WAYS {
        let front = Front(fronts.words[way]);
        let awake = negative(front.idle(now).wrapping_sub(Front::IDLE));
        let weighed = (front.weight() as u64 & awake) << WAY_BITS | way as u64;
        let less = weighed.wrapping_sub(lightest);
        lightest = lightest.wrapping_add(less & negative(less));
    }
    let way = lightest as usize & (SOURCE_WAYS - 1);
    let old = fronts.words[way];
    let mut placed = Placed {
        way: way as u32,
        contended: old != 0,
        adds: false,
        kept: false,
        begins: true,
        before: Meta(0),
    };
    if lightest >> WAY_BITS != 0 {
        // An answered contact alone makes nobody a source worth a place that is taken.
        let lighter = ((observation.packets > 0) as u32) << Front::SEEN_BITS;
        fronts.words[way] = old.wrapping_sub(lighter);
        return placed;
    }
    let fits = observation.packets > 0 && observation.bytes as u64 <= FIRST_LENGTH_MASK;
    let first = if fits { first_of(observation) } else { 0 };
    let weight = if placed.contended { CREDIT } else { 1 };
    fronts.words[way] = Front::new(mark, weight, now).0;
    heads.keys[way] = key;
    heads.metas[way] = first << FIRST_SHIFT | seen;
    placed.adds = !fits;
    placed.kept = true;
    placed
}

/// Adds an observation to the counters of its source.
#[inline(always)]
pub fn add(body: &mut SourceBody, placed: &Placed, observation: &Observation, now: u64) {
    let counters = &mut body.counters[placed.way as usize & (SOURCE_WAYS - 1)];
    if placed.begins {
        *counters = match placed.before.counters(now) {
            Some(counters) => counters,
            None => SourceCounters {
                first_seen: (now / 1_000_000) as u32,
                ..SourceCounters::default()
            },
        };
    }
    counters.packets += observation.packets as u64;
    counters.bytes += observation.bytes as u64;
    counters.drops += observation.drops as u64;
    counters.syns = counters.syns.wrapping_add(observation.syns);
    counters.requests = counters.requests.wrapping_add(observation.requests);
    counters.failed = counters.failed.wrapping_add(observation.failed);
    if observation.contact {
        counters.ports |= 1 << (observation.port & 63);
        counters.hosts |= 1 << (observation.host & 63);
    }
}

/// Adds an observation to its bucket.
#[inline(always)]
pub fn record(
    fronts: &mut SourceFronts,
    heads: &mut SourceHeads,
    body: &mut SourceBody,
    observation: &Observation,
    now: u64,
) -> Recorded {
    let mark = mark_of(hash(observation.key, 0));
    let placed = place(fronts, heads, mark, observation, now, |word| word);
    if placed.adds {
        add(body, &placed, observation, now);
    }
    placed.recorded()
}

/// What a bucket holds of one way's source, which may have sent one packet only.
pub fn counters(heads: &SourceHeads, body: &SourceBody, way: usize, now: u64) -> SourceCounters {
    match Meta(heads.metas[way]).counters(now) {
        Some(counters) => counters,
        None => body.counters[way],
    }
}

/// A number that places a key; without the seed nobody can tell what it is.
#[inline(always)]
pub const fn hash(key: u64, seed: u32) -> u64 {
    mix(key ^ (seed as u64) << 32 ^ seed as u64)
}

/// Index of a key's bucket among `buckets`, a power of two, by its [`hash`].
#[inline(always)]
pub const fn bucket_of(hash: u64, buckets: u32) -> u32 {
    (hash >> 32) as u32 & (buckets - 1)
}

/// What tells a key from most others of its bucket, by its [`hash`]: the bits farthest from those that choose the bucket. The
/// lowest is always set.
#[inline(always)]
pub const fn mark_of(hash: u64) -> u32 {
    (hash >> (32 + Front::MARK_SHIFT)) as u32 | 1
}

/// Index of a key's bucket.
#[inline(always)]
pub const fn bucket_index(key: u64, seed: u32, buckets: u32) -> u32 {
    bucket_of(hash(key, seed), buckets)
}

#[inline(always)]
const fn port_bit(protocol: u8, port: u16) -> u8 {
    spread((protocol as u64) << 16 | port as u64)
}

#[inline(always)]
const fn host_bit(host: Address) -> u8 {
    spread(host.high ^ host.low)
}

/// One of 64 numbers. Neighbouring ports and hosts must fall like random ones, or the count of distinct ones is
/// wrong: a product with the golden ratio alone deals them out evenly, and a hundred ports in a row fill the map.
#[inline(always)]
const fn spread(word: u64) -> u8 {
    (mix(word) >> 58) as u8
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
