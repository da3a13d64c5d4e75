//! Contacts that a program makes by the clock: what asks for orders at regular times.
//!
//! People and most programs contact a host when they need something, at times that scatter. The measure
//! is the scatter of the intervals between new contacts to one service: their median absolute deviation
//! over their median, and Bowley's skewness, both robust against single outliers (the measures of RITA;
//! Hubballi and Goyal, "FlowSummary", 2013, use the plain deviation).

use std::collections::VecDeque;
use std::net::IpAddr;

use firewall_common::Direction;
use firewall_common::packet::protocol;
use firewall_common::sampling::Class;
use serde_json::{Map, Value, json};

use super::SECOND;
use super::recent::Recent;
use crate::detect::book::{Book, Details, Sign};
use crate::detect::{AlertKind, Sighting, Subject, Time};

/// Intervals that must have been regular.
const INTERVALS: usize = 12;
/// The latest are remembered.
const REMEMBERED: usize = 24;
/// Scatter of a random jitter of a quarter in both directions; contacts at random have 0.69.
const SCATTER: f64 = 0.12;
const SKEWNESS: f64 = 0.35;
/// Contacts that come faster are work, not waiting.
const SHORTEST: f64 = 0.5;
/// And what comes more seldom is forgotten in between.
const KEEP: Time = 3_600 * SECOND;
const PEERS: usize = 4_096;
/// Services that are asked by the clock, as everybody knows: DHCP, NTP, NetBIOS, SNMP traps, SSDP, mDNS.
const BY_THE_CLOCK: [u16; 9] = [67, 68, 123, 137, 138, 162, 547, 1900, 5353];

/// Whom we contact.
#[derive(Debug)]
pub(super) struct Beacons {
    peers: Recent<(IpAddr, u16, u8), Contacts>,
    /// Whether anything came since the last look.
    fresh: Vec<(IpAddr, u16, u8)>,
}

#[derive(Debug, Default)]
struct Contacts {
    /// Times of the latest contacts.
    times: VecDeque<Time>,
    /// Our port at the latest one: a SYN that is sent again has the same.
    port: u16,
}

impl Default for Beacons {
    fn default() -> Self {
        Self {
            peers: Recent::new(PEERS, KEEP),
            fresh: Vec::new(),
        }
    }
}

impl Beacons {
    pub fn see(&mut self, at: Time, sighting: &Sighting) {
        let packet = &sighting.packet;
        let opens = packet.is_syn()
            || (packet.protocol == protocol::UDP
                && !BY_THE_CLOCK.contains(&packet.destination_port));
        let peer = sighting.destination();
        if sighting.class != Class::Contact
            || sighting.direction != Direction::Outbound
            || !opens
            || !is_global(peer)
        {
            return;
        }
        let key = (peer, packet.destination_port, packet.protocol);
        let Some(contacts) = self.peers.touch(key, at) else {
            return;
        };
        if contacts.port == packet.source_port && !contacts.times.is_empty() {
            return;
        }
        contacts.port = packet.source_port;
        // A clock that was set back makes what came before useless.
        if contacts.times.back().is_some_and(|latest| *latest > at) {
            contacts.times.clear();
        }
        contacts.times.push_back(at);
        if contacts.times.len() > REMEMBERED {
            contacts.times.pop_front();
        }
        self.fresh.push(key);
    }

    pub fn judge(&mut self, book: &mut Book, now: Time) {
        self.peers.forget(now);
        for (peer, port, transport) in self.fresh.drain(..) {
            let Some(rhythm) = self
                .peers
                .get(&(peer, port, transport))
                .and_then(|contacts| Rhythm::of(&contacts.times))
            else {
                continue;
            };
            if rhythm.scatter > SCATTER
                || rhythm.skewness.abs() > SKEWNESS
                || rhythm.period < SHORTEST
            {
                continue;
            }
            let subject = Subject::source(peer);
            let sign = Sign {
                kind: AlertKind::Beaconing,
                subject,
                observed: rhythm.intervals as f64,
                expected: INTERVALS as f64,
                unit: "regular intervals",
                started: rhythm.began,
            };
            book.note(now, sign, || {
                let evidence: [(&str, Value); 6] = [
                    ("port", json!(port)),
                    ("protocol", json!(transport)),
                    ("contacts", json!(rhythm.intervals + 1)),
                    ("period_seconds", json!(rounded(rhythm.period))),
                    ("scatter", json!(rounded(rhythm.scatter))),
                    ("skewness", json!(rounded(rhythm.skewness))),
                ];
                Details {
                    why: format!(
                        "This host contacted port {port} of {subject} every {:.1} s, {} times with hardly any \
                         scatter: a program asks there by the clock.",
                        rhythm.period,
                        rhythm.intervals + 1,
                    ),
                    evidence: Map::from_iter(evidence.map(|(key, value)| (key.to_owned(), value))),
                }
            });
        }
    }
}

/// How regular some times are.
#[derive(Debug)]
struct Rhythm {
    intervals: usize,
    /// Median interval in seconds.
    period: f64,
    /// Median absolute deviation over the median.
    scatter: f64,
    /// Bowley's: how far the median is from the middle of the quartiles, -1 to 1.
    skewness: f64,
    began: Time,
}

impl Rhythm {
    fn of(times: &VecDeque<Time>) -> Option<Self> {
        let mut intervals: Vec<f64> = times
            .iter()
            .zip(times.iter().skip(1))
            .map(|(earlier, later)| later.saturating_sub(*earlier) as f64 / SECOND as f64)
            .collect();
        if intervals.len() < INTERVALS / 2 {
            return None;
        }
        intervals.sort_unstable_by(f64::total_cmp);
        let period = quantile(&intervals, 0.5);
        let (low, high) = (quantile(&intervals, 0.25), quantile(&intervals, 0.75));
        let mut deviations: Vec<f64> = intervals
            .iter()
            .map(|length| (length - period).abs())
            .collect();
        deviations.sort_unstable_by(f64::total_cmp);
        let spread = high - low;
        Some(Self {
            intervals: intervals.len(),
            period,
            scatter: if period > 0.0 {
                quantile(&deviations, 0.5) / period
            } else {
                f64::INFINITY
            },
            // Quartiles that nearly agree have no side to lean to.
            skewness: if spread > period * SCATTER {
                (low + high - 2.0 * period) / spread
            } else {
                0.0
            },
            began: *times.front()?,
        })
    }
}

/// A quantile of sorted values, between the two nearest.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let place = share * last as f64;
    let (below, above) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    below + (above - below) * place.fract()
}

/// To three places, for people.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Whether an address is out on the Internet: within one's own networks, hosts watch each other by
/// the clock.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local())
        }
    }
}
