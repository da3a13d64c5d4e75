//! Builds the tables that find an address' class (`firewall_common::address_table`).

use firewall_common::address_table::{
    GLOBAL, HALF_NEVER, Kind, MAX_HEIGHT, NARROW_BITS, NARROW_INNER, NARROW_NEVER, OTHERS, Shape,
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
    let bits = first_level_v4(stretches.len());
    if bits == 0 {
        return halves(&stretches, 1 << 31, |_| Kind::Wide, image);
    }
    let shift = 32 - bits;
    let chunks = (0..1_u32 << bits).map(|index| {
        let first = index << shift;
        (index, first, first | ((1 << shift) - 1))
    });
    if bits >= NARROW_BITS {
        return in_a_row(&stretches, bits, chunks, image);
    }
    chunked(&stretches, bits, 1 << bits, chunks, |_| Kind::Wide, image)
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

/// Bits of the first level: a chunk is one line for most addresses, and a small table stays within
/// the closest cache.
fn first_level_v4(stretches: usize) -> u32 {
    match stretches {
        0..=20 => 0,
        21..=0xffff => stretches.ilog2() - 1,
        0x1_0000..=0x3_ffff => NARROW_BITS,
        0x4_0000..=0x3f_ffff => NARROW_BITS + 1,
        _ => NARROW_BITS + 2,
    }
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

/// Puts a table whose first level is the roots of narrow trees.
fn in_a_row(
    stretches: &[Stretch<u32>],
    bits: u32,
    chunks: impl Iterator<Item = (u32, u32, u32)>,
    image: &mut Vec<u64>,
) -> u32 {
    let table = new_lines(image, 1 << bits);
    let mut height = 1;
    walk(stretches, chunks, |index, first, within| {
        let tree = Tree::plan(Kind::Narrow, first, within);
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
            if self.kind == Kind::Narrow {
                words[at - 1] |= NARROW_INNER;
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

#[cfg(test)]
mod tests {
    use firewall_common::Address;
    use firewall_common::image::{row_v4, row_v6};
    use proptest::prelude::*;

    use super::*;

    fn v6(address: u128) -> Address {
        Address::v6((address >> 64) as u64, address as u64)
    }

    /// The class that the last stretch at or before an address gives it.
    fn by_search<T: Copy + Ord>(stretches: &[Stretch<T>], address: T) -> u32 {
        stretches[stretches.partition_point(|stretch| stretch.0 <= address) - 1].1
    }

    /// Sorted stretches from starts in any order, each with a class that depends on its place.
    fn stretches<T: Copy + Ord + Default>(mut starts: Vec<T>, classes: u32) -> Vec<Stretch<T>> {
        starts.push(T::default());
        starts.sort_unstable();
        starts.dedup();
        let class = |place: u32| place.wrapping_mul(2_654_435_769) % classes;
        starts.into_iter().zip((0..).map(class)).collect()
    }

    fn check_v4(stretches: &[Stretch<u32>], asked: impl IntoIterator<Item = u32>) {
        // Not at the begin of a line: the builder sees to that.
        let mut image = vec![0; 11];
        let table = table_v4(stretches, &mut image);
        let edges = stretches
            .iter()
            .flat_map(|s| [s.0.wrapping_sub(1), s.0, s.0.wrapping_add(1)]);
        for address in edges.chain([0, u32::MAX]).chain(asked) {
            let class = row_v4(&image.as_slice(), table, address);
            assert_eq!(class, by_search(stretches, address), "{address:#x}");
        }
    }

    fn check_v6(stretches: &[Stretch<u128>], asked: impl IntoIterator<Item = u128>) {
        let mut image = vec![0; 11];
        let table = table_v6(stretches, &mut image);
        let edges = stretches
            .iter()
            .flat_map(|s| [s.0.wrapping_sub(1), s.0, s.0.wrapping_add(1)]);
        for address in edges.chain([0, u128::MAX]).chain(asked) {
            let class = row_v6(&image.as_slice(), table, v6(address));
            assert_eq!(class, by_search(stretches, address), "{address:#x}");
        }
    }

    /// Starts near each other and far apart: `base` says around where, `spread` how many low bits vary.
    fn starts_v4(most: usize) -> impl Strategy<Value = Vec<u32>> {
        let around = (0_usize..4, 0_u32..=32, any::<u32>()).prop_map(|(base, spread, bits)| {
            let base = [0, 0x0102_0000, 0x7fff_ff80, 0xffff_ff00_u32][base];
            base ^ bits.checked_shr(32 - spread).unwrap_or(0)
        });
        prop::collection::vec(around, 0..most)
    }

    fn starts_v6(most: usize) -> impl Strategy<Value = Vec<u128>> {
        let around = (0_usize..5, 0_u32..=128, any::<bool>(), any::<u128>());
        let around = around.prop_map(|(base, spread, coarse, bits)| {
            let base = [0, 0x2001_0db8, 0x2a02_0000, 0x7fff_ffff, 0xfe80_0000_u128][base] << 96;
            let bits = bits.checked_shr(128 - spread).unwrap_or(0);
            let start = base ^ bits;
            // Most prefixes end within the upper half.
            if coarse {
                start & u128::MAX << 64
            } else {
                start
            }
        });
        prop::collection::vec(around, 0..most)
    }

    proptest! {
        #[test]
        fn an_ipv4_address_has_the_class_of_its_stretch(
            starts in starts_v4(400), classes in 1_u32..=65_536, asked: [u32; 16],
        ) {
            check_v4(&stretches(starts, classes), asked);
        }

        #[test]
        fn an_ipv6_address_has_the_class_of_its_stretch(
            starts in starts_v6(400), classes in 1_u32..=65_536, asked: [u128; 16],
        ) {
            check_v6(&stretches(starts, classes), asked);
        }

        #[test]
        fn ipv6_tables_of_the_upper_half_alone_are_right_too(
            starts in starts_v6(300), classes in 1_u32..=65_536, asked: [u128; 16],
        ) {
            let upper = starts.into_iter().map(|start| start & u128::MAX << 64).collect();
            check_v6(&stretches(upper, classes), asked);
        }
    }

    /// Every number of stretches at which a tree or the first level takes another shape, next to
    /// each other and scattered.
    #[test]
    fn tables_of_every_shape_are_exact() {
        for count in (1..=300_u32).chain([1_000, 4_000, 70_000]) {
            let dense = (0..count).map(|index| 0x0a00_0000 + index).collect();
            check_v4(&stretches(dense, 60_000), []);
            let scattered = (0..count)
                .map(|index| index.wrapping_mul(2_654_435_769))
                .collect();
            check_v4(&stretches(scattered, 60_000), []);
        }
        for count in (1..=300_u32).chain([1_000, 4_000]) {
            for shift in [0, 40, 64, 80] {
                let first = 0x2001_0db8_u128 << 96;
                let dense = (0..count)
                    .map(|index| first + (u128::from(index) << shift))
                    .collect();
                check_v6(&stretches(dense, 60_000), []);
            }
        }
    }

    #[test]
    fn a_small_table_is_small_and_a_table_of_one_class_takes_no_room() {
        let mut image = vec![0];
        table_v4(&[(0, 7)], &mut image);
        assert_eq!(image.len(), 1);
        let five: Vec<u32> = (1..=5).map(|index| index << 24 | 7).collect();
        let both = five
            .iter()
            .flat_map(|address| [*address, *address + 1])
            .collect();
        table_v4(&stretches(both, 2), &mut image);
        assert!(image.len() * 8 <= 256, "{} bytes", image.len() * 8);
    }
}
