//! Keeps the filter's bits true: how many bans stand behind each, so that a bit goes with the last.

use firewall_common::bans::{
    HEADER_V4, HEADER_V6, V4_COARSE, V4_FINE, V4_LENGTHS, V6_32, V6_48, V6_64, V6_COARSE,
    V6_LENGTHS, bit_v4, bit_v4_coarse, bit_v6_32, bit_v6_48, bit_v6_64, bit_v6_coarse, lengths_v4,
    lengths_v6,
};
use firewall_common::layout::BanKey;

use super::memory::Memory;
use super::v4_length;

/// The filter's bit maps, in words of 64 bits from its place on. The memory of the counts is taken
/// as they are used.
#[derive(Debug)]
struct Bits {
    at: u32,
    counts: Vec<u32>,
}

/// Lengths by the first 16 bits of an address, with a count for each of 32 lengths.
#[derive(Debug)]
struct Lengths {
    at: u32,
    counts: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Filter {
    fine: Bits,
    coarse: [Bits; 2],
    v6_32: Bits,
    v6_48: Bits,
    v6_64: Bits,
    lengths: [Lengths; 2],
    /// By family, and by length of each.
    totals: [u64; 2],
    by_length: [[u64; 129]; 2],
}

impl Default for Filter {
    fn default() -> Self {
        let bits = |at, words: u32| Bits {
            at,
            counts: vec![0; words as usize * 64],
        };
        let lengths = |at| Lengths {
            at,
            counts: vec![0; 32 << 16],
        };
        Self {
            fine: bits(V4_FINE, V4_COARSE - V4_FINE),
            coarse: [
                bits(V4_COARSE, V6_COARSE - V4_COARSE),
                bits(V6_COARSE, V4_LENGTHS - V6_COARSE),
            ],
            v6_32: bits(V6_32, V6_48 - V6_32),
            v6_48: bits(V6_48, V6_64 - V6_48),
            v6_64: bits(V6_64, firewall_common::bans::FILTER_WORDS - V6_64),
            lengths: [lengths(V4_LENGTHS), lengths(V6_LENGTHS)],
            totals: [0; 2],
            by_length: [[0; 129]; 2],
        }
    }
}

/// What a ban touches.
enum Touched {
    /// A bit of a map.
    Bit(Map, u32),
    /// The count of its length in a word of lengths.
    Length(u32),
}

#[derive(Clone, Copy)]
enum Map {
    Fine,
    Coarse,
    CoarseV6,
    V6At32,
    V6At48,
    V6At64,
}

impl Filter {
    /// How many bans of the key's family there are.
    pub(super) fn total(&self, key: &BanKey) -> u64 {
        self.totals[family(key).0]
    }

    /// How many bans there are.
    pub(super) fn all(&self) -> u64 {
        self.totals.iter().sum()
    }

    /// Notes one ban more and sets its bits, what the packet path looks at first last.
    pub(super) fn add(&mut self, memory: &Memory, key: &BanKey) {
        self.count(key, true, memory.seed(), |word, bit| {
            let value = memory.filter(word);
            // A store takes the cache line from every reader.
            if value >> bit & 1 == 0 {
                memory.set_filter(word, value | 1 << bit);
            }
        });
    }

    /// Notes one ban less and clears the bits that nobody else needs.
    pub(super) fn remove(&mut self, memory: &Memory, key: &BanKey) {
        self.count(key, false, memory.seed(), |word, bit| {
            memory.set_filter(word, memory.filter(word) & !(1 << bit));
        });
    }

    /// Notes one ban more or less. Calls `flip` with word and bit where it is the first, or was the
    /// last.
    pub(super) fn count(
        &mut self,
        key: &BanKey,
        more: bool,
        seed: u64,
        mut flip: impl FnMut(u32, u32),
    ) {
        let (family, length) = family(key);
        touched(key, seed, |touched| match touched {
            Touched::Bit(map, bit) => {
                let bits = self.bits(map);
                let count = &mut bits.counts[bit as usize];
                *count = if more { *count + 1 } else { *count - 1 };
                if *count == u32::from(more) {
                    flip(bits.at + bit / 64, bit % 64);
                }
            }
            Touched::Length(word) => {
                let lengths = &mut self.lengths[family];
                let count = &mut lengths.counts[word as usize * 32 + length as usize - 1];
                *count = if more { *count + 1 } else { *count - 1 };
                if *count == u32::from(more) {
                    flip(lengths.at + word, length - 1);
                }
            }
        });
        self.totals[family] = step(self.totals[family], more);
        let of_length = &mut self.by_length[family][length as usize];
        *of_length = step(*of_length, more);
        if *of_length == u64::from(more) {
            let (word, bit) = header_place(family, length);
            flip(word, bit);
        }
    }

