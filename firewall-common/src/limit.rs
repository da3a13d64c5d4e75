//! Limits: how much of what a rule lets in, and for whom.
//!
//! A limit is a token bucket that fills at a rate up to its burst. What is kept of a bucket is one
//! word, the time at which it will be full again: the generic cell rate algorithm in its virtual
//! scheduling form (ITU-T I.371, annex A), which lets through exactly what a token bucket does.
//! A bucket whose time has come is full, and a full bucket need not be kept: see [`table`].

mod bucket;
#[cfg(not(target_arch = "bpf"))]
mod build;
mod hold;
#[cfg(not(target_arch = "bpf"))]
mod memory;
pub mod table;

pub use bucket::Taken;
#[cfg(not(target_arch = "bpf"))]
pub use build::{Terms, Unfit};
pub use hold::{Held, Limited, Limits, is_over, is_over_automatic};
#[cfg(not(target_arch = "bpf"))]
pub use memory::{LimitTable, MemoryLine};

use crate::image::{Image, LINE_WORDS};
use crate::layout::{BanKey, FIRST_POLICY_COUNTER, NO_RULE};
use crate::packet::{Fragment, Packet, mark, protocol};

/// The clock of buckets: 64 ticks are a nanosecond, so that a byte at 100 Gbit/s (5.12 ticks) is
/// told from its neighbours. It wraps every nine years, and only differences are looked at.
pub const TICK_SHIFT: u32 = 6;

/// What is limited.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Packets = 0,
    /// Of frames, as rules count them.
    Bytes = 1,
    /// What opens something: a TCP SYN, and any other packet that belongs to no known connection.
    Connections = 2,
    /// Packets marked [`mark::REQUEST`].
    Requests = 3,
}

/// Whose packets share a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// All together.
    Rule,
    /// The sender's prefix, by family: 1 to 32, 1 to 128.
    Sender { v4: u8, v6: u8 },
    /// Destination address, protocol and destination port.
    Service,
}

/// A limit, ready to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Ticks that one unit takes to come back, shifted left by `shift`.
    factor: u64,
    shift: u32,
    /// Ticks that an empty bucket takes to be full.
    depth: u64,
    /// Ticks that a bucket can be behind at most; more is a clock that went back, or another limit.
    ceiling: u64,
    pub unit: Unit,
    pub per: Per,
}

/// Words of a limit in the image.
pub const LIMIT_WORDS: u32 = 4;

// The part of the image at `constant::LIMITS` begins with one word: how many rule counters, from
// FIRST_POLICY_COUNTER on, have an entry. The entries follow, 16 bits each, four to a word: a
// limit's number from 1, or 0. Then come the limits, two to a line of the image.

/// Where the limits begin, of which `entries` counters speak from `base` on.
#[inline(always)]
pub const fn limits_at(base: u32, entries: u32) -> u32 {
    (base + 1 + entries.div_ceil(4)).next_multiple_of(LIMIT_WORDS)
}

impl Limit {
    /// The limit of the rule with this counter, in the part of the image at `base`.
    #[inline(always)]
    pub fn of_rule<I: Image + ?Sized>(image: &I, base: u32, counter: u32) -> Option<Self> {
        let entries = image.word(base) as u32;
        let index = counter.wrapping_sub(FIRST_POLICY_COUNTER);
        if index >= entries {
            return None;
        }
        let number = (image.word(base + 1 + (index >> 2)) >> ((index & 3) * 16)) as u32 & 0xffff;
        if number == 0 {
            return None;
        }
        let at = limits_at(base, entries) + (number - 1) * LIMIT_WORDS;
        let line = image.line(at / LINE_WORDS as u32)?;
        let half = (at & LIMIT_WORDS) as usize;
        Some(Self::from_words([
            line[half],
            line[half + 1],
            line[half + 2],
            line[half + 3],
        ]))
    }

    /// What one packet takes out of the bucket; 0 when the limit is not about it.
    ///
    /// `packets` and `bytes` are what the frame stands for; `known` is whether it belongs to a
    /// connection that was let through before.
    #[inline(always)]
    pub fn amount(&self, packet: &Packet, packets: u32, bytes: u32, known: bool) -> u32 {
        match self.unit {
            Unit::Packets => packets,
            Unit::Bytes => bytes,
            Unit::Connections => (!known && opens(packet)) as u32,
            Unit::Requests => packet.is(mark::REQUEST) as u32,
        }
    }

