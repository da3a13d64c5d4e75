//! The `[detect]` table of the host settings: windows and thresholds, each with its default.
//!
//! Where the defaults come from is in `docs/detection.md`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::learned::Sensitivity;

/// Settings of all detectors. Every key may be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Rates are means over this sliding window; from 250 ms to 1 min.
    #[serde(with = "rate_window")]
    pub rate_window: Duration,
    /// An alert is over when it has been below half its threshold for this long; from 1 s to 1 h.
    /// Scans and sweeps pause, so theirs last at least as long as their windows.
    #[serde(with = "quiet")]
    pub quiet: Duration,
    /// Places for sources that the kernel's table has on each CPU, 80 bytes each: a power of two, to
    /// which it is rounded up, from 1,024 to 1,048,576. Another number begins with an empty table.
    #[serde(deserialize_with = "kernel_sources")]
    pub kernel_sources: u32,
    /// Most sources of which the detector keeps a memory (about 0.5 kB each); at least 1.
    #[serde(deserialize_with = "at_least_one")]
    pub tracked_sources: usize,
    /// Most alerts that fire at once; at least 1. What comes on top is counted, not raised.
    #[serde(deserialize_with = "at_least_one")]
    pub active_alerts: usize,
    /// How far traffic must depart from what was learned, and from the thresholds below: "low" (twice as
    /// far), "medium" or "high" (half as far).
    pub sensitivity: Sensitivity,
    /// What is usual is learned by spans of this length, and judged so many of them in a row; from 5 s to 1 min.
    /// Shorter ones tell sooner, and of smaller breaks. Another length begins to learn anew.
    #[serde(with = "learn_span")]
    pub learn_span: Duration,
    pub source: SourceRates,
    pub prefix: PrefixRates,
    pub host: HostRates,
    pub port_scan: PortScan,
    pub host_sweep: HostSweep,
}

/// `[detect.source]`: what one source may send per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceRates {
    /// Packets of any kind (`traffic_spike`).
    #[serde(deserialize_with = "positive")]
    pub packets: f64,
    /// SYNs that no further packet of the source follows (`syn_flood`).
    #[serde(deserialize_with = "positive")]
    pub syns: f64,
    /// Requests, echo requests included (`request_flood`).
    #[serde(deserialize_with = "positive")]
    pub requests: f64,
}

/// `[detect.prefix]`: what an IPv4 /24 or an IPv6 /48 may send per second when no single source of it
/// stands out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrefixRates {
    /// Packets of any kind (`traffic_spike`).
    #[serde(deserialize_with = "positive")]
    pub packets: f64,
    /// SYNs that no further packet follows (`syn_flood`).
    #[serde(deserialize_with = "positive")]
    pub syns: f64,
    /// Requests, echo requests included (`request_flood`).
    #[serde(deserialize_with = "positive")]
    pub requests: f64,
}

/// `[detect.host]`: what the host may receive per second from all sources together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostRates {
    /// SYNs that no further packet of their source follows (`syn_flood`).
    #[serde(deserialize_with = "positive")]
    pub syns: f64,
    /// UDP packets to which hardly any answer goes out (`udp_flood`).
    #[serde(deserialize_with = "positive")]
    pub udp: f64,
    /// UDP packets, each from an address and port that had sent nothing before (`udp_flood`, and of QUIC
    /// Initials `request_flood`).
    #[serde(deserialize_with = "positive")]
    pub strays: f64,
    /// ICMP and ICMPv6 packets (`icmp_flood`).
    #[serde(deserialize_with = "positive")]
    pub icmp: f64,
    /// Replies of services abused for amplification that the host did not ask for (`amplification`).
    #[serde(deserialize_with = "positive")]
    pub amplifier_replies: f64,
    /// SYN-ACKs that the host did not ask for (`reflection`).
    #[serde(deserialize_with = "positive")]
    pub syn_acks: f64,
    /// Packets that contradict themselves (`malformed`).
    #[serde(deserialize_with = "positive")]
    pub malformed: f64,
}

/// `[detect.port_scan]`: how many ports one source may try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PortScan {
    /// Over how long ports are counted; from 1 s to 1 h.
    #[serde(with = "scan_window")]
    pub window: Duration,
    /// Distinct ports and protocols; 2 to 200.
    #[serde(deserialize_with = "countable")]
    pub ports: f64,
    /// A scan tries at least this many ports per destination host.
    #[serde(deserialize_with = "positive")]
    pub ports_per_host: f64,
    /// A source that sends more packets per port than this uses what it found and does not scan;
    /// unless it fails on three times as many ports as `ports`.
    #[serde(deserialize_with = "positive")]
    pub packets_per_port: f64,
}

/// `[detect.host_sweep]`: how many hosts one source may try in vain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostSweep {
    /// Over how long hosts are counted; from 1 s to 1 h. Short, as peers of a file-sharing network
    /// are tried in vain too, but not so fast.
    #[serde(with = "scan_window")]
    pub window: Duration,
    /// Distinct destination hosts; 2 to 200.
    #[serde(deserialize_with = "countable")]
    pub hosts: f64,
    /// Failed first contacts per host, at least.
    #[serde(deserialize_with = "positive")]
    pub failed_per_host: f64,
    /// TCP connections that come about per host, at most.
    #[serde(deserialize_with = "positive")]
    pub completed_per_host: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rate_window: Duration::from_secs(2),
            quiet: Duration::from_secs(15),
            kernel_sources: 1 << 17,
            tracked_sources: 65_536,
            active_alerts: 1_024,
            sensitivity: Sensitivity::default(),
            learn_span: Duration::from_secs(60),
            source: SourceRates::default(),
            prefix: PrefixRates::default(),
            host: HostRates::default(),
            port_scan: PortScan::default(),
            host_sweep: HostSweep::default(),
        }
    }
}

