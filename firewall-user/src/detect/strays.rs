//! Floods of datagrams that a service answers, so that the answers excuse nothing.
//!
//! Clients of a service over UDP send more than one packet from a port: calls, games, QUIC, VPNs. A flood
//! with forged senders, and a tool that takes another port for each packet, does not. So what is counted are
//! datagrams from an address and port of which none was seen lately ("strays").

use std::net::IpAddr;

use firewall_common::layout::TrafficKind;
use firewall_common::packet::{mark, protocol};
use firewall_common::sampling::Class;
use firewall_common::{Direction, Reason, sources};

use super::book::{Book, Details, Sign};
use super::per_source::{evidence, seconds};
use super::sources::Interval;
use super::window::Window;
use super::{AlertKind, HostRates, Sighting, Subject, Time};

const SECOND: Time = 1_000_000_000;
/// For how long a sender's port is known, at least.
const KNOWN: Time = 10 * SECOND;
/// Bits of the memory, of which each half serves for [`KNOWN`]: at most 7,600 a second are shown.
const BITS: usize = 1 << 19;
/// At least this share of all datagrams are strays.
const SHARE: f64 = 0.5;
/// From this share on, one sender or one kind is what it is about.
const MOSTLY: f64 = 0.5;

/// What datagrams come from nowhere in particular.
#[derive(Debug)]
pub(super) struct Strays {
    span: Time,
    memory: Memory,
    /// Strays; those that are QUIC Initials; all datagrams.
    sums: Window<3>,
    leader: Option<Leader>,
}

/// The sender with the most strays, by a vote of majority (Boyer and Moore 1981).
#[derive(Debug)]
struct Leader {
    sender: IpAddr,
    votes: f64,
    /// What is known of its strays.
    own: Window<1>,
}

impl Strays {
    pub fn new(span: Time) -> Self {
        Self {
            span,
            memory: Memory::default(),
            sums: Window::default(),
            leader: None,
        }
    }

    /// Takes in what was seen, and notes what stands out.
    pub fn judge(
        &mut self,
        book: &mut Book,
        interval: Interval,
        rates: &HostRates,
        sightings: &[Sighting],
    ) {
        for sighting in sightings {
            self.see(sighting.time.clamp(interval.from, interval.now), sighting);
        }
        let now = interval.now;
        let [strays, initials, all] = self.sums.sums(now, self.span);
        if strays < all * SHARE {
            return;
        }
        let kind = if initials >= strays * MOSTLY {
            AlertKind::RequestFlood
        } else {
            AlertKind::UdpFlood
        };
        let subject = match &self.leader {
            Some(Leader { sender, own, .. })
                if own.sums(now, self.span)[0] >= strays * MOSTLY
                    && !book.fires(kind, Subject::Host) =>
            {
                Subject::source(*sender)
            }
            _ => Subject::Host,
        };
        let sign = Sign {
            kind,
            subject,
            observed: (strays / seconds(self.span)).round(),
            expected: rates.strays,
            unit: "packets/s",
            started: self.sums.since(now, self.span),
        };
        book.note(now, sign, || Details {
            why: format!(
                "{:.0} datagrams/s came each from an address and port that had sent nothing before, of {:.0}/s \
                 in all: a client sends more than one.",
                sign.observed,
                all / seconds(self.span),
            ),
            evidence: evidence([
                ("strays", strays),
                ("quic_initials", initials),
                ("udp_packets", all),
                ("window_seconds", seconds(self.span)),
            ]),
        });
    }

    fn see(&mut self, at: Time, sighting: &Sighting) {
        let packet = &sighting.packet;
        if sighting.class != Class::Contact
            || sighting.direction != Direction::Inbound
            || sighting.reason == Reason::Ban
            || packet.protocol != protocol::UDP
            || is_amplified(sighting)
        {
            return;
        }
        let sender = sighting.sender();
        let flow = (sender, packet.source_port, packet.destination_port);
        let weight = sighting.packets as f64;
        let stray = if self.memory.learn(at, super::hash(&flow)) {
            weight
        } else {
            0.0
        };
        let initial = if packet.is(mark::REQUEST) { stray } else { 0.0 };
        self.vote(at, sender, stray);
        self.sums.add(at, at, self.span, [stray, initial, weight]);
    }

    /// Counts strays for their sender.
    fn vote(&mut self, at: Time, sender: IpAddr, strays: f64) {
        match &mut self.leader {
            Some(leader) if leader.sender == sender => {
                leader.votes += strays;
                leader.own.add(at, at, self.span, [strays]);
            }
            Some(leader) if leader.votes > strays => leader.votes -= strays,
            leader => {
                let mut own = Window::default();
                own.add(at, at, self.span, [strays]);
                *leader = Some(Leader {
                    sender,
                    votes: strays,
                    own,
                });
            }
        }
    }
}

