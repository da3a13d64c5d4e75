//! What a detector is fed: a snapshot of the counts at a moment.

use std::net::IpAddr;

use firewall_common::layout::SourceCounters;

/// Nanoseconds since the Unix epoch; in a replay, the capture's time.
pub type Time = u64;

/// The state of all counts at one moment. Counts are cumulative; the detector takes differences.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub time: Time,
    pub host: HostCounts,
    /// The sources that the table holds, in no order.
    pub sources: Vec<SourceSample>,
}

/// One accounted source: an IPv4 address, or an IPv6 /64 (given by its first address).
#[derive(Clone, Copy, Debug)]
pub struct SourceSample {
    pub source: IpAddr,
    /// Cumulative since the source entered the table, but `ports` and `hosts`: those hold what
    /// was seen since the previous snapshot. Where a source is counted in several places,
    /// `first_seen` is the earliest: a later one would make all that was counted look new.
    pub counters: SourceCounters,
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
    /// Inbound packets by kind, indexed by [`firewall_common::layout::TrafficKind`].
    pub kinds: [u64; firewall_common::layout::TRAFFIC_KINDS],
    /// The same for outbound packets.
    pub kinds_outbound: [u64; firewall_common::layout::TRAFFIC_KINDS],
}