    /// Writes every word as the counts are. No bit that a ban needs is cleared on the way.
    pub(super) fn write_all(&mut self, memory: &Memory) {
        let store = |word: u32, value: u64| {
            if memory.filter(word) != value {
                memory.set_filter(word, value);
            }
        };
        for map in [
            Map::Fine,
            Map::V6At32,
            Map::V6At48,
            Map::V6At64,
            Map::Coarse,
            Map::CoarseV6,
        ] {
            let bits = self.bits(map);
            for (word, counts) in (bits.at..).zip(bits.counts.chunks_exact(64)) {
                store(word, bits_of(counts.iter().map(|count| *count > 0)));
            }
        }
        for lengths in &self.lengths {
            for (word, counts) in (lengths.at..).zip(lengths.counts.chunks_exact(32)) {
                store(word, bits_of(counts.iter().map(|count| *count > 0)));
            }
        }
        let mut header = [0; 3];
        for (family, counts) in self.by_length.iter().enumerate() {
            for length in (1..).zip(&counts[1..]).filter(|(_, count)| **count > 0) {
                let (word, bit) = header_place(family, length.0);
                header[word as usize] |= 1 << bit;
            }
        }
        for (word, value) in (HEADER_V4..).zip(header) {
            store(word, value);
        }
    }

    fn bits(&mut self, map: Map) -> &mut Bits {
        match map {
            Map::Fine => &mut self.fine,
            Map::Coarse => &mut self.coarse[0],
            Map::CoarseV6 => &mut self.coarse[1],
            Map::V6At32 => &mut self.v6_32,
            Map::V6At48 => &mut self.v6_48,
            Map::V6At64 => &mut self.v6_64,
        }
    }
}

/// Word and bit of a length in the header.
fn header_place(family: usize, length: u32) -> (u32, u32) {
    match (family, length) {
        (0, _) => (HEADER_V4, length - 1),
        (_, ..=64) => (HEADER_V6, length - 1),
        _ => (HEADER_V6 + 1, length - 65),
    }
}

const fn step(count: u64, more: bool) -> u64 {
    if more { count + 1 } else { count - 1 }
}

/// Calls `each` for what a ban touches (see the table in `firewall_common::bans::filter`).
fn touched(key: &BanKey, seed: u64, mut each: impl FnMut(Touched)) {
    if let Some(length) = v4_length(key) {
        let address = key.address.as_v4();
        if length >= 16 {
            let bits = 1 << 24_u32.saturating_sub(length);
            let first = bit_v4(address);
            (first..first + bits).for_each(|bit| each(Touched::Bit(Map::Fine, bit)));
            each(Touched::Bit(Map::Coarse, bit_v4_coarse(address)));
        }
        let words = 1 << 16_u32.saturating_sub(length);
        let first = lengths_v4(address);
        (first..first + words).for_each(|word| each(Touched::Length(word)));
        return;
    }
    let high = key.address.high;
    match key.length {
        0..20 => {
            let words = 1 << 16_u32.saturating_sub(key.length);
            let first = lengths_v6(high);
            (first..first + words).for_each(|word| each(Touched::Length(word)));
        }
        20..48 => {
            let networks = 1 << 32_u32.saturating_sub(key.length);
            for network in (0..networks).map(|network| high + (network << 32)) {
                each(Touched::Bit(Map::V6At32, bit_v6_32(network, seed)));
                each(Touched::Bit(Map::CoarseV6, bit_v6_coarse(network, seed)));
            }
        }
        length => {
            each(if length < 64 {
                Touched::Bit(Map::V6At48, bit_v6_48(high, seed))
            } else {
                Touched::Bit(Map::V6At64, bit_v6_64(high, seed))
            });
            each(Touched::Bit(Map::CoarseV6, bit_v6_coarse(high, seed)));
        }
    }
}

/// The family's number and the length as written.
fn family(key: &BanKey) -> (usize, u32) {
    match v4_length(key) {
        Some(length) => (0, length),
        None => (1, key.length),
    }
}

fn bits_of(set: impl Iterator<Item = bool>) -> u64 {
    set.enumerate()
        .fold(0, |word, (bit, set)| word | u64::from(set) << bit)
}
