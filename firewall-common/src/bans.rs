//! Bans as the packet path asks for them: a filter first, then an exact table.
//!
//! Almost no packet comes from a banned source, so "surely not banned" has to be cheap however
//! many bans there are: it is one bit of a map that stays in the nearer caches. Only where that bit
//! is set is the exact table asked, once for each prefix length that may apply. User space alone
//! writes, in an order in which no ban in force is ever missed.

mod exact;
mod filter;

pub use exact::{
    BANNED, Bucket, BucketV4, BucketV6, EntryV4, EntryV6, FOREVER, FREE, HELD, LIMITED,
    MAX_PREFIXES, TICK, V4_BUCKETS, V4_WAYS, V6_BUCKETS, V6_ENTRY, V6_WAYS, find_v4, find_v6,
    tick_of,
};
pub use filter::{
    FILTER_WORDS, HEADER_LIMIT, HEADER_SEED, HEADER_V4, HEADER_V6, V4_COARSE, V4_FINE, V4_LENGTHS,
    V6_32, V6_48, V6_64, V6_COARSE, V6_LENGTHS, bit_v4, bit_v4_coarse, bit_v6_32, bit_v6_48,
    bit_v6_64, bit_v6_coarse, lengths_v4, lengths_v6,
};

use crate::Address;
use crate::layout::BanKey;

/// What the search for a ban reads.
pub trait Bans {
    type Bucket: Bucket;

    /// A word of the filter.
    fn ban_filter(&self, word: u32) -> u64;

    /// A bucket of the exact table of IPv4.
    fn bans_v4(&self, bucket: u32) -> Option<Self::Bucket>;

    /// A bucket of the exact table of IPv6.
    fn bans_v6(&self, bucket: u32) -> Option<Self::Bucket>;

    /// See [`among_v4`]. The kernel program asks a function of its own, which the verifier follows once
    /// and by itself; the search below it goes on the same whatever was found, and so does the
    /// verifier.
    #[inline(always)]
    fn among_v4(&mut self, address: u32, lengths: u64, now: u64) -> u64
    where
        Self: Sized,
    {
        among_v4(address, lengths, now, self)
    }

    /// As [`Self::among_v4`].
    #[inline(always)]
    fn among_v6(&mut self, address: Address, lengths: u64, long: u64, now: u64) -> u64
    where
        Self: Sized,
    {
        among_v6(address, lengths, long, now, self)
    }

    /// What is in force against one prefix at `now`: [`FREE`], [`BANNED`] or [`HELD`]. Likewise.
    #[inline(always)]
    fn exact_v4(&self, key: EntryV4, seed: u64, now: u64) -> u64
    where
        Self: Sized,
    {
        find_v4(key, seed, now, self)
    }

    /// As [`Self::exact_v4`].
    #[inline(always)]
    fn exact_v6(&self, address: Address, length: u32, seed: u64, now: u64) -> u64
    where
        Self: Sized,
    {
        find_v6(&BanKey::new(address, length), seed, now, self)
    }

    /// See [`crate::decide::Tables::opaque`].
    fn forget_bits(&mut self, bits: u64) -> u64;
}

/// The ban that covers an address at `now`, longest prefix first; where there is none, the longest
/// prefix that is held to the automatic limit.
#[inline(always)]
pub fn covering<B: Bans>(address: Address, now: u64, bans: &mut B) -> Option<BanKey> {
    if address.is_v4() {
        covering_v4(address, now, bans)
    } else {
        covering_v6(address, now, bans)
    }
}

#[inline(always)]
fn covering_v4<B: Bans>(address: Address, now: u64, bans: &mut B) -> Option<BanKey> {
    let used = bans.ban_filter(HEADER_V4);
    if used == 0 {
        return None;
    }
    let v4 = address.as_v4();
    let fine = is_set(bans, V4_COARSE, bit_v4_coarse(v4)) && is_set(bans, V4_FINE, bit_v4(v4));
    let mut lengths = filter::WIDE_V4;
    if fine {
        lengths = u64::MAX;
    } else if used & filter::WIDE_V4 == 0 {
        return None;
    }
    lengths &= bans.ban_filter(V4_LENGTHS + lengths_v4(v4));
    match bans.among_v4(v4, lengths, now) {
        0 => None,
        found => Some(key_of(address, found + 96)),
    }
}

