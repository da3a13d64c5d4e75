//! The bans in force, over their maps.
//!
//! Which of the lengths that may be banned is, is told by functions of their own, with the loops over
//! lengths in them: global ones, so that the verifier walks through them once and by themselves. Written
//! out where it is asked for, that cost 150,000 steps on Linux 6.18 and 700,000 on 6.1, of a million
//! allowed.

use firewall_common::bans::{Bans, Bucket, EntryV4, among_v4, among_v6, find_v4, find_v6};
use firewall_common::layout::BanKey;
use firewall_common::{Address, Direction};

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
    fn among_v4(&mut self, address: u32, lengths: u64, now: u64) -> u64 {
        palisade_bans_v4(address as u64, lengths, now)
    }

    #[inline(always)]
    fn among_v6(&mut self, address: Address, lengths: u64, long: u64, now: u64) -> u64 {
        palisade_bans_v6(address.high, address.low, lengths, long, now)
    }

    #[inline(always)]
    fn forget_bits(&mut self, bits: u64) -> u64 {
        bits
    }
}

/// The tables alone, for the functions below.
struct Exact {
    /// A word of this CPU's scratch memory.
    cell: *mut u64,
}

impl Exact {
    #[inline(always)]
    fn new() -> Option<Self> {
        let scratch = maps::SCRATCH.get_ptr_mut(Direction::Inbound as u32)?;
        // SAFETY: a place within the map's value.
        let cell = unsafe { &raw mut (*scratch).cell };
        Some(Self { cell })
    }
}

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
    fn exact_v4(&self, key: EntryV4, seed: u64, now: u64) -> u64 {
        palisade_ban_v4(key.0, seed, now)
    }

    #[inline(always)]
    fn exact_v6(&self, address: Address, length: u32, seed: u64, now: u64) -> u64 {
        palisade_ban_v6(address.high, address.low, length as u64, seed, now)
    }

    #[inline(always)]
    fn forget_bits(&mut self, bits: u64) -> u64 {
        // SAFETY: this CPU's own, within a map's value.
        unsafe {
            self.cell.write_volatile(bits);
            self.cell.read_volatile()
        }
    }
}

/// [`among_v4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_bans_v4(address: u64, lengths: u64, now: u64) -> u64 {
    match Exact::new() {
        Some(mut tables) => among_v4(address as u32, lengths, now, &mut tables),
        None => 0,
    }
}

/// [`among_v6`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_bans_v6(high: u64, low: u64, lengths: u64, long: u64, now: u64) -> u64 {
    match Exact::new() {
        Some(mut tables) => among_v6(Address { high, low }, lengths, long, now, &mut tables),
        None => 0,
    }
}

/// What is in force against one prefix of IPv4.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_ban_v4(entry: u64, seed: u64, now: u64) -> u64 {
    match Exact::new() {
        Some(tables) => find_v4(EntryV4(entry), seed, now, &tables),
        None => 0,
    }
}

/// As [`palisade_ban_v4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn palisade_ban_v6(high: u64, low: u64, length: u64, seed: u64, now: u64) -> u64 {
    let key = BanKey::new(Address { high, low }, length as u32);
    match Exact::new() {
        Some(tables) => find_v6(&key, seed, now, &tables),
        None => 0,
    }
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
