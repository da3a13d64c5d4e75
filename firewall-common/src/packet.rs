//! The packet parser: Ethernet with up to two VLAN tags, IPv4 with options, IPv6 with extension
//! headers, fragments, TCP, UDP, ICMP, ICMPv6 and the packet that an ICMP error quotes.
//!
//! It is generic over [`Bytes`], so the kernel program and user space run the same code. A packet
//! that contradicts itself is [`Kind::Malformed`]; nothing is ever read past its end.

mod ip;
mod link;
mod transport;

use crate::Address;

pub use link::parse;

/// Where the parser reads from.
pub trait Bytes {
    /// What [`Self::window`] gives.
    type Window: Window;

    /// The `N` bytes at `offset`, or `None` when they are not all there. `N` is 2 or more: the
    /// kernel's verifier loses track of one-byte checks at a packet's end.
    fn window<const N: usize>(&self, offset: usize) -> Option<Self::Window>;

    /// Length of the frame in bytes as far as it is known at once; [`Self::window`] reaches no
    /// farther.
    fn length(&self) -> usize;

    /// Length of the whole frame in bytes. In the kernel program that may cost a call.
    #[inline(always)]
    fn whole(&self) -> usize {
        self.length()
    }

    /// Called between stages. The kernel program makes the verifier forget there by which path a
    /// stage was reached, so that it need not follow every combination of paths.
    #[inline(always)]
    fn forget(&mut self, _packet: &mut Packet) {}
}

/// Bytes that are known to be there. Numbers are in network byte order.
///
/// Reads stay within the `N` that the window was asked for; the caller answers for that.
pub trait Window: Copy {
    /// One byte.
    fn u8(&self, at: usize) -> u8;
    /// Two bytes.
    fn u16(&self, at: usize) -> u16;
    /// Four bytes.
    fn u32(&self, at: usize) -> u32;
    /// Eight bytes.
    fn u64(&self, at: usize) -> u64;
}

/// What a frame turned out to be.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Neither IP nor anything that the link needs.
    #[default]
    Other = 0,
    /// IPv4 or IPv6.
    Ip = 1,
    /// Lengths or versions that cannot be.
    Malformed = 2,
}

/// Whether a packet is a fragment.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// No fragment.
    #[default]
    Whole = 0,
    /// The fragment with the transport header.
    First = 1,
    /// A fragment without it: it has no ports and must never be taken to have them.
    Later = 2,
}

/// No VLAN tag.
pub const NO_VLAN: u16 = 0x1000;

/// What stands in [`Packet::payload`] when the packet itself was not seen.
pub const UNSEEN: u32 = u32::MAX;

/// TCP flag bits as they stand in the header.
pub mod flag {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
}

/// IP protocol numbers that the parser knows.
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const DCCP: u8 = 33;
    pub const ICMPV6: u8 = 58;
    pub const SCTP: u8 = 132;
    pub const UDPLITE: u8 = 136;
}

/// EtherTypes that matter here.
pub mod ether_type {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const VLAN: u16 = 0x8100;
    pub const IPV6: u16 = 0x86dd;
    pub const SLOW_PROTOCOLS: u16 = 0x8809;
    pub const EAPOL: u16 = 0x888e;
    pub const PROVIDER_BRIDGE: u16 = 0x88a8;
    pub const LLDP: u16 = 0x88cc;
}

/// Properties of a packet beside its fields, in [`Packet::marks`].
pub mod mark {
    /// A request: HTTP request line, TLS ClientHello, QUIC Initial, DNS query, echo request.
    pub const REQUEST: u8 = 1;
    /// An ICMP error with a readable quote: source, protocol and ports are the quoted packet's,
    /// turned round.
    pub const ICMP_ERROR: u8 = 2;
    /// An echo request (either family).
    pub const ECHO_REQUEST: u8 = 4;
    /// An echo reply (either family).
    pub const ECHO_REPLY: u8 = 8;
    /// The protocol has ports and the packet carries them.
    pub const PORTS: u8 = 16;
    /// IPv6.
    pub const V6: u8 = 32;
    /// A TCP RST that answers a contact nobody listens for: no ACK, or sequence number 0.
    pub const REFUSAL: u8 = 64;
}

/// A parsed packet: what the decision and the accounting look at.
///
/// For an ICMP error, `source`, `protocol` and the ports describe the packet that it quotes,
/// turned round; `sender`, `icmp_type` and `icmp_code` are its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Who sent it: the source that is accounted and banned.
    pub sender: Address,
    /// The source that is judged.
    pub source: Address,
    pub destination: Address,
    /// Length of the frame in bytes.
    pub length: u32,
    /// Length of the IP packet in bytes, header included.
    pub ip_length: u32,
    /// Where the transport begins in the frame, and how many bytes it has, header included.
    pub transport: u32,
    /// [`UNSEEN`] for a packet that only its answer tells of.
    pub payload: u32,
    /// Of a fragment: by what its datagram is known among those of its addresses.
    pub identification: u32,
    /// Of a first fragment: where it ends in the datagram, in bytes; of a later one: where it begins.
    pub fragment_at: u32,
    /// Echo identifier for echo requests and replies.
    pub source_port: u16,
    pub destination_port: u16,
    pub ether_type: u16,
    /// Identifier of the outermost tag, or [`NO_VLAN`].
    pub vlan: u16,
    /// The window as it stands in the header, not scaled.
    pub tcp_window: u16,
    pub kind: Kind,
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    pub fragment: Fragment,
    pub tcp_flags: u8,
    pub icmp_type: u8,
    pub icmp_code: u8,
    /// See [`mark`].
    pub marks: u8,
}

impl Packet {
    /// Whether a mark is set.
    #[inline(always)]
    pub const fn is(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    /// A TCP SYN without ACK: the opening of a connection.
    #[inline(always)]
    pub const fn is_syn(&self) -> bool {
        self.protocol == protocol::TCP
            && self.tcp_flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN
    }
}

/// User space's implementation: a frame in memory.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl<'a> Frame<'a> {
    /// A whole frame.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            length: bytes.len(),
        }
    }
}

impl<'a> Bytes for Frame<'a> {
    type Window = FrameWindow<'a>;

    #[inline(always)]
    fn window<const N: usize>(&self, offset: usize) -> Option<FrameWindow<'a>> {
        const { assert!(N >= 2) }
        // The kernel program's bound on offsets; kept here so that both give the same answer.
        if offset > MAX_OFFSET {
            return None;
        }
        self.bytes.get(offset..offset + N).map(FrameWindow)
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.length
    }
}

/// Headers are looked for in this many bytes of a frame; a longer chain is malformed.
pub const MAX_OFFSET: usize = 0xfff;

/// A window of a [`Frame`].
#[derive(Clone, Copy, Debug)]
pub struct FrameWindow<'a>(&'a [u8]);

impl Window for FrameWindow<'_> {
    #[inline(always)]
    fn u8(&self, at: usize) -> u8 {
        self.0[at]
    }

    #[inline(always)]
    fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    #[inline(always)]
    fn u32(&self, at: usize) -> u32 {
        (self.u16(at) as u32) << 16 | self.u16(at + 2) as u32
    }

    #[inline(always)]
    fn u64(&self, at: usize) -> u64 {
        (self.u32(at) as u64) << 32 | self.u32(at + 4) as u64
    }
}