/// Whether a datagram looks like the answer of a service that amplifies, which is another kind.
fn is_amplified(sighting: &Sighting) -> bool {
    let mut amplified = false;
    sources::kinds(&sighting.packet, |kind| {
        amplified |= kind == TrafficKind::AmplifierReply;
    });
    amplified
}

/// Which flows were seen in this span and the one before: a Bloom filter of one hash for each.
#[derive(Debug)]
struct Memory {
    span: u64,
    current: Vec<u64>,
    earlier: Vec<u64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            span: 0,
            current: vec![0; BITS / 64],
            earlier: vec![0; BITS / 64],
        }
    }
}

impl Memory {
    /// Remembers a flow; whether it is new.
    fn learn(&mut self, at: Time, hash: u64) -> bool {
        let span = at / KNOWN;
        if span > self.span {
            std::mem::swap(&mut self.current, &mut self.earlier);
            self.current.fill(0);
            if span > self.span + 1 {
                self.earlier.fill(0);
            }
            self.span = span;
        }
        let bit = (hash % BITS as u64) as usize;
        let (word, mask) = (bit / 64, 1 << (bit % 64));
        let known = (self.current[word] | self.earlier[word]) & mask != 0;
        self.current[word] |= mask;
        !known
    }
}

#[cfg(test)]
mod tests {
    use firewall_common::packet::{Frame, NO_VLAN, Packet, parse};

    use super::super::book::Quiet;
    use super::super::{AlertChange, Config};
    use super::*;
    use crate::packet_build::PacketBuilder;

    const TICK: Time = SECOND / 4;

    /// Plays datagrams for `seconds`; what fired, and after how long.
    fn play(
        seconds: u64,
        mut next: impl FnMut(u64) -> (u32, u16, u64),
    ) -> Vec<(AlertKind, String, f64)> {
        let span = 2 * SECOND;
        let quiet = Quiet {
            floods: 15 * SECOND,
            scans: 60 * SECOND,
        };
        let (mut book, mut strays) = (Book::new(100, quiet), Strays::new(span));
        let start = 1_700_000_000 * SECOND;
        let mut fired = Vec::new();
        let mut number = 0;
        for tick in 0..seconds * 4 {
            let from = start + tick * TICK;
            let sightings: Vec<Sighting> = (0..250)
                .map(|_| {
                    let (sender, port, weight) = next(number);
                    number += 1;
                    let frame = PacketBuilder::new(
                        IpAddr::from(sender.to_be_bytes()),
                        IpAddr::from([198, 51, 100, 1]),
                    )
                    .expect("one family")
                    .udp(port, 4_433)
                    .build();
                    let mut packet = Packet::default();
                    parse(&mut Frame::new(&frame), NO_VLAN, &mut packet);
                    Sighting {
                        packets: weight,
                        ..Sighting::new(from, packet, Class::Contact, &frame)
                    }
                })
                .collect();
            let interval = Interval {
                from,
                now: from + TICK,
            };
            strays.judge(&mut book, interval, &Config::default().host, &sightings);
            for change in book.settle(interval.now) {
                if let AlertChange::Fired(alert) = change {
                    let after = (alert.detected - start) as f64 / SECOND as f64;
                    fired.push((alert.kind, alert.subject.to_string(), after));
                }
            }
        }
        fired
    }

    /// Spreads numbers over all addresses (the finaliser of Steele, Lea and Flood 2014, "SplitMix").
    fn scatter(number: u64) -> u64 {
        let word = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    #[test]
    fn datagrams_from_forged_senders_are_a_flood_within_a_second() {
        let fired = play(5, |number| (scatter(number + 1) as u32 | 1 << 30, 5_000, 5));
        assert_eq!(fired.len(), 1, "{fired:?}");
        assert_eq!(
            (fired[0].0, fired[0].1.as_str()),
            (AlertKind::UdpFlood, "host")
        );
        assert!(fired[0].2 <= 1.0, "{fired:?}");
    }

    #[test]
    fn one_sender_that_takes_another_port_for_each_is_named() {
        let fired = play(5, |number| (0x0a00_0001, number as u16, 80));
        assert_eq!(fired.len(), 1, "{fired:?}");
        assert_eq!(
            (fired[0].0, fired[0].1.as_str()),
            (AlertKind::UdpFlood, "10.0.0.1")
        );
    }

    #[test]
    fn thousands_of_players_and_a_busy_tunnel_are_none() {
        let fired = play(60, |number| {
            // Two thousand clients with a port each, and one peer with half of all packets.
            if number % 2 == 0 {
                (0x0a00_0001, 51_820, 40)
            } else {
                let client = scatter(number) % 2_000;
                (0x0b00_0000 + client as u32, 40_000 + client as u16, 40)
            }
        });
        assert_eq!(fired, []);
    }
}
