//! Who is ordinarily there: sources that had connections for a while. Answers spare them where forged
//! packets may be behind an alert, and are switched off before they hit many of them.
//!
//! An estimate from the sample of packets, as good as it needs to be. A source of datagrams without connections is not known here.

use std::collections::HashMap;
use std::net::IpAddr;

use firewall_common::packet::protocol;
use firewall_common::{Direction, Reason, Verdict};
use ipnet::IpNet;

use crate::detect::{Sighting, Subject, Time};

const SECOND: Time = 1_000_000_000;
/// Sources that are remembered, 4 MB.
const MOST: usize = 65_536;
/// After so long without a packet a source is forgotten.
const FORGOTTEN: Time = 24 * 3_600 * SECOND;
/// Packets that belong to connections must lie so far apart: a forger can send a few that look like
/// it while the host waits for the end of a handshake, and no longer.
const APART: Time = 90 * SECOND;

/// The sources, by the address under which they are accounted.
#[derive(Debug, Default)]
pub struct Regulars {
    seen: HashMap<IpAddr, Seen>,
    tidied: Time,
}

/// The first and the latest packet of a connection.
#[derive(Clone, Copy, Debug)]
struct Seen {
    first: Time,
    latest: Time,
}

impl Regulars {
    /// Takes in the packets of a tick.
    pub fn see(&mut self, now: Time, sightings: &[Sighting]) {
        for sighting in sightings
            .iter()
            .filter(|sighting| is_of_a_connection(sighting))
        {
            let Some(source) = Subject::source(sighting.sender()).prefix() else {
                continue;
            };
            let time = sighting.time;
            if let Some(seen) = self.seen.get_mut(&source.addr()) {
                seen.latest = seen.latest.max(time);
            } else if self.seen.len() < MOST {
                let seen = Seen {
                    first: time,
                    latest: time,
                };
                self.seen.insert(source.addr(), seen);
            }
        }
        self.tidy(now);
    }

    /// How many sources within `prefix` were there before `since` already. Of a single IPv6 address it is known only whether
    /// its /64 was.
    pub fn within(&self, prefix: &IpNet, since: Time) -> usize {
        let source = Subject::source(prefix.addr()).prefix();
        if let Some(prefix) = source.filter(|source| source.contains(prefix)) {
            let known = self.seen.get(&prefix.addr());
            return usize::from(known.is_some_and(|seen| seen.is_regular(since)));
        }
        self.seen
            .iter()
            .filter(|(source, seen)| prefix.contains(*source) && seen.is_regular(since))
            .count()
    }

    /// How many there are in all.
    pub fn count(&self, since: Time) -> usize {
        self.seen
            .values()
            .filter(|seen| seen.is_regular(since))
            .count()
    }

    /// Since when a source has been known, and when it was last seen; none if it never had a connection.
    pub fn known(&self, source: &IpNet) -> Option<(Time, Time)> {
        let seen = self.seen.get(&source.addr())?;
        Some((seen.first, seen.latest))
    }

    /// Once a minute, forgets the long gone; when it is full, those that never became regular.
    fn tidy(&mut self, now: Time) {
        if now.saturating_sub(self.tidied) < 60 * SECOND {
            return;
        }
        self.tidied = now;
        let is_full = self.seen.len() >= MOST;
        self.seen.retain(|_, seen| {
            let idle = now.saturating_sub(seen.latest);
            idle <= FORGOTTEN && !(is_full && idle > APART && !seen.is_regular(now))
        });
    }
}

impl Seen {
    /// Whether its connections began well before `since`.
    fn is_regular(&self, since: Time) -> bool {
        self.latest.saturating_sub(self.first) >= APART && self.first.saturating_add(APART) <= since
    }
}

fn is_of_a_connection(sighting: &Sighting) -> bool {
    sighting.direction == Direction::Inbound
        && sighting.verdict == Verdict::Pass
        && sighting.reason == Reason::Established
        && sighting.packet.protocol == protocol::TCP
}

#[cfg(test)]
pub(crate) mod tests {
    use firewall_common::packet::{self, NO_VLAN, Packet, flag};
    use firewall_common::sampling::Class;

    use super::*;
    use crate::packet_build::PacketBuilder;

    /// A packet of a connection of `from`.
    fn sighting(time: Time, from: &str) -> Sighting {
        let to = if from.contains(':') {
            "2001:db8::1"
        } else {
            "198.51.100.1"
        };
        let frame = PacketBuilder::new(from.parse().unwrap(), to.parse().unwrap())
            .unwrap()
            .tcp(40_000, 443, flag::ACK)
            .build();
        let mut parsed = Packet::default();
        packet::parse(&mut packet::Frame::new(&frame), NO_VLAN, &mut parsed);
        let mut sighting = Sighting::new(time, parsed, Class::Pass, &frame);
        sighting.reason = Reason::Established;
        sighting
    }

    /// Sources that had connections from second 0 to second 200.
    pub(crate) fn regulars(sources: &[&str]) -> Regulars {
        let mut regulars = Regulars::default();
        for second in [0, 200] {
            let packets: Vec<_> = sources
                .iter()
                .map(|source| sighting(second * SECOND, source))
                .collect();
            regulars.see(second * SECOND, &packets);
        }
        regulars
    }

    #[test]
    fn who_had_connections_for_a_while_is_ordinary() {
        let regulars = regulars(&["203.0.113.7", "203.0.113.8", "2001:db8:7::1"]);
        let within = |text: &str, second: Time| {
            regulars.within(&text.parse::<IpNet>().unwrap(), second * SECOND)
        };
        assert_eq!(within("203.0.113.7/32", 300), 1);
        assert_eq!(within("203.0.113.0/24", 300), 2);
        assert_eq!(within("2001:db8:7::/64", 300), 1);
        assert_eq!(within("2001:db8:7::/48", 300), 1);
        assert_eq!(within("203.0.113.9/32", 300), 0);
        assert_eq!(within("203.0.113.7/32", 60), 0, "it came with the attack");
        assert_eq!(regulars.count(300 * SECOND), 3);
    }

    #[test]
    fn a_moment_of_packets_that_look_like_a_connection_proves_nothing() {
        let mut regulars = Regulars::default();
        let packets: Vec<_> = (0..60)
            .map(|second| sighting(second * SECOND, "203.0.113.7"))
            .collect();
        regulars.see(60 * SECOND, &packets);
        let mut stranger = sighting(0, "203.0.113.8");
        stranger.reason = Reason::Rule;
        let mut later = stranger;
        later.time = 500 * SECOND;
        regulars.see(500 * SECOND, &[stranger, later]);
        assert_eq!(regulars.count(900 * SECOND), 0);
    }

    #[test]
    fn memory_stays_bounded_and_the_long_gone_are_forgotten() {
        let mut regulars = regulars(&["203.0.113.7"]);
        for number in 0..MOST + 1_000 {
            let source = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number as u32).to_string();
            regulars.see(300 * SECOND, &[sighting(300 * SECOND, &source)]);
        }
        assert!(regulars.seen.len() <= MOST);
        regulars.see(600 * SECOND, &[]);
        assert_eq!(regulars.seen.len(), 1, "those that came once make room");
        regulars.see(2 * FORGOTTEN, &[]);
        assert_eq!(regulars.seen.len(), 0);
    }
}
