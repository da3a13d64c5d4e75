//! The class of an address, for millions of address ranges, at the price of one or two cache misses.
//!
//! The cuts between ranges stand in search trees whose nodes are cache lines. A line compares the
//! address with all its keys at once, in arithmetic on whole words: no branch can be mispredicted, and
//! the verifier follows one path. Above the trees stands a first level indexed by the upper bits
//! (as in Zec, Rizzo and Mikuc 2012, "DXR"), so large that most chunks of addresses are one class or
//! one line. In an IPv4 table the first level is the roots of the trees themselves, in a row: for
//! most addresses that is one cache miss, and one way through the code, which the processor foresees whatever the
//! address. A small table has a tree for each half of the addresses and nothing above.
//!
//! The number by which a table is known says where it begins and how it is built. It is a constant
//! of the loaded program, so code for other shapes is not in it.

use crate::Address;
use crate::image::{Image, LINE_WORDS, Line};

/// A table as one number: where it begins, and its shape.
///
/// | bits | hold |
/// |---|---|
/// | 0-4 | bits of the first level, 0 for none; [`UNIFORM_BITS`] for a table of one class |
/// | 5-8 | most lines from a tree's root to a leaf |
/// | 9 | some trees are [`Kind::Deep`] |
/// | 10-31 | line that it begins at; in a table of one class, bits 16-31 are the class |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub line: u32,
    pub bits: u32,
    pub height: u32,
    pub deep: bool,
}

/// Lines from root to leaf at most.
pub const MAX_HEIGHT: u32 = 15;
/// Trees of more lines from root to leaf than this are high (see [`is_high`]).
const NEAR_HEIGHT: u32 = 3;
/// Lines of a table stand before this one: 256 MiB.
pub const MAX_LINE: u32 = 1 << 22;
const UNIFORM_BITS: u32 = 31;

impl Shape {
    /// The number of the table.
    pub const fn number(self) -> u32 {
        self.line << 10 | (self.deep as u32) << 9 | self.height << 5 | self.bits
    }

    /// The number of a table that gives every address one class.
    pub const fn uniform(class: u32) -> u32 {
        class << 16 | UNIFORM_BITS
    }

    #[inline(always)]
    const fn of(number: u32) -> Self {
        Self {
            line: number >> 10,
            bits: number & 31,
            height: number >> 5 & MAX_HEIGHT,
            deep: number >> 9 & 1 != 0,
        }
    }
}

/// Whether the trees of a table are so high that a program goes down them in a function of its own: the
/// verifier follows each way down, once more for each state in which a program comes to it.
pub const fn is_high(table: u32) -> bool {
    let shape = Shape::of(table);
    shape.bits != UNIFORM_BITS && shape.height > NEAR_HEIGHT
}

/// What the first level of an IPv6 table says of a chunk of addresses, in 32 bits: one class, or a tree.
pub mod chunk {
    /// The chunk is one class, in the lower 16 bits.
    pub const UNIFORM: u32 = 1 << 31;
    /// The tree's lines are [`super::Kind::Deep`].
    pub const DEEP: u32 = 1 << 26;
    /// Where the tree's height stands; below it, the line of its root.
    pub const HEIGHT_SHIFT: u32 = 22;
}

/// How a line holds its keys. A leaf has one class more than keys, an inner line one child more;
/// the children stand in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 15-bit keys: IPv4 chunks of a first level of 17 bits or more.
    Narrow,
    /// 31-bit keys: IPv4 otherwise.
    Wide,
    /// 63-bit keys: the upper half of IPv6 addresses.
    Half,
    /// A 63-bit key and 64 bits more: where IPv6 prefixes are longer than /64.
    Deep,
}

impl Kind {
    /// The word that [`INNER`] stands in.
    pub const fn inner_at(self) -> usize {
        match self {
            Self::Narrow => 3,
            Self::Wide | Self::Half | Self::Deep => LINE_WORDS - 1,
        }
    }

    /// Keys of a leaf.
    pub const fn keys(self) -> usize {
        match self {
            Self::Narrow => 15,
            Self::Wide => 10,
            Self::Half => 6,
            Self::Deep => 3,
        }
    }

