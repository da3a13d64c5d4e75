//! Link types: what a recorded frame starts with, and how it becomes an Ethernet frame.

use std::fmt;

use super::{LONGEST_FRAME, Record};

/// A link type as captures number them (`LINKTYPE_...`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u32);

impl LinkType {
    pub const NULL: Self = Self(0);
    pub const ETHERNET: Self = Self(1);
    /// Raw IP as some systems number it in files, though they should not.
    const RAW_BSD: Self = Self(12);
    const RAW_OPENBSD: Self = Self(14);
    pub const RAW: Self = Self(101);
    pub const LOOP: Self = Self(108);
    pub const LINUX_SLL: Self = Self(113);
    pub const IPV4: Self = Self(228);
    pub const IPV6: Self = Self(229);
    pub const LINUX_SLL2: Self = Self(276);

    /// Whether [`to_ethernet`] can make Ethernet frames of it.
    pub fn is_supported(self) -> bool {
        matches!(
            self,
            Self::NULL
                | Self::ETHERNET
                | Self::RAW_BSD
                | Self::RAW_OPENBSD
                | Self::RAW
                | Self::LOOP
                | Self::LINUX_SLL
                | Self::IPV4
                | Self::IPV6
                | Self::LINUX_SLL2
        )
    }

    fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "BSD loopback",
            1 => "Ethernet",
            3 => "AX.25",
            6 => "Token Ring",
            7 => "ARCNET",
            8 => "SLIP",
            9 => "PPP",
            10 => "FDDI",
            12 | 14 | 101 => "raw IP",
            50 => "PPP in HDLC framing",
            51 => "PPPoE",
            100 | 123 => "ATM",
            104 => "Cisco HDLC",
            105 => "IEEE 802.11",
            107 => "Frame Relay",
            108 => "OpenBSD loopback",
            113 => "Linux cooked",
            114 => "LocalTalk",
            117 => "OpenBSD pflog",
            119 => "IEEE 802.11 with Prism header",
            127 => "IEEE 802.11 with radiotap header",
            140 => "MTP2",
            147..=162 => "private use",
            187 | 201 => "Bluetooth HCI",
            189 | 220 => "Linux USB",
            192 => "PPI",
            195 | 230 => "IEEE 802.15.4",
            228 => "raw IPv4",
            229 => "raw IPv6",
            239 => "netfilter log",
            249 => "USBPcap",
            253 => "netlink",
            276 => "Linux cooked v2",
            _ => return None,
        })
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(formatter, "{} ({name})", self.0),
            None => write!(formatter, "{}", self.0),
        }
    }
}

const ETHERNET_HEADER: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// EtherTypes below are lengths of IEEE 802.3 frames.
const LOWEST_ETHERTYPE: u16 = 0x0600;

/// Turns a recorded frame into an Ethernet frame in place and returns its length on the wire;
/// `None` if its link type cannot be turned. A frame too short for its own link's header becomes
/// an empty one.
pub fn to_ethernet(record: &Record, frame: &mut Vec<u8>) -> Option<usize> {
    let (skip, header) = match record.link {
        LinkType::ETHERNET => return Some(record.original),
        LinkType::RAW | LinkType::RAW_BSD | LinkType::RAW_OPENBSD => {
            let version = frame.first().map_or(4, |first| first >> 4);
            (0, Some(header(if version == 6 { IPV6 } else { IPV4 })))
        }
        LinkType::IPV4 => (0, Some(header(IPV4))),
        LinkType::IPV6 => (0, Some(header(IPV6))),
        LinkType::NULL | LinkType::LOOP => (4, loopback(frame)),
        LinkType::LINUX_SLL => (16, cooked(frame)),
        LinkType::LINUX_SLL2 => (20, cooked_v2(frame)),
        _ => return None,
    };
    let Some(mut header) = header else {
        frame.clear();
        return Some(0);
    };
    let payload = record.original.saturating_sub(skip);
    let kind = u16::from_be_bytes([header[12], header[13]]);
    if kind < LOWEST_ETHERTYPE {
        // A protocol number of Linux for frames without an EtherType: 802.3, with its length.
        let length = payload.min(usize::from(LOWEST_ETHERTYPE) - 1) as u16;
        header[12..].copy_from_slice(&length.to_be_bytes());
    }
    frame.splice(..skip, header);
    Some(ETHERNET_HEADER + payload)
}

/// Fills a frame that the capture cut short with zeros to its length on the wire.
pub fn pad_to_original(frame: &mut Vec<u8>, original: usize) {
    let length = original.max(frame.len()).min(LONGEST_FRAME);
    frame.resize(length, 0);
}

/// An Ethernet header with locally administered unicast addresses that no device has.
fn header(ethertype: u16) -> [u8; ETHERNET_HEADER] {
    let [high, low] = ethertype.to_be_bytes();
    [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, high, low]
}

/// The address family of the capturing system, in its byte order (`NULL`) or big-endian (`LOOP`).
fn loopback(frame: &[u8]) -> Option<[u8; ETHERNET_HEADER]> {
    let family = frame.first_chunk::<4>()?;
    let family = u32::from_le_bytes(*family).min(u32::from_be_bytes(*family));
    match family {
        2 => Some(header(IPV4)),
        // AF_INET6 of Linux, the BSDs and macOS.
        10 | 24 | 28 | 30 => Some(header(IPV6)),
        _ => None,
    }
}

fn cooked(frame: &[u8]) -> Option<[u8; ETHERNET_HEADER]> {
    let cooked = frame.first_chunk::<16>()?;
    let sender = (cooked[4..6] == [0, 6]).then_some(&cooked[6..12]);
    Some(addressed(
        u16::from_be_bytes([cooked[0], cooked[1]]),
        sender,
        u16::from_be_bytes([cooked[14], cooked[15]]),
    ))
}

fn cooked_v2(frame: &[u8]) -> Option<[u8; ETHERNET_HEADER]> {
    let cooked = frame.first_chunk::<20>()?;
    let sender = (cooked[11] == 6).then_some(&cooked[12..18]);
    Some(addressed(
        u16::from(cooked[10]),
        sender,
        u16::from_be_bytes([cooked[0], cooked[1]]),
    ))
}

/// Puts back what the cooked header kept: the sender, and whether all were meant.
fn addressed(packet_type: u16, sender: Option<&[u8]>, protocol: u16) -> [u8; ETHERNET_HEADER] {
    const BROADCAST: u16 = 1;
    let mut header = header(protocol);
    if packet_type == BROADCAST {
        header[..6].fill(0xff);
    }
    if let Some(sender) = sender {
        header[6..12].copy_from_slice(sender);
    }
    header
}
