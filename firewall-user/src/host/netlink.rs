//! A line to the kernel over netlink(7), as far as lists are asked for.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

// linux/netlink.h.
const HEADER: usize = 16;
const REQUEST_DUMP: u16 = 0x301;
const DONE: u16 = 3;
const ERROR: u16 = 2;
/// Bits of an attribute's kind that say how it is written.
const KIND: u16 = 0x3fff;

/// The line, of the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    pub(super) fn open(protocol: Option<Protocol>) -> anyhow::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            protocol,
        )
        .context("no netlink socket")?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).context("no timeout")?;
        Ok(Self { socket })
    }

    /// Asks for a list by a kind of message and what follows its header; hands on what follows the header
    /// of each answer.
    pub(super) fn list(
        &self,
        kind: u16,
        question: &[u8],
        each: &mut impl FnMut(&[u8]),
    ) -> anyhow::Result<()> {
        let mut message = vec![0_u8; HEADER];
        message[0..4].copy_from_slice(&((HEADER + question.len()) as u32).to_ne_bytes());
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
        message.extend(question);
        rustix::net::send(&self.socket, &message, SendFlags::empty())
            .context("the kernel was not asked")?;
        let mut buffer = vec![0_u8; 1 << 16];
        loop {
            let (_, length) = rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty())
                .context("the kernel does not answer")?;
            if messages(&buffer[..length.min(buffer.len())], each)? {
                return Ok(());
            }
        }
    }
}

/// Hands on the messages of a datagram; whether they were the last.
fn messages(mut datagram: &[u8], each: &mut impl FnMut(&[u8])) -> anyhow::Result<bool> {
    while let (Some(length), Some(kind)) = (word(datagram, 0), half(datagram, 4)) {
        let length = length as usize;
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let number = word(datagram, HEADER).unwrap_or(0).cast_signed();
                let error = io::Error::from_raw_os_error(number.wrapping_neg());
                return Err(error).context("the kernel refuses");
            }
            _ => {}
        }
        if let Some(message) = datagram.get(HEADER..length) {
            each(message);
        }
        let next = length.max(HEADER).next_multiple_of(4);
        datagram = datagram.get(next..).unwrap_or_default();
    }
    Ok(false)
}

/// The attribute of a kind.
pub(super) fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(half(attributes, 0)?);
        if half(attributes, 2)? & KIND == kind {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_never_sends_is_no_danger() {
        for length in 0..200 {
            for byte in [0, 1, 4, 20, 72, 255] {
                let datagram = vec![byte; length];
                let _ = messages(&datagram, &mut |message| {
                    let _ = attribute(message, 1);
                });
                let _ = attribute(&datagram, 11);
            }
        }
    }
}
