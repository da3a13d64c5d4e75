//! The block format: sections, each with its own byte order and interfaces, each interface with
//! its own link type and clock (draft-ietf-opsawg-pcapng).

use std::io::Read;

use super::input::{ByteOrder, Input};
use super::{CaptureError, LONGEST_FRAME, LinkType, Record};

/// Block types. The first reads the same in either byte order.
pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
pub(super) const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
pub(super) const ENHANCED_PACKET: u32 = 6;

pub(super) const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// A block longer than this is damage: key logs and name lists stay far below.
const LONGEST_BLOCK: usize = 16 << 20;
/// More interfaces than this in a section are damage, and would eat memory.
const MOST_INTERFACES: usize = 1 << 16;

/// The section being read.
#[derive(Debug)]
pub(super) struct Section {
    order: ByteOrder,
    interfaces: Vec<Interface>,
    /// The latest time seen: simple packets carry none.
    time: u64,
    /// The body of the current block, kept to reuse its memory.
    body: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: LinkType,
    /// Most bytes captured of a packet; 0 is no limit.
    snap_length: usize,
    resolution: Resolution,
    /// Seconds to add to each time.
    offset: i64,
}

/// How long one unit of an interface's clock is.
#[derive(Clone, Copy, Debug)]
enum Resolution {
    /// 10^-n seconds.
    Decimal(u8),
    /// 2^-n seconds.
    Binary(u8),
}

/// The fields of any kind of packet block.
struct Packet<'a> {
    interface: usize,
    units: Option<u64>,
    captured: usize,
    original: usize,
    data: &'a [u8],
}

impl Section {
    /// Reads the first section's header, whose block type has been read.
    pub fn read_first<R: Read>(input: &mut Input<R>) -> Result<Self, CaptureError> {
        let mut section = Self {
            order: ByteOrder::Little,
            interfaces: Vec::new(),
            time: 0,
            body: Vec::new(),
        };
        section.begin(input)?;
        Ok(section)
    }

    /// Reads up to and with the next packet.
    pub fn next<R: Read>(
        &mut self,
        input: &mut Input<R>,
        frame: &mut Vec<u8>,
    ) -> Result<Option<Record>, CaptureError> {
        loop {
            let start = input.offset();
            let mut kind = [0; 4];
            if !input.read_or_end(&mut kind, "a block")? {
                return Ok(None);
            }
            let kind = self.order.u32(&kind, 0);
            if kind == SECTION_HEADER {
                self.begin(input)?;
                continue;
            }
            let length = self.order.u32(&input.array::<4>("a block")?, 0);
            self.read_body(input, length, 8, start)?;
            let corrupt = |what| CaptureError::Corrupt {
                what,
                offset: start,
            };
            match kind {
                INTERFACE_DESCRIPTION => {
                    let interface = Interface::parse(self.order, &self.body)
                        .ok_or_else(|| corrupt("an interface block is too short".into()))?;
                    if self.interfaces.len() == MOST_INTERFACES {
                        return Err(corrupt(format!("more than {MOST_INTERFACES} interfaces")));
                    }
                    self.interfaces.push(interface);
                }
                OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET => {
                    let packet = Packet::parse(self.order, kind, &self.body)
                        .ok_or_else(|| corrupt("a packet block is too short".into()))?;
                    let interface = self.interfaces.get(packet.interface).ok_or_else(|| {
                        corrupt(format!(
                            "a packet of interface {}, which the section does not describe",
                            packet.interface
                        ))
                    })?;
                    let captured = packet.captured(interface);
                    let bytes = packet.data.get(..captured).ok_or_else(|| {
                        corrupt(format!(
                            "a packet claims {captured} captured bytes in a block of {}",
                            packet.data.len()
                        ))
                    })?;
                    frame.extend_from_slice(&bytes[..captured.min(LONGEST_FRAME)]);
                    if let Some(units) = packet.units {
                        self.time = interface.time(units);
                    }
                    return Ok(Some(Record {
                        time: self.time,
                        link: interface.link,
                        original: packet.original.max(captured),
                    }));
                }
                // Names, statistics, secrets, comments and what is yet to be invented.
                _ => {}
            }
        }
    }

    /// Starts a section: the rest of its header, after the block type.
    fn begin<R: Read>(&mut self, input: &mut Input<R>) -> Result<(), CaptureError> {
        let start = input.offset() - 4;
        let head: [u8; 8] = input.array("a section's header")?;
        self.order = if ByteOrder::Little.u32(&head, 4) == BYTE_ORDER_MAGIC {
            ByteOrder::Little
        } else if ByteOrder::Big.u32(&head, 4) == BYTE_ORDER_MAGIC {
            ByteOrder::Big
        } else {
            return Err(CaptureError::Corrupt {
                what: "a section header without its byte order mark".into(),
                offset: start,
            });
        };
        self.interfaces.clear();
        let length = self.order.u32(&head, 0);
        self.read_body(input, length, 12, start)
    }

