//! Gathers what the sampled packets say about each incident, from a while before it was noticed on.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use firewall_common::Direction;
use firewall_common::packet::{Kind, flag, mark, protocol};
use firewall_common::sources::is_amplifier;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::traffic::Traffic;
use crate::detect::hashed::HashMap;
use crate::detect::{Alert, AlertKind, Sighting, Subject, Time};

/// For how long packets are remembered for an incident that may begin.
const REMEMBERED: Time = 60_000_000_000;
/// And how many: 3 MB.
const MOST_REMEMBERED: usize = 8_192;
/// Sources by which packets are known to belong to an incident.
const MOST_SOURCES: usize = 4_096;
/// What is kept of packets until they are fetched, per incident.
const MOST_WAITING: usize = 512;
/// What a capture adds to each of them.
const FRAME_HEADER: u64 = 16;

/// A packet of an incident, as far as the sample holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Nanoseconds since the Unix epoch.
    pub time: Time,
    /// Its first bytes.
    pub bytes: Box<[u8]>,
    /// The length that it had.
    pub length: u32,
}

/// What is looked for, and what was found.
#[derive(Debug, Default)]
pub(super) struct Witness {
    recent: VecDeque<Sighting>,
    /// Incidents by the source that they are about.
    by_source: HashMap<IpAddr, u64>,
    /// Incidents of the whole host, by what their packets are.
    by_kind: Vec<(Pattern, u64)>,
    files: BTreeMap<u64, File>,
    /// Bytes of packets that are handed out for each incident.
    frame_bytes: u64,
}

/// What is known of one incident.
#[derive(Debug, Default)]
struct File {
    began: Time,
    latest: Time,
    /// Packets like it before it began, and over how many nanoseconds.
    before: Traffic,
    before_span: Time,
    during: Traffic,
    frames: Vec<Frame>,
    handed_out: u64,
}

/// What the packets of a host's incident have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    Syn,
    Udp,
    Icmp,
    Request,
    /// Answers of UDP services.
    Replies,
    SynAck,
    Malformed,
    Inbound,
    Outbound,
    /// To or from a prefix that is wider than a source.
    Within(IpNet),
}

impl Witness {
    /// Hands out packets, up to so many bytes for each incident.
    pub fn with_frames(bytes: u64) -> Self {
        Self {
            frame_bytes: bytes,
            ..Self::default()
        }
    }

    /// Takes in the packets of a tick.
    pub fn see(&mut self, now: Time, sightings: &[Sighting]) {
        for sighting in sightings {
            self.sort(sighting);
            if self.recent.len() >= MOST_REMEMBERED {
                self.recent.pop_front();
            }
            self.recent.push_back(*sighting);
        }
        let oldest = now.saturating_sub(REMEMBERED);
        while self.recent.front().is_some_and(|old| old.time < oldest) {
            self.recent.pop_front();
        }
    }

    /// An alert of an incident fires: its packets are looked for, among the latest first.
    pub fn open(&mut self, incident: u64, alert: &Alert) {
        let known = self.files.contains_key(&incident);
        let file = self.files.entry(incident).or_default();
        if !known {
            file.began = alert.started;
            file.latest = alert.detected;
        }
        let looked_for = match alert.subject.prefix().and_then(accounted) {
            Some(source) if !self.by_source.contains_key(&source) => {
                if self.by_source.len() < MOST_SOURCES {
                    self.by_source.insert(source, incident);
                }
                Wanted::Source(source)
            }
            Some(_) => return,
            None => {
                let pattern = match alert.subject.prefix() {
                    Some(prefix) => Pattern::Within(prefix),
                    None => Pattern::of(alert.kind),
                };
                if self.by_kind.contains(&(pattern, incident)) {
                    return;
                }
                self.by_kind.push((pattern, incident));
                Wanted::Pattern(pattern)
            }
        };
        let recent = std::mem::take(&mut self.recent);
        if !known {
            let oldest = recent.front().map_or(alert.started, |oldest| oldest.time);
            if let Some(file) = self.files.get_mut(&incident) {
                file.before_span = alert.started.saturating_sub(oldest);
            }
        }
        for sighting in recent.iter().filter(|sighting| looked_for.fits(sighting)) {
            self.file(incident, sighting);
        }
        self.recent = recent;
    }

    /// Nothing more is looked for.
    pub fn close(&mut self, incident: u64) {
        self.by_source.retain(|_, of| *of != incident);
        self.by_kind.retain(|(_, of)| *of != incident);
    }

    /// Nothing more is known.
    pub fn forget(&mut self, incident: u64) {
        self.close(incident);
        self.files.remove(&incident);
    }

    /// What is known, as evidence.
    pub fn describe(&self, incident: u64) -> Option<Value> {
        let file = self.files.get(&incident)?;
        let span = file.latest.saturating_sub(file.began).max(1_000_000_000);
        let mut evidence = file.during.describe();
        evidence.insert("before".into(), rate(&file.before, file.before_span).into());
        evidence.insert("during".into(), rate(&file.during, span).into());
        Some(evidence.into())
    }

