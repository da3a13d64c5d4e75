//! Reads packet captures, pcap and pcapng, as a stream.
//!
//! Captures come from strangers and are often damaged, so nothing here trusts a length, and what
//! lies before the damage is still delivered. The `pcap-parser` crate was tried first: its 0.17
//! refuses power-of-two timestamp resolutions, reads `if_tsoffset` as little-endian always and
//! has no obsolete Packet Block; both formats are small enough to read properly here.

mod annotated;
mod input;
mod link;
mod pcap;
mod pcapng;
#[cfg(test)]
mod tests;
mod write;

use std::io::Read;

pub use annotated::{AnnotatedWriter, Note};
use input::Input;
pub use link::{LinkType, pad_to_original, to_ethernet};
pub use write::{CaptureWriter, FILE_HEADER, FRAME_HEADER};

/// Longest frame that is kept; longer ones are cut to it.
pub const LONGEST_FRAME: usize = 256 * 1024;

/// A recorded packet; its bytes are in the buffer given to [`CaptureReader::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds since the Unix epoch.
    pub time: u64,
    pub link: LinkType,
    /// Length of the packet on the wire, in bytes; never less than what was captured.
    pub original: usize,
}

/// Why a capture could not be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("is empty; a capture starts with a pcap or pcapng header")]
    Empty,
    #[error("is compressed ({0}); decompress it first")]
    Compressed(&'static str),
    #[error("is neither pcap nor pcapng: it starts with {0:02x?}")]
    NotACapture([u8; 4]),
    #[error("ends in the middle of {what} at byte {offset}")]
    Truncated { what: &'static str, offset: u64 },
    #[error("is damaged at byte {offset}: {what}")]
    Corrupt { what: String, offset: u64 },
}

/// A capture as a stream of packets.
#[derive(Debug)]
pub struct CaptureReader<R> {
    input: Input<R>,
    format: Format,
}

#[derive(Debug)]
enum Format {
    Pcap(pcap::Header),
    Pcapng(pcapng::Section),
}

impl<R: Read> CaptureReader<R> {
    /// Recognises the format and reads its header. `source` should be buffered.
    pub fn new(source: R) -> Result<Self, CaptureError> {
        let mut input = Input::new(source);
        let mut magic = [0; 4];
        if !input.read_or_end(&mut magic, "the file's header")? {
            return Err(CaptureError::Empty);
        }
        let format = if magic == pcapng::SECTION_HEADER.to_be_bytes() {
            Format::Pcapng(pcapng::Section::read_first(&mut input)?)
        } else if let Some(header) = pcap::Header::read(magic, &mut input)? {
            Format::Pcap(header)
        } else {
            return Err(match magic {
                [0x1f, 0x8b, ..] => CaptureError::Compressed("gzip"),
                [0x28, 0xb5, 0x2f, 0xfd] => CaptureError::Compressed("zstd"),
                [0xfd, b'7', b'z', b'X'] => CaptureError::Compressed("xz"),
                _ => CaptureError::NotACapture(magic),
            });
        };
        Ok(Self { input, format })
    }

    /// Reads the next packet's captured bytes into `frame`, replacing what it held. `None` is the
    /// proper end. After an error the stream is over: what follows the damage has no known start.
    pub fn next(&mut self, frame: &mut Vec<u8>) -> Result<Option<Record>, CaptureError> {
        frame.clear();
        match &mut self.format {
            Format::Pcap(header) => header.next(&mut self.input, frame),
            Format::Pcapng(section) => section.next(&mut self.input, frame),
        }
    }
}
