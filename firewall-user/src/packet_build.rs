//! Builds real frames: Ethernet, VLAN tags, IPv4 and IPv6, TCP, UDP, ICMP, with right lengths and
//! checksums. `explain` judges one of these, and tests send and replay them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_common::packet::{ether_type, flag, protocol};

/// A packet to be built. Addresses of different families cannot stand in one packet, so
/// [`PacketBuilder::new`] refuses them; everything else that can be set can be built.
#[derive(Clone, Debug)]
pub struct PacketBuilder {
    addresses: Addresses,
    tags: Vec<(u16, u16)>,
    ttl: u8,
    /// IPv4 options or the chain of IPv6 extension headers, as they stand in the packet.
    options: Vec<u8>,
    /// Protocol numbers of the extension headers, in order.
    extensions: Vec<u8>,
    fragment: Option<Fragment>,
    tcp_window: u16,
    transport: Transport,
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Addresses {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

#[derive(Clone, Copy, Debug)]
struct Fragment {
    offset: u16,
    more: bool,
}

#[derive(Clone, Copy, Debug)]
enum Transport {
    Tcp { ports: (u16, u16), flags: u8 },
    Udp { ports: (u16, u16) },
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
    Other(u8),
}

/// Bytes before the tags and the EtherType.
const MAC_ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
const DEFAULT_TTL: u8 = 64;
const TCP_WINDOW: u16 = 64_240;
const FRAGMENT_IDENTIFICATION: u16 = 0x4a11;
const FRAGMENT_EXTENSION: u8 = 44;
const MORE_FRAGMENTS_V4: u16 = 0x2000;
const DONT_FRAGMENT: u16 = 0x4000;

impl PacketBuilder {
    /// A packet from `source` to `destination` with nothing behind its IP header; `None` if the
    /// addresses are of different families.
    pub fn new(source: IpAddr, destination: IpAddr) -> Option<Self> {
        let addresses = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Addresses::V4(source, destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Addresses::V6(source, destination),
            _ => return None,
        };
        Some(Self {
            addresses,
            tags: Vec::new(),
            ttl: DEFAULT_TTL,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            tcp_window: TCP_WINDOW,
            // "Any private encryption scheme": a protocol without ports or a format.
            transport: Transport::Other(99),
            payload: Vec::new(),
        })
    }

    /// TCP with these flags (see [`flag`]) and no options.
    pub fn tcp(mut self, source_port: u16, destination_port: u16, flags: u8) -> Self {
        let ports = (source_port, destination_port);
        self.transport = Transport::Tcp { ports, flags };
        self
    }

    /// The window of a TCP header, as it stands there.
    pub fn tcp_window(mut self, window: u16) -> Self {
        self.tcp_window = window;
        self
    }

    /// UDP.
    pub fn udp(mut self, source_port: u16, destination_port: u16) -> Self {
        let ports = (source_port, destination_port);
        self.transport = Transport::Udp { ports };
        self
    }

    /// ICMP, or ICMPv6 between IPv6 addresses. `rest` is the second word of the header: identifier
    /// and sequence number of an echo.
    pub fn icmp(mut self, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        self.transport = Transport::Icmp { kind, code, rest };
        self
    }

    /// Any other protocol; the payload follows the IP header at once.
    pub fn protocol(mut self, number: u8) -> Self {
        self.transport = Transport::Other(number);
        self
    }

    /// What follows the transport header.
    pub fn payload(mut self, bytes: &[u8]) -> Self {
        self.payload = bytes.to_vec();
        self
    }

    /// TTL or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Adds an 802.1Q tag inside those already there.
    pub fn vlan(self, identifier: u16) -> Self {
        self.tag(ether_type::VLAN, identifier)
    }

    /// Adds a tag with this EtherType inside those already there.
    pub fn tag(mut self, ether_type: u16, identifier: u16) -> Self {
        self.tags.push((ether_type, identifier & 0x0fff));
        self
    }

    /// Adds IPv4 options, padded to whole words; at most 40 bytes are kept. Ignored in IPv6.
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        if matches!(self.addresses, Addresses::V4(..)) {
            self.options
                .extend(options.iter().take(40 - self.options.len()));
            self.options
                .resize(self.options.len().next_multiple_of(4), 0);
        }
        self
    }

    /// Adds an IPv6 extension header with this protocol number and these bytes after its first
    /// two, padded to whole 8-byte units. Ignored in IPv4.
    pub fn extension(mut self, number: u8, body: &[u8]) -> Self {
        if matches!(self.addresses, Addresses::V6(..)) {
            self.push_extension(number, body);
        }
        self
    }

    /// Makes the packet a fragment at `offset`, in 8-byte units. Only the one at 0 has a transport
    /// header; its lengths and checksum are those of a packet that ends with this payload.
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        let fragment = Fragment {
            offset: offset & 0x1fff,
            more,
        };
        self.fragment = Some(fragment);
        self
    }