    /// The word from which on a leaf's classes stand, 16 bits each; an inner line's first child
    /// stands there, too.
    pub const fn classes_at(self) -> usize {
        match self {
            Self::Narrow => 4,
            Self::Wide => 5,
            Self::Half | Self::Deep => 6,
        }
    }

    /// How many of a line's keys are at most the sought one.
    #[inline(always)]
    fn passed(self, line: &Line, key: u64, low: u64) -> u32 {
        match self {
            Self::Narrow => narrow(line, key),
            Self::Wide => wide(line, key),
            Self::Half => half(line, key),
            Self::Deep => deep(line, key, low),
        }
    }
}

/// The mark of an inner line of an IPv4 table whose roots stand in a row, in the uppermost quarter of a word that
/// holds neither keys nor classes: the last word of keys of [`Kind::Narrow`], the last word of [`Kind::Wide`].
pub const INNER: u64 = 1 << 48;

/// A key that no address reaches, in each lane of a word.
pub const NARROW_NEVER: u64 = 0x8000_8000_8000_8000;
pub const WIDE_NEVER: u64 = 0x8000_0000_8000_0000;
pub const HALF_NEVER: u64 = 1 << 63;

/// From this many bits of first level on, IPv4 trees are [`Kind::Narrow`].
pub const NARROW_BITS: u32 = 17;

/// The class of an IPv4 address.
#[inline(always)]
pub fn row_v4<I: Image + ?Sized>(image: &I, table: u32, address: u32) -> u32 {
    let shape = Shape::of(table);
    if shape.bits == UNIFORM_BITS {
        return table >> 16;
    }
    if shape.bits == 0 {
        let key = (address & 0x7fff_ffff) as u64;
        let root = shape.line + (address >> 31);
        return descend(image, Kind::Wide, root, shape.height, shape.height, key, 0);
    }
    let shift = 32 - shape.bits;
    let key = (address & !(u32::MAX << shift)) as u64;
    let root = shape.line + (address >> shift);
    if shape.bits >= NARROW_BITS {
        descend_marked(image, Kind::Narrow, root, shape.height, key)
    } else {
        descend_marked(image, Kind::Wide, root, shape.height, key)
    }
}

/// The class of an IPv6 address.
///
/// The first level begins with a chunk for each /3; the chunks of 2000::/3, the one that global
/// addresses are given out from (RFC 4291 2.4, IANA's registry), follow.
#[inline(always)]
pub fn row_v6<I: Image + ?Sized>(image: &I, table: u32, address: Address) -> u32 {
    let shape = Shape::of(table);
    if shape.bits == UNIFORM_BITS {
        return table >> 16;
    }
    let (high, low) = (address.high, address.low);
    if shape.bits == 0 {
        let key = high & !(1 << 63);
        let root = shape.line + (high >> 63) as u32;
        let (height, most) = (shape.height, shape.height);
        return if shape.deep {
            descend(image, Kind::Deep, root, height, most, key, low)
        } else {
            descend(image, Kind::Half, root, height, most, key, low)
        };
    }
    let mut index = high >> 61;
    let mut key = high & (u64::MAX >> 3);
    if index == GLOBAL {
        let shift = 61 - shape.bits;
        index = OTHERS as u64 + (key >> shift);
        key &= !(u64::MAX << shift);
    }
    let chunk = chunk_at(image, shape.line, index as u32);
    if chunk & chunk::UNIFORM != 0 {
        return chunk & 0xffff;
    }
    let (root, height) = tree(chunk);
    if shape.deep && chunk & chunk::DEEP != 0 {
        return descend(image, Kind::Deep, root, height, shape.height, key, low);
    }
    descend(image, Kind::Half, root, height, shape.height, key, low)
}

/// The upper three bits of global unicast addresses.
pub const GLOBAL: u64 = 1;
/// Chunks before those of the global unicast addresses: one for each /3.
pub const OTHERS: u32 = 8;

/// What the first level says of a chunk.
#[inline(always)]
fn chunk_at<I: Image + ?Sized>(image: &I, line: u32, index: u32) -> u32 {
    let word = image.word(line * LINE_WORDS as u32 + (index >> 1));
    (word >> ((index & 1) * 32)) as u32
}

