//! TCP, UDP, ICMP and the packets that ICMP errors quote.

use super::ip::{FRAGMENT, MAX_EXTENSIONS, V4, V6, extension_length, is_extension};
use super::{Bytes, Fragment, Kind, Packet, Window, flag, mark, protocol};
use crate::Address;

pub(super) const TCP: usize = 20;
const UDP: usize = 8;
const ICMP: usize = 8;

/// Parses the transport's bytes. Leaves the kind malformed when they cannot be what the protocol
/// says.
#[inline(always)]
pub(super) fn parse<B: Bytes>(bytes: &mut B, packet: &mut Packet) {
    let at = packet.transport as usize;
    let payload = packet.payload as usize;
    if packet.fragment as u8 == Fragment::Later as u8 {
        return;
    }
    match packet.protocol {
        protocol::TCP => tcp(bytes, at, payload, packet),
        protocol::UDP | protocol::UDPLITE => udp(bytes, at, payload, packet),
        protocol::SCTP | protocol::DCCP => {
            if payload < 12 {
                packet.kind = Kind::Malformed;
            } else {
                ports(bytes, at, packet);
            }
        }
        protocol::ICMP if !packet.is(mark::V6) => icmp(bytes, at, payload, packet),
        protocol::ICMPV6 if packet.is(mark::V6) => icmp(bytes, at, payload, packet),
        _ => {}
    }
}

#[inline(always)]
fn ports<B: Bytes>(bytes: &mut B, at: usize, packet: &mut Packet) {
    let Some(header) = bytes.window::<4>(at) else {
        packet.kind = Kind::Malformed;
        return;
    };
    packet.source_port = header.u16(0);
    packet.destination_port = header.u16(2);
    packet.marks |= mark::PORTS;
}

#[inline(always)]
fn tcp<B: Bytes>(bytes: &mut B, at: usize, payload: usize, packet: &mut Packet) {
    let header = bytes.window::<TCP>(at);
    // A first fragment too small for the header hides its flags (RFC 1858).
    let Some(header) = header.filter(|_| payload >= TCP) else {
        packet.kind = Kind::Malformed;
        return;
    };
    packet.source_port = header.u16(0);
    packet.destination_port = header.u16(2);
    packet.tcp_flags = header.u8(13);
    packet.tcp_window = header.u16(14);
    packet.marks |= mark::PORTS;
    let header_length = (header.u8(12) >> 4) as usize * 4;
    if header_length < TCP
        || (header_length > payload && packet.fragment as u8 == Fragment::Whole as u8)
    {
        packet.kind = Kind::Malformed;
        return;
    }
    if packet.tcp_flags & flag::RST != 0
        && (packet.tcp_flags & flag::ACK == 0 || header.u32(4) == 0)
    {
        packet.marks |= mark::REFUSAL;
    }
    if payload >= header_length + 8
        && let Some(data) = bytes.window::<8>(at + header_length)
        && is_request(data)
    {
        packet.marks |= mark::REQUEST;
    }
}

/// An HTTP/1 request line or a TLS ClientHello, by the first bytes of a segment.
#[inline(always)]
fn is_request<W: Window>(data: W) -> bool {
    const GET: u32 = u32::from_be_bytes(*b"GET ");
    const POST: u32 = u32::from_be_bytes(*b"POST");
    const HEAD: u32 = u32::from_be_bytes(*b"HEAD");
    const PUT: u32 = u32::from_be_bytes(*b"PUT ");
    const DELETE: u32 = u32::from_be_bytes(*b"DELE");
    const OPTIONS: u32 = u32::from_be_bytes(*b"OPTI");
    const PATCH: u32 = u32::from_be_bytes(*b"PATC");
    // HTTP/2 with prior knowledge opens with "PRI * HTTP/2.0" (RFC 9113 3.4).
    const PRI: u32 = u32::from_be_bytes(*b"PRI ");
    let first = data.u32(0);
    // Record type handshake, version 3.x; message type ClientHello (RFC 8446 5.1, 4).
    (first >> 16 == 0x1603 && data.u8(5) == 1)
        || matches!(
            first,
            GET | POST | HEAD | PUT | DELETE | OPTIONS | PATCH | PRI
        )
}

#[inline(always)]
fn udp<B: Bytes>(bytes: &mut B, at: usize, payload: usize, packet: &mut Packet) {
    let header = bytes.window::<UDP>(at);
    let Some(header) = header.filter(|_| payload >= UDP) else {
        packet.kind = Kind::Malformed;
        return;
    };
    packet.source_port = header.u16(0);
    packet.destination_port = header.u16(2);
    packet.marks |= mark::PORTS;
    let length = header.u16(4) as usize;
    // A length of 0 stands for "the rest" in jumbograms (RFC 2675) and in UDP-Lite (RFC 3828).
    if packet.protocol == protocol::UDP
        && packet.fragment as u8 == Fragment::Whole as u8
        && length != 0
        && (length < UDP || length > payload)
    {
        packet.kind = Kind::Malformed;
        return;
    }
    if let Some(data) = bytes.window::<6>(at + UDP).filter(|_| payload >= UDP + 6) {
        // A DNS query: QR is 0 (RFC 1035 4.1.1). A QUIC Initial: long header, type 0, a version,
        // in a datagram of 1200 bytes or more (RFC 9000 14.1, 17.2).
        let query = packet.destination_port == 53 && data.u8(2) & 0x80 == 0;
        let initial = data.u8(0) & 0xf0 == 0xc0 && data.u32(1) != 0 && payload >= UDP + 1200;
        if query || initial {
            packet.marks |= mark::REQUEST;
        }
    }
}

