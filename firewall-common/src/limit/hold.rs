//! Holding one packet to the limit of one rule.

use super::table::{Charged, Line, charge};
use super::{LIMIT_WORDS, Limit, ticks};
use crate::Direction;
use crate::bans::{Bans, HEADER_LIMIT};
use crate::image::Image;
use crate::layout::BanKey;
use crate::packet::Packet;

/// What holding a packet to a limit reads and writes.
pub trait Limits: Image {
    /// A line of the table of limits.
    type LimitLine<'a>: Line
    where
        Self: 'a;

    /// The line on which a bucket stands.
    fn limit_line(&mut self, key: u64) -> Option<Self::LimitLine<'_>>;

    /// Seed of the hashes that a sender of packets must not know.
    fn seed(&self) -> u32;

    /// The time to the nanosecond, where `now` has coarse steps. An answer costs a look at the clock.
    #[inline(always)]
    fn fine_now(&self, now: u64) -> u64 {
        now
    }

    /// How many packets the frame stands for.
    #[inline(always)]
    fn packets(&self) -> u32 {
        1
    }

    /// Bytes that these packets have on the wire beyond the frame's.
    #[inline(always)]
    fn further_bytes(&self) -> u32 {
        0
    }

    /// Told of each packet that is held to a limit, for `explain`.
    #[inline(always)]
    fn limited(&mut self, _counter: u32, _limited: Limited) {}

    /// Whether a packet of a source that is held to the automatic limit is over it. As
    /// [`Self::is_over`], a function of its own in the kernel program.
    #[inline(always)]
    fn is_over_automatic(&mut self, key: &BanKey, now: u64) -> bool
    where
        Self: Sized + Bans,
    {
        let words = [0, 1, 2, 3].map(|word| self.ban_filter(HEADER_LIMIT + word));
        is_over_automatic(key, words, now, self)
    }

    /// Whether a packet is over the limit of a rule, if that has one. The kernel program asks a
    /// function of its own, which the verifier walks through once, whatever came before.
    #[inline(always)]
    fn is_over(&mut self, held: &Held<'_>) -> bool
    where
        Self: Sized,
    {
        is_over(held, self)
    }
}

/// What is held to a limit.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    pub packet: &'a Packet,
    pub direction: Direction,
    /// Where the limits of the direction begin in the image.
    pub base: u32,
    /// Counter of the rule.
    pub counter: u32,
    /// The packet belongs to a connection that was let through before.
    pub known: bool,
    /// CLOCK_MONOTONIC nanoseconds, maybe in coarse steps.
    pub now: u64,
}

/// What a limit said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// It is not about such packets.
    Unmeasured,
    /// So many units were taken from a bucket that lacked `owed` ticks.
    Within { amount: u32, owed: u64 },
    /// So many units were not there: the bucket lacked `owed` ticks.
    Over { amount: u32, owed: u64 },
}

/// As [`Limits::is_over_automatic`], with the words of the limit.
#[inline(always)]
pub fn is_over_automatic<L: Limits>(
    prefix: &BanKey,
    words: [u64; LIMIT_WORDS as usize],
    now: u64,
    limits: &mut L,
) -> bool {
    let limit = Limit::from_words(words);
    if limit.depth() == 0 {
        // Nobody has said yet how much it is.
        return false;
    }
    let key = Limit::key_of(prefix, limits.seed());
    let now = ticks(limits.fine_now(now));
    let cost = limit.cost(limits.packets());
    let Some(line) = limits.limit_line(key) else {
        return false;
    };
    charge(&line, key, &limit, now, cost).over
}

/// As [`Limits::is_over`].
#[inline(always)]
pub fn is_over<L: Limits>(held: &Held<'_>, limits: &mut L) -> bool {
    let Held {
        packet, counter, ..
    } = *held;
    let Some(limit) = Limit::of_rule(limits, held.base, counter) else {
        return false;
    };
    let bytes = packet.length + limits.further_bytes();
    let amount = limit.amount(packet, limits.packets(), bytes, held.known);
    if amount == 0 {
        limits.limited(counter, Limited::Unmeasured);
        return false;
    }
    let key = limit.key(packet, counter, limits.seed());
    let now = ticks(limits.fine_now(held.now));
    let cost = limit.cost(amount);
    let Some(line) = limits.limit_line(key) else {
        return false;
    };
    let Charged { over, owed } = charge(&line, key, &limit, now, cost);
    drop(line);
    if over {
        limits.limited(counter, Limited::Over { amount, owed });
    } else {
        limits.limited(counter, Limited::Within { amount, owed });
    }
    over
}