    /// The frame. A payload that does not fit the 16-bit length fields is cut.
    pub fn build(&self) -> Vec<u8> {
        const LONGEST: usize = u16::MAX as usize - 128;
        let mut frame = MAC_ADDRESSES.to_vec();
        for (ether_type, identifier) in &self.tags {
            frame.extend(ether_type.to_be_bytes());
            frame.extend(identifier.to_be_bytes());
        }
        let mut segment = Vec::new();
        if self.fragment.is_none_or(|fragment| fragment.offset == 0) {
            self.write_transport(&mut segment);
        }
        let fits = self
            .payload
            .len()
            .min(LONGEST.saturating_sub(self.options.len()));
        segment.extend(&self.payload[..fits]);
        if self.fragment.is_none_or(|fragment| fragment.offset == 0) {
            self.finish_transport(&mut segment);
        }
        match self.addresses {
            Addresses::V4(source, destination) => {
                frame.extend(ether_type::IPV4.to_be_bytes());
                self.write_v4(source, destination, segment.len(), &mut frame);
            }
            Addresses::V6(source, destination) => {
                frame.extend(ether_type::IPV6.to_be_bytes());
                self.write_v6(source, destination, segment.len(), &mut frame);
            }
        }
        frame.extend(segment);
        frame
    }

    fn push_extension(&mut self, number: u8, body: &[u8]) {
        let body = &body[..body.len().min(2046)];
        let start = self.options.len();
        self.extensions.push(number);
        // The number of the next header is not known yet.
        self.options.push(0);
        let length = (body.len() + 2).next_multiple_of(8);
        self.options.push((length / 8 - 1) as u8);
        self.options.extend(body);
        self.options.resize(start + length, 0);
    }

    fn protocol_number(&self) -> u8 {
        match (self.transport, self.addresses) {
            (Transport::Tcp { .. }, _) => protocol::TCP,
            (Transport::Udp { .. }, _) => protocol::UDP,
            (Transport::Icmp { .. }, Addresses::V4(..)) => protocol::ICMP,
            (Transport::Icmp { .. }, Addresses::V6(..)) => protocol::ICMPV6,
            (Transport::Other(number), _) => number,
        }
    }

    /// The transport header with its checksum, and UDP's length, still 0.
    fn write_transport(&self, segment: &mut Vec<u8>) {
        match self.transport {
            Transport::Tcp { ports, flags } => {
                segment.extend(ports.0.to_be_bytes());
                segment.extend(ports.1.to_be_bytes());
                let sequence = 0x1000_0000_u32;
                let acknowledged = if flags & flag::ACK == 0 {
                    0
                } else {
                    0x2000_0000_u32
                };
                segment.extend(sequence.to_be_bytes());
                segment.extend(acknowledged.to_be_bytes());
                // Five words of header.
                segment.extend([5 << 4, flags]);
                segment.extend(self.tcp_window.to_be_bytes());
                segment.extend([0; 4]);
            }
            Transport::Udp { ports } => {
                segment.extend(ports.0.to_be_bytes());
                segment.extend(ports.1.to_be_bytes());
                segment.extend([0; 4]);
            }
            Transport::Icmp { kind, code, rest } => {
                segment.extend([kind, code, 0, 0]);
                segment.extend(rest);
            }
            Transport::Other(_) => {}
        }
    }