/// What [`among_v4`] and [`among_v6`] add to a length where the prefix is only held to a limit.
const ONLY_HELD: u64 = 1 << 8;

/// The key of what was found among the lengths in the 128-bit form.
#[inline(always)]
fn key_of(address: Address, found: u64) -> BanKey {
    let mut key = BanKey::new(address, found as u32 & (ONLY_HELD as u32 - 1));
    key.limited = (found >> 8) as u32 & 1;
    key
}

/// The length of the longest prefix under which an address is banned, bit `n` of `lengths` standing for
/// `n + 1`; if there is none, of the longest that is held to a limit, and [`ONLY_HELD`]; else 0.
#[inline(always)]
pub fn among_v4<B: Bans>(address: u32, mut lengths: u64, now: u64, bans: &mut B) -> u64 {
    let seed = bans.ban_filter(HEADER_SEED);
    let mut held = 0;
    for _ in 0..32 {
        lengths = bans.forget_bits(lengths);
        held = bans.forget_bits(held);
        if lengths == 0 {
            break;
        }
        let bit = 63 - lengths.leading_zeros();
        lengths ^= 1 << (bit & 63);
        let length = bit + 1;
        let found = bans.exact_v4(EntryV4::key(address, length), seed, now);
        if found == BANNED {
            return length as u64;
        }
        if found == HELD && held == 0 {
            held = length as u64 | ONLY_HELD;
        }
    }
    held
}

#[inline(always)]
fn covering_v6<B: Bans>(address: Address, now: u64, bans: &mut B) -> Option<BanKey> {
    let used = bans.ban_filter(HEADER_V6);
    let used_long = bans.ban_filter(HEADER_V6 + 1);
    if used | used_long == 0 {
        return None;
    }
    let seed = bans.ban_filter(HEADER_SEED);
    let high = address.high;
    let (mut lengths, mut long) = (0, 0);
    if used & filter::WIDE_V6 != 0 {
        lengths |= bans.ban_filter(V6_LENGTHS + lengths_v6(high));
    }
    if is_set(bans, V6_COARSE, bit_v6_coarse(high, seed)) {
        if used & filter::NEAR_32 != 0 && is_set(bans, V6_32, bit_v6_32(high, seed)) {
            lengths |= used & filter::NEAR_32;
        }
        if used & filter::NEAR_48 != 0 && is_set(bans, V6_48, bit_v6_48(high, seed)) {
            lengths |= used & filter::NEAR_48;
        }
        if (used & filter::NEAR_64 | used_long) != 0 && is_set(bans, V6_64, bit_v6_64(high, seed)) {
            lengths |= used & filter::NEAR_64;
            long = used_long;
        }
    }
    match bans.among_v6(address, lengths, long, now) {
        0 => None,
        found => Some(key_of(address, found)),
    }
}

/// As [`among_v4`], where the bits of `long` stand for `n + 65`.
#[inline(always)]
pub fn among_v6<B: Bans>(
    address: Address,
    mut lengths: u64,
    mut long: u64,
    now: u64,
    bans: &mut B,
) -> u64 {
    let seed = bans.ban_filter(HEADER_SEED);
    let mut held = 0;
    for _ in 0..128 {
        lengths = bans.forget_bits(lengths);
        long = bans.forget_bits(long);
        held = bans.forget_bits(held);
        let (from, below) = if long != 0 { (long, 65) } else { (lengths, 1) };
        if from == 0 {
            break;
        }
        let bit = 63 - from.leading_zeros();
        let rest = from ^ 1 << (bit & 63);
        if below == 1 {
            lengths = rest;
        } else {
            long = rest;
        }
        let length = bit + below;
        let found = bans.exact_v6(address, length, seed, now);
        if found == BANNED {
            return length as u64;
        }
        if found == HELD && held == 0 {
            held = length as u64 | ONLY_HELD;
        }
    }
    held
}

#[inline(always)]
fn is_set<B: Bans>(bans: &B, from: u32, bit: u32) -> bool {
    bans.ban_filter(from + (bit >> 6)) >> (bit & 63) & 1 != 0
}
