//! A prologue that writes the next source of a long list to the frame, and goes on to the program
//! under test. The list is read in order, which the processor does ahead of time, so that the
//! misses that are measured are the program's own.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use anyhow::Result;
use palisade_tests::bpf::instructions::*;

use crate::kernel::{self, Hook};

/// A prologue and what it needs to stay as it is.
pub struct Prologue {
    pub program: OwnedFd,
    _kept: [OwnedFd; 3],
}

/// A program that drops.
pub fn empty() -> Result<OwnedFd> {
    kernel::load("bench_empty", &[set(0, 1), EXIT], Hook::XdpFrags)
}

/// A program that reads one line of a 32 MiB array, at random by the source address, and drops: what
/// a cache miss costs here and now.
pub fn one_line(v6: bool) -> Result<[OwnedFd; 2]> {
    const BITS: i32 = 19;
    let lines = kernel::array(64, 1 << BITS)?;
    // A byte further in for IPv6: its last four bytes.
    let source = if v6 { 34 } else { 26 };
    let mut code = vec![load(2, 1, 0), load(3, 1, 4), copy(4, 2), add(4, source + 4)];
    let [low, high] = address_of_map(1, lines.as_raw_fd());
    let read = [
        load(5, 2, source as i16),
        // The product's upper bits depend on all of the address.
        multiply_lower(5, 0x9e37_79b1_u32 as i32),
        shift_right_lower(5, 32 - BITS),
        store(10, 5, -4),
        low,
        high,
        copy(2, 10),
        add(2, -4),
        call(LOOK_UP),
        skip_if_zero(0, 1),
        load_word(1, 0, 0),
    ];
    code.push(skip_if_above(4, 3, read.len() as i16));
    code.extend(read);
    code.extend([set(0, 1), EXIT]);
    Ok([kernel::load("bench_line", &code, Hook::XdpFrags)?, lines])
}

impl Prologue {
    /// A prologue before `target` that hands out `sources`, a power of two of them, of one family.
    pub fn before(target: BorrowedFd<'_>, sources: &[IpAddr]) -> Result<Self> {
        let bytes = |source: &IpAddr| {
            let mut bytes = [0; 16];
            match source {
                IpAddr::V4(source) => bytes[..4].copy_from_slice(&source.octets()),
                IpAddr::V6(source) => bytes = source.octets(),
            }
            bytes
        };
        let list = kernel::array_of(&sources.iter().map(bytes).collect::<Vec<_>>())?;
        let cursor = kernel::array(8, 1)?;
        let table = kernel::table_of(target)?;
        let v6 = sources[0].is_ipv6();
        let code = instructions(
            v6,
            sources.len() as i32 - 1,
            [&cursor, &list, &table].map(AsRawFd::as_raw_fd),
        );
        let program = kernel::load("bench_sources", &code, Hook::XdpFrags)?;
        Ok(Self {
            program,
            _kept: [list, cursor, table],
        })
    }
}

/// Register 6 holds the context, 7 the place in the list.
fn instructions(v6: bool, mask: i32, [cursor, list, table]: [i32; 3]) -> Vec<u64> {
    let mut code = vec![copy(6, 1)];
    code.extend(address_of_value(8, cursor));
    code.extend([
        load_word(7, 8, 0),
        copy(1, 7),
        add(1, 1),
        store_word(8, 1, 0),
    ]);
    code.extend([and(7, mask), store(10, 7, -4)]);
    code.extend(address_of_map(1, list));
    code.extend([copy(2, 10), add(2, -4), call(LOOK_UP)]);
    let (at, stores) = if v6 {
        (
            22,
            vec![
                load_word(4, 0, 0),
                load_word(5, 0, 8),
                store_word(2, 4, 22),
                store_word(2, 5, 30),
            ],
        )
    } else {
        (26, vec![load(4, 0, 0), store(2, 4, 26)])
    };
    let end = at + if v6 { 16 } else { 4 };
    let mut tail = vec![copy(1, 6)];
    tail.extend(address_of_map(2, table));
    tail.extend([set(3, 0), call(TAIL_CALL)]);
    let rest = (stores.len() + tail.len()) as i16;
    code.push(skip_if_zero(0, rest + 5));
    code.extend([load(2, 6, 0), load(3, 6, 4), copy(1, 2), add(1, end)]);
    code.push(skip_if_above(1, 3, rest));
    code.extend(stores);
    code.extend(tail);
    // Reached when something is missing: the verdict of no program.
    code.extend([set(0, 0), EXIT]);
    code
}
