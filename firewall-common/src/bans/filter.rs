//! The filter: bit maps that say for which sources no ban can be.
//!
//! IPv4 has one bit for each /24, set when a ban of /16 or longer lies in it or covers it; IPv6 has
//! bits for hashed /32s, /48s and /64s. A coarse map before them has a bit for each /16, or hashed
//! /32, in which there is one. Shorter prefixes, which cover much, have a word for each
//! first 16 bits of an address that says which lengths are banned there. A header of one cache
//! line says which lengths are banned at all, so that what nobody uses is not looked at.
//!
//! | ban's length | IPv4 | IPv6 |
//! |---|---|---|
//! | 1 to 15 | lengths, in each /16 that it covers | as IPv4 |
//! | 16 to 23 | the bits of all /24s that it covers | 16 to 19: lengths of its /16; 20 to 23: the bits of all /32s |
//! | 24 to 32 | the bit of its /24 | the bits of all /32s that it covers |
//! | 33 to 47 | | the bit of its /32 |
//! | 48 to 63 | | the bit of its /48 |
//! | 64 to 128 | | the bit of its /64 |
//!
//! IPv4 bans of every length are in the lengths of their /16, too.

use crate::sources::mix;

/// Bit `length - 1` for each length of IPv4 that is banned.
pub const HEADER_V4: u32 = 0;
/// As [`HEADER_V4`] for IPv6: lengths 1 to 64, then 65 to 128.
pub const HEADER_V6: u32 = 1;
/// The automatic limit, [`crate::limit::Limit::words`]; 0 before there is one.
pub const HEADER_LIMIT: u32 = 4;
/// What the hashes are mixed with: drawn when the table is made, kept as long as it.
pub const HEADER_SEED: u32 = 3;
/// A bit for each IPv4 /24.
pub const V4_FINE: u32 = 8;
/// A bit for each IPv4 /16 in which a bit of its /24s is set: 8 KiB that stay in the nearest cache
/// and answer for nearly all sources while bans are few.
pub const V4_COARSE: u32 = V4_FINE + (1 << 24) / 64;
/// Bits of hashed IPv6 /32s in which a bit of the maps below is set.
pub const V6_COARSE: u32 = V4_COARSE + (1 << COARSE_BITS) / 64;
/// A word for each IPv4 /16: the lengths of bans that overlap it.
pub const V4_LENGTHS: u32 = V6_COARSE + (1 << COARSE_BITS) / 64;
/// A word for each first 16 bits of IPv6: lengths below 20 that overlap it.
pub const V6_LENGTHS: u32 = V4_LENGTHS + (1 << 16);
/// Bits of hashed IPv6 /32s, /48s, /64s.
pub const V6_32: u32 = V6_LENGTHS + (1 << 16);
pub const V6_48: u32 = V6_32 + (1 << V6_32_BITS) / 64;
pub const V6_64: u32 = V6_48 + (1 << V6_48_BITS) / 64;
/// Words of the whole filter, 5.7 MiB.
pub const FILTER_WORDS: u32 = V6_64 + (1 << V6_64_BITS) / 64;

const COARSE_BITS: u32 = 16;
const V6_32_BITS: u32 = 20;
const V6_48_BITS: u32 = 22;
const V6_64_BITS: u32 = 24;

/// Lengths that no bit answers for: IPv4 below 16, IPv6 below 20.
pub(super) const WIDE_V4: u64 = lengths(1, 15);
pub(super) const WIDE_V6: u64 = lengths(1, 19);
/// Lengths of IPv6 that the bits of a /32, a /48 and a /64 answer for; the last also for all above.
pub(super) const NEAR_32: u64 = lengths(20, 47);
pub(super) const NEAR_48: u64 = lengths(48, 63);
pub(super) const NEAR_64: u64 = lengths(64, 64);

/// The bit of an IPv4 address's /24, from [`V4_FINE`] on.
#[inline(always)]
pub const fn bit_v4(address: u32) -> u32 {
    address >> 8
}

/// The bit of an IPv4 address's /16, from [`V4_COARSE`] on.
#[inline(always)]
pub const fn bit_v4_coarse(address: u32) -> u32 {
    address >> 16
}

/// The bit of an IPv6 /32, from [`V6_COARSE`] on; `high` is the upper half of an address in it.
#[inline(always)]
pub const fn bit_v6_coarse(high: u64, seed: u64) -> u32 {
    (mix(high >> 32 ^ seed) >> (64 - COARSE_BITS)) as u32
}

/// The word of an IPv4 address's /16, from [`V4_LENGTHS`] on.
#[inline(always)]
pub const fn lengths_v4(address: u32) -> u32 {
    address >> 16
}

/// The word of an IPv6 address's first 16 bits, from [`V6_LENGTHS`] on.
#[inline(always)]
pub const fn lengths_v6(high: u64) -> u32 {
    (high >> 48) as u32
}

/// The bit of a /32, from [`V6_32`] on; `high` is the upper half of an address in it.
#[inline(always)]
pub const fn bit_v6_32(high: u64, seed: u64) -> u32 {
    (mix(high >> 32 ^ seed) >> (64 - V6_32_BITS)) as u32
}

/// The bit of a /48, from [`V6_48`] on.
#[inline(always)]
pub const fn bit_v6_48(high: u64, seed: u64) -> u32 {
    (mix(high >> 16 ^ seed) >> (64 - V6_48_BITS)) as u32
}

/// The bit of a /64, from [`V6_64`] on.
#[inline(always)]
pub const fn bit_v6_64(high: u64, seed: u64) -> u32 {
    (mix(high ^ seed) >> (64 - V6_64_BITS)) as u32
}

/// The mask of the lengths `first` to `last`, 64 at most.
const fn lengths(first: u32, last: u32) -> u64 {
    u64::MAX >> (64 - last) & u64::MAX << (first - 1)
}

const _: () = {
    assert!(WIDE_V4 == 0x7fff);
    assert!(NEAR_32 | NEAR_48 | NEAR_64 | WIDE_V6 == u64::MAX);
    assert!(NEAR_64 == 1 << 63);
};
