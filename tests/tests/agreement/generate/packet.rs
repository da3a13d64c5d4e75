//! Writes frames, right ones and wrong ones: nothing here stops a header from lying.

use std::net::IpAddr;

/// A frame to be written.
#[derive(Clone, Debug)]
pub struct Shape {
    /// EtherType and identifier of each tag, outermost first.
    pub tags: Vec<(u16, u16)>,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub ttl: u8,
    /// IPv4 options; a multiple of 4 bytes, at most 40.
    pub options: Vec<u8>,
    /// IPv6 extension headers: number, and all bytes, of which the first is filled in.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Position in units of 8 bytes, and whether more follow.
    pub fragment: Option<(u16, bool)>,
    pub identification: u16,
    pub protocol: u8,
    /// The transport header and all behind it.
    pub body: Vec<u8>,
    /// Bytes behind the IP packet, as Ethernet pads.
    pub padding: usize,
}

impl Shape {
    /// A packet without anything unusual.
    pub fn plain(source: IpAddr, destination: IpAddr, protocol: u8, body: Vec<u8>) -> Self {
        Self {
            tags: Vec::new(),
            source,
            destination,
            ttl: 64,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            identification: 0x4a11,
            protocol,
            body,
            padding: 0,
        }
    }

    /// The whole frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for (ether_type, identifier) in &self.tags {
            frame.extend(ether_type.to_be_bytes());
            frame.extend(identifier.to_be_bytes());
        }
        let ether_type: u16 = if self.source.is_ipv4() {
            0x0800
        } else {
            0x86dd
        };
        frame.extend(ether_type.to_be_bytes());
        frame.extend(self.packet());
        frame.resize(frame.len() + self.padding, 0xa5);
        frame
    }

    /// The IP packet alone.
    pub fn packet(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = 20 + self.options.len();
                let total = (header + self.body.len()) as u16;
                let fragment = self.fragment.map_or(0, |(position, more)| {
                    position & 0x1fff | if more { 0x2000 } else { 0 }
                });
                let mut packet = vec![0x40 | (header / 4) as u8, 0];
                packet.extend(total.to_be_bytes());
                packet.extend(self.identification.to_be_bytes());
                packet.extend(fragment.to_be_bytes());
                packet.extend([self.ttl, self.protocol, 0, 0]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                packet.extend(&self.options);
                packet.extend(&self.body);
                packet
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut headers = self.extensions.clone();
                if let Some((position, more)) = self.fragment {
                    let field = (position << 3 | u16::from(more)).to_be_bytes();
                    let [high, low] = self.identification.to_be_bytes();
                    headers.push((44, vec![0, 0, field[0], field[1], 0, 0, high, low]));
                }
                let mut next = self.protocol;
                let mut chain = Vec::new();
                for (number, bytes) in headers.iter().rev() {
                    let mut header = bytes.clone();
                    header[0] = next;
                    header.extend(chain);
                    chain = header;
                    next = *number;
                }
                let mut packet = vec![0x60, 0, 0, 0];
                packet.extend(((chain.len() + self.body.len()) as u16).to_be_bytes());
                packet.extend([next, self.ttl]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                packet.extend(chain);
                packet.extend(&self.body);
                packet
            }
            (source, destination) => panic!("a packet from {source} to {destination}"),
        }
    }
}

pub fn tcp(from: u16, to: u16, flags: u8, window: u16, options: usize, payload: &[u8]) -> Vec<u8> {
    let mut segment = ports(from, to);
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2]);
    segment.extend([(5 + options as u8) << 4, flags]);
    segment.extend(window.to_be_bytes());
    segment.extend([0; 4]);
    segment.resize(segment.len() + options * 4, 1);
    segment.extend(payload);
    segment
}

pub fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = ports(from, to);
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// SCTP and DCCP begin alike: ports, then what does not matter here.
pub fn with_ports(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = ports(from, to);
    bytes.extend(payload);
    bytes
}

pub fn icmp(kind: u8, code: u8, identifier: u16, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend([0, 1]);
    message.extend(payload);
    message
}

fn ports(from: u16, to: u16) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes()].concat()
}
