//! Builds the tables that find an address' row.

use firewall_common::address_table::{LEAF, RANGE_COUNT_BITS};

/// Neighbouring stretches with the same row are one.
fn merge<T: Copy>(stretches: &[(T, u32)]) -> Vec<(T, u32)> {
    let mut merged: Vec<(T, u32)> = Vec::with_capacity(stretches.len());
    for &(start, row) in stretches {
        if merged.last().is_none_or(|last| last.1 != row) {
            merged.push((start, row));
        }
    }
    merged
}

/// Bits of the first level: enough that a chunk holds a handful of ranges, and few enough that a
/// small policy stays within the closest cache.
fn first_level_bits(ranges: usize) -> u32 {
    match ranges {
        0..=32 => 4,
        33..=4_096 => 10,
        4_097..=262_144 => 16,
        _ => 20,
    }
}

pub(super) fn table_v4(stretches: &[(u32, u32)], image: &mut Vec<u64>) -> u32 {
    let stretches = &merge(stretches);
    let bits = first_level_bits(stretches.len());
    let shift = 32 - bits;
    let table = begin(shift, bits, image);
    for chunk in 0..1_usize << bits {
        let first = (chunk as u32) << shift;
        let last = first | ((1_u64 << shift) - 1) as u32;
        let within = covering(stretches, first, last);
        let descriptor = if let [(_, row)] = within {
            LEAF | u64::from(*row)
        } else {
            let base = image.len() as u64;
            image.extend(
                within
                    .iter()
                    .map(|&(start, row)| u64::from(start.max(first)) << 16 | u64::from(row)),
            );
            base << RANGE_COUNT_BITS | within.len() as u64
        };
        image[table + 1 + chunk] = descriptor;
    }
    table as u32
}

pub(super) fn table_v6(stretches: &[(u128, u32)], image: &mut Vec<u64>) -> u32 {
    let stretches = &merge(stretches);
    let bits = first_level_bits(stretches.len());
    let shift = 128 - bits;
    let table = begin(shift - 64, bits, image);
    for chunk in 0..1_usize << bits {
        let first = (chunk as u128) << shift;
        let last = first | ((1_u128 << shift) - 1);
        let within = covering(stretches, first, last);
        let descriptor = if let [(_, row)] = within {
            LEAF | u64::from(*row)
        } else {
            let base = image.len() as u64;
            for &(start, row) in within {
                let start = start.max(first);
                image.extend([(start >> 64) as u64, start as u64, u64::from(row)]);
            }
            base << RANGE_COUNT_BITS | within.len() as u64
        };
        image[table + 1 + chunk] = descriptor;
    }
    table as u32
}

/// Reserves the head and first level of a table.
fn begin(shift: u32, bits: u32, image: &mut Vec<u64>) -> usize {
    let table = image.len();
    image.push(u64::from(shift));
    image.resize(table + 1 + (1 << bits), 0);
    table
}

/// The stretches that meet `first..=last`.
fn covering<T: Ord + Copy>(stretches: &[(T, u32)], first: T, last: T) -> &[(T, u32)] {
    let from = stretches
        .partition_point(|stretch| stretch.0 <= first)
        .saturating_sub(1);
    let to = stretches.partition_point(|stretch| stretch.0 <= last);
    &stretches[from..to]
}
