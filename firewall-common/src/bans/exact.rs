//! The exact tables: every ban with its end, in buckets of whole cache lines, two for each ban.
//!
//! A ban stands in its first bucket or, where that was full, in its second. It is only ever moved
//! from the first to the second, and written there before it goes here; whoever looks in the first
//! and then in the second never misses it. (That takes loads in order, as on x86.) An IPv4 ban is one
//! word, so it cannot be seen half written; an IPv6 ban's last word is written last.

use super::Bans;
use crate::layout::BanKey;
use crate::sources::mix;

/// Buckets of IPv4: 16 MiB, twice the room that [`MAX_PREFIXES`] take.
pub const V4_BUCKETS: u32 = 1 << 18;
/// Words of an IPv4 bucket: a ban each.
pub const V4_WAYS: usize = 8;
/// Buckets of IPv6: 32 MiB.
pub const V6_BUCKETS: u32 = 1 << 18;
/// Bans of an IPv6 bucket.
pub const V6_WAYS: usize = 5;
/// Words of an IPv6 ban: upper half, lower half, length and end.
pub const V6_ENTRY: usize = 3;

/// Most bans of each family at once.
pub const MAX_PREFIXES: u32 = 1 << 20;

/// Memory of a bucket.
pub type BucketV4 = [u64; V4_WAYS];
pub type BucketV6 = [u64; 16];

/// A bucket, read a word at a time; words change under the reader.
pub trait Bucket: Copy {
    fn word(&self, index: usize) -> u64;
}

/// The tick that stands for no end.
pub const FOREVER: u64 = (1 << TICK_BITS) - 1;

/// Ends are kept in ticks of 2^26 ns, 67 ms: 30 bits of them last for 2.2 years of uptime.
pub const TICK: u32 = 26;
const TICK_BITS: u32 = 30;
/// Stands beside a tick where the prefix is not banned but held to the automatic limit.
pub const LIMITED: u64 = 1 << TICK_BITS;
/// A tick and what stands beside it.
const END_BITS: u32 = TICK_BITS + 1;
const END: u64 = (1 << END_BITS) - 1;

/// What was found of a prefix: nothing in force.
pub const FREE: u64 = 0;
/// It is banned.
pub const BANNED: u64 = 1;
/// It is held to the automatic limit.
pub const HELD: u64 = 2;

/// The tick at which a ban that lasts until `until` (CLOCK_MONOTONIC nanoseconds) has ended: never
/// before `until`, up to 67 ms after it. An end too far away for a tick is none; user space lifts
/// the ban in time.
#[inline(always)]
pub const fn tick_of(until: u64) -> u64 {
    let tick = until.div_ceil(1 << TICK);
    if tick < FOREVER { tick } else { FOREVER }
}

#[inline(always)]
const fn in_force(tick: u64, now: u64) -> bool {
    now >> TICK < tick || tick == FOREVER
}

/// What an entry with this end means at `now`.
#[inline(always)]
const fn meaning(end: u64, now: u64) -> u64 {
    if !in_force(end & FOREVER, now) {
        FREE
    } else if end & LIMITED == 0 {
        BANNED
    } else {
        HELD
    }
}

/// An IPv4 ban in one word, from the top: 32 address bits of which those after the prefix are cleared and the first of
/// them replaced by a 1 that marks where it ends (33 bits in all), then its end: [`LIMITED`] or not, and a tick. 0 is an
/// empty place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryV4(pub u64);

impl EntryV4 {
    /// The entry of a prefix with no tick in it yet; `length` is 1 to 32.
    #[inline(always)]
    pub const fn key(address: u32, length: u32) -> Self {
        let host = 32 - length;
        let prefix = address as u64 >> host;
        Self((prefix << 1 | 1) << host << END_BITS)
    }

    /// The entry with its end.
    pub const fn until(self, end: u64) -> Self {
        Self(self.prefix_bits() << END_BITS | end)
    }

    /// Address and length.
    pub const fn prefix(self) -> (u32, u32) {
        let bits = self.prefix_bits();
        let host = bits.trailing_zeros();
        (
            (bits >> 1 & !(u32::MAX as u64 >> (32 - host))) as u32,
            32 - host,
        )
    }

    /// Its end: [`LIMITED`] or not, and a tick.
    #[inline(always)]
    pub const fn end(self) -> u64 {
        self.0 & END
    }

    #[inline(always)]
    const fn prefix_bits(self) -> u64 {
        self.0 >> END_BITS
    }

    /// Whether both are of the same prefix.
    #[inline(always)]
    pub const fn is_of(self, other: Self) -> bool {
        self.prefix_bits() == other.prefix_bits()
    }

    /// Its two buckets.
    #[inline(always)]
    pub const fn buckets(self, seed: u64) -> (u32, u32) {
        pair(mix(self.prefix_bits() ^ seed), V4_BUCKETS)
    }
}

