//! Small programs written as instructions: the floor, the prologues that change the packet and go on
//! to the program under test, so that its tables are as cold as in a flood, and the generator.

use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use palisade_tests::bpf::instructions::*;

use super::kernel::{self, Hook};

pub const XDP_DROP: u32 = 1;
pub const XDP_PASS: u32 = 2;
const XDP_TX: i32 = 3;
/// What a tc program answers: `TC_ACT_SHOT`, and `TCX_NEXT` (-1).
pub const TC_DROP: u32 = 2;
pub const TC_NEXT: u32 = u32::MAX;

/// What is drawn, in an untagged frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// The IPv4 source, over all of IPv4 below 224.0.0.0; 1 in 112 of them is still a martian.
    V4Source,
    /// The middle eight bytes of an IPv6 source: its network within its /32, and what follows.
    V6Source,
}

/// A frame from its eighth byte on: the end of the Ethernet header, the IP header, the ports.
pub type Header = [u8; HEADER];
const HEADER: usize = 72;
const HEADER_AT: usize = 8;
/// Frames that headers are written into have this length.
pub const HEADER_FRAME: usize = HEADER_AT + HEADER;

/// A program that drops.
pub fn empty(hook: Hook) -> Result<OwnedFd> {
    let verdict = if hook == Hook::Tc { TC_DROP } else { XDP_DROP };
    kernel::load("bench_empty", &[set(0, verdict as i32), EXIT], hook)
}

/// A program that passes, for the generator's end of a wire: only with one do its frames go out.
pub fn pass() -> Result<OwnedFd> {
    let program = [set(0, XDP_PASS as i32), EXIT];
    kernel::load("bench_pass", &program, Hook::XdpFrags)
}

/// A prologue that draws a source before `target`. The kernel keeps the table of a loaded program,
/// and what is in it as long as user space holds the table: so both are given back.
pub fn before(target: BorrowedFd<'_>, drawn: Drawn, hook: Hook) -> Result<Vec<OwnedFd>> {
    let table = kernel::table_of(target)?;
    let instructions = drawing(drawn, table.as_fd().as_raw_fd());
    let program = kernel::load("bench_prologue", &instructions, hook)?;
    Ok(vec![program, table])
}

/// A prologue that writes one of these headers, drawn at random, into the frame before `target`.
/// Their number has to be a power of two.
pub fn before_headers(
    target: BorrowedFd<'_>,
    headers: &[Header],
    hook: Hook,
) -> Result<Vec<OwnedFd>> {
    ensure!(
        headers.len().is_power_of_two(),
        "{} headers: not a power of two",
        headers.len()
    );
    let table = kernel::table_of(target)?;
    let array = kernel::array_of(headers)?;
    let mask = headers.len() as i32 - 1;
    let instructions = writing(array.as_fd().as_raw_fd(), mask, table.as_fd().as_raw_fd());
    let program = kernel::load("bench_headers", &instructions, hook)?;
    Ok(vec![program, table, array])
}

/// The header that stands in a frame, padded to the length of a header frame.
pub fn header_of(frame: &[u8]) -> Result<Header> {
    padded(frame)
        .get(HEADER_AT..HEADER_FRAME)
        .and_then(|bytes| bytes.try_into().ok())
        .with_context(|| format!("a frame of {} bytes is too long for a header", frame.len()))
}

/// A frame with the zeros behind it that a prologue of headers needs.
pub fn padded(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.resize(frame.len().max(HEADER_FRAME), 0);
    frame
}

/// What the generator does to its one frame before each is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sources {
    One,
    /// Address and port at random, with the IP header's checksum set right.
    Random,
}

/// A program that sends a share of its frames out of the interface that they "came in" by.
pub fn generator(frame: &[u8], sources: Sources, share: f64) -> Result<OwnedFd> {
    let state = kernel::array_of(&[seed().to_ne_bytes()])?;
    let mut program = Vec::new();
    if share < 1.0 {
        let below = (share.max(0.0) * f64::from(DRAWS)) as i32;
        program.extend([copy(6, 1), call(RANDOM), and(0, DRAWS - 1)]);
        program.extend([skip_if_below(0, below, 2), set(0, XDP_DROP as i32), EXIT]);
        program.push(copy(1, 6));
    }
    program.extend(match sources {
        Sources::One => vec![set(0, XDP_TX), EXIT],
        Sources::Random => generating(frame, state.as_fd().as_raw_fd())?,
    });
    kernel::load("bench_generator", &program, Hook::XdpFrags)
}

/// Another one each time, so that no two floods are of the same sources.
fn seed() -> u64 {
    RandomState::new().hash_one("seed")
}

/// Of so many numbers one is drawn for each frame, if only a share is to be sent.
const DRAWS: i32 = 1 << 16;

/// Where the drawn bytes begin: the IPv4 source, and the second word of the IPv6 source.
const DRAWN: i16 = 26;
const V4_CHECKSUM: i16 = 24;
const V4_PORT: i16 = 34;

/// Register 6 holds the context, 7 and 8 what was drawn, 2 the packet, 3 its end.
fn drawing(drawn: Drawn, table: i32) -> Vec<u64> {
    let mut program = vec![copy(6, 1), call(RANDOM), copy(7, 0)];
    let stores = match drawn {
        Drawn::V4Source => {
            program.extend(unicast());
            vec![store(2, 7, DRAWN)]
        }
        Drawn::V6Source => {
            program.extend([call(RANDOM), copy(8, 0)]);
            vec![store(2, 7, DRAWN), store(2, 8, DRAWN + 4)]
        }
    };
    let tail = tail_call(table);
    program.extend([load(2, 6, 0), load(3, 6, 4), copy(4, 2)]);
    program.extend([
        add(4, i32::from(DRAWN) + 4 * stores.len() as i32),
        skip_if_above(4, 3, (stores.len() + tail.len()) as i16),
    ]);
    program.extend(stores);
    program.extend(tail);
    program.extend(NOBODY);
    program
}

