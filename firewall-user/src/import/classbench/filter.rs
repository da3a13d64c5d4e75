//! One filter of a set.

use ipnet::Ipv4Net;

use super::cursor::{Cursor, Fault};
use super::read_lines;
use crate::policy::PolicyErrors;

/// A filter as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    pub source: Ipv4Net,
    pub destination: Ipv4Net,
    /// Inclusive.
    pub source_ports: (u16, u16),
    /// Inclusive.
    pub destination_ports: (u16, u16),
    pub protocol: Masked<u8>,
    pub flags: Masked<u16>,
}

/// A value of which only the bits in the mask count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masked<T> {
    pub value: T,
    pub mask: T,
}

/// All ports.
pub const ANY_PORT: (u16, u16) = (0, u16::MAX);

const SHAPE: &str = "a line is \"@source/length destination/length low : high low : high protocol/mask flags/mask\"";

/// Reads a set: a filter a line. Bits of an address behind its length do not count and are dropped; a
/// line may end before the flags, which then are any. `name` is for the messages.
pub fn read_filters(text: &str, name: &str) -> Result<Vec<Filter>, PolicyErrors> {
    read_lines(text, name, |cursor, _| read(cursor))
}

fn read(cursor: &mut Cursor<'_>) -> Result<Filter, Fault> {
    cursor.sign('@', SHAPE)?;
    let filter = Filter {
        source: prefix(cursor, "source address")?,
        destination: prefix(cursor, "destination address")?,
        source_ports: ports(cursor, "source port")?,
        destination_ports: ports(cursor, "destination port")?,
        protocol: {
            let (value, mask) = masked(cursor, "protocol", 0xff)?;
            Masked {
                value: value as u8,
                mask: mask as u8,
            }
        },
        flags: if cursor.at_end() {
            Masked::default()
        } else {
            let (value, mask) = masked(cursor, "flags field", 0xffff)?;
            Masked {
                value: value as u16,
                mask: mask as u16,
            }
        },
    };
    cursor.end(SHAPE)?;
    Ok(filter)
}

fn prefix(cursor: &mut Cursor<'_>, what: &str) -> Result<Ipv4Net, Fault> {
    let address = cursor.address(what, SHAPE)?;
    cursor.sign('/', SHAPE)?;
    let length = cursor.number("prefix length", 32, SHAPE)?;
    // The length is at most 32.
    Ok(Ipv4Net::new_assert(address, length as u8).trunc())
}

fn ports(cursor: &mut Cursor<'_>, what: &str) -> Result<(u16, u16), Fault> {
    let start = cursor.next();
    let low = cursor.number(what, 65_535, SHAPE)?;
    cursor.sign(':', SHAPE)?;
    let high = cursor.number(what, 65_535, SHAPE)?;
    if low > high {
        let message = format!("{low} : {high} holds no {what}");
        return Err(cursor.fault_since(start, message, "write the lower one first"));
    }
    Ok((low as u16, high as u16))
}

fn masked(cursor: &mut Cursor<'_>, what: &str, most: u32) -> Result<(u32, u32), Fault> {
    let value = cursor.hexadecimal(what, most, SHAPE)?;
    cursor.sign('/', SHAPE)?;
    let mask = cursor.hexadecimal("mask", most, SHAPE)?;
    Ok((value & mask, mask))
}

impl Masked<u8> {
    /// The values that match, or `None` if all do.
    pub fn values(self) -> Option<Vec<u8>> {
        let matching = |value: &u8| value & self.mask == self.value;
        (self.mask != 0).then(|| (0..=u8::MAX).filter(matching).collect())
    }
}

impl Masked<u16> {
    /// The part of the high byte: TCP flags, or an ICMP type.
    pub fn high(self) -> Masked<u8> {
        Masked {
            value: (self.value >> 8) as u8,
            mask: (self.mask >> 8) as u8,
        }
    }

    /// The part of the low byte: an ICMP code.
    pub fn low(self) -> Masked<u8> {
        Masked {
            value: self.value as u8,
            mask: self.mask as u8,
        }
    }
}
