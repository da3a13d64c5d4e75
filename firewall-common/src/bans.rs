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

    /// What is in force against an IPv4 prefix at `now`: [`FREE`], [`BANNED`] or [`HELD`]. The kernel program asks a function of its own, which
    /// the verifier walks through once and not for each length anew.
    #[inline(always)]
    fn exact_v4(&self, key: EntryV4, seed: u64, now: u64) -> u64
    where
        Self: Sized,
    {
        find_v4(key, seed, now, self)
    }

    /// As [`Self::exact_v4`].
    #[inline(always)]
    fn exact_v6(&self, key: &BanKey, seed: u64, now: u64) -> u64
    where
        Self: Sized,
    {
        find_v6(key, seed, now, self)
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
        let entry = EntryV4::key(v4, length);
        let found = bans.exact_v4(entry, seed, now);
        if found == BANNED {
            return Some(BanKey::new(address, 96 + length));
        }
        if found == HELD && held == 0 {
            held = 96 + length as u64;
        }
    }
    held_by(address, held)
}

/// The key of a limit whose length is `held`, if that is not 0.
#[inline(always)]
fn held_by(address: Address, held: u64) -> Option<BanKey> {
    if held == 0 {
        return None;
    }
    let mut key = BanKey::new(address, held as u32);
    key.limited = 1;
    Some(key)
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
    let mut held = 0;
    for _ in 0..128 {
        lengths = bans.forget_bits(lengths);
        long = bans.forget_bits(long);
        held = bans.forget_bits(held);
        let length = if long != 0 {
            let bit = 63 - long.leading_zeros();
            long ^= 1 << (bit & 63);
            bit + 65
        } else if lengths != 0 {
            let bit = 63 - lengths.leading_zeros();
            lengths ^= 1 << (bit & 63);
            bit + 1
        } else {
            break;
        };
        let key = BanKey::new(address, length);
        let found = bans.exact_v6(&key, seed, now);
        if found == BANNED {
            return Some(key);
        }
        if found == HELD && held == 0 {
            held = length as u64;
        }
    }
    held_by(address, held)
}

#[inline(always)]
fn is_set<B: Bans>(bans: &B, from: u32, bit: u32) -> bool {
    bans.ban_filter(from + (bit >> 6)) >> (bit & 63) & 1 != 0
}