/// What the last word of an IPv6 ban says: its length, and its end as in IPv4. 0 is an empty place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryV6(pub u64);

impl EntryV6 {
    pub const fn new(length: u32, end: u64) -> Self {
        Self((length as u64) << 32 | end)
    }

    #[inline(always)]
    pub const fn length(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    pub const fn end(self) -> u64 {
        self.0 & END
    }

    /// The two buckets of an IPv6 prefix.
    #[inline(always)]
    pub const fn buckets(key: &BanKey, seed: u64) -> (u32, u32) {
        let high = mix(key.address.high ^ seed);
        let low = key.address.low ^ (key.length as u64) << 32;
        pair(mix(high ^ low.rotate_left(17)), V6_BUCKETS)
    }
}

/// Two different buckets out of `buckets`, a power of two.
#[inline(always)]
const fn pair(hash: u64, buckets: u32) -> (u32, u32) {
    let first = (hash >> 32) as u32 & (buckets - 1);
    let second = (hash >> 12) as u32 & (buckets - 1);
    (first, if second == first { second ^ 1 } else { second })
}

/// What is in force against a prefix at `now`: [`FREE`], [`BANNED`] or [`HELD`].
#[inline(always)]
pub fn find_v4<B: Bans>(key: EntryV4, seed: u64, now: u64, bans: &B) -> u64 {
    let (first, second) = key.buckets(seed);
    match in_bucket_v4(key, now, bans.bans_v4(first)) {
        FREE => in_bucket_v4(key, now, bans.bans_v4(second)),
        found => found,
    }
}

#[inline(always)]
fn in_bucket_v4<M: Bucket>(key: EntryV4, now: u64, bucket: Option<M>) -> u64 {
    let Some(bucket) = bucket else {
        return FREE;
    };
    for way in 0..V4_WAYS {
        let entry = EntryV4(bucket.word(way));
        if entry.is_of(key) {
            return meaning(entry.end(), now);
        }
    }
    FREE
}

/// As [`find_v4`].
#[inline(always)]
pub fn find_v6<B: Bans>(key: &BanKey, seed: u64, now: u64, bans: &B) -> u64 {
    let (first, second) = EntryV6::buckets(key, seed);
    match in_bucket_v6(key, now, bans.bans_v6(first)) {
        FREE => in_bucket_v6(key, now, bans.bans_v6(second)),
        found => found,
    }
}

#[inline(always)]
fn in_bucket_v6<M: Bucket>(key: &BanKey, now: u64, bucket: Option<M>) -> u64 {
    let Some(bucket) = bucket else {
        return FREE;
    };
    for way in 0..V6_WAYS {
        let at = way * V6_ENTRY;
        if bucket.word(at) == key.address.high && bucket.word(at + 1) == key.address.low {
            let entry = EntryV6(bucket.word(at + 2));
            if entry.length() == key.length {
                return meaning(entry.end(), now);
            }
        }
    }
    FREE
}

const _: () = {
    assert!(V6_WAYS * V6_ENTRY <= size_of::<BucketV6>() / 8);
    assert!(END_BITS + 33 == 64);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_entry_gives_back_the_prefix_and_the_end_that_went_into_it() {
        let address = 0xcb00_71f5;
        for length in 1..=32 {
            let masked = address & u32::MAX << (32 - length);
            let entry = EntryV4::key(address, length).until(12_345);
            assert_eq!(entry.prefix(), (masked, length));
            assert_eq!(entry.end(), 12_345);
            assert!(entry.is_of(EntryV4::key(masked, length)));
            assert!(!entry.is_of(EntryV4::key(masked ^ 1 << (32 - length), length)));
            if length < 32 {
                assert!(!entry.is_of(EntryV4::key(masked, length + 1)), "{length}");
            }
        }
    }

    #[test]
    fn a_limit_is_told_from_a_ban_whatever_its_end() {
        for tick in [1, 12_345, FOREVER] {
            let entry = EntryV4::key(0xcb00_7107, 32).until(tick | LIMITED);
            assert_eq!(entry.prefix(), (0xcb00_7107, 32));
            assert_eq!(meaning(entry.end(), 0), HELD);
            assert_eq!(meaning(tick, 0), BANNED);
        }
        assert_eq!(meaning(5 | LIMITED, 6 << TICK), FREE);
        assert_eq!(meaning(5, 6 << TICK), FREE);
    }

    #[test]
    fn a_ban_never_ends_early_and_at_most_a_tick_late() {
        let tick = 1 << TICK;
        for until in [1, tick - 1, tick, tick + 1, 1_000_000_000_000] {
            assert!(in_force(tick_of(until), until - 1));
            assert!(!in_force(tick_of(until), until + tick));
        }
        for never in [u64::MAX, u64::MAX >> 1, FOREVER << TICK] {
            assert!(in_force(tick_of(never), u64::MAX));
        }
    }
}
