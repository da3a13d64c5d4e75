//! The row of an address: a first level indexed by the upper bits, then a binary search among the
//! ranges of that chunk (Zec, Rizzo and Mikuc 2012, "DXR").

use crate::Address;
use crate::image::Image;

// An address table begins with one word: the shift that turns the leading 32 (IPv4) or 64 (IPv6)
// bits into the index of the first level. Then come the first level's descriptors, then ranges.

/// A descriptor that is a row itself rather than a place to search.
pub const LEAF: u64 = 1 << 63;
/// Bits of a descriptor that count ranges.
pub const RANGE_COUNT_BITS: u32 = 24;
/// Steps of a binary search: more ranges than this can tell apart never stand in one chunk.
pub const SEARCH_STEPS: u32 = RANGE_COUNT_BITS;
/// Words of an IPv6 range: upper half, lower half, row.
pub const V6_RANGE_WORDS: u32 = 3;

/// The row of an IPv4 address in the table at `table`.
///
/// A range is one word: its first address shifted left by 16, and its row below.
#[inline(always)]
pub fn row_v4<I: Image + ?Sized>(image: &I, table: u32, address: u32) -> u32 {
    let shift = image.word(table) as u32 & 31;
    let descriptor = image.word(table + 1 + (address >> shift));
    if descriptor & LEAF != 0 {
        return descriptor as u32 & 0xffff;
    }
    let key = (address as u64) << 16 | 0xffff;
    let mut base = (descriptor >> RANGE_COUNT_BITS) as u32;
    let mut size = descriptor as u32 & ((1 << RANGE_COUNT_BITS) - 1);
    for _ in 0..SEARCH_STEPS {
        if size <= 1 {
            break;
        }
        let half = size >> 1;
        if image.word(base + half) <= key {
            base += half;
        }
        size -= half;
    }
    image.word(base) as u32 & 0xffff
}

/// The row of an IPv6 address in the table at `table`.
#[inline(always)]
pub fn row_v6<I: Image + ?Sized>(image: &I, table: u32, address: Address) -> u32 {
    let shift = image.word(table) as u32 & 63;
    let descriptor = image.word(table + 1 + (address.high >> shift) as u32);
    if descriptor & LEAF != 0 {
        return descriptor as u32 & 0xffff;
    }
    let mut base = (descriptor >> RANGE_COUNT_BITS) as u32;
    let mut size = descriptor as u32 & ((1 << RANGE_COUNT_BITS) - 1);
    for _ in 0..SEARCH_STEPS {
        if size <= 1 {
            break;
        }
        let half = size >> 1;
        let probe = base + half * V6_RANGE_WORDS;
        let high = image.word(probe);
        if high < address.high || (high == address.high && image.word(probe + 1) <= address.low) {
            base = probe;
        }
        size -= half;
    }
    image.word(base + 2) as u32 & 0xffff
}
