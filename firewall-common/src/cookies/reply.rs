//! The SYN-ACK: as the stack would write it, and never longer than the SYN that it answers.

use super::{Lesson, Offered};
use crate::Address;
use crate::packet::{flag, protocol};

/// Words of an IPv6 header, and of a TCP header with the options that a reply has.
const WORDS: usize = 10;

/// The headers of a reply, in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyHeaders {
    /// IPv4 takes the first half.
    pub ip: [u32; WORDS],
    /// A power of two, so that an index can be masked.
    pub tcp: [u32; 16],
}

/// The clock of TCP timestamps, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock(pub u32);

/// What a reply is made of. Addresses and ports are the reply's: `source` is this host.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    pub source: Address,
    pub destination: Address,
    pub source_port: u16,
    pub destination_port: u16,
    /// The sequence number of the SYN.
    pub sequence: u32,
    pub cookie: u32,
    pub offered: &'a Offered,
    /// How the stack answered such a SYN.
    pub lesson: &'a Lesson,
    /// `None` answers without options that a cookie cannot hold.
    pub clock: Option<Clock>,
}

/// Bits of a timestamp that hold a client's options, as Linux reads them (net/ipv4/syncookies.c):
/// the scale of the client's window, 15 for none, and whether it takes selective acknowledgements.
mod bits {
    pub const ALL: u32 = 0x3f;
    pub const NO_SCALE: u32 = 0xf;
    pub const SELECTIVE: u32 = 0x10;
}

impl Clock {
    /// The timestamp that holds these options: not later than now, for what follows will be.
    #[inline(always)]
    const fn stamped(self, options: u32) -> u32 {
        let stamp = self.0 & !bits::ALL | options;
        if stamp > self.0 {
            stamp.wrapping_sub(bits::ALL + 1)
        } else {
            stamp
        }
    }
}

/// Writes a reply; gives the length of its TCP header in bytes.
///
/// Options are answered only where the SYN has them, and none takes more room than it did there, so
/// that a forged source gets no more than its forger sent.
#[inline(always)]
pub fn write_reply(to: &mut ReplyHeaders, reply: &Reply<'_>) -> u32 {
    let Reply {
        offered, lesson, ..
    } = *reply;
    let mut at = 5;
    let mut sum = 0_u64;
    if offered.has(Offered::SEGMENT_SIZE) {
        push(
            to,
            &mut at,
            &mut sum,
            0x0204_0000 | lesson.segment_size & 0xffff,
        );
    }
    if let Some(clock) = reply.clock {
        let selective = offered.has(Offered::SELECTIVE);
        let scaled = offered.has(Offered::WINDOW_SCALE);
        let mut options = if scaled {
            offered.window_scale & 15
        } else {
            bits::NO_SCALE
        };
        if selective {
            options |= bits::SELECTIVE;
        }
        // Two bytes of "selective acknowledgements permitted", or two that say nothing.
        let first = if selective { 0x0402_080a } else { 0x0101_080a };
        push(to, &mut at, &mut sum, first);
        push(to, &mut at, &mut sum, clock.stamped(options));
        push(to, &mut at, &mut sum, offered.timestamp);
        if scaled {
            push(to, &mut at, &mut sum, 0x0103_0300 | lesson.window_scale());
        }
    }
    let length = at as u32 * 4;
    let ports = (reply.source_port as u32) << 16 | reply.destination_port as u32;
    let flags = (flag::SYN | flag::ACK) as u32;
    let header = [
        ports,
        reply.cookie,
        reply.sequence.wrapping_add(1),
        (length / 4) << 28 | flags << 16 | lesson.window & 0xffff,
    ];
    to.tcp[0] = header[0].to_be();
    to.tcp[1] = header[1].to_be();
    to.tcp[2] = header[2].to_be();
    to.tcp[3] = header[3].to_be();
    sum += halves(header[0]) + halves(header[1]) + halves(header[2]) + halves(header[3]);
    sum += protocol::TCP as u64 + length as u64;
    sum += if reply.source.is_v4() {
        v4_header(&mut to.ip, reply, length)
    } else {
        v6_header(&mut to.ip, reply, length)
    };
    to.tcp[4] = ((folded(sum) as u32) << 16).to_be();
    length
}

#[inline(always)]
fn push(to: &mut ReplyHeaders, at: &mut usize, sum: &mut u64, word: u32) {
    to.tcp[*at & 15] = word.to_be();
    *at += 1;
    *sum += halves(word);
}

/// Writes the header; gives the sum of its addresses.
#[inline(always)]
fn v4_header(ip: &mut [u32; WORDS], reply: &Reply<'_>, length: u32) -> u64 {
    let (source, destination) = (reply.source.as_v4(), reply.destination.as_v4());
    let addresses = halves(source) + halves(destination);
    let total = 0x4500_0000 | (20 + length);
    // An identification is not needed where nothing may be cut (RFC 6864).
    let whole = 0x0000_4000;
    let life = reply.lesson.ttl() << 24 | (protocol::TCP as u32) << 16;
    let checksum = folded(halves(total) + halves(whole) + halves(life) + addresses);
    ip[0] = total.to_be();
    ip[1] = whole.to_be();
    ip[2] = (life | checksum as u32).to_be();
    ip[3] = source.to_be();
    ip[4] = destination.to_be();
    addresses
}

/// As [`v4_header`].
#[inline(always)]
fn v6_header(ip: &mut [u32; WORDS], reply: &Reply<'_>, length: u32) -> u64 {
    ip[0] = 0x6000_0000_u32.to_be();
    ip[1] = (length << 16 | (protocol::TCP as u32) << 8 | reply.lesson.ttl()).to_be();
    let words = [
        (reply.source.high >> 32) as u32,
        reply.source.high as u32,
        (reply.source.low >> 32) as u32,
        reply.source.low as u32,
        (reply.destination.high >> 32) as u32,
        reply.destination.high as u32,
        (reply.destination.low >> 32) as u32,
        reply.destination.low as u32,
    ];
    ip[2] = words[0].to_be();
    ip[3] = words[1].to_be();
    ip[4] = words[2].to_be();
    ip[5] = words[3].to_be();
    ip[6] = words[4].to_be();
    ip[7] = words[5].to_be();
    ip[8] = words[6].to_be();
    ip[9] = words[7].to_be();
    halves(words[0])
        + halves(words[1])
        + halves(words[2])
        + halves(words[3])
        + halves(words[4])
        + halves(words[5])
        + halves(words[6])
        + halves(words[7])
}

/// A word's contribution to the Internet checksum (RFC 1071).
#[inline(always)]
const fn halves(word: u32) -> u64 {
    (word >> 16) as u64 + (word & 0xffff) as u64
}

/// The checksum of what adds up to `sum`, which is far less than 2^32.
#[inline(always)]
const fn folded(sum: u64) -> u16 {
    let once = (sum >> 16) + (sum & 0xffff);
    let twice = (once >> 16) + (once & 0xffff);
    !(twice as u16)
}
