//! The classic format: one header, then records (draft-ietf-opsawg-pcap).

use std::io::Read;

use super::input::{ByteOrder, Input};
use super::{CaptureError, LONGEST_FRAME, LinkType, Record};

/// What the file's header told.
#[derive(Debug)]
pub(super) struct Header {
    order: ByteOrder,
    /// Nanoseconds in a unit of the fraction.
    unit: u64,
    /// Bytes of a record's header.
    record_header: usize,
    swapped_lengths: SwappedLengths,
    link: LinkType,
}

/// Writers of old versions of the format exchanged the two lengths.
#[derive(Debug)]
enum SwappedLengths {
    Always,
    WhenImpossible,
    Never,
}

const RECORD_HEADER: usize = 16;
/// Kuznetzov's variant appends interface, protocol and packet type.
const MODIFIED_RECORD_HEADER: usize = 24;

impl Header {
    /// Reads the header that starts with `magic`; `None` if it is no pcap.
    pub fn read<R: Read>(
        magic: [u8; 4],
        input: &mut Input<R>,
    ) -> Result<Option<Self>, CaptureError> {
        let recognise = |magic| match magic {
            0xa1b2_c3d4_u32 => Some((1_000, RECORD_HEADER)),
            0xa1b2_3c4d => Some((1, RECORD_HEADER)),
            0xa1b2_cd34 => Some((1_000, MODIFIED_RECORD_HEADER)),
            _ => None,
        };
        let (order, (unit, record_header)) =
            if let Some(found) = recognise(u32::from_le_bytes(magic)) {
                (ByteOrder::Little, found)
            } else if let Some(found) = recognise(u32::from_be_bytes(magic)) {
                (ByteOrder::Big, found)
            } else {
                return Ok(None);
            };
        let rest: [u8; 20] = input.array("the file's header")?;
        let swapped_lengths = match (order.u16(&rest, 0), order.u16(&rest, 2)) {
            (2, 0..=2) => SwappedLengths::Always,
            (2, 3) => SwappedLengths::WhenImpossible,
            _ => SwappedLengths::Never,
        };
        Ok(Some(Self {
            order,
            unit,
            record_header,
            swapped_lengths,
            // The upper bits tell of a frame check sequence.
            link: LinkType(order.u32(&rest, 16) & 0x03ff_ffff),
        }))
    }

    /// Reads the next record.
    pub fn next<R: Read>(
        &self,
        input: &mut Input<R>,
        frame: &mut Vec<u8>,
    ) -> Result<Option<Record>, CaptureError> {
        let offset = input.offset();
        let mut header = [0; MODIFIED_RECORD_HEADER];
        let header = &mut header[..self.record_header];
        if !input.read_or_end(header, "a packet's header")? {
            return Ok(None);
        }
        let mut captured = self.order.u32(header, 8) as usize;
        let mut original = self.order.u32(header, 12) as usize;
        if match self.swapped_lengths {
            SwappedLengths::Always => true,
            SwappedLengths::WhenImpossible => captured > original,
            SwappedLengths::Never => false,
        } {
            (captured, original) = (original, captured);
        }
        if captured > LONGEST_FRAME {
            return Err(CaptureError::Corrupt {
                what: format!(
                    "a packet claims {captured} captured bytes; at most {LONGEST_FRAME} are possible"
                ),
                offset,
            });
        }
        input.vector(frame, captured, "a packet")?;
        let seconds = u64::from(self.order.u32(header, 0));
        let fraction = u64::from(self.order.u32(header, 4));
        Ok(Some(Record {
            time: seconds * 1_000_000_000 + fraction * self.unit,
            link: self.link,
            original: original.max(captured),
        }))
    }
}
