//! One sighted packet, as signatures look at it.

use firewall_common::Address;
use firewall_common::image::NO_PORT;
use firewall_common::packet::Packet;
use firewall_common::signature::{NUMBERS, Number, PAYLOAD, Shown};
use serde::{Deserialize, Serialize};

use crate::detect::{Sighting, Time};

/// A packet, and how many it stands for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub struct Specimen {
    pub time: Time,
    pub weight: f64,
    pub shown: Shown,
}

/// A specimen as it is kept across restarts: time, weight, numbers, flags, source and payload.
#[derive(Serialize, Deserialize)]
struct Kept(Time, f64, [u32; NUMBERS], u32, [u64; 2], [u64; 2]);

impl From<Kept> for Specimen {
    fn from(Kept(time, weight, numbers, flags, [high, low], payload): Kept) -> Self {
        let shown = Shown {
            numbers,
            flags,
            source: Address { high, low },
            payload,
        };
        Self {
            time,
            weight,
            shown,
        }
    }
}

impl From<Specimen> for Kept {
    fn from(specimen: Specimen) -> Self {
        let Shown {
            numbers,
            flags,
            source,
            payload,
        } = specimen.shown;
        let source = [source.high, source.low];
        Self(
            specimen.time,
            specimen.weight,
            numbers,
            flags,
            source,
            payload,
        )
    }
}

/// What a packet is for: protocol, and destination port or ICMP type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    pub protocol: u8,
    pub port: Option<u16>,
}

impl Specimen {
    /// A packet with what is known of its payload.
    pub fn new(time: Time, weight: f64, packet: &Packet, payload: &[u8]) -> Self {
        let mut bytes = [0; PAYLOAD as usize];
        let length = payload.len().min(bytes.len());
        bytes[..length].copy_from_slice(&payload[..length]);
        let bits = u128::from_be_bytes(bytes);
        let words = [(bits >> 64) as u64, bits as u64];
        Self {
            time,
            weight,
            shown: Shown::of(packet, words, length as u32),
        }
    }

    /// A sighting that stands for `weight` packets.
    pub fn sighted(sighting: &Sighting, weight: f64) -> Self {
        let payload = sighting.payload();
        Self::new(sighting.time, weight, &sighting.packet, payload)
    }

    /// The number of a field.
    pub fn number(&self, number: Number) -> u32 {
        self.shown.numbers[number as usize]
    }

    /// A byte of the payload, if it is there.
    pub fn byte(&self, at: u32) -> Option<u8> {
        let word = self.shown.payload[at as usize / 8];
        (at < self.number(Number::Payload)).then(|| (word >> (56 - at % 8 * 8)) as u8)
    }

    pub fn service(&self) -> Service {
        let port = match self.number(Number::DestinationPort) {
            NO_PORT => None,
            port => u16::try_from(port).ok(),
        };
        Service {
            protocol: self.number(Number::Protocol) as u8,
            port,
        }
    }
}
