//! Asks the kernel for its sockets (`sock_diag(7)`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

// States of include/net/tcp_states.h; UDP uses the first and the third.
pub const ESTABLISHED: u8 = 1;
pub const FIN_WAIT_1: u8 = 4;
pub const FIN_WAIT_2: u8 = 5;
pub const CLOSE: u8 = 7;
pub const CLOSE_WAIT: u8 = 8;
pub const LISTEN: u8 = 10;

// Attributes of linux/inet_diag.h.
pub const TCP_INFO: u16 = 2;
const ONLY_V6: u16 = 11;

// linux/netlink.h, linux/sock_diag.h.
const HEADER: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x301;
const DONE: u16 = 3;
const ERROR: u16 = 2;
const REQUEST: usize = HEADER + 56;
const MESSAGE: usize = 72;

/// A line to the kernel's tables of sockets, of the network namespace in which it was opened.
#[derive(Debug)]
pub struct SockDiag {
    socket: OwnedFd,
}

/// Which sockets are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `libc::IPPROTO_TCP` or `libc::IPPROTO_UDP`.
    pub protocol: i32,
    pub states: &'a [u8],
    /// Attributes that are told besides.
    pub attributes: &'a [u16],
}

impl SockDiag {
    pub fn open() -> anyhow::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )
        .context("no socket for sock_diag")?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).context("no timeout")?;
        Ok(Self { socket })
    }

    /// Hands on each socket of both families.
    pub fn dump(
        &self,
        request: Request<'_>,
        mut each: impl FnMut(Message<'_>),
    ) -> anyhow::Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            self.ask(family as u8, request, &mut each)?;
        }
        Ok(())
    }

    fn ask(
        &self,
        family: u8,
        request: Request<'_>,
        each: &mut impl FnMut(Message<'_>),
    ) -> anyhow::Result<()> {
        let bits = |states: u32, state: &u8| states | 1 << state;
        let states = request.states.iter().fold(0_u32, bits);
        let asked = |asked: u8, attribute: &u16| asked | 1 << (attribute - 1);
        let mut message = [0_u8; REQUEST];
        message[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
        message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
        message[HEADER] = family;
        message[HEADER + 1] = request.protocol as u8;
        message[HEADER + 2] = request.attributes.iter().fold(0, asked);
        message[HEADER + 4..HEADER + 8].copy_from_slice(&states.to_ne_bytes());
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
fn messages(mut datagram: &[u8], each: &mut impl FnMut(Message<'_>)) -> anyhow::Result<bool> {
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
            each(Message(message));
        }
        let next = length.max(HEADER).next_multiple_of(4);
        datagram = datagram.get(next..).unwrap_or_default();
    }
    Ok(false)
}

/// One socket, as the kernel tells it; `None` where the message is too short.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    pub fn state(self) -> Option<u8> {
        self.0.get(1).copied()
    }

    /// Its own address, as it was bound: one of IPv4 within IPv6 is IPv4's.
    pub fn local(self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.address(8)?, self.port(4)?))
    }

    pub fn peer(self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.address(24)?, self.port(6)?))
    }

    /// The port that it listens on, or sends from.
    pub fn local_port(self) -> Option<u16> {
        self.port(4)
    }

    /// The index of the interface that it is bound to.
    pub fn interface(self) -> Option<u32> {
        word(self.0, 40).filter(|index| *index != 0)
    }

    /// Bytes that were written and not sent and acknowledged.
    pub fn waiting(self) -> Option<u32> {
        word(self.0, 60)
    }

    pub fn uid(self) -> Option<u32> {
        word(self.0, 64)
    }

    /// 0 for a socket of the kernel's own.
    pub fn inode(self) -> Option<u64> {
        word(self.0, 68).map(u64::from)
    }

    /// Whether a socket of IPv6 takes nothing of IPv4. Told of those that listen.
    pub fn only_v6(self) -> bool {
        self.attribute(ONLY_V6)
            .and_then(|value| value.first())
            .is_some_and(|value| *value != 0)
    }

    pub fn attribute(self, kind: u16) -> Option<&'a [u8]> {
        let mut attributes = self.0.get(MESSAGE..)?;
        loop {
            let length = usize::from(half(attributes, 0)?);
            if half(attributes, 2)? == kind {
                return attributes.get(4..length);
            }
            attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
        }
    }

    fn port(self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes(self.0.get(at..at + 2)?.try_into().ok()?))
    }

    fn address(self, at: usize) -> Option<IpAddr> {
        if i32::from(*self.0.first()?) == libc::AF_INET {
            let bytes: [u8; 4] = self.0.get(at..at + 4)?.try_into().ok()?;
            Some(IpAddr::from(bytes))
        } else {
            let bytes: [u8; 16] = self.0.get(at..at + 16)?.try_into().ok()?;
            Some(IpAddr::from(bytes).to_canonical())
        }
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_never_sends_is_no_danger() {
        for length in 0..200 {
            for byte in [0, 1, 4, 20, 72, 255] {
                let _ = messages(&vec![byte; length], &mut |message| {
                    let _ = (message.local(), message.peer(), message.inode());
                    let _ = (message.only_v6(), message.attribute(TCP_INFO));
                });
            }
        }
    }
}
