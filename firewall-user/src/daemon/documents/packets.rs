//! Single packets and connections, as the control socket shows it.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The query of `GET /v1/connection`: a packet's addresses and ports as this host sees them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionQuery {
    pub local: IpAddr,
    pub remote: IpAddr,
    pub protocol: u8,
    /// 0 where the protocol has no ports; the identifier of an echo.
    #[serde(default)]
    pub local_port: u16,
    #[serde(default)]
    pub remote_port: u16,
}

/// `GET /v1/connection`: the entry of the connection table, if there is one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionReport {
    pub connection: Option<ConnectionDocument>,
}

/// One entry of the connection table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionDocument {
    /// Seconds since its latest packet, kept to a second.
    pub idle_seconds: f64,
    /// Packets were seen both ways.
    pub answered: bool,
    /// A FIN or RST was seen.
    pub closing: bool,
    /// The rule that admitted it.
    pub rule: Option<String>,
}

/// `GET /v1/events`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Events {
    /// The latest first.
    pub events: Vec<EventDocument>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    #[serde(default = "default_event_limit")]
    pub limit: usize,
}

fn default_event_limit() -> usize {
    100
}

/// A sampled packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventDocument {
    pub time: Timestamp,
    pub interface: String,
    pub direction: String,
    pub verdict: String,
    pub reason: String,
    pub rule: Option<String>,
    /// `ip`, `malformed` or `other`.
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub ether_type: u16,
    pub protocol: u8,
    pub source: IpAddr,
    pub source_port: u16,
    pub destination: IpAddr,
    pub destination_port: u16,
    pub tcp_flags: u8,
    pub icmp_type: u8,
    pub length: u32,
    /// `pass`, `drop`, `contact`, `control`, `query` or `log`.
    pub class: String,
    /// How many packets of its class it speaks for, itself among them.
    pub packets: u64,
}
