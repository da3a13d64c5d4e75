//! Builds the tables that find an address' class (`firewall_common::address_table`).

#[cfg(test)]
mod tests;

use firewall_common::address_table::{
    GLOBAL, HALF_NEVER, INNER, Kind, MAX_HEIGHT, NARROW_BITS, NARROW_NEVER, OTHERS, Shape,
    WIDE_NEVER, chunk,
};
use firewall_common::image::LINE_WORDS;

/// A stretch of addresses: the first one, and the class of all up to the next stretch.
type Stretch<T> = (T, u32);

/// Puts the table of IPv4 stretches, the first of which begins at 0; returns the table's number.
pub(super) fn table_v4(stretches: &[Stretch<u32>], image: &mut Vec<u64>) -> u32 {
    let stretches = merge(stretches);
    if let [(_, class)] = stretches[..] {
        return Shape::uniform(class);
    }
    let bits = first_level_v4(&stretches);
    if bits == 0 {
        return halves(&stretches, 1 << 31, |_| Kind::Wide, image);
    }
    in_a_row(&stretches, bits, image)
}

/// As [`table_v4`], of IPv6 stretches.
pub(super) fn table_v6(stretches: &[Stretch<u128>], image: &mut Vec<u64>) -> u32 {
    let stretches = merge(stretches);
    if let [(_, class)] = stretches[..] {
        return Shape::uniform(class);
    }
    let kind = |within: &[Stretch<u128>]| {
        if within[1..].iter().any(|(start, _)| *start as u64 != 0) {
            Kind::Deep
        } else {
            Kind::Half
        }
    };
    let bits = first_level_v6(stretches.len());
    if bits == 0 {
        return halves(&stretches, 1 << 127, kind, image);
    }
    let shift = 125 - bits;
    let third = |index: u32| {
        let first = u128::from(index) << 125;
        (index, first, first | ((1 << 125) - 1))
    };
    let global = (0..1_u32 << bits).map(|index| {
        let first = u128::from(GLOBAL) << 125 | u128::from(index) << shift;
        (OTHERS + index, first, first | ((1 << shift) - 1))
    });
    let chunks = std::iter::once(third(0))
        .chain(global)
        .chain((2..OTHERS).map(third));
    let entries = OTHERS as usize + (1 << bits);
    chunked(&stretches, bits, entries, chunks, kind, image)
}

/// Stretches up to which a table has no first level.
const FEW: usize = 20;
/// Up to so many stretches, lines of wide keys may be enough: with [`MOST_WIDE_BITS`] they are five to a line.
const MANY: usize = 0x4_ffff;
const MOST_WIDE_BITS: u32 = NARROW_BITS - 1;
/// One chunk in so many may need more than its root.
const SHARE: usize = 16;

/// Bits of the first level: as few as it takes for one line to be enough for most addresses, so that a small table stays
/// within the closer caches.
fn first_level_v4(stretches: &[Stretch<u32>]) -> u32 {
    let count = stretches.len();
    if count <= FEW {
        return 0;
    }
    if count <= MANY {
        // Between eight and sixteen stretches to a chunk, and one or two.
        let fewest = count.ilog2() - 3;
        let most = count.ilog2().min(MOST_WIDE_BITS);
        for bits in fewest..=most {
            if overfull(stretches, bits) <= (1 << bits) / SHARE {
                return bits;
            }
        }
    }
    match count {
        // More bits would not help: the stretches crowd in a few places.
        0..=0xffff => count.ilog2() - 1,
        0x1_0000..=0x3_ffff => NARROW_BITS,
        0x4_0000..=0x3f_ffff => NARROW_BITS + 1,
        _ => NARROW_BITS + 2,
    }
}

/// How many chunks of a first level of so many bits have more stretches than a line of wide keys takes.
fn overfull(stretches: &[Stretch<u32>], bits: u32) -> usize {
    let mut overfull = 0;
    walk(stretches, chunks_v4(bits), |_, _, within| {
        overfull += usize::from(within.len() > Kind::Wide.keys() + 1);
    });
    overfull
}

/// The chunks of a first level of so many bits, for [`walk`].
fn chunks_v4(bits: u32) -> impl Iterator<Item = (u32, u32, u32)> {
    let shift = 32 - bits;
    (0..1_u32 << bits).map(move |index| {
        let first = index << shift;
        (index, first, first | ((1 << shift) - 1))
    })
}

/// Chunks of global addresses are far from equally full: more bits for as many stretches.
fn first_level_v6(stretches: usize) -> u32 {
    match stretches {
        0..=12 => 0,
        _ => (stretches.ilog2() + 2).clamp(4, 20),
    }
}