/// Turns what register 7 holds into a unicast source: the first byte of the address is the
/// register's lowest, and from 224 on their highest bit goes, which leaves 96 to 127.
fn unicast() -> [u64; 4] {
    [
        copy(8, 7),
        and(8, 0xff),
        skip_if_below(8, 224, 1),
        flip(7, 0x80),
    ]
}

/// Register 6 holds the context, 0 the header, 2 the packet, 3 its end.
fn writing(array: i32, mask: i32, table: i32) -> Vec<u64> {
    const STACK: u8 = 10;
    let tail = tail_call(table);
    let mut stores = Vec::new();
    for at in (0..HEADER as i16).step_by(8) {
        stores.extend([load_word(5, 0, at), store_word(2, 5, at + HEADER_AT as i16)]);
    }
    let rest = (stores.len() + tail.len()) as i16;
    let [low, high] = address_of_map(1, array);
    let mut program = vec![copy(6, 1), call(RANDOM), and(0, mask), store(STACK, 0, -4)];
    program.extend([copy(2, STACK), add(2, -4), low, high, call(LOOK_UP)]);
    program.extend([skip_if_zero(0, rest + 5)]);
    program.extend([load(2, 6, 0), load(3, 6, 4), copy(4, 2)]);
    program.extend([add(4, HEADER_FRAME as i32), skip_if_above(4, 3, rest)]);
    program.extend(stores);
    program.extend(tail);
    program.extend(NOBODY);
    program
}

/// Register 7 holds the source, 8 the sum of the IP header, 9 the port, 2 the packet, 3 its end.
///
/// The drawing is a part of every figure over a wire, so it is as little as can be: one step of a generator whose state is
/// in an array, no helper, and nothing to foresee.
fn generating(frame: &[u8], state: i32) -> Result<Vec<u64>> {
    ensure!(
        frame.len() >= 54 && frame[12..15] == [8, 0, 0x45],
        "the generator draws sources for IPv4 without options only"
    );
    let [low, high] = address_of_value(1, state);
    let [factor, factor_high] = set_word(8, FACTOR);
    let mut program = vec![load(2, 1, 0), load(3, 1, 4), low, high];
    program.extend([load_word(7, 1, 0), factor, factor_high]);
    program.extend([multiply_register(7, 8), add(7, 1), store_word(1, 7, 0)]);
    // The highest bits are the best ones.
    program.extend([copy(9, 7), shift_right(9, 16), shift_right(7, 32)]);
    program.extend(unicast_without_branch());
    program.extend([copy(8, 7), and(8, 0xffff), copy(4, 7)]);
    program.extend([shift_right(4, 16), add_register(8, 4)]);
    program.extend([add(8, i32::from(sum_of_the_rest(frame)))]);
    // Twice, for the first carry may bring another; of the second sum the lower half is stored alone.
    program.extend([copy(4, 8), shift_right(4, 16)]);
    program.extend([and(8, 0xffff), add_register(8, 4)]);
    program.extend([copy(4, 8), shift_right(4, 16), add_register(8, 4)]);
    let stores = [
        store(2, 7, DRAWN),
        store_half(2, 8, V4_CHECKSUM),
        store_half(2, 9, V4_PORT),
        set(0, XDP_TX),
        EXIT,
    ];
    program.extend([flip(8, 0xffff), copy(4, 2), add(4, 54)]);
    program.push(skip_if_above(4, 3, stores.len() as i16));
    program.extend(stores);
    program.extend(NOBODY);
    Ok(program)
}

/// A generator of 64 bits, x = ax + 1: each state once in 2^64. The factor is Steele and Vigna's
/// ("Computationally easy, spectrally good multipliers for congruential pseudorandom number generators", 2021).
const FACTOR: u64 = 0xd134_2543_de82_ef95;

/// Does to register 7 what [`unicast`] does: one frame in eight would have its branch foreseen wrongly.
fn unicast_without_branch() -> [u64; 8] {
    [
        copy(8, 7),
        shift_left(8, 1),
        and_register(8, 7),
        copy(4, 7),
        shift_left(4, 2),
        and_register(8, 4),
        and(8, 0x80),
        exclusive_or_register(7, 8),
    ]
}

/// The sum of the words of the IP header but the checksum and the source, folded to 16 bits, in the byte order of the
/// machine as the program adds to it (RFC 1071: the sum does not depend on the order).
fn sum_of_the_rest(frame: &[u8]) -> u16 {
    let sum: u32 = frame[14..34]
        .chunks_exact(2)
        .enumerate()
        .filter(|(word, _)| ![5, 6, 7].contains(word))
        .map(|(_, bytes)| u32::from(u16::from_ne_bytes([bytes[0], bytes[1]])))
        .sum();
    let once = (sum & 0xffff) + (sum >> 16);
    (once + (once >> 16)) as u16
}

fn tail_call(table: i32) -> [u64; 5] {
    let [low, high] = address_of_map(2, table);
    [copy(1, 6), low, high, set(3, 0), call(TAIL_CALL)]
}

/// Reached when the frame is too short or a table empty: the verdict of no contender.
const NOBODY: [u64; 2] = [set(0, 0), EXIT];
