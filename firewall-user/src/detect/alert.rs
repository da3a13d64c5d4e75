//! What a detector says: one thing out of the ordinary, about one subject, with its evidence.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{Incident, ServiceName, Time};

/// One finding, from when it fired until it is resolved.
///
/// As JSON, times are Unix seconds with a fraction and `ended` is null while it lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Unique on this host and growing, also across restarts as long as the clock does not go back:
    /// the microsecond of detection, or the next free number.
    pub id: u64,
    pub kind: AlertKind,
    pub subject: Subject,
    pub severity: Severity,
    pub state: AlertState,
    /// When it began, as far as the counts tell.
    #[serde(with = "unix_seconds")]
    pub started: Time,
    /// When the detector saw it.
    #[serde(with = "unix_seconds")]
    pub detected: Time,
    /// When it was last seen, once it is over.
    #[serde(with = "optional_unix_seconds")]
    pub ended: Option<Time>,
    /// The most that was seen, in `unit`.
    pub observed: f64,
    /// What would have been tolerated, in `unit`.
    pub expected: f64,
    /// The unit of `observed` and `expected`.
    pub unit: String,
    /// The finding in one sentence.
    pub why: String,
    /// The counts behind it, by name.
    pub evidence: Map<String, Value>,
    /// What was done about it, in order; the detector itself does nothing.
    pub response: Vec<String>,
    /// The incident that it belongs to, once that is known.
    #[serde(default)]
    pub incident: Option<u64>,
}

impl Alert {
    /// Takes over what is known of the packets of its incident.
    pub fn take_evidence(&mut self, incident: &Incident) {
        if let Some(traffic) = incident.evidence.get("traffic") {
            self.evidence.insert("traffic".to_owned(), traffic.clone());
        }
    }
}

/// A change that a tick brought.
#[derive(Clone, Debug, PartialEq)]
pub enum AlertChange {
    /// New.
    Fired(Alert),
    /// Clearly worse than last reported: more severe, or half as much again.
    Updated(Alert),
    /// Over.
    Resolved(Alert),
}

impl AlertChange {
    /// The alert that changed, as it is now.
    pub fn alert(&self) -> &Alert {
        match self {
            Self::Fired(alert) | Self::Updated(alert) | Self::Resolved(alert) => alert,
        }
    }
}

/// What kind of finding. Names are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    SynFlood,
    UdpFlood,
    IcmpFlood,
    RequestFlood,
    Amplification,
    Reflection,
    PortScan,
    HostSweep,
    BruteForce,
    SlowClients,
    NewSourceSurge,
    TrafficSpike,
    TrafficLoss,
    Exfiltration,
    Beaconing,
    Tunnel,
    SpoofedSource,
    Malformed,
    /// An answer to other alerts was held back: a cap was reached.
    ResponseWithheld,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [Self; 19] = [
        Self::SynFlood,
        Self::UdpFlood,
        Self::IcmpFlood,
        Self::RequestFlood,
        Self::Amplification,
        Self::Reflection,
        Self::PortScan,
        Self::HostSweep,
        Self::BruteForce,
        Self::SlowClients,
        Self::NewSourceSurge,
        Self::TrafficSpike,
        Self::TrafficLoss,
        Self::Exfiltration,
        Self::Beaconing,
        Self::Tunnel,
        Self::SpoofedSource,
        Self::Malformed,
        Self::ResponseWithheld,
    ];

    /// The name people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynFlood => "syn_flood",
            Self::UdpFlood => "udp_flood",
            Self::IcmpFlood => "icmp_flood",
            Self::RequestFlood => "request_flood",
            Self::Amplification => "amplification",
            Self::Reflection => "reflection",
            Self::PortScan => "port_scan",
            Self::HostSweep => "host_sweep",
            Self::BruteForce => "brute_force",
            Self::SlowClients => "slow_clients",
            Self::NewSourceSurge => "new_source_surge",
            Self::TrafficSpike => "traffic_spike",
            Self::TrafficLoss => "traffic_loss",
            Self::Exfiltration => "exfiltration",
            Self::Beaconing => "beaconing",
            Self::Tunnel => "tunnel",
            Self::SpoofedSource => "spoofed_source",
            Self::Malformed => "malformed",
            Self::ResponseWithheld => "response_withheld",
        }
    }

    /// Whether it tells of too much of something, and so of more than that there is much traffic.
    pub const fn is_flood(self) -> bool {
        matches!(
            self,
            Self::SynFlood
                | Self::UdpFlood
                | Self::IcmpFlood
                | Self::RequestFlood
                | Self::Amplification
                | Self::Reflection
        )
    }
}