/// The root of a chunk's tree, and its height.
#[inline(always)]
const fn tree(chunk: u32) -> (u32, u32) {
    (
        chunk & (MAX_LINE - 1),
        chunk >> chunk::HEIGHT_SHIFT & MAX_HEIGHT,
    )
}

/// Goes down a tree whose lines say themselves whether they are leaves.
#[inline(always)]
fn descend_marked<I: Image + ?Sized>(image: &I, kind: Kind, root: u32, most: u32, key: u64) -> u32 {
    let mut at = root;
    for level in 1..MAX_HEIGHT {
        let Some(line) = image.line(at) else {
            return 0;
        };
        let passed = kind.passed(line, key, 0);
        if level >= most || line[kind.inner_at()] & INNER == 0 {
            return class(line, kind, passed);
        }
        at = line[kind.classes_at()] as u32 + passed;
    }
    0
}

/// Goes down a tree to a class. `most` bounds the height with what the program knows when it is
/// loaded.
#[inline(always)]
fn descend<I: Image + ?Sized>(
    image: &I,
    kind: Kind,
    root: u32,
    height: u32,
    most: u32,
    key: u64,
    low: u64,
) -> u32 {
    let mut at = root;
    for level in 1..MAX_HEIGHT {
        if level >= most || level >= height {
            break;
        }
        let Some(line) = image.line(at) else {
            return 0;
        };
        at = line[kind.classes_at()] as u32 + kind.passed(line, key, low);
    }
    let Some(line) = image.line(at) else {
        return 0;
    };
    class(line, kind, kind.passed(line, key, low))
}

/// Class number `index` of a leaf.
#[inline(always)]
fn class(line: &Line, kind: Kind, index: u32) -> u32 {
    let class = index as usize;
    // The mask says what is true anyway to who cannot know it: the class is within the line.
    let word = line[(kind.classes_at() + (class >> 2)) & (LINE_WORDS - 1)];
    (word >> ((class & 3) * 16)) as u32 & 0xffff
}

// Keys beside each other in a word are subtracted at once, from the sought key with the bit above
// it set: the bit stays where the key is not larger (Lamport 1975, "Multiple byte processing with
// full-word instructions").

#[inline(always)]
fn narrow(line: &Line, key: u64) -> u32 {
    const ONES: u64 = 0x0001_0001_0001_0001;
    let keys = key.wrapping_mul(ONES) | NARROW_NEVER;
    let mut passed = 0;
    for word in &line[..3] {
        passed += (keys.wrapping_sub(*word) & NARROW_NEVER) >> 15;
    }
    passed += (keys.wrapping_sub(line[3]) & NARROW_NEVER >> 16) >> 15;
    (passed.wrapping_mul(ONES) >> 48) as u32
}

#[inline(always)]
fn wide(line: &Line, key: u64) -> u32 {
    let keys = key << 32 | key | WIDE_NEVER;
    let mut passed = 0;
    for word in &line[..5] {
        passed += (keys.wrapping_sub(*word) & WIDE_NEVER) >> 31;
    }
    (passed + (passed >> 32)) as u32 & 0xf
}

#[inline(always)]
fn half(line: &Line, key: u64) -> u32 {
    let mut ahead = 0;
    for word in &line[..6] {
        ahead += key.wrapping_sub(*word) >> 63;
    }
    6 - ahead as u32
}

#[inline(always)]
fn deep(line: &Line, key: u64, low: u64) -> u32 {
    // A key of two words is ahead if its first is, or would be with the borrow from the second. (Asking
    // whether the first words are equal would be a branch, for the compiler and the verifier.)
    let ahead_of = |pair: usize| {
        let apart = key.wrapping_sub(line[pair]);
        (apart | apart.wrapping_sub(borrow(low, line[pair + 1]))) >> 63
    };
    // Not a loop, which the compiler would keep.
    3 - (ahead_of(0) + ahead_of(2) + ahead_of(4)) as u32
}

/// 1 where `a` is less than `b`, without a branch.
#[inline(always)]
const fn borrow(a: u64, b: u64) -> u64 {
    (!a & b | !(a ^ b) & a.wrapping_sub(b)) >> 63
}
