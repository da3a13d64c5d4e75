//! Writes captures: nanosecond pcap, Ethernet, readable by every tool.

use std::io::{self, Write};

use super::{LONGEST_FRAME, LinkType};

/// Writes Ethernet frames as a capture.
#[derive(Debug)]
pub struct CaptureWriter<W> {
    sink: W,
}

/// Bytes before the first frame, and before each.
pub const FILE_HEADER: u64 = 24;
pub const FRAME_HEADER: u64 = 16;

impl<W: Write> CaptureWriter<W> {
    /// Goes on with a capture at its end.
    pub fn append(sink: W) -> Self {
        Self { sink }
    }

    /// Writes the file's header to `sink`, which should be buffered.
    pub fn new(mut sink: W) -> io::Result<Self> {
        sink.write_all(&0xa1b2_3c4d_u32.to_le_bytes())?;
        sink.write_all(&[2, 0, 4, 0])?;
        sink.write_all(&[0; 8])?;
        sink.write_all(&(LONGEST_FRAME as u32).to_le_bytes())?;
        sink.write_all(&LinkType::ETHERNET.0.to_le_bytes())?;
        Ok(Self { sink })
    }

    /// Writes one frame, seen at `time` (nanoseconds since the Unix epoch).
    pub fn write(&mut self, time: u64, frame: &[u8]) -> io::Result<()> {
        self.write_cut(time, frame, 0)
    }

    /// As [`Self::write`], with what is left of a frame that was `original` bytes long.
    pub fn write_cut(&mut self, time: u64, frame: &[u8], original: u32) -> io::Result<()> {
        let too_large = |_| io::Error::new(io::ErrorKind::InvalidInput, "the frame is too long");
        let length = u32::try_from(frame.len()).map_err(too_large)?;
        let original = original.max(length);
        // The format holds times until 2106.
        let seconds = (time / 1_000_000_000) as u32;
        let nanoseconds = (time % 1_000_000_000) as u32;
        for field in [seconds, nanoseconds, length, original] {
            self.sink.write_all(&field.to_le_bytes())?;
        }
        self.sink.write_all(frame)
    }

    /// Flushes and gives the sink back.
    pub fn finish(mut self) -> io::Result<W> {
        self.sink.flush()?;
        Ok(self.sink)
    }
}
