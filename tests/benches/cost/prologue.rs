//! Small programs written as instructions: the floor, and a prologue that draws a source at random
//! and goes on to the program under test, so that its tables are as cold as in a flood.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::Result;

use super::kernel;

pub const XDP_DROP: u32 = 1;
pub const XDP_PASS: u32 = 2;

/// What is drawn, in an untagged frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// The IPv4 source, over all of IPv4 below 224.0.0.0; 1 in 112 of them is still a martian.
    V4Source,
    /// The middle eight bytes of an IPv6 source: its network within its /32, and what follows.
    V6Source,
}

/// A program that drops.
pub fn empty(frags: bool) -> Result<OwnedFd> {
    kernel::load("bench_empty", &[set(0, XDP_DROP as i32), EXIT], frags)
}

/// A prologue before `target`. The kernel keeps the table of a loaded program, and what is in it
/// as long as user space holds the table: so both are given back.
pub fn before(target: BorrowedFd<'_>, drawn: Drawn, frags: bool) -> Result<[OwnedFd; 2]> {
    let table = kernel::table_of(target)?;
    let instructions = instructions(drawn, table.as_fd().as_raw_fd());
    let program = kernel::load("bench_prologue", &instructions, frags)?;
    Ok([program, table])
}

const PRANDOM: i32 = 7;
const TAIL_CALL: i32 = 12;
/// Where the drawn bytes begin: the IPv4 source, and the second word of the IPv6 source.
const DRAWN: i16 = 26;

/// Register 6 holds the context, 7 and 8 what was drawn, 2 the packet, 3 its end.
fn instructions(drawn: Drawn, table: i32) -> Vec<u64> {
    let mut program = vec![copy(6, 1), call(PRANDOM), copy(7, 0)];
    let stores = match drawn {
        Drawn::V4Source => {
            // The first byte of the address is the register's lowest. From 224 on there are no
            // unicast sources: their highest bit goes, which leaves 96 to 127.
            program.extend([copy(8, 0), and(8, 0xff)]);
            program.extend([skip_if_below(8, 224, 1), flip(7, 0x80)]);
            vec![store(2, 7, DRAWN)]
        }
        Drawn::V6Source => {
            program.extend([call(PRANDOM), copy(8, 0)]);
            vec![store(2, 7, DRAWN), store(2, 8, DRAWN + 4)]
        }
    };
    let [low, high] = address_of_map(2, table);
    let tail = [copy(1, 6), low, high, set(3, 0), call(TAIL_CALL)];
    program.extend([load(2, 6, 0), load(3, 6, 4), copy(4, 2)]);
    program.extend([
        add(4, i32::from(DRAWN) + 4 * stores.len() as i32),
        skip_if_above(4, 3, (stores.len() + tail.len()) as i16),
    ]);
    program.extend(stores);
    program.extend(tail);
    // Reached when the frame is too short or the table empty: the verdict of no contender.
    program.extend([set(0, 0), EXIT]);
    program
}

// Instructions as the kernel's documentation of the instruction set (RFC 9669) lays them out.
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

const fn flip(to: u8, value: i32) -> u64 {
    encode(0xa7, to, 0, 0, value)
}

/// Loads 32 bits.
const fn load(to: u8, from: u8, offset: i16) -> u64 {
    encode(0x61, to, from, offset, 0)
}

/// Stores 32 bits.
const fn store(to: u8, from: u8, offset: i16) -> u64 {
    encode(0x63, to, from, offset, 0)
}

const fn call(helper: i32) -> u64 {
    encode(0x85, 0, 0, 0, helper)
}

const fn skip_if_below(register: u8, value: i32, skipped: i16) -> u64 {
    encode(0xa5, register, 0, skipped, value)
}

const fn skip_if_above(register: u8, other: u8, skipped: i16) -> u64 {
    encode(0x2d, register, other, skipped, 0)
}

/// Takes the place of two instructions.
const fn address_of_map(to: u8, map: i32) -> [u64; 2] {
    [encode(0x18, to, 1, 0, map), 0]
}
