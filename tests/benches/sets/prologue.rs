//! A prologue that writes the next source of a long list to the frame, and goes on to the program
//! under test. The list is read in order, which the processor does ahead of time, so that the
//! misses that are measured are the program's own.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use anyhow::Result;

use crate::kernel;

/// A prologue and what it needs to stay as it is.
pub struct Prologue {
    pub program: OwnedFd,
    _kept: [OwnedFd; 3],
}

/// A program that drops.
pub fn empty() -> Result<OwnedFd> {
    kernel::load("bench_empty", &[set(0, 1), EXIT])
}

/// A program that reads one line of a 32 MiB array, at random by the source address, and drops: what
/// a cache miss costs here and now.
pub fn one_line(v6: bool) -> Result<[OwnedFd; 2]> {
    const BITS: i32 = 19;
    let lines = kernel::array(64, 1 << BITS)?;
    // A byte further in for IPv6: its last four bytes.
    let source = if v6 { 34 } else { 26 };
    let mut code = vec![
        load(4, 2, 1, 0),
        load(4, 3, 1, 4),
        copy(4, 2),
        add(4, source + 4),
    ];
    let [low, high] = address(1, MAP, lines.as_raw_fd());
    let read = [
        load(4, 5, 2, source as i16),
        // The product's upper bits depend on all of the address.
        encode(0x24, 5, 0, 0, 0x9e37_79b1_u32 as i32),
        encode(0x74, 5, 0, 0, 32 - BITS),
        store(4, 10, 5, -4),
        low,
        high,
        copy(2, 10),
        add(2, -4),
        call(LOOKUP),
        encode(0x15, 0, 0, 1, 0),
        load(8, 1, 0, 0),
    ];
    code.push(encode(0x2d, 4, 3, read.len() as i16, 0));
    code.extend(read);
    code.extend([set(0, 1), EXIT]);
    Ok([kernel::load("bench_line", &code)?, lines])
}

impl Prologue {
    /// A prologue before `target` that hands out `sources`, a power of two of them, of one family.
    pub fn before(target: BorrowedFd<'_>, sources: &[IpAddr]) -> Result<Self> {
        let list = kernel::array(16, sources.len() as u32)?;
        let mut values = Vec::with_capacity(sources.len() * 16);
        for source in sources {
            match source {
                IpAddr::V4(source) => {
                    values.extend([source.octets().as_slice(), &[0; 12]].concat());
                }
                IpAddr::V6(source) => values.extend(source.octets()),
            }
        }
        kernel::fill(&list, 16, &values)?;
        let cursor = kernel::array(8, 1)?;
        let table = kernel::table_of(target)?;
        let v6 = sources[0].is_ipv6();
        let code = instructions(
            v6,
            sources.len() as i32 - 1,
            [&cursor, &list, &table].map(AsRawFd::as_raw_fd),
        );
        let program = kernel::load("bench_sources", &code)?;
        Ok(Self {
            program,
            _kept: [list, cursor, table],
        })
    }
}

/// Register 6 holds the context, 7 the place in the list.
fn instructions(v6: bool, mask: i32, [cursor, list, table]: [i32; 3]) -> Vec<u64> {
    let mut code = vec![copy(6, 1)];
    code.extend(address(8, VALUE, cursor));
    code.extend([load(8, 7, 8, 0), copy(1, 7), add(1, 1), store(8, 8, 1, 0)]);
    code.extend([and(7, mask), store(4, 10, 7, -4)]);
    code.extend(address(1, MAP, list));
    code.extend([copy(2, 10), add(2, -4), call(LOOKUP)]);
    let (at, stores) = if v6 {
        (
            22,
            vec![
                load(8, 4, 0, 0),
                load(8, 5, 0, 8),
                store(8, 2, 4, 22),
                store(8, 2, 5, 30),
            ],
        )
    } else {
        (26, vec![load(4, 4, 0, 0), store(4, 2, 4, 26)])
    };
    let end = at + if v6 { 16 } else { 4 };
    let mut tail = vec![copy(1, 6)];
    tail.extend(address(2, MAP, table));
    tail.extend([set(3, 0), call(TAIL_CALL)]);
    let rest = (stores.len() + tail.len()) as i16;
    code.push(encode(0x15, 0, 0, rest + 5, 0));
    code.extend([load(4, 2, 6, 0), load(4, 3, 6, 4), copy(1, 2), add(1, end)]);
    code.push(encode(0x2d, 1, 3, rest, 0));
    code.extend(stores);
    code.extend(tail);
    // Reached when something is missing: the verdict of no program.
    code.extend([set(0, 0), EXIT]);
    code
}

const LOOKUP: i32 = 1;
const TAIL_CALL: i32 = 12;
const MAP: u8 = 1;
const VALUE: u8 = 2;
// Instructions as RFC 9669 lays them out.
const EXIT: u64 = encode(0x95, 0, 0, 0, 0);

const fn encode(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    code as u64
        | (to as u64) << 8
        | (from as u64) << 12
        | (offset as u16 as u64) << 16
        | (immediate as u32 as u64) << 32
}

const fn copy(to: u8, from: u8) -> u64 {
    encode(0xbf, to, from, 0, 0)
}

const fn set(to: u8, value: i32) -> u64 {
    encode(0xb7, to, 0, 0, value)
}

const fn add(to: u8, value: i32) -> u64 {
    encode(0x07, to, 0, 0, value)
}

const fn and(to: u8, value: i32) -> u64 {
    encode(0x57, to, 0, 0, value)
}

const fn call(helper: i32) -> u64 {
    encode(0x85, 0, 0, 0, helper)
}

/// Loads 4 or 8 bytes.
const fn load(bytes: u8, to: u8, from: u8, offset: i16) -> u64 {
    encode(if bytes == 8 { 0x79 } else { 0x61 }, to, from, offset, 0)
}

/// Stores 4 or 8 bytes.
const fn store(bytes: u8, to: u8, from: u8, offset: i16) -> u64 {
    encode(if bytes == 8 { 0x7b } else { 0x63 }, to, from, offset, 0)
}

/// Takes the place of two instructions.
const fn address(to: u8, what: u8, map: i32) -> [u64; 2] {
    [encode(0x18, to, what, 0, map), 0]
}