#[inline(always)]
fn icmp<B: Bytes>(bytes: &mut B, at: usize, payload: usize, packet: &mut Packet) {
    let header = bytes.window::<ICMP>(at);
    let Some(header) = header.filter(|_| payload >= ICMP) else {
        packet.kind = Kind::Malformed;
        return;
    };
    packet.icmp_type = header.u8(0);
    packet.icmp_code = header.u8(1);
    let v6 = packet.is(mark::V6);
    let (request, reply) = if v6 { (128, 129) } else { (8, 0) };
    if packet.icmp_type == request {
        packet.marks |= mark::ECHO_REQUEST | mark::REQUEST;
        packet.source_port = header.u16(4);
    } else if packet.icmp_type == reply {
        packet.marks |= mark::ECHO_REPLY;
        packet.source_port = header.u16(4);
    } else if is_error(v6, packet.icmp_type) && packet.fragment as u8 == Fragment::Whole as u8 {
        quote(bytes, at + ICMP, at + payload, v6, packet);
    }
}

/// Whether an ICMP type is an error, that is, quotes a packet (RFC 792, RFC 4443).
#[inline(always)]
pub(crate) const fn is_error(v6: bool, icmp_type: u8) -> bool {
    if v6 {
        matches!(icmp_type, 1..=4)
    } else {
        matches!(icmp_type, 3 | 4 | 11 | 12)
    }
}

/// Reads the packet that an ICMP error quotes and turns it round. An error about a packet that
/// its receiver cannot have sent is malformed; one whose quote ends too early is judged as what it
/// is, an ICMP message.
#[inline(always)]
fn quote<B: Bytes>(bytes: &mut B, at: usize, end: usize, v6: bool, packet: &mut Packet) {
    // What stands behind the packet's end, as padding does, is no quote.
    let (source, destination, protocol, transport, later, possible) = if v6 {
        let Some(header) = bytes.window::<V6>(at).filter(|_| at + V6 <= end) else {
            return;
        };
        let (protocol, transport, later) = skip_extensions(bytes, at + V6, header.u8(6));
        (
            Address::v6(header.u64(8), header.u64(16)),
            Address::v6(header.u64(24), header.u64(32)),
            protocol,
            transport,
            later,
            header.u8(0) >> 4 == 6,
        )
    } else {
        let Some(header) = bytes.window::<V4>(at).filter(|_| at + V4 <= end) else {
            return;
        };
        (
            Address::v4(header.u32(12)),
            Address::v4(header.u32(16)),
            header.u8(9),
            at + (header.u8(0) & 0x0f) as usize * 4,
            header.u16(6) & 0x1fff != 0,
            header.u8(0) >> 4 == 4 && header.u8(0) & 0x0f >= 5,
        )
    };
    if !possible || source != packet.destination {
        packet.kind = Kind::Malformed;
        return;
    }
    let Some(ports) = bytes
        .window::<8>(transport)
        .filter(|_| transport + 8 <= end)
    else {
        return;
    };
    packet.source = destination;
    packet.protocol = protocol;
    packet.marks |= mark::ICMP_ERROR;
    if later {
        packet.fragment = Fragment::Later;
        return;
    }
    match protocol {
        protocol::TCP | protocol::UDP | protocol::UDPLITE | protocol::SCTP | protocol::DCCP => {
            packet.source_port = ports.u16(2);
            packet.destination_port = ports.u16(0);
            packet.marks |= mark::PORTS;
            if protocol == protocol::TCP {
                // The answer to whatever was sent carries an ACK.
                packet.tcp_flags = flag::ACK;
            }
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let request = if v6 { 128 } else { 8 };
            if ports.u8(0) == request {
                packet.marks |= mark::ECHO_REPLY;
                packet.source_port = ports.u16(4);
            }
        }
        _ => {}
    }
}

/// The quoted packet's protocol, where its transport begins, and whether it is a later fragment.
#[inline(always)]
fn skip_extensions<B: Bytes>(bytes: &mut B, at: usize, next: u8) -> (u8, usize, bool) {
    let (mut at, mut next) = (at, next);
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(next) {
            break;
        }
        let Some(extension) = bytes.window::<8>(at) else {
            break;
        };
        if next == FRAGMENT && extension.u16(2) & 0xfff8 != 0 {
            return (extension.u8(0), at, true);
        }
        at += extension_length(next, extension.u8(1));
        next = extension.u8(0);
    }
    (next, at, false)
}
