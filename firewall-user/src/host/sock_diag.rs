//! Asks the kernel for its sockets (`sock_diag(7)`).

use std::net::{IpAddr, SocketAddr};

use rustix::net::netlink;

use super::netlink::{Netlink, attribute, word};

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

// linux/sock_diag.h, linux/inet_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const QUESTION: usize = 56;
const MESSAGE: usize = 72;

/// A line to the kernel's tables of sockets, of the network namespace in which it was opened.
#[derive(Debug)]
pub struct SockDiag {
    netlink: Netlink,
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
        Ok(Self {
            netlink: Netlink::open(Some(netlink::SOCK_DIAG))?,
        })
    }

    /// Hands on each socket of both families.
    pub fn dump(
        &self,
        request: Request<'_>,
        mut each: impl FnMut(Message<'_>),
    ) -> anyhow::Result<()> {
        let bits = |states: u32, state: &u8| states | 1 << state;
        let asked = |asked: u8, attribute: &u16| asked | 1 << (attribute - 1);
        let mut question = [0_u8; QUESTION];
        question[1] = request.protocol as u8;
        question[2] = request.attributes.iter().fold(0, asked);
        let states = request.states.iter().fold(0_u32, bits);
        question[4..8].copy_from_slice(&states.to_ne_bytes());
        for family in [libc::AF_INET, libc::AF_INET6] {
            question[0] = family as u8;
            self.netlink
                .list(SOCK_DIAG_BY_FAMILY, &question, &mut |message| {
                    each(Message(message));
                })?;
        }
        Ok(())
    }
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
        attribute(self.0.get(MESSAGE..)?, kind)
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