    /// The packets that came since the last time.
    pub fn frames(&mut self) -> Vec<(u64, Vec<Frame>)> {
        let waiting = self
            .files
            .iter_mut()
            .filter(|(_, file)| !file.frames.is_empty());
        waiting
            .map(|(incident, file)| (*incident, std::mem::take(&mut file.frames)))
            .collect()
    }

    /// Files a packet where it belongs.
    fn sort(&mut self, sighting: &Sighting) {
        if self.files.is_empty() {
            return;
        }
        let remote = accounted_address(remote(sighting));
        let by_source = self.by_source.get(&remote).copied();
        if let Some(incident) = by_source {
            self.file(incident, sighting);
        }
        for index in 0..self.by_kind.len() {
            let (pattern, incident) = self.by_kind[index];
            if by_source != Some(incident) && pattern.fits(sighting) {
                self.file(incident, sighting);
            }
        }
    }

    fn file(&mut self, incident: u64, sighting: &Sighting) {
        let budget = self.frame_bytes;
        let Some(file) = self.files.get_mut(&incident) else {
            return;
        };
        if sighting.time < file.began {
            file.before.add(sighting);
        } else {
            file.during.add(sighting);
            file.latest = file.latest.max(sighting.time);
        }
        let bytes = sighting.frame();
        let size = bytes.len() as u64 + FRAME_HEADER;
        if file.handed_out + size <= budget && file.frames.len() < MOST_WAITING {
            file.handed_out += size;
            file.frames.push(Frame {
                time: sighting.time,
                bytes: bytes.into(),
                length: sighting.packet.length,
            });
        }
    }
}

/// What a new alert adds to what is looked for.
enum Wanted {
    Source(IpAddr),
    Pattern(Pattern),
}

impl Wanted {
    fn fits(&self, sighting: &Sighting) -> bool {
        match self {
            Self::Source(source) => accounted_address(remote(sighting)) == *source,
            Self::Pattern(pattern) => pattern.fits(sighting),
        }
    }
}

impl Pattern {
    fn of(kind: AlertKind) -> Self {
        match kind {
            AlertKind::SynFlood | AlertKind::SlowClients => Self::Syn,
            AlertKind::UdpFlood => Self::Udp,
            AlertKind::IcmpFlood => Self::Icmp,
            AlertKind::RequestFlood => Self::Request,
            AlertKind::Amplification => Self::Replies,
            AlertKind::Reflection => Self::SynAck,
            AlertKind::Malformed => Self::Malformed,
            AlertKind::Exfiltration | AlertKind::Beaconing | AlertKind::Tunnel => Self::Outbound,
            _ => Self::Inbound,
        }
    }

    fn fits(self, sighting: &Sighting) -> bool {
        let packet = &sighting.packet;
        let inbound = sighting.direction == Direction::Inbound;
        if let Self::Within(prefix) = self {
            return prefix.contains(&remote(sighting));
        }
        if self == Self::Outbound || !inbound {
            return self == Self::Outbound && !inbound;
        }
        let error = packet.is(mark::ICMP_ERROR);
        match self {
            Self::Syn => packet.is_syn() && !error,
            Self::Udp => packet.protocol == protocol::UDP && !error,
            Self::Icmp => matches!(packet.protocol, protocol::ICMP | protocol::ICMPV6),
            Self::Request => packet.is(mark::REQUEST),
            Self::Replies => {
                packet.protocol == protocol::UDP && is_amplifier(packet.source_port) && !error
            }
            Self::SynAck => {
                const BOTH: u8 = flag::SYN | flag::ACK;
                packet.protocol == protocol::TCP && packet.tcp_flags & BOTH == BOTH && !error
            }
            Self::Malformed => packet.kind == Kind::Malformed,
            Self::Inbound => true,
            Self::Outbound | Self::Within(_) => false,
        }
    }
}

/// The far end of a packet.
fn remote(sighting: &Sighting) -> IpAddr {
    match sighting.direction {
        Direction::Inbound => sighting.sender(),
        Direction::Outbound => sighting.destination(),
    }
}

/// The address under which a far end is accounted.
fn accounted_address(address: IpAddr) -> IpAddr {
    match Subject::source(address).prefix() {
        Some(prefix) => prefix.addr(),
        None => address,
    }
}

/// As [`accounted_address`], of a source; none for a wider prefix.
fn accounted(prefix: IpNet) -> Option<IpAddr> {
    let is_one = Subject::source(prefix.addr()).prefix() == Some(prefix);
    is_one.then(|| prefix.addr())
}

fn rate(traffic: &Traffic, span: Time) -> Map<String, Value> {
    let seconds = span as f64 / 1e9;
    let per_second = |count: u64| {
        if seconds > 0.0 {
            (count as f64 / seconds * 10.0).round() / 10.0
        } else {
            0.0
        }
    };
    let mut rate = Map::new();
    rate.insert("seconds".into(), json!((seconds * 10.0).round() / 10.0));
    rate.insert(
        "packets_per_second".into(),
        json!(per_second(traffic.packets())),
    );
    rate.insert(
        "bytes_per_second".into(),
        json!(per_second(traffic.bytes())),
    );
    rate
}

#[cfg(test)]
mod tests;
