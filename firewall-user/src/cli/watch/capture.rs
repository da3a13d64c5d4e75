//! Writes watched packets to a capture.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use firewall_common::Direction;
use firewall_common::layout::EVENT_BYTES;

use super::line;
use crate::daemon::documents::WatchedPacket;
use crate::replay::capture::{AnnotatedWriter, Note};

/// A capture that grows while it is watched.
pub struct Capture {
    writer: AnnotatedWriter<Box<dyn Write>>,
    name: String,
}

impl Capture {
    /// Begins a capture; `-` is standard output, which must not be a terminal.
    pub fn create(file: &Path) -> anyhow::Result<Self> {
        let sink: Box<dyn Write> = if file == Path::new("-") {
            if io::stdout().is_terminal() {
                bail!(
                    "a capture is no text for a terminal: send it on, as in `palisade watch --write - | tshark -r -`"
                );
            }
            Box::new(io::BufWriter::new(io::stdout()))
        } else {
            // Visitors' packets are nobody else's business.
            let mut options = OpenOptions::new();
            let created = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(file)
                .with_context(|| format!("{} cannot be written", file.display()))?;
            Box::new(io::BufWriter::new(created))
        };
        let name = file.display().to_string();
        let mut writer = AnnotatedWriter::new(sink, EVENT_BYTES as u32)
            .with_context(|| format!("{name} cannot be written"))?;
        // Whoever reads it from a pipe waits for the header.
        writer
            .flush()
            .with_context(|| format!("{name} cannot be written"))?;
        Ok(Self { writer, name })
    }

    /// Adds a packet, so that whoever reads the file sees it at once.
    pub fn add(&mut self, packet: &WatchedPacket) -> anyhow::Result<()> {
        let event = &packet.event;
        let frame = packet.frame.as_deref().unwrap_or_default();
        let frame = bytes(frame).context("the daemon's answer is not understood")?;
        let comment = format!(
            "{} {}; stands for {} packets of class {}",
            event.verdict,
            line::why(event),
            event.packets,
            event.class
        );
        let note = Note {
            interface: &event.interface,
            direction: match event.direction.as_str() {
                "outbound" => Direction::Outbound,
                _ => Direction::Inbound,
            },
            comment: &comment,
        };
        let time = u64::try_from(event.time.as_nanosecond()).unwrap_or_default();
        self.writer
            .write(time, &frame, event.length, note)
            .and_then(|()| self.writer.flush())
            .with_context(|| format!("{} cannot be written", self.name))
    }
}

/// The bytes of a text of hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_bytes_and_nothing_else_is() {
        assert_eq!(bytes("00ff7A"), Some(vec![0, 0xff, 0x7a]));
        assert_eq!(bytes(""), Some(vec![]));
        assert_eq!(bytes("0"), None);
        assert_eq!(bytes("0g"), None);
    }
}
