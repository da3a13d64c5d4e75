//! What a detector is fed: a snapshot of the counts at a moment.

use std::collections::HashSet;
use std::net::IpAddr;

use firewall_common::layout::{Counter, SourceCounters, Uses};
use firewall_common::{Direction, Verdict};

use super::{Sighting, SocketSample};

/// Nanoseconds since the Unix epoch; in a replay, the capture's time.
pub type Time = u64;

/// The state of all counts at one moment. Counts are cumulative; the detector takes differences.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub time: Time,
    /// The same moment on the clock of [`SourceSample::entered`].
    pub clock: u64,
    pub host: HostCounts,
    /// The sources that sent something since the previous snapshot (the first one has those of the
    /// last minute, if the table holds them), in no order. Silent ones may be among them.
    pub sources: Vec<SourceSample>,
    /// What use is made of each service, in the policy's order.
    pub services: Vec<ServiceCounts>,
    /// Those of the sources, and of the sockets' clients, that are banned.
    pub banned: HashSet<IpAddr>,
    /// Packets that were seen since the previous snapshot: a sample.
    pub sightings: Vec<Sighting>,
    /// Connections to this host's services, when somebody looked at the socket table since the
    /// previous snapshot.
    pub sockets: Option<Vec<SocketSample>>,
}

/// The use of a service: of a rule that lets something in. Cumulative, established packets of its
/// connections among them.
#[derive(Debug, PartialEq, Eq)]
pub struct ServiceCounts {
    /// The rule's name.
    pub name: String,
    /// The rule's counter, by which sightings tell of it.
    pub rule: u32,
    pub packets: u64,
    pub bytes: u64,
    /// TCP connections that were let in.
    pub connections: u64,
    /// HTTP requests, TLS ClientHellos, QUIC Initials, DNS queries, echo requests.
    pub requests: u64,
}

impl Clone for ServiceCounts {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            ..*self
        }
    }

    /// In place of the derived one, which would make the name anew: counts are remembered in every round.
    fn clone_from(&mut self, source: &Self) {
        let mut name = std::mem::take(&mut self.name);
        name.clone_from(&source.name);
        *self = Self { name, ..*source };
    }
}

impl ServiceCounts {
    pub fn new(name: &str, rule: u32, hits: Counter, uses: Uses) -> Self {
        Self {
            name: name.to_owned(),
            rule,
            packets: hits.packets,
            bytes: hits.bytes,
            connections: uses.connections,
            requests: uses.requests,
        }
    }
}

/// One accounted source: an IPv4 address, or an IPv6 /64 (given by its first address).
#[derive(Clone, Copy, Debug)]
pub struct SourceSample {
    pub source: IpAddr,
    /// Cumulative since the source entered the table, but `ports` and `hosts`: those hold what
    /// was seen since the previous snapshot.
    pub counters: SourceCounters,
    /// When it entered the table, in milliseconds of a clock that is never set (see
    /// [`Snapshot::clock`]). Where a source is counted in several places, the earliest: a later one would
    /// make all that was counted look new.
    pub entered: u64,
    /// When its latest packet came.
    pub last_seen: Time,
}

/// Counts of the whole host, over all interfaces, since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostCounts {
    /// Packets and bytes in, whatever was decided.
    pub packets: u64,
    pub bytes: u64,
    /// Packets dropped inbound.
    pub drops: u64,
    /// Packets and bytes out.
    pub packets_outbound: u64,
    pub bytes_outbound: u64,
    /// Inbound packets by kind, indexed by [`firewall_common::layout::TrafficKind`].
    pub kinds: [u64; firewall_common::layout::TRAFFIC_KINDS],
    /// The same for outbound packets.
    pub kinds_outbound: [u64; firewall_common::layout::TRAFFIC_KINDS],
}

impl HostCounts {
    /// Adds packets of one direction and verdict.
    pub fn add(&mut self, direction: Direction, verdict: Verdict, counter: Counter) {
        match direction {
            Direction::Inbound => {
                self.packets += counter.packets;
                self.bytes += counter.bytes;
                if verdict == Verdict::Drop {
                    self.drops += counter.packets;
                }
            }
            Direction::Outbound => {
                self.packets_outbound += counter.packets;
                self.bytes_outbound += counter.bytes;
            }
        }
    }
}
