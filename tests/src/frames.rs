//! Whole Ethernet frames, sent and received as they are, and the few that no tool sends for us.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

/// A packet socket on one interface of the namespace of the thread that opened it.
#[derive(Debug)]
pub struct FrameSocket {
    socket: OwnedFd,
}

/// A received frame and the 802.1Q identifier that the kernel took off it.
#[derive(Debug)]
pub struct Received {
    pub length: usize,
    pub vlan: Option<u16>,
}

impl FrameSocket {
    /// Opens on `interface`, for every protocol, seeing only what comes in. Non-blocking.
    pub fn open(interface: &str) -> Result<Self> {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: no pointers; the result is checked.
        let descriptor = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                i32::from(protocol),
            )
        };
        if descriptor < 0 {
            return Err(io::Error::last_os_error()).context("no packet socket");
        }
        // SAFETY: the descriptor is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let index = rustix::net::netdevice::name_to_index(&socket, interface)
            .with_context(|| format!("interface {interface}"))?;
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index.cast_signed();
        // SAFETY: the address and its length belong together and outlive the call.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("packet socket on {interface}"));
        }
        switch_on(&socket, libc::PACKET_IGNORE_OUTGOING)?;
        switch_on(&socket, libc::PACKET_AUXDATA)?;
        Ok(Self { socket })
    }

    /// Sends a whole frame. A full queue or a link that is down loses it, as wires do.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        match rustix::net::send(&self.socket, frame, rustix::net::SendFlags::empty()) {
            Ok(_) => Ok(()),
            Err(
                rustix::io::Errno::NOBUFS | rustix::io::Errno::AGAIN | rustix::io::Errno::NETDOWN,
            ) => Ok(()),
            Err(error) => Err(error).context("frame not sent"),
        }
    }

    /// Takes the next frame that waits, if one does.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<Received>> {
        // Room for one control message with the auxiliary data, aligned as its header must be.
        let mut control = [0u64; 16];
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: all-zero is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: the message points to buffers of the lengths it gives, alive during the call.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EAGAIN | libc::ENETDOWN | libc::EINTR) => Ok(None),
                _ => Err(error).context("no frame received"),
            };
        };
        Ok(Some(Received {
            length,
            vlan: stripped_tag(&message),
        }))
    }
}

impl std::os::fd::AsFd for FrameSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn switch_on(socket: &OwnedFd, option: i32) -> Result<()> {
    let on: i32 = 1;
    // SAFETY: the value and its length belong together and outlive the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as u32,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("packet socket option {option}"));
    }
    Ok(())
}

/// The tag that the kernel moved from the frame to the auxiliary data.
fn stripped_tag(message: &libc::msghdr) -> Option<u16> {
    // SAFETY: the kernel filled the control buffer of this message, which its caller still holds.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    if header.cmsg_level != libc::SOL_PACKET || header.cmsg_type != libc::PACKET_AUXDATA {
        return None;
    }
    // SAFETY: a control message of this type holds a tpacket_auxdata.
    let data = unsafe {
        libc::CMSG_DATA(header)
            .cast::<libc::tpacket_auxdata>()
            .read_unaligned()
    };
    (data.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then_some(data.tp_vlan_tci & 0x0fff)
}

/// An IPv4 packet with its header checksum, to be framed by [`ethernet`].
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Packet<'a> {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub identification: u16,
    /// In units of eight bytes, with the more-fragments flag as 0x2000.
    pub fragment: u16,
    pub payload: &'a [u8],
}

impl Ipv4Packet<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        let length = 20 + self.payload.len();
        let mut packet = vec![0x45, 0];
        packet.extend((length as u16).to_be_bytes());
        packet.extend(self.identification.to_be_bytes());
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([64, self.protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(self.payload);
        packet
    }
}

/// Puts an Ethernet header before a packet.
pub fn ethernet(destination: [u8; 6], source: [u8; 6], protocol: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + packet.len());
    frame.extend(destination);
    frame.extend(source);
    frame.extend(protocol.to_be_bytes());
    frame.extend(packet);
    frame
}

/// The Internet checksum (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&example), !0xddf2);
    }

    #[test]
    fn a_header_with_its_checksum_sums_to_nothing() {
        let packet = Ipv4Packet {
            source: Ipv4Addr::new(198, 51, 100, 2),
            destination: Ipv4Addr::new(198, 51, 100, 1),
            protocol: 17,
            identification: 7,
            fragment: 0x2000,
            payload: &[],
        };
        assert_eq!(checksum(&packet.bytes()), 0);
    }
}