/// Neighbouring stretches of one class are one.
fn merge<T: Copy>(stretches: &[Stretch<T>]) -> Vec<Stretch<T>> {
    let mut merged: Vec<Stretch<T>> = Vec::with_capacity(stretches.len());
    for &(start, class) in stretches {
        if merged.last().is_none_or(|last| last.1 != class) {
            merged.push((start, class));
        }
    }
    merged
}

/// A first address whose distance from another is a key.
trait Start: Copy + Ord {
    /// The distance from `first`: upper half and lower half for IPv6, 0 and all for IPv4.
    fn key(self, first: Self) -> (u64, u64);
}

impl Start for u32 {
    fn key(self, first: Self) -> (u64, u64) {
        (u64::from(self - first), 0)
    }
}

impl Start for u128 {
    fn key(self, first: Self) -> (u64, u64) {
        let distance = self - first;
        ((distance >> 64) as u64, distance as u64)
    }
}

/// Puts a table without a first level: a tree for the addresses below `middle`, and one for the
/// others.
fn halves<T: Start + Default>(
    stretches: &[Stretch<T>],
    middle: T,
    kind: impl Fn(&[Stretch<T>]) -> Kind,
    image: &mut Vec<u64>,
) -> u32 {
    let end = stretches.partition_point(|stretch| stretch.0 < middle);
    let begin = stretches.partition_point(|stretch| stretch.0 <= middle) - 1;
    let kind = kind(stretches);
    let trees = [
        Tree::plan(kind, T::default(), &stretches[..end]),
        Tree::plan(kind, middle, &stretches[begin..]),
    ];
    let height = trees[0].height().max(trees[1].height());
    let root = new_lines(image, 2);
    for (index, mut tree) in trees.into_iter().enumerate() {
        tree.grow(height);
        tree.write(root + index, image);
    }
    Shape {
        line: root as u32,
        bits: 0,
        height: height as u32,
        deep: kind == Kind::Deep,
    }
    .number()
}

/// Puts a table with a first level of `entries` entries (for the chunks, see [`walk`]).
fn chunked<T: Start>(
    stretches: &[Stretch<T>],
    bits: u32,
    entries: usize,
    chunks: impl Iterator<Item = (u32, T, T)>,
    kind: impl Fn(&[Stretch<T>]) -> Kind,
    image: &mut Vec<u64>,
) -> u32 {
    let table = new_lines(image, entries.div_ceil(2 * LINE_WORDS));
    let mut shape = Shape {
        line: table as u32,
        bits,
        height: 1,
        deep: false,
    };
    walk(stretches, chunks, |index, first, within| {
        let entry = if let [(_, class)] = within {
            chunk::UNIFORM | class
        } else {
            let kind = kind(within);
            let tree = Tree::plan(kind, first, within);
            let height = tree.height() as u32;
            let root = new_lines(image, 1);
            tree.write(root, image);
            shape.height = shape.height.max(height);
            shape.deep |= kind == Kind::Deep;
            let deep = if kind == Kind::Deep { chunk::DEEP } else { 0 };
            deep | height << chunk::HEIGHT_SHIFT | root as u32
        };
        image[table * LINE_WORDS + index as usize / 2] |= u64::from(entry) << (index % 2 * 32);
    });
    shape.number()
}

/// Puts a table whose first level is the roots of its trees.
fn in_a_row(stretches: &[Stretch<u32>], bits: u32, image: &mut Vec<u64>) -> u32 {
    let kind = if bits >= NARROW_BITS {
        Kind::Narrow
    } else {
        Kind::Wide
    };
    let table = new_lines(image, 1 << bits);
    let mut height = 1;
    walk(stretches, chunks_v4(bits), |index, first, within| {
        let tree = Tree::plan(kind, first, within);
        height = height.max(tree.height());
        tree.write(table + index as usize, image);
    });
    Shape {
        line: table as u32,
        bits,
        height: height as u32,
        deep: false,
    }
    .number()
}

/// Hands over the stretches that meet each chunk, the first of which may begin before it. The chunks come in
/// ascending order, each with its place in the first level, its first and its last address.
fn walk<T: Start>(
    stretches: &[Stretch<T>],
    chunks: impl Iterator<Item = (u32, T, T)>,
    mut each: impl FnMut(u32, T, &[Stretch<T>]),
) {
    let mut begin = 0;
    for (index, first, last) in chunks {
        while stretches.get(begin + 1).is_some_and(|next| next.0 <= first) {
            begin += 1;
        }
        let mut end = begin + 1;
        while stretches.get(end).is_some_and(|next| next.0 <= last) {
            end += 1;
        }
        each(index, first, &stretches[begin..end]);
        begin = end - 1;
    }
}