    /// The key of a packet's bucket, never 0. Buckets are known by this hash alone: with 64 bits and
    /// a secret seed, two that matter do not meet.
    #[inline(always)]
    pub fn key(&self, packet: &Packet, counter: u32, seed: u32) -> u64 {
        let (address, more) = match self.per {
            Per::Service => (
                packet.destination,
                (packet.protocol as u64) << 16 | service_port(packet) as u64,
            ),
            Per::Rule => (crate::Address::default(), 0),
            Per::Sender { v4, v6 } => {
                let length = if packet.sender.is_v4() {
                    96 + v4 as u32
                } else {
                    v6 as u32
                };
                (packet.sender.masked(length), 0)
            }
        };
        let hash = mix((seed as u64) << 32 | counter as u64);
        let hash = mix(hash ^ address.high);
        let hash = mix(hash ^ address.low);
        match mix(hash ^ more) {
            0 => 1,
            key => key,
        }
    }

    /// The key of the bucket of a prefix that is held to the automatic limit. No rule's counter is
    /// [`NO_RULE`], so no rule's bucket has it.
    #[inline(always)]
    pub fn key_of(prefix: &BanKey, seed: u32) -> u64 {
        let hash = mix((seed as u64) << 32 | NO_RULE as u64);
        let hash = mix(hash ^ prefix.address.high);
        let hash = mix(hash ^ prefix.address.low);
        match mix(hash ^ prefix.length as u64) {
            0 => 1,
            key => key,
        }
    }

    /// Ticks that so many units take to come back.
    #[inline(always)]
    pub fn cost(&self, amount: u32) -> u64 {
        let most = self.unit.most();
        let amount = if amount > most { most } else { amount };
        (amount as u64 * self.factor) >> self.shift
    }

    /// How many units a span of ticks is worth, for people.
    pub fn units(&self, ticks: u64) -> u64 {
        match self.cost(1) {
            0 => ((ticks as u128) << self.shift)
                .checked_div(self.factor as u128)
                .unwrap_or(0) as u64,
            one => ticks / one,
        }
    }

    /// The words to store.
    pub const fn words(&self) -> [u64; LIMIT_WORDS as usize] {
        let (kind, v4, v6) = match self.per {
            Per::Rule => (0, 0, 0),
            Per::Sender { v4, v6 } => (1, v4, v6),
            Per::Service => (2, 0, 0),
        };
        let form = self.shift as u64
            | (self.unit as u64) << 8
            | kind << 16
            | (v4 as u64) << 24
            | (v6 as u64) << 32;
        [form, self.factor, self.depth, self.ceiling]
    }

    #[inline(always)]
    fn from_words([form, factor, depth, ceiling]: [u64; LIMIT_WORDS as usize]) -> Self {
        let byte = |at: u32| (form >> at) as u8;
        Self {
            factor,
            shift: byte(0) as u32 & 63,
            depth,
            ceiling,
            unit: match byte(8) {
                0 => Unit::Packets,
                1 => Unit::Bytes,
                2 => Unit::Connections,
                _ => Unit::Requests,
            },
            per: match byte(16) {
                0 => Per::Rule,
                1 => Per::Sender {
                    v4: byte(24),
                    v6: byte(32),
                },
                _ => Per::Service,
            },
        }
    }
}

impl Unit {
    /// The most units of one frame that are told apart: segments of a merged frame, its bytes.
    const fn most(self) -> u32 {
        match self {
            Self::Packets => 0xffff,
            Self::Bytes => 0xf_ffff,
            Self::Connections | Self::Requests => 1,
        }
    }
}

/// The time in ticks.
#[inline(always)]
pub const fn ticks(nanoseconds: u64) -> u64 {
    nanoseconds << TICK_SHIFT
}

/// Whether a packet that belongs to no known connection opens something.
#[inline(always)]
fn opens(packet: &Packet) -> bool {
    if packet.is(mark::ICMP_ERROR) {
        return false;
    }
    match packet.protocol {
        protocol::TCP => packet.is_syn(),
        _ => packet.fragment as u8 != Fragment::Later as u8,
    }
}

#[inline(always)]
fn service_port(packet: &Packet) -> u16 {
    if packet.is(mark::PORTS) {
        packet.destination_port
    } else {
        0
    }
}

/// Mixes all bits of a word into all others (Steele, Lea and Flood 2014, "SplitMix").
#[inline(always)]
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
