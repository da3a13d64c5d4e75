//! Writes captures that say why: pcapng, in which each packet carries its interface, its direction and a
//! comment. Wireshark, tshark and tcpdump read it, and so does `palisade replay`.
//!
//! The layout is that of draft-ietf-opsawg-pcapng: a section header, a description of each interface before
//! its first packet, and a block for each packet. All little-endian.

use std::io::{self, Write};

use firewall_common::Direction;

use super::LinkType;
use super::pcapng::{BYTE_ORDER_MAGIC, ENHANCED_PACKET, INTERFACE_DESCRIPTION, SECTION_HEADER};

/// Option codes: the end, a text about the block, an interface's name and clock, a packet's direction.
const END: u16 = 0;
const COMMENT: u16 = 1;
const INTERFACE_NAME: u16 = 2;
const RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;
/// Times are in 10^-9 s.
const NANOSECONDS: u8 = 9;

/// What is said of a packet beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    pub interface: &'a str,
    pub direction: Direction,
    pub comment: &'a str,
}

/// Writes Ethernet frames, cut to a length, with a note each.
#[derive(Debug)]
pub struct AnnotatedWriter<W> {
    sink: W,
    snap_length: u32,
    /// Those described so far, by their number.
    interfaces: Vec<String>,
}

impl<W: Write> AnnotatedWriter<W> {
    /// Writes the file's header. No frame that is written later is longer than `snap_length`.
    pub fn new(mut sink: W, snap_length: u32) -> io::Result<Self> {
        let mut body = Vec::new();
        body.extend(BYTE_ORDER_MAGIC.to_le_bytes());
        body.extend([1, 0, 0, 0]);
        // How long the section is, is not known yet.
        body.extend(u64::MAX.to_le_bytes());
        write_block(&mut sink, SECTION_HEADER, &body)?;
        Ok(Self {
            sink,
            snap_length,
            interfaces: Vec::new(),
        })
    }

    /// Writes what is left of a frame that was `original` bytes long, seen at `time` (nanoseconds since the
    /// Unix epoch).
    pub fn write(
        &mut self,
        time: u64,
        frame: &[u8],
        original: u32,
        note: Note<'_>,
    ) -> io::Result<()> {
        let interface = self.interface(note.interface)?;
        let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "the frame is too long");
        let length = u32::try_from(frame.len()).map_err(|_| too_long())?;
        if length > self.snap_length {
            return Err(too_long());
        }
        let mut body = Vec::with_capacity(64 + frame.len() + note.comment.len());
        // The time's upper half comes first.
        let [upper, lower] = [(time >> 32) as u32, time as u32];
        for field in [interface, upper, lower, length, original.max(length)] {
            body.extend(field.to_le_bytes());
        }
        body.extend(frame);
        pad(&mut body);
        let direction: u32 = match note.direction {
            Direction::Inbound => 1,
            Direction::Outbound => 2,
        };
        option(&mut body, PACKET_FLAGS, &direction.to_le_bytes());
        option(&mut body, COMMENT, note.comment.as_bytes());
        option(&mut body, END, &[]);
        write_block(&mut self.sink, ENHANCED_PACKET, &body)
    }

    /// Hands what is buffered on.
    pub fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }

    /// The number of an interface, which is described first if it is new.
    fn interface(&mut self, name: &str) -> io::Result<u32> {
        let known = self.interfaces.iter().position(|known| known == name);
        let number = match known {
            Some(number) => number,
            None => {
                let mut body = Vec::new();
                // Link types go up to 65535 here.
                body.extend((LinkType::ETHERNET.0 as u16).to_le_bytes());
                body.extend([0, 0]);
                body.extend(self.snap_length.to_le_bytes());
                option(&mut body, INTERFACE_NAME, name.as_bytes());
                option(&mut body, RESOLUTION, &[NANOSECONDS]);
                option(&mut body, END, &[]);
                write_block(&mut self.sink, INTERFACE_DESCRIPTION, &body)?;
                self.interfaces.push(name.to_owned());
                self.interfaces.len() - 1
            }
        };
        u32::try_from(number).map_err(|_| io::Error::other("too many interfaces"))
    }
}

/// A block: its kind, its length before and behind its body, which is a multiple of four.
fn write_block(sink: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 12)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a block is too long"))?;
    sink.write_all(&kind.to_le_bytes())?;
    sink.write_all(&length.to_le_bytes())?;
    sink.write_all(body)?;
    sink.write_all(&length.to_le_bytes())
}

/// Adds an option; one that is too long for the format is cut.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_le_bytes());
    // Cut to fit just above.
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::super::CaptureReader;
    use super::*;

    fn note<'a>(interface: &'a str, comment: &'a str) -> Note<'a> {
        Note {
            interface,
            direction: Direction::Inbound,
            comment,
        }
    }

    #[test]
    fn what_is_written_is_read_back_with_time_and_length() {
        let mut file = Vec::new();
        let mut writer = AnnotatedWriter::new(&mut file, 160).expect("memory");
        let frames = [
            (1_795_359_562_123_456_789, vec![1_u8; 61], 61, "eth0"),
            (1_795_359_562_123_456_790, vec![2; 160], 1_514, "eth1"),
            (1_795_359_562_123_456_791, vec![], 60, "eth0"),
        ];
        for (time, frame, original, interface) in &frames {
            let note = note(interface, "drop rule hostile");
            writer.write(*time, frame, *original, note).expect("memory");
        }
        writer.flush().expect("memory");
        let mut reader = CaptureReader::new(file.as_slice()).expect("a capture");
        let mut bytes = Vec::new();
        for (time, frame, original, _) in frames {
            let record = reader.next(&mut bytes).expect("whole").expect("a packet");
            assert_eq!((record.time, record.original), (time, original as usize));
            assert_eq!(bytes, frame);
        }
        assert_eq!(reader.next(&mut bytes).expect("the end"), None);
    }

    #[test]
    fn a_frame_beyond_the_promised_length_is_refused() {
        let mut writer = AnnotatedWriter::new(Vec::new(), 160).expect("memory");
        let refused = writer.write(0, &[0; 161], 161, note("eth0", ""));
        assert!(refused.is_err());
    }
}
