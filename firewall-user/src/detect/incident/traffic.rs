//! What the traffic of an incident looks like: who sends it, to which ports, with which flags, how large.

use std::net::IpAddr;

use firewall_common::Verdict;
use firewall_common::packet::{flag, mark, protocol};
use serde_json::{Map, Value, json};

use super::heavy::Heavy;
use crate::detect::{Sighting, Subject};

/// Rows of each list.
const ROWS: usize = 10;

/// Sums over the sightings of an incident. Each speaks for several packets, so they are estimates.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    sampled: u64,
    packets: u64,
    bytes: u64,
    dropped: u64,
    sources: Heavy<IpAddr>,
    /// Protocol and destination port.
    ports: Heavy<(u8, u16)>,
    flags: Heavy<u8>,
    /// Frames by the power of two below their length.
    sizes: [u64; 17],
}

impl Traffic {
    pub fn add(&mut self, sighting: &Sighting) {
        let packet = &sighting.packet;
        self.sampled += 1;
        self.packets = self.packets.saturating_add(sighting.packets);
        self.bytes = self.bytes.saturating_add(sighting.bytes);
        if sighting.verdict == Verdict::Drop {
            self.dropped = self.dropped.saturating_add(sighting.packets);
        }
        if let Some(source) = Subject::source(sighting.sender()).prefix() {
            self.sources.add(source.addr(), sighting.packets);
        }
        let port = if packet.is(mark::PORTS) {
            packet.destination_port
        } else {
            0
        };
        self.ports.add((packet.protocol, port), sighting.packets);
        if packet.protocol == protocol::TCP {
            self.flags.add(packet.tcp_flags, sighting.packets);
        }
        let size = packet.length.max(1).ilog2() as usize;
        self.sizes[size.min(16)] += sighting.packets;
    }

    pub fn packets(&self) -> u64 {
        self.packets
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As evidence.
    pub fn describe(&self) -> Map<String, Value> {
        let share = |count: u64| {
            let share = count as f64 / self.packets.max(1) as f64;
            (share.min(1.0) * 1_000.0).round() / 1_000.0
        };
        let mut evidence = Map::new();
        evidence.insert("sampled".into(), json!(self.sampled));
        evidence.insert("packets".into(), json!(self.packets));
        evidence.insert("bytes".into(), json!(self.bytes));
        evidence.insert("dropped".into(), json!(self.dropped));
        let sources = self.sources.top(ROWS);
        let row = |(source, packets): &(IpAddr, u64)| json!({"source": source, "packets": packets, "share": share(*packets)});
        evidence.insert("top_sources".into(), sources.iter().map(row).collect());
        let ports = self.ports.top(ROWS);
        let row = |((number, port), packets): &((u8, u16), u64)| {
            let port = (*port != 0).then_some(port);
            json!({"protocol": number, "port": port, "packets": packets, "share": share(*packets)})
        };
        evidence.insert("ports".into(), ports.iter().map(row).collect());
        let flags = self.flags.top(ROWS);
        let row = |(flags, packets): &(u8, u64)| json!({"flags": flag_names(*flags), "packets": packets, "share": share(*packets)});
        evidence.insert("flags".into(), flags.iter().map(row).collect());
        let sizes = self
            .sizes
            .iter()
            .enumerate()
            .filter(|(_, packets)| **packets > 0);
        let row = |(power, packets): (usize, &u64)| json!({"from": 1_u32 << power, "to": (2_u32 << power) - 1, "packets": packets, "share": share(*packets)});
        evidence.insert("sizes".into(), sizes.map(row).collect());
        evidence
    }
}

/// TCP flags as policies write them.
fn flag_names(flags: u8) -> String {
    const NAMES: [(u8, &str); 6] = [
        (flag::SYN, "syn"),
        (flag::ACK, "ack"),
        (flag::FIN, "fin"),
        (flag::RST, "rst"),
        (flag::PSH, "psh"),
        (flag::URG, "urg"),
    ];
    let names: Vec<&str> = NAMES
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(",")
    }
}
