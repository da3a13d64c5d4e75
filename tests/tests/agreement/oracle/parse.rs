//! A parser over plain bytes: each header is cut off the front, and what is left is passed on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::requests;

/// What a frame is.
#[derive(Clone, Debug)]
pub enum Frame {
    Ip(Packet),
    /// Neither family of IP: the EtherType.
    Other(u16),
    /// Its headers contradict themselves or are not all there.
    Broken,
}

/// An IP packet. For an ICMP error with a readable quote, `source`, `protocol`, `fragment` and
/// `body` are those of the answer to the quoted packet.
#[derive(Clone, Debug)]
pub struct Packet {
    pub sender: IpAddr,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub ttl: u8,
    /// Length of the IP packet, header included.
    pub length: usize,
    pub vlan: Option<u16>,
    pub protocol: u8,
    pub fragment: Fragment,
    /// Identification of a fragment's datagram, and where the fragment begins and ends in it.
    pub piece: (u32, usize, usize),
    pub body: Body,
    pub is_error: bool,
    /// It asks a server for something.
    pub is_request: bool,
    pub payload: Payload,
}

/// What stands behind the transport header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// It cannot be told where it would begin.
    None,
    Bytes(Vec<u8>),
    /// The packet was not seen, only the answer to it; so not the window of a TCP header either.
    Unseen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    Whole,
    First,
    Later,
}

/// What is known of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Tcp {
        from: u16,
        to: u16,
        flags: u8,
        /// `None` where a quote tells of the segment.
        window: Option<u16>,
    },
    /// UDP, UDP-Lite, SCTP, DCCP.
    Ports { from: u16, to: u16 },
    /// ICMP in IPv4, ICMPv6 in IPv6.
    Icmp { kind: u8, code: u8, identifier: u16 },
    /// Another protocol, or a later fragment.
    Opaque,
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const DCCP: u8 = 33;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;
pub const UDPLITE: u8 = 136;

/// Headers that begin behind this offset are not looked for: such a packet is broken.
const REACH: usize = 4095;
/// As many IPv6 extension headers are followed.
const EXTENSIONS: usize = 8;

/// The headers of a packet contradict themselves.
struct Contradiction;
type Parsed<T> = Result<T, Contradiction>;

/// Parses a whole Ethernet frame.
pub fn parse(frame: &[u8]) -> Frame {
    let Some((mut ether_type, mut offset)) = word(frame, 12).map(|kind| (kind, 14)) else {
        return Frame::Broken;
    };
    let mut vlan = None;
    for _ in 0..2 {
        if ether_type != 0x8100 && ether_type != 0x88a8 {
            break;
        }
        let (Some(tag), Some(inner)) = (word(frame, offset), word(frame, offset + 2)) else {
            return Frame::Broken;
        };
        vlan = vlan.or(Some(tag & 0x0fff));
        ether_type = inner;
        offset += 4;
    }
    let parsed = match ether_type {
        0x0800 => v4(frame, offset),
        0x86dd => v6(frame, offset),
        other => return Frame::Other(other),
    };
    match parsed {
        Ok(packet) => Frame::Ip(Packet { vlan, ..packet }),
        Err(Contradiction) => Frame::Broken,
    }
}