    fn finish_transport(&self, segment: &mut [u8]) {
        let place = match self.transport {
            Transport::Tcp { .. } => 16,
            Transport::Udp { .. } => {
                let length = segment.len() as u16;
                segment[4..6].copy_from_slice(&length.to_be_bytes());
                6
            }
            Transport::Icmp { .. } => 2,
            Transport::Other(_) => return,
        };
        let pseudo_header = match (self.transport, self.addresses) {
            // ICMP over IPv4 sums up only itself (RFC 792).
            (Transport::Icmp { .. }, Addresses::V4(..)) => Vec::new(),
            _ => self.pseudo_header(segment.len()),
        };
        let mut sum = checksum(&[&pseudo_header, segment]);
        if sum == 0 && matches!(self.transport, Transport::Udp { .. }) {
            // 0 would mean "no checksum" (RFC 768).
            sum = 0xffff;
        }
        segment[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// RFC 9293 3.1 and RFC 8200 8.1.
    fn pseudo_header(&self, length: usize) -> Vec<u8> {
        let mut header = Vec::with_capacity(40);
        match self.addresses {
            Addresses::V4(source, destination) => {
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend([0, self.protocol_number()]);
                header.extend((length as u16).to_be_bytes());
            }
            Addresses::V6(source, destination) => {
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend((length as u32).to_be_bytes());
                header.extend([0, 0, 0, self.protocol_number()]);
            }
        }
        header
    }

    fn write_v4(
        &self,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        length: usize,
        frame: &mut Vec<u8>,
    ) {
        let header = 20 + self.options.len();
        let fragment = match self.fragment {
            None => DONT_FRAGMENT,
            Some(Fragment { offset, more }) => offset | if more { MORE_FRAGMENTS_V4 } else { 0 },
        };
        let start = frame.len();
        frame.extend([4 << 4 | (header / 4) as u8, 0]);
        frame.extend(((header + length) as u16).to_be_bytes());
        frame.extend(FRAGMENT_IDENTIFICATION.to_be_bytes());
        frame.extend(fragment.to_be_bytes());
        frame.extend([self.ttl, self.protocol_number(), 0, 0]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        frame.extend(&self.options);
        let sum = checksum(&[&frame[start..]]);
        frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
    }

    fn write_v6(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        length: usize,
        frame: &mut Vec<u8>,
    ) {
        let mut chain = self.clone();
        if let Some(Fragment { offset, more }) = self.fragment {
            let place = offset << 3 | u16::from(more);
            let mut body = place.to_be_bytes().to_vec();
            body.extend(u32::from(FRAGMENT_IDENTIFICATION).to_be_bytes());
            chain.push_extension(FRAGMENT_EXTENSION, &body);
            // Where other extensions have their length, this one has a reserved byte: 0 either way.
        }
        let mut start = 0;
        for next in chain
            .extensions
            .iter()
            .skip(1)
            .copied()
            .chain([self.protocol_number()])
        {
            if let Some(number) = chain.options.get_mut(start) {
                *number = next;
                start += (usize::from(chain.options[start + 1]) + 1) * 8;
            }
        }
        let first = chain
            .extensions
            .first()
            .copied()
            .unwrap_or(self.protocol_number());
        frame.extend([6 << 4, 0, 0, 0]);
        frame.extend(((chain.options.len() + length) as u16).to_be_bytes());
        frame.extend([first, self.ttl]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        frame.extend(chain.options);
    }
}

/// The Internet checksum over the concatenation of `parts`, all but the last of even length
/// (RFC 1071).
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u64::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(source: &str, destination: &str) -> PacketBuilder {
        PacketBuilder::new(source.parse().unwrap(), destination.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_packet_between_families_cannot_be_built() {
        let (v4, v6) = (
            "198.51.100.1".parse().unwrap(),
            "2001:db8::1".parse().unwrap(),
        );
        assert!(PacketBuilder::new(v4, v6).is_none());
    }

    #[test]
    fn the_checksum_is_that_of_the_example_in_rfc_1071() {
        assert_eq!(
            checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]),
            !0xddf2
        );
    }

    #[test]
    fn an_ipv4_syn_is_byte_for_byte_what_it_should_be() {
        let frame = between("198.51.100.7", "203.0.113.5")
            .tcp(40_000, 443, flag::SYN)
            .vlan(7)
            .build();
        assert_eq!(frame[12..18], [0x81, 0, 0, 7, 8, 0]);
        let ip = &frame[18..];
        assert_eq!(ip.len(), 40);
        assert_eq!(ip[..4], [0x45, 0, 0, 40]);
        assert_eq!(ip[8..10], [64, 6]);
        assert_eq!(ip[12..20], [198, 51, 100, 7, 203, 0, 113, 5]);
        assert_eq!(checksum(&[&ip[..20]]), 0);
        assert_eq!(ip[20..24], [0x9c, 0x40, 0x01, 0xbb]);
        assert_eq!(ip[33], flag::SYN);
        let pseudo_header = [&ip[12..20], &[0, 6, 0, 20]].concat();
        assert_eq!(checksum(&[&pseudo_header, &ip[20..]]), 0);
    }

    #[test]
    fn ipv6_extension_headers_form_a_chain_before_the_transport() {
        let frame = between("2001:db8::1", "2001:db8::2")
            .udp(53, 53)
            .extension(0, &[1, 4, 0, 0, 0, 0])
            .extension(60, &[0; 14])
            .fragment(0, true)
            .payload(b"query")
            .build();
        let ip = &frame[14..];
        assert_eq!(ip[6], 0);
        assert_eq!(ip[40..42], [60, 0]);
        assert_eq!(ip[48..50], [44, 1]);
        assert_eq!(ip[64..68], [17, 0, 0, 1]);
        assert_eq!(ip[72..78], [0, 53, 0, 53, 0, 13]);
        assert_eq!(
            usize::from(u16::from_be_bytes([ip[4], ip[5]])),
            ip.len() - 40
        );
        let pseudo_header = [&ip[8..40], &[0, 0, 0, 13, 0, 0, 0, 17]].concat();
        assert_eq!(checksum(&[&pseudo_header, &ip[72..]]), 0);
    }

    #[test]
    fn later_fragments_carry_no_transport_header() {
        let packet = between("198.51.100.7", "203.0.113.5")
            .udp(1, 2)
            .payload(b"12345678");
        assert_eq!(
            packet.clone().fragment(1, false).build()[34..],
            *b"12345678"
        );
        assert_eq!(packet.fragment(0, true).build()[42..], *b"12345678");
    }

    #[test]
    fn icmp_is_summed_with_the_pseudo_header_in_ipv6_only() {
        let v4 = between("198.51.100.7", "203.0.113.5")
            .icmp(8, 0, [0, 1, 0, 1])
            .build();
        assert_eq!(v4[23], protocol::ICMP);
        assert_eq!(checksum(&[&v4[34..]]), 0);
        let v6 = between("2001:db8::1", "2001:db8::2")
            .icmp(128, 0, [0, 1, 0, 1])
            .build();
        assert_eq!(v6[20], protocol::ICMPV6);
        let pseudo_header = [&v6[22..54], &[0, 0, 0, 8, 0, 0, 0, 58]].concat();
        assert_eq!(checksum(&[&pseudo_header, &v6[54..]]), 0);
    }
}
