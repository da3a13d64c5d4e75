//! The bans in force, over their maps.
//!
//! Whether one prefix is banned is a function of its own, called from the loops over lengths: a
//! global one, so that the verifier walks through it once and by itself. Written out in each turn of
//! the loops it cost 150,000 steps on Linux 6.18 and 700,000 on 6.1, of a million allowed. (Not the
//! search as a whole: a function that keeps its loops would have to be mended for kernels before
//! 6.8, see firewall-user/build/loops.rs.)

use firewall_common::Address;
use firewall_common::bans::{Bans, Bucket, EntryV4, find_v4, find_v6};
use firewall_common::decide::Tables;
use firewall_common::layout::BanKey;

use crate::maps;
use crate::tables::Maps;

impl Bans for Maps {
    type Bucket = SharedWords;

    #[inline(always)]
    fn ban_filter(&self, word: u32) -> u64 {
        filter(word)
    }

    #[inline(always)]
    fn bans_v4(&self, bucket: u32) -> Option<SharedWords> {
        bucket_v4(bucket)
    }

    #[inline(always)]
    fn bans_v6(&self, bucket: u32) -> Option<SharedWords> {
        bucket_v6(bucket)
    }

    #[inline(always)]
    fn exact_v4(&self, key: EntryV4, seed: u64, now: u64) -> u64 {
        palisade_ban_v4(key.0, seed, now)
    }

    #[inline(always)]
    fn exact_v6(&self, key: &BanKey, seed: u64, now: u64) -> u64 {
        let address = key.address;
        palisade_ban_v6(address.high, address.low, key.length as u64, seed, now)
    }

    #[inline(always)]
    fn forget_bits(&mut self, bits: u64) -> u64 {
        self.opaque(bits)
    }
}

/// The tables alone, for the functions below: what the verifier shall not follow from outside.
struct Exact;

impl Bans for Exact {
    type Bucket = SharedWords;

    #[inline(always)]
    fn ban_filter(&self, word: u32) -> u64 {
        filter(word)
    }

    #[inline(always)]
    fn bans_v4(&self, bucket: u32) -> Option<SharedWords> {
        bucket_v4(bucket)
    }

    #[inline(always)]
    fn bans_v6(&self, bucket: u32) -> Option<SharedWords> {
        bucket_v6(bucket)
    }

    #[inline(always)]
    fn forget_bits(&mut self, bits: u64) -> u64 {
        bits
    }
}

/// What is in force against the prefix of an entry.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_ban_v4(entry: u64, seed: u64, now: u64) -> u64 {
    find_v4(EntryV4(entry), seed, now, &Exact)
}

/// As [`palisade_ban_v4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_ban_v6(high: u64, low: u64, length: u64, seed: u64, now: u64) -> u64 {
    let key = BanKey {
        address: Address { high, low },
        length: length as u32,
        limited: 0,
    };
    find_v6(&key, seed, now, &Exact)
}

#[inline(always)]
pub fn filter(word: u32) -> u64 {
    match maps::BAN_FILTER.get_ptr(word) {
        // SAFETY: a whole word of the map, which user space stores whole.
        Some(word) => unsafe { word.read_volatile() },
        None => 0,
    }
}

#[inline(always)]
fn bucket_v4(bucket: u32) -> Option<SharedWords> {
    maps::BANS_V4.get_ptr(bucket).map(|b| SharedWords(b.cast()))
}

#[inline(always)]
fn bucket_v6(bucket: u32) -> Option<SharedWords> {
    maps::BANS_V6.get_ptr(bucket).map(|b| SharedWords(b.cast()))
}

/// A bucket of words that user space writes meanwhile: each is read once, in the order asked for.
#[derive(Clone, Copy)]
pub struct SharedWords(*const u64);

impl Bucket for SharedWords {
    #[inline(always)]
    fn word(&self, index: usize) -> u64 {
        // SAFETY: callers stay within the bucket's words, and the verifier proves it again.
        unsafe { self.0.add(index).read_volatile() }
    }
}