/// Appends lines; returns the first one's number.
fn new_lines(image: &mut Vec<u64>, count: usize) -> usize {
    let line = image.len().div_ceil(LINE_WORDS);
    image.resize((line + count) * LINE_WORDS, 0);
    line
}

/// A search tree over the stretches of a chunk of addresses.
struct Tree<'s, T> {
    kind: Kind,
    /// First address of the chunk.
    first: T,
    stretches: &'s [Stretch<T>],
    /// Lines of each level, the leaves first.
    levels: Vec<usize>,
}

impl<'s, T: Start> Tree<'s, T> {
    fn plan(kind: Kind, first: T, stretches: &'s [Stretch<T>]) -> Self {
        let most = kind.keys() + 1;
        let mut levels = vec![stretches.len().div_ceil(most)];
        while let Some(&lines) = levels.last()
            && lines > 1
        {
            levels.push(lines.div_ceil(most));
        }
        debug_assert!(levels.len() <= MAX_HEIGHT as usize);
        Self {
            kind,
            first,
            stretches,
            levels,
        }
    }

    fn height(&self) -> usize {
        self.levels.len()
    }

    /// Puts levels of one line on top.
    fn grow(&mut self, height: usize) {
        self.levels.resize(height.max(self.levels.len()), 1);
    }

    /// Writes the tree, its root to the line `root`.
    fn write(&self, root: usize, image: &mut Vec<u64>) {
        let mut line = root;
        for level in (0..self.height()).rev() {
            let children = match level {
                0 => 0,
                _ => new_lines(image, self.levels[level - 1]),
            };
            for index in 0..self.levels[level] {
                let words = &mut image[(line + index) * LINE_WORDS..][..LINE_WORDS];
                self.write_line(level, index, children, words);
            }
            line = children;
        }
    }

    fn write_line(&self, level: usize, index: usize, children: usize, words: &mut [u64]) {
        clear(self.kind, words);
        let below = match level {
            0 => self.stretches.len(),
            _ => self.levels[level - 1],
        };
        let share = share(below, self.levels[level], index);
        for (position, child) in share.clone().enumerate().skip(1) {
            let start = self.stretches[self.leftmost(level, child)].0;
            put_key(self.kind, words, position - 1, start.key(self.first));
        }
        let at = self.kind.classes_at();
        if level > 0 {
            words[at] = (children + share.start) as u64;
            // Who knows how high its trees are does not ask.
            if matches!(self.kind, Kind::Narrow | Kind::Wide) {
                words[self.kind.inner_at()] |= INNER;
            }
            return;
        }
        for (position, stretch) in share.enumerate() {
            let class = u64::from(self.stretches[stretch].1);
            words[at + position / 4] |= class << (position % 4 * 16);
        }
    }

    /// The first stretch below child number `child` of the lines of `level`.
    fn leftmost(&self, level: usize, child: usize) -> usize {
        (0..level).rev().fold(child, |child, below| {
            let things = match below {
                0 => self.stretches.len(),
                _ => self.levels[below - 1],
            };
            share(things, self.levels[below], child).start
        })
    }
}

/// The things that fall to line `index` when `lines` share them evenly.
fn share(things: usize, lines: usize, index: usize) -> std::ops::Range<usize> {
    index * things / lines..(index + 1) * things / lines
}

/// A line in which no key is ever passed.
fn clear(kind: Kind, words: &mut [u64]) {
    words.fill(0);
    let keys = &mut words[..kind.classes_at()];
    match kind {
        Kind::Narrow => {
            keys.fill(NARROW_NEVER);
            keys[3] >>= 16;
        }
        Kind::Wide => keys.fill(WIDE_NEVER),
        Kind::Half | Kind::Deep => keys.fill(HALF_NEVER),
    }
}

fn put_key(kind: Kind, words: &mut [u64], position: usize, key: (u64, u64)) {
    let lane = |word: &mut u64, lane: usize, bits: usize| {
        let mask = (1 << bits) - 1;
        *word = *word & !(mask << (lane * bits)) | key.0 << (lane * bits);
    };
    match kind {
        Kind::Narrow => lane(&mut words[position / 4], position % 4, 16),
        Kind::Wide => lane(&mut words[position / 2], position % 2, 32),
        Kind::Half => words[position] = key.0,
        Kind::Deep => (words[position * 2], words[position * 2 + 1]) = key,
    }
}