impl fmt::Display for AlertKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    /// The name people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// Whether it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    Firing,
    Resolved,
}

impl AlertState {
    /// The name people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

impl fmt::Display for AlertState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// Whom a finding is about. Written as `host`, an IPv4 address, a prefix, or `service:NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The protected host as a whole: no single source stands out.
    Host,
    /// One accounted source: an IPv4 address or an IPv6 /64.
    Source(IpNet),
    /// One of the host's services: a rule that lets something in.
    Service(ServiceName),
}

/// What a service's name is written behind.
const SERVICE: &str = "service:";

/// The length of the IPv6 prefix under which sources are accounted.
const V6_SOURCE_LENGTH: u8 = 64;

impl Subject {
    /// The source to which `address` is accounted.
    pub fn source(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Source(IpNet::from(address)),
            IpAddr::V6(v6) => {
                Self::Source(IpNet::V6(Ipv6Net::new_assert(v6, V6_SOURCE_LENGTH).trunc()))
            }
        }
    }

    /// What a ban of this subject would have to cover; none for the host and its services.
    pub fn prefix(&self) -> Option<IpNet> {
        match self {
            Self::Host | Self::Service(_) => None,
            Self::Source(prefix) => Some(*prefix),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => formatter.pad("host"),
            Self::Service(name) => formatter.pad(&format!("{SERVICE}{name}")),
            Self::Source(prefix) if prefix.prefix_len() == prefix.max_prefix_len() => {
                formatter.pad(&prefix.addr().to_string())
            }
            Self::Source(prefix) => formatter.pad(&prefix.to_string()),
        }
    }
}

impl FromStr for Subject {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "host" {
            return Ok(Self::Host);
        }
        if let Some(name) = text.strip_prefix(SERVICE).and_then(ServiceName::new) {
            return Ok(Self::Service(name));
        }
        let prefix = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse()?,
        };
        Ok(Self::Source(prefix))
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Nanoseconds in memory, seconds with a fraction in JSON.
pub(super) mod unix_seconds {
    use super::{Deserialize, Deserializer, Serializer, Time};

    pub fn serialize<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(to_seconds(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        f64::deserialize(deserializer).map(from_seconds)
    }

    /// Whole microseconds, which a double holds exactly until the year 2255.
    pub fn to_seconds(time: Time) -> f64 {
        (time / 1_000) as f64 / 1e6
    }

    pub fn from_seconds(seconds: f64) -> Time {
        ((seconds * 1e6).round() as Time).saturating_mul(1_000)
    }
}

/// As [`unix_seconds`], with null for none.
pub(super) mod optional_unix_seconds {
    use super::{Deserialize, Deserializer, Serializer, Time, unix_seconds};

    pub fn serialize<S: Serializer>(time: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.serialize_some(&unix_seconds::to_seconds(*time)),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Time>, D::Error> {
        Ok(Option::<f64>::deserialize(deserializer)?.map(unix_seconds::from_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_same_name_on_screen_and_in_json() {
        for kind in AlertKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn a_subject_reads_back_what_it_writes() {
        for text in ["host", "198.51.100.7", "2001:db8:1:2::/64", "service:shop"] {
            let subject: Subject = text.parse().unwrap();
            assert_eq!(subject.to_string(), text);
        }
    }

    #[test]
    fn an_ipv6_source_stands_for_its_64() {
        let subject = Subject::source("2001:db8::dead:beef".parse().unwrap());
        assert_eq!(subject.to_string(), "2001:db8::/64");
    }

    #[test]
    fn times_in_json_are_unix_seconds() {
        let alert = Alert {
            id: 7,
            kind: AlertKind::PortScan,
            subject: Subject::Host,
            severity: Severity::Warning,
            state: AlertState::Firing,
            started: 1_700_000_000_250_000_000,
            detected: 1_700_000_001_000_000_000,
            ended: None,
            observed: 1.0,
            expected: 2.0,
            unit: "ports".into(),
            why: "because".into(),
            evidence: Map::new(),
            response: Vec::new(),
            incident: None,
        };
        let json = serde_json::to_value(&alert).unwrap();
        assert_eq!(json["started"], 1_700_000_000.25);
        assert_eq!(json["ended"], Value::Null);
        assert_eq!(json["kind"], "port_scan");
        assert_eq!(serde_json::from_value::<Alert>(json).unwrap(), alert);
    }
}
