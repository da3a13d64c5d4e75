use firewall_common::Address;
use firewall_common::image::{Image, Line, row_v4, row_v6};
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
    for count in (1..=300_u32).chain([1_000, 4_000, 20_000, 70_000, 330_000]) {
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

/// The image, counting the lines that are asked for.
struct Counting<'a>(&'a [u64], std::cell::Cell<u32>);

impl Image for Counting<'_> {
    fn line(&self, index: u32) -> Option<&Line> {
        self.1.set(self.1.get() + 1);
        (&self.0).line(index)
    }
}

/// Most addresses of any number of scattered ones take one line and no other way through the code.
#[test]
fn one_line_is_enough_for_nearly_every_address() {
    for count in [
        12, 40, 300, 1_000, 10_000, 30_000, 100_000, 150_000, 200_000, 400_000,
    ] {
        let scattered = (0..count).map(|index: u32| mixed(index) & !1);
        let both = scattered
            .flat_map(|address| [address, address | 1])
            .collect();
        let stretches = stretches(both, 2);
        let mut image = Vec::new();
        let table = table_v4(&stretches, &mut image);
        let counting = Counting(&image, std::cell::Cell::default());
        let asked = 50_000;
        for index in 0..asked {
            row_v4(&counting, table, mixed(index ^ 0x5555_5555));
        }
        let lines = f64::from(counting.1.get()) / f64::from(asked);
        assert!(lines < 1.08, "{count} addresses: {lines} lines");
        let bytes = image.len() * 8 / count as usize;
        assert!(bytes <= 128, "{count} addresses: {bytes} bytes each");
    }
}

/// A number like a random one.
fn mixed(number: u32) -> u32 {
    let mixed = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) as u32
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
