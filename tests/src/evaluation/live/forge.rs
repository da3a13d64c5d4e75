//! Frames with any source, sent at a steady rate for a bounded count: what no tool sends for us
//! without addresses outside of the ranges that are kept for documentation.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::errand::Errand;
use crate::frames::{FrameSocket, Ipv4Packet, checksum, ethernet};
use crate::namespace::Namespace;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;

/// How long a sender rests between two batches.
const BREATH: Duration = Duration::from_millis(2);

/// Sends from `interface` of a namespace `rate` frames a second, `most` in all. `packet` makes each
/// IP packet.
pub fn send(
    namespace: &Namespace,
    interface: &'static str,
    to: [u8; 6],
    (rate, most): (u64, u64),
    mut packet: impl FnMut(&mut Dice) -> Vec<u8> + Send + 'static,
) -> Result<Errand> {
    Errand::start(namespace, move |stop| {
        let socket = FrameSocket::open(interface)?;
        let mut dice = Dice::default();
        let started = Instant::now();
        let mut sent = 0;
        while sent < most && !stop.is_asked() {
            let due = (started.elapsed().as_secs_f64() * rate as f64) as u64;
            // After a pause of the machine's, what was missed comes in small portions.
            let batch = due.saturating_sub(sent).min(rate / 50 + 1).min(most - sent);
            for _ in 0..batch {
                let packet = packet(&mut dice);
                let kind = if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
                socket.send(&ethernet(to, [2, 0, 0, 0, 0, 1], kind, &packet))?;
            }
            sent += batch;
            std::thread::sleep(BREATH);
        }
        Ok(())
    })
}

/// The hardware address of an interface.
pub fn hardware_address(namespace: &Namespace, interface: &str) -> Result<[u8; 6]> {
    let said = namespace.run(&format!("ip -j link show dev {interface}"))?;
    let links: serde_json::Value = serde_json::from_str(&said)?;
    let text = links[0]["address"].as_str().context("no address")?;
    let bytes: Result<Vec<u8>, _> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect();
    let bytes: Option<[u8; 6]> = bytes.ok().and_then(|bytes| bytes.try_into().ok());
    bytes.with_context(|| format!("{interface} has no hardware address: {text}"))
}

/// Random numbers that are the same in each run (xorshift64*).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Default for Dice {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Dice {
    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound
    }

    /// An ephemeral port.
    pub fn port(&mut self) -> u16 {
        32_768 + self.below(28_000) as u16
    }

    /// A source in 203.0.113.0/24 that nobody has; for IPv6 any of 2001:db8:f000::/36.
    pub fn stranger(&mut self, like: IpAddr) -> IpAddr {
        match like {
            IpAddr::V4(_) => IpAddr::from([203, 0, 113, 100 + self.below(150) as u8]),
            IpAddr::V6(_) => {
                let network = 0x2001_0db8_f000_0000 | self.below(1 << 28);
                let address = u128::from(network) << 64 | u128::from(self.below(1 << 48));
                Ipv6Addr::from(address).into()
            }
        }
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}

/// A TCP segment with any flags.
pub fn tcp(from: (IpAddr, u16), to: (IpAddr, u16), flags: u8, dice: &mut Dice) -> Vec<u8> {
    let mut segment = Vec::with_capacity(24);
    segment.extend(from.1.to_be_bytes());
    segment.extend(to.1.to_be_bytes());
    segment.extend((dice.below(1 << 32) as u32).to_be_bytes());
    segment.extend(if flags & ACK == 0 { [0; 4] } else { [1; 4] });
    // Six words: an option for the segment size, as every SYN has.
    segment.extend([0x60, flags, 0xfa, 0xf0, 0, 0, 0, 0, 2, 4, 5, 0xb4]);
    packet(from.0, to.0, TCP, 16, segment)
}

/// A datagram.
pub fn udp(from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(8 + payload.len());
    datagram.extend(from.1.to_be_bytes());
    datagram.extend(to.1.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    packet(from.0, to.0, UDP, 6, datagram)
}

/// An echo request.
pub fn echo(from: IpAddr, to: IpAddr, identifier: u16, number: u16, payload: &[u8]) -> Vec<u8> {
    let (protocol, kind) = if to.is_ipv6() { (58, 128) } else { (1, 8) };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(number.to_be_bytes());
    message.extend(payload);
    packet(from, to, protocol, 2, message)
}

/// Puts an IP header before what it carries, whose checksum goes to `place`.
fn packet(from: IpAddr, to: IpAddr, protocol: u8, place: usize, mut payload: Vec<u8>) -> Vec<u8> {
    let sum = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) if protocol != 1 => sum_with(
            &[&from.octets()[..], &to.octets()].concat(),
            protocol,
            &payload,
        ),
        (IpAddr::V6(from), IpAddr::V6(to)) => sum_with(
            &[&from.octets()[..], &to.octets()].concat(),
            protocol,
            &payload,
        ),
        _ => checksum(&payload),
    };
    payload[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    whole(from, to, protocol, &payload)
}

/// An IP packet of any content; mixed families give the destination's, from nobody.
pub fn whole(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Ipv4Packet {
            source,
            destination,
            protocol,
            identification: 0,
            fragment: 0x4000,
            payload,
        }
        .bytes(),
        (source, destination) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V6(address) => address.octets(),
                IpAddr::V4(_) => [0; 16],
            };
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend((payload.len() as u16).to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(octets(source));
            packet.extend(octets(destination));
            packet.extend(payload);
            packet
        }
    }
}

fn sum_with(addresses: &[u8], protocol: u8, payload: &[u8]) -> u16 {
    let mut covered = addresses.to_vec();
    covered.extend([0, protocol]);
    covered.extend((payload.len() as u16).to_be_bytes());
    covered.extend(payload);
    checksum(&covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_segment_has_checksums_that_a_host_accepts() {
        let mut dice = Dice::default();
        for (from, to) in [
            ("203.0.113.7", "198.51.100.1"),
            ("2001:db8::7", "2001:db8::1"),
        ] {
            let ends: (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let packet = tcp((ends.0, 4_000), (ends.1, 80), SYN, &mut dice);
            let header = if from.contains(':') { 40 } else { 20 };
            let mut covered = match ends {
                (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
                (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
                _ => Vec::new(),
            };
            covered.extend([0, TCP, 0, 24]);
            covered.extend(&packet[header..]);
            assert_eq!(packet.len(), header + 24);
            assert_eq!(checksum(&covered), 0, "{from}");
        }
    }

    #[test]
    fn strangers_stay_within_the_ranges_for_documentation() {
        let mut dice = Dice::default();
        for like in ["198.51.100.1", "2001:db8::1"] {
            let like: IpAddr = like.parse().unwrap();
            for _ in 0..1_000 {
                let stranger = dice.stranger(like).to_string();
                assert!(
                    stranger.starts_with("203.0.113.") || stranger.starts_with("2001:db8:f"),
                    "{stranger}"
                );
            }
        }
    }
}