fn v4(frame: &[u8], start: usize) -> Parsed<Packet> {
    let header = take(frame, start, 20)?;
    let header_length = usize::from(header[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let packet = frame[start..].get(..total).ok_or(Contradiction)?;
    require(header[0] >> 4 == 4 && header_length >= 20 && total >= header_length)?;
    let flags = u16::from_be_bytes([header[6], header[7]]);
    let position = usize::from(flags & 0x1fff) * 8;
    let end = position + total - header_length;
    require(end <= 65_535)?;
    let protocol = header[9];
    let kind = fragment(position, flags & 0x2000 != 0);
    require(can_be_cut(
        kind,
        protocol,
        position,
        end,
        flags & 0x2000 != 0,
    ))?;
    let identification = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let sender = IpAddr::V4(ipv4(&header[12..16]));
    let base = Packet {
        sender,
        source: sender,
        destination: IpAddr::V4(ipv4(&header[16..20])),
        ttl: header[8],
        length: total,
        vlan: None,
        protocol,
        fragment: kind,
        piece: (identification, position, end),
        body: Body::Opaque,
        is_error: false,
        payload: Payload::None,
        is_request: false,
    };
    transport(base, &packet[header_length..], start + header_length)
}

fn v6(frame: &[u8], start: usize) -> Parsed<Packet> {
    let header = take(frame, start, 40)?;
    require(header[0] >> 4 == 6)?;
    let stated = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // A jumbogram says 0 and carries its length in a hop-by-hop header.
    let payload = if stated == 0 && header[6] == 0 {
        frame.len() - start - 40
    } else {
        stated
    };
    let packet = frame[start..].get(..40 + payload).ok_or(Contradiction)?;
    let (source, destination) = (ipv6(&header[8..24]), ipv6(&header[24..40]));
    require(source.to_ipv4_mapped().is_none() && destination.to_ipv4_mapped().is_none())?;
    let mut base = Packet {
        sender: source.into(),
        source: source.into(),
        destination: destination.into(),
        ttl: header[7],
        length: 40 + payload,
        vlan: None,
        protocol: header[6],
        fragment: Fragment::Whole,
        piece: (0, 0, 0),
        body: Body::Opaque,
        is_error: false,
        payload: Payload::None,
        is_request: false,
    };
    let mut rest = &packet[40..];
    for _ in 0..EXTENSIONS {
        if !is_extension(base.protocol) {
            break;
        }
        let at = start + packet.len() - rest.len();
        let extension = take(frame, at, 8)?;
        if base.protocol == 44 {
            let field = u16::from_be_bytes([extension[2], extension[3]]);
            let position = usize::from(field >> 3) * 8;
            let end = position + rest.len().saturating_sub(8);
            require(end <= 65_535)?;
            match fragment(position, field & 1 != 0) {
                // A second fragment header that says "whole" does not unsay the first one.
                Fragment::Whole => {}
                some => {
                    require(can_be_cut(
                        some,
                        extension[0],
                        position,
                        end,
                        field & 1 != 0,
                    ))?;
                    let number = [extension[4], extension[5], extension[6], extension[7]];
                    base.fragment = some;
                    base.piece = (u32::from_be_bytes(number), position, end);
                }
            }
        }
        rest = rest
            .get(extension_length(base.protocol, extension)..)
            .ok_or(Contradiction)?;
        base.protocol = extension[0];
        if base.fragment == Fragment::Later {
            return Ok(base);
        }
    }
    require(!is_extension(base.protocol))?;
    transport(base, rest, start + packet.len() - rest.len())
}

/// Whether a sender cuts a datagram so: in multiples of 8 bytes but for the end, nothing empty, and
/// not within the TCP header.
fn can_be_cut(kind: Fragment, protocol: u8, from: usize, to: usize, more: bool) -> bool {
    match kind {
        Fragment::Whole => true,
        _ if to == from || (more && !to.is_multiple_of(8)) => false,
        Fragment::First => true,
        Fragment::Later => protocol != TCP || from >= 20,
    }
}

fn fragment(position: usize, more: bool) -> Fragment {
    match (position, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    }
}

fn is_extension(protocol: u8) -> bool {
    [0, 43, 44, 51, 60, 135, 139, 140].contains(&protocol)
}

fn extension_length(protocol: u8, extension: &[u8]) -> usize {
    match protocol {
        44 => 8,
        51 => (usize::from(extension[1]) + 2) * 4,
        _ => (usize::from(extension[1]) + 1) * 8,
    }
}

/// Reads the transport, `rest`, which stands at `at` in the frame.
fn transport(packet: Packet, rest: &[u8], at: usize) -> Parsed<Packet> {
    if packet.fragment == Fragment::Later {
        return Ok(packet);
    }
    let whole = packet.fragment == Fragment::Whole;
    let reachable = |length: usize| require(rest.len() >= length && at <= REACH);
    let v6 = packet.destination.is_ipv6();
    let mut header = 0;
    let body = match packet.protocol {
        TCP => {
            reachable(20)?;
            let header_length = usize::from(rest[12] >> 4) * 4;
            require(header_length >= 20 && (!whole || header_length <= rest.len()))?;
            let (from, to) = ports(rest);
            header = header_length;
            Body::Tcp {
                from,
                to,
                flags: rest[13],
                window: word(rest, 14),
            }
        }
        UDP | UDPLITE => {
            reachable(8)?;
            let length = usize::from(u16::from_be_bytes([rest[4], rest[5]]));
            let possible = length == 0 || (8..=rest.len()).contains(&length);
            require(possible || packet.protocol == UDPLITE || !whole)?;
            header = 8;
            let (from, to) = ports(rest);
            Body::Ports { from, to }
        }
        SCTP | DCCP => {
            reachable(12)?;
            let (from, to) = ports(rest);
            Body::Ports { from, to }
        }
        protocol if protocol == if v6 { ICMPV6 } else { ICMP } => {
            reachable(8)?;
            let (kind, code) = (rest[0], rest[1]);
            let is_error = if v6 {
                (1..=4).contains(&kind)
            } else {
                [3, 4, 11, 12].contains(&kind)
            };
            if is_error
                && whole
                && let Some(answer) = quoted(&packet, &rest[8..], at + 8)?
            {
                return Ok(answer);
            }
            header = 8;
            let identifier = u16::from_be_bytes([rest[4], rest[5]]);
            Body::Icmp {
                kind,
                code,
                identifier,
            }
        }
        _ => Body::Opaque,
    };
    let payload = match rest.get(header..) {
        Some(bytes) => Payload::Bytes(bytes.to_vec()),
        None => Payload::None,
    };
    let is_request = at <= REACH && requests::is_one(body, packet.protocol, v6, rest, REACH - at);
    Ok(Packet {
        body,
        payload,
        is_request,
        ..packet
    })
}

/// The answer to the packet that an ICMP error quotes; `None` when the quote ends too early.
fn quoted(error: &Packet, quote: &[u8], at: usize) -> Parsed<Option<Packet>> {
    let v6 = error.destination.is_ipv6();
    let header_length = if v6 { 40 } else { 20 };
    if quote.len() < header_length || at > REACH {
        return Ok(None);
    }
    let (source, destination, mut protocol, mut later, mut offset): (
        IpAddr,
        IpAddr,
        u8,
        bool,
        usize,
    );
    if v6 {
        source = ipv6(&quote[8..24]).into();
        destination = ipv6(&quote[24..40]).into();
        (protocol, later, offset) = (quote[6], false, 40);
        for _ in 0..EXTENSIONS {
            let Some(extension) = quote.get(offset..offset + 8) else {
                break;
            };
            if !is_extension(protocol) || at + offset > REACH {
                break;
            }
            later = protocol == 44 && u16::from_be_bytes([extension[2], extension[3]]) >> 3 != 0;
            if !later {
                offset += extension_length(protocol, extension);
            }
            protocol = extension[0];
            if later {
                break;
            }
        }
    } else {
        source = ipv4(&quote[12..16]).into();
        destination = ipv4(&quote[16..20]).into();
        protocol = quote[9];
        later = u16::from_be_bytes([quote[6], quote[7]]) & 0x1fff != 0;
        offset = usize::from(quote[0] & 15) * 4;
    }
    // Whoever receives the error must have sent what it is about, and not as something else.
    require(source == error.destination)?;
    require(quote[0] >> 4 == if v6 { 6 } else { 4 } && offset >= header_length)?;
    let Some(transport) = quote
        .get(offset..offset + 8)
        .filter(|_| at + offset <= REACH)
    else {
        return Ok(None);
    };
    let (from, to) = ports(transport);
    let body = match protocol {
        _ if later => Body::Opaque,
        // The answer to whatever was sent carries an ACK.
        TCP => Body::Tcp {
            from: to,
            to: from,
            flags: ACK,
            window: None,
        },
        UDP | UDPLITE | SCTP | DCCP => Body::Ports { from: to, to: from },
        ICMP if !v6 && transport[0] == 8 => echo_reply(0, transport),
        ICMPV6 if v6 && transport[0] == 128 => echo_reply(129, transport),
        _ => Body::Opaque,
    };
    Ok(Some(Packet {
        source: destination,
        protocol,
        fragment: if later {
            Fragment::Later
        } else {
            Fragment::Whole
        },
        body,
        is_error: true,
        ..error.clone()
    }))
}

fn echo_reply(kind: u8, request: &[u8]) -> Body {
    let identifier = u16::from_be_bytes([request[4], request[5]]);
    Body::Icmp {
        kind,
        code: 0,
        identifier,
    }
}

fn take(frame: &[u8], at: usize, length: usize) -> Parsed<&[u8]> {
    require(at <= REACH)?;
    frame.get(at..at + length).ok_or(Contradiction)
}

fn require(condition: bool) -> Parsed<()> {
    condition.then_some(()).ok_or(Contradiction)
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

fn ports(bytes: &[u8]) -> (u16, u16) {
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    (port(0), port(2))
}

fn ipv4(bytes: &[u8]) -> Ipv4Addr {
    Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])
}

fn ipv6(bytes: &[u8]) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(bytes);
    octets.into()
}
