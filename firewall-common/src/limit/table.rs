//! Where buckets stand: a fixed, set-associative table, shared by all CPUs without a lock.
//!
//! A bucket that is full holds no more than an absent one, so its place is free for another. When
//! all places of a line are taken, the bucket nearest to full gives way: whoever it belonged to
//! gains what was missing in it and loses nothing. A flood of forged sources therefore takes nobody's
//! allowance, and who sends much is the last to be displaced.

use super::Limit;
use super::bucket::{Taken, owed};

/// Places in a line.
pub const WAYS: usize = 4;
/// How often a change is tried anew when another CPU changed the bucket meanwhile.
const TRIES: usize = 4;

/// A line of the table: the words are changed by all CPUs at once.
///
/// The exchanges store `new` if the word is `old`, and give what was found.
pub trait Line {
    /// The key in a place; 0 is none.
    fn key(&self, way: usize) -> u64;
    /// When the bucket in a place will be full, in ticks.
    fn full(&self, way: usize) -> u64;
    fn exchange_key(&self, way: usize, old: u64, new: u64) -> u64;
    fn exchange_full(&self, way: usize, old: u64, new: u64) -> u64;
    fn add_full(&self, way: usize, more: u64);
}

/// What came of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charged {
    /// There was not enough in the bucket.
    pub over: bool,
    /// Ticks that the bucket lacked before.
    pub owed: u64,
}

/// Takes `cost` out of the bucket of `key`, which is not 0, on its line.
#[inline(always)]
pub fn charge<L: Line>(line: &L, key: u64, limit: &Limit, now: u64, cost: u64) -> Charged {
    const WITHIN: Charged = Charged {
        over: false,
        owed: 0,
    };
    let Some(way) = place(line, key, now) else {
        return WITHIN;
    };
    let mut full = line.full(way);
    for _ in 0..TRIES {
        let owed = owed(full, now);
        let found = match limit.take(full, now, cost) {
            Taken::Within(next) => line.exchange_full(way, full, next),
            Taken::Over => return Charged { over: true, owed },
            Taken::OverAnew(next) => {
                line.exchange_full(way, full, next);
                return Charged { over: true, owed };
            }
        };
        if found == full {
            return Charged { over: false, owed };
        }
        full = found;
    }
    // So contended that others got through each time. It is charged all the same, and the next
    // packets pay for it.
    line.add_full(way, cost);
    WITHIN
}

/// The place of a key on its line, made free for it where it has none; `None` when another CPU took
/// that place at the same moment.
#[inline(always)]
fn place<L: Line>(line: &L, key: u64, now: u64) -> Option<usize> {
    let mut victim = 0;
    let mut nearest = i64::MAX;
    for way in 0..WAYS {
        let known = line.key(way);
        if known == key {
            return Some(way);
        }
        let ahead = if known == 0 {
            i64::MIN
        } else {
            line.full(way).wrapping_sub(now) as i64
        };
        if ahead < nearest {
            nearest = ahead;
            victim = way;
        }
    }
    let victim = victim & (WAYS - 1);
    // First the bucket is filled, then it changes hands: nobody inherits a debt.
    let known = line.key(victim);
    let full = line.full(victim);
    line.exchange_full(victim, full, now);
    let found = line.exchange_key(victim, known, key);
    (found == known || found == key).then_some(victim)
}

/// Index of a key's line among `lines`, a power of two.
#[inline(always)]
pub const fn line_index(key: u64, lines: u32) -> u32 {
    (key >> 32) as u32 & (lines - 1)
}