impl Default for SourceRates {
    fn default() -> Self {
        Self {
            packets: 50_000.0,
            syns: 200.0,
            requests: 1_000.0,
        }
    }
}

impl Default for PrefixRates {
    fn default() -> Self {
        Self {
            packets: 100_000.0,
            syns: 200.0,
            requests: 2_000.0,
        }
    }
}

impl Default for HostRates {
    fn default() -> Self {
        Self {
            syns: 200.0,
            udp: 20_000.0,
            strays: 2_000.0,
            icmp: 250.0,
            amplifier_replies: 500.0,
            syn_acks: 500.0,
            malformed: 250.0,
        }
    }
}

impl Default for PortScan {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            ports: 20.0,
            ports_per_host: 2.0,
            packets_per_port: 10.0,
        }
    }
}

impl Default for HostSweep {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(15),
            hosts: 64.0,
            failed_per_host: 0.8,
            completed_per_host: 0.1,
        }
    }
}

/// A number above zero; whole numbers are taken too.
fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(serde::de::Error::custom(format!(
            "{value} must be a number above 0"
        )))
    }
}

/// A number of things that a 64-bit map can still tell apart.
fn countable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if (2.0..=200.0).contains(&value) {
        Ok(value)
    } else {
        Err(serde::de::Error::custom(format!(
            "{value} must be between 2 and 200: the kernel's 64-bit maps cannot count further"
        )))
    }
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let value = usize::deserialize(deserializer)?;
    if value == 0 {
        return Err(serde::de::Error::custom("0 must be at least 1"));
    }
    Ok(value)
}

fn kernel_sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let value = u32::deserialize(deserializer)?;
    if (1 << 10..=1 << 20).contains(&value) {
        Ok(value.next_power_of_two())
    } else {
        Err(serde::de::Error::custom(format!(
            "{value} must be between 1024 and 1048576: places for sources on each processor, 80 bytes each"
        )))
    }
}

/// A span written as `"2s"` or `"1m 30s"`, refused outside of its bounds.
macro_rules! bounded_duration {
    ($name:ident, $low:literal ms to $high:literal ms, $bounds:literal) => {
        mod $name {
            use std::time::Duration;

            use jiff::fmt::serde::unsigned_duration::friendly::compact::required as friendly;
            use serde::{Deserializer, Serializer};

            pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
                friendly::serialize(span, to)
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
                let span: Duration = friendly::deserialize(from)?;
                if ($low..=$high).contains(&span.as_millis()) {
                    Ok(span)
                } else {
                    Err(serde::de::Error::custom(format!(
                        "{span:?} must be between {}",
                        $bounds
                    )))
                }
            }
        }
    };
}

bounded_duration!(rate_window, 250 ms to 60_000 ms, "250ms and 1m");
bounded_duration!(learn_span, 5_000 ms to 60_000 ms, "5s and 1m");
bounded_duration!(quiet, 1_000 ms to 3_600_000 ms, "1s and 1h");
bounded_duration!(scan_window, 1_000 ms to 3_600_000 ms, "1s and 1h");

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_table_is_the_default() {
        assert_eq!(read("").unwrap(), Config::default());
    }

    #[test]
    fn the_defaults_read_back_what_they_write() {
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(read(&text).unwrap(), Config::default());
    }

    #[test]
    fn keys_are_read_where_they_are_given() {
        let config =
            read("rate_window = '1s'\n[source]\nsyns = 50\n[port_scan]\nwindow = '5m'\nports = 40")
                .unwrap();
        assert_eq!(config.rate_window, Duration::from_secs(1));
        assert_eq!(config.source.syns, 50.0);
        assert_eq!(config.source.packets, SourceRates::default().packets);
        assert_eq!(config.port_scan.window, Duration::from_secs(300));
        assert_eq!(config.port_scan.ports, 40.0);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        for (text, reason) in [
            ("rate_windw = '1s'", "unknown field `rate_windw`"),
            ("rate_window = '1ms'", "between 250ms and 1m"),
            ("quiet = '2h'", "between 1s and 1h"),
            ("learn_span = '2m'", "between 5s and 1m"),
            ("tracked_sources = 0", "at least 1"),
            ("kernel_sources = 1000", "between 1024 and 1048576"),
            ("kernel_sources = 1048577", "between 1024 and 1048576"),
            ("sensitivity = 'paranoid'", "unknown variant `paranoid`"),
            ("[source]\nsyns = 0", "above 0"),
            ("[source]\nsyns = nan", "above 0"),
            ("[host]\nudp = -5", "above 0"),
            ("[port_scan]\nports = 1000", "between 2 and 200"),
            ("[port_scan]\nport = 10", "unknown field `port`"),
            ("[host_sweep]\nhosts = 1", "between 2 and 200"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