    /// Reads the rest of a block of `length` bytes, of which `read` are gone, and checks the
    /// length that ends it.
    fn read_body<R: Read>(
        &mut self,
        input: &mut Input<R>,
        length: u32,
        read: usize,
        start: u64,
    ) -> Result<(), CaptureError> {
        let whole = length as usize;
        // Writers that forget to pad exist; the body is then followed by its padding.
        let padded = whole.next_multiple_of(4);
        if whole < read + 4 || whole > LONGEST_BLOCK {
            return Err(CaptureError::Corrupt {
                what: format!("a block of {length} bytes; 12 to {LONGEST_BLOCK} are possible"),
                offset: start,
            });
        }
        input.vector(&mut self.body, padded - read - 4, "a block")?;
        let end = self.order.u32(&input.array::<4>("a block")?, 0);
        if end == length {
            Ok(())
        } else {
            Err(CaptureError::Corrupt {
                what: format!("a block starts with length {length} and ends with {end}"),
                offset: start,
            })
        }
    }
}

impl Interface {
    fn parse(order: ByteOrder, body: &[u8]) -> Option<Self> {
        if body.len() < 8 {
            return None;
        }
        let mut interface = Self {
            link: LinkType(u32::from(order.u16(body, 0))),
            snap_length: order.u32(body, 4) as usize,
            resolution: Resolution::Decimal(6),
            offset: 0,
        };
        let mut options = &body[8..];
        while options.len() >= 4 {
            let (code, length) = (order.u16(options, 0), order.u16(options, 2) as usize);
            // An option that runs out of its block ends the list; the packets may be sound.
            let Some(value) = options.get(4..4 + length) else {
                break;
            };
            match (code, value) {
                (0, _) => break,
                (9, &[resolution]) => {
                    interface.resolution = if resolution & 0x80 == 0 {
                        Resolution::Decimal(resolution)
                    } else {
                        Resolution::Binary(resolution & 0x7f)
                    };
                }
                (14, value) if value.len() == 8 => {
                    interface.offset = order.u64(value, 0).cast_signed();
                }
                _ => {}
            }
            options = options
                .get(4 + length.next_multiple_of(4)..)
                .unwrap_or_default();
        }
        Some(interface)
    }

    /// Nanoseconds since the epoch at `units` of this interface's clock, within what a u64 holds.
    fn time(&self, units: u64) -> u64 {
        let units = u128::from(units);
        let nanoseconds = match self.resolution {
            Resolution::Decimal(digits @ 0..=9) => units * 10_u128.pow(u32::from(9 - digits)),
            Resolution::Decimal(digits) => 10_u128
                .checked_pow(u32::from(digits - 9))
                .map_or(0, |divisor| units / divisor),
            Resolution::Binary(bits) => (units * 1_000_000_000) >> bits,
        };
        // Below 2^94, so the sum cannot overflow.
        let sum = nanoseconds.cast_signed() + i128::from(self.offset) * 1_000_000_000;
        u64::try_from(sum.max(0)).unwrap_or(u64::MAX)
    }
}

impl<'a> Packet<'a> {
    fn parse(order: ByteOrder, kind: u32, body: &'a [u8]) -> Option<Self> {
        let fixed = if kind == SIMPLE_PACKET { 4 } else { 20 };
        if body.len() < fixed {
            return None;
        }
        let data = &body[fixed..];
        if kind == SIMPLE_PACKET {
            let original = order.u32(body, 0) as usize;
            return Some(Self {
                interface: 0,
                units: None,
                captured: original,
                original,
                data,
            });
        }
        Some(Self {
            interface: if kind == OBSOLETE_PACKET {
                order.u16(body, 0).into()
            } else {
                order.u32(body, 0) as usize
            },
            units: Some(u64::from(order.u32(body, 4)) << 32 | u64::from(order.u32(body, 8))),
            captured: order.u32(body, 12) as usize,
            original: order.u32(body, 16) as usize,
            data,
        })
    }

    /// How many bytes the block holds of the packet. A simple packet does not say: it was cut at
    /// its interface's limit.
    fn captured(&self, interface: &Interface) -> usize {
        match (self.units, interface.snap_length) {
            (None, 1..) => self.captured.min(interface.snap_length),
            (None, _) => self.captured.min(self.data.len()),
            _ => self.captured,
        }
    }
}
