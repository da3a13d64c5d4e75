//! Who it is inside an IPv6 /64. The kernel counts a /64 as one source; behind it may be a single host, an office or the
//! customers of a hoster. When a /64 becomes hot, that is when a detector has something to say about it, the packets that
//! were shown of it tell whether nearly all of what it is accused of came from one address.
//!
//! Bounded: the latest packets from IPv6 sources are remembered, and nothing for each /64. The address with most is found
//! by a vote of majority (Misra and Gries 1982 with one counter; Boyer and Moore 1981), and what it has by a second look.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

use firewall_common::packet::{Kind, Packet, mark, protocol};
use firewall_common::sampling::Class;
use firewall_common::{Direction, Reason};
use ipnet::IpNet;

use super::hashed::HashMap;
use super::{AlertKind, Sighting, Subject, Time};

const SECOND: Time = 1_000_000_000;
/// Packets that are remembered, 40 bytes each, and for how long.
const SEEN: usize = 16_384;
const REMEMBERED: Time = 60 * SECOND;
/// Tries that came to nothing that are remembered, and for how long.
const BLAMED: usize = 8_192;
const HELD_AGAINST: Time = 120 * SECOND;
/// How far back packets are looked at: for rates, and for connections that are held.
const LATELY: Time = 4 * SECOND;
const HELD_LATELY: Time = 5 * SECOND;
/// Things to try that everybody has: they are no scan.
const USUAL_TARGETS: usize = 2;
/// An address with at least this share of what its /64 is accused of is the one; with less than [`LEAST_SHARE`] it is no
/// longer.
const NEARLY_ALL: f64 = 0.9;
const LEAST_SHARE: f64 = 0.5;
/// So many packets, or tries in vain, must have been shown.
const FEW_PACKETS: usize = 8;
const FEW_TRIES: usize = 4;
/// So often in a tick the memory is looked through; what is hot beyond that stays a /64.
const LOOKS: u32 = 64;

/// The latest packets and tries in vain of IPv6 sources.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    seen: VecDeque<Seen>,
    blamed: VecDeque<Blamed>,
    /// Addresses that are banned alone.
    banned: HashSet<Ipv6Addr>,
    looks: u32,
}

/// What a packet is, as far as any kind of alert asks.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Time,
    network: u64,
    host: u64,
    /// What was tried, by hash.
    target: u32,
    /// How many packets it speaks for.
    weight: f32,
    traits: u8,
}

mod is {
    pub const SYN: u8 = 1;
    pub const UDP: u8 = 2;
    pub const ICMP: u8 = 4;
    pub const REQUEST: u8 = 8;
    /// Of an established connection.
    pub const ESTABLISHED: u8 = 16;
    pub const BANNED: u8 = 32;
}

/// A try in vain.
#[derive(Clone, Copy, Debug)]
struct Blamed {
    at: Time,
    kind: AlertKind,
    network: u64,
    host: u64,
}

/// What is known of a hot /64 already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// The address that the alert names: is it still the one?
    pub address: Option<Ipv6Addr>,
    /// Whether the /64 is banned as a whole.
    pub is_banned: bool,
}

/// What the packets of a hot /64 say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Look {
    /// The address with nearly all of what is not banned already, and its share of that.
    pub leader: Option<(Ipv6Addr, f64)>,
    /// The share that comes from banned addresses.
    pub banned: f64,
    /// Whether the address that was asked about is no longer the one.
    pub passed: bool,
}

/// A packet or a try of the /64 that is looked at.
#[derive(Clone, Copy, Debug)]
struct Vote {
    host: u64,
    weight: f64,
    banned: bool,
}

impl Addresses {
    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Begins a tick in which these addresses are banned.
    pub fn begin(&mut self, banned: impl Iterator<Item = Ipv6Addr>) {
        self.looks = 0;
        self.banned.clear();
        self.banned.extend(banned);
    }

    /// Takes in the packets of a tick.
    pub fn see(&mut self, now: Time, sightings: &[Sighting]) {
        if sightings.iter().any(is_told) {
            // Of one class all speak for the same number: which of them came behind those that were not shown is chance.
            let means = mean_weights(sightings);
            for sighting in sightings.iter().filter(|sighting| is_told(sighting)) {
                if self.seen.len() >= SEEN {
                    self.seen.pop_front();
                }
                let weight = means[sighting.class as usize];
                self.seen.push_back(Seen::new(sighting, weight));
            }
        }
        let oldest = now.saturating_sub(REMEMBERED);
        while self.seen.front().is_some_and(|seen| seen.at < oldest) {
            self.seen.pop_front();
        }
        let oldest = now.saturating_sub(HELD_AGAINST);
        while self.blamed.front().is_some_and(|blamed| blamed.at < oldest) {
            self.blamed.pop_front();
        }
    }

    /// Notes that an address did what alerts of a kind are about: a try in vain, a failed login, a connection that it holds.
    pub fn blame(&mut self, at: Time, kind: AlertKind, address: IpAddr) {
        let IpAddr::V6(address) = address else { return };
        if self.blamed.len() >= BLAMED {
            self.blamed.pop_front();
        }
        let (network, host) = halves(address);
        self.blamed.push_back(Blamed {
            at,
            kind: tried(kind),
            network,
            host,
        });
    }

    /// Looks into a source of which a detector has something to say. Nothing where there are no single addresses to tell
    /// apart, or too little was shown.
    pub fn look(
        &mut self,
        now: Time,
        kind: AlertKind,
        subject: &Subject,
        as_known: Known,
    ) -> Option<Look> {
        let network = network_of(subject)?;
        let Known { address: known, .. } = as_known;
        if self.looks >= LOOKS {
            return None;
        }
        self.looks += 1;
        let tries = self.tries(now, kind, network);
        if tries.len() >= FEW_TRIES {
            return Some(judge(network, &tries, FEW_TRIES, known));
        }
        let mut packets = self.packets(now, kind, network);
        if as_known.is_banned {
            // All of it is dropped for that, whoever it is.
            for vote in &mut packets {
                vote.banned = self.is_banned(network, vote.host);
            }
        }
        (packets.len() >= FEW_PACKETS).then(|| judge(network, &packets, FEW_PACKETS, known))
    }

    fn tries(&self, now: Time, kind: AlertKind, network: u64) -> Vec<Vote> {
        let span = match kind {
            AlertKind::SlowClients => HELD_LATELY,
            _ => HELD_AGAINST,
        };
        let (kind, oldest) = (tried(kind), now.saturating_sub(span));
        let of_it = self.blamed.iter().filter(|blamed| {
            blamed.network == network && blamed.kind == kind && blamed.at >= oldest
        });
        of_it
            .map(|blamed| Vote {
                host: blamed.host,
                weight: 1.0,
                banned: self.is_banned(network, blamed.host),
            })
            .collect()
    }

    /// Whether an address is banned alone.
    fn is_banned(&self, network: u64, host: u64) -> bool {
        self.banned.contains(&address(network, host))
    }

    fn packets(&self, now: Time, kind: AlertKind, network: u64) -> Vec<Vote> {
        let (traits, span) = match kind {
            AlertKind::SynFlood => (is::SYN, LATELY),
            AlertKind::UdpFlood => (is::UDP, LATELY),
            AlertKind::IcmpFlood => (is::ICMP, LATELY),
            AlertKind::RequestFlood => (is::REQUEST, LATELY),
            AlertKind::TrafficSpike => (u8::MAX, LATELY),
            AlertKind::PortScan | AlertKind::HostSweep => return self.targets(now, network),
            _ => return Vec::new(),
        };
        let oldest = now.saturating_sub(span);
        let of_it = self.seen.iter().filter(|seen| {
            seen.network == network
                && seen.at >= oldest
                && (traits == u8::MAX || seen.traits & traits != 0)
        });
        of_it
            .map(|seen| Vote {
                host: seen.host,
                weight: f64::from(seen.weight),
                banned: seen.traits & is::BANNED != 0,
            })
            .collect()
    }

    /// What was tried outside of connections: each thing counts once for each address, but for what anybody tries.
    fn targets(&self, now: Time, network: u64) -> Vec<Vote> {
        let oldest = now.saturating_sub(REMEMBERED);
        let mut known: HashMap<u64, HashSet<u32>> = HashMap::default();
        let of_it = self.seen.iter().filter(|seen| {
            seen.network == network && seen.at >= oldest && seen.traits & is::ESTABLISHED == 0
        });
        of_it
            .filter(|seen| {
                let targets = known.entry(seen.host).or_default();
                targets.insert(seen.target) && targets.len() > USUAL_TARGETS
            })
            .map(|seen| Vote {
                host: seen.host,
                weight: 1.0,
                banned: seen.traits & is::BANNED != 0,
            })
            .collect()
    }
}

impl Seen {
    fn new(sighting: &Sighting, weight: f32) -> Self {
        let packet = &sighting.packet;
        let flags = [
            (is::SYN, packet.is_syn()),
            (is::UDP, packet.protocol == protocol::UDP),
            (is::ICMP, packet.protocol == protocol::ICMPV6),
            (is::REQUEST, packet.is(mark::REQUEST)),
            (is::ESTABLISHED, sighting.reason == Reason::Established),
            (is::BANNED, sighting.reason == Reason::Ban),
        ];
        let traits = flags.iter().filter(|(_, holds)| *holds);
        Self {
            at: sighting.time,
            network: packet.sender.high,
            host: packet.sender.low,
            target: target(packet),
            weight,
            traits: traits.fold(0, |all, (one, _)| all | one),
        }
    }
}

/// Whether a packet says something about an IPv6 source.
fn is_told(sighting: &Sighting) -> bool {
    sighting.direction == Direction::Inbound
        && sighting.packet.kind == Kind::Ip
        && !sighting.packet.sender.is_v4()
}

/// How many packets one of each class speaks for, on average.
fn mean_weights(sightings: &[Sighting]) -> [f32; Class::ALL.len()] {
    let mut sums = [(0_u64, 0_u64); Class::ALL.len()];
    for sighting in sightings {
        if sighting.direction == Direction::Inbound {
            let (packets, shown) = &mut sums[sighting.class as usize];
            *packets = packets.saturating_add(sighting.packets);
            *shown += 1;
        }
    }
    sums.map(|(packets, shown)| packets as f32 / shown.max(1) as f32)
}

/// Destination, port and protocol in one number.
fn target(packet: &Packet) -> u32 {
    let words = [
        packet.destination.high,
        packet.destination.low,
        u64::from(packet.destination_port) << 8 | u64::from(packet.protocol),
    ];
    let mixed = words.into_iter().fold(0_u64, |sum, word| {
        (sum.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    (mixed >> 32) as u32
}

/// Scans and sweeps are made of the same tries.
fn tried(kind: AlertKind) -> AlertKind {
    match kind {
        AlertKind::HostSweep => AlertKind::PortScan,
        other => other,
    }
}

fn judge(network: u64, votes: &[Vote], least: usize, known: Option<Ipv6Addr>) -> Look {
    let mut candidate = None;
    let mut lead = 0.0;
    for vote in votes.iter().filter(|vote| !vote.banned) {
        if candidate == Some(vote.host) {
            lead += vote.weight;
        } else if lead > vote.weight {
            lead -= vote.weight;
        } else {
            candidate = Some(vote.host);
            lead = vote.weight - lead;
        }
    }
    let sum = |of: &dyn Fn(&Vote) -> bool| -> f64 {
        let those = votes.iter().filter(|vote| of(vote));
        those.map(|vote| vote.weight).sum()
    };
    let (all, free) = (sum(&|_| true), sum(&|vote| !vote.banned));
    let share_of = |host: u64| sum(&|vote| !vote.banned && vote.host == host) / free.max(1e-9);
    let told = votes.iter().filter(|vote| !vote.banned).count();
    let leader = candidate.filter(|_| told >= least).and_then(|host| {
        let share = share_of(host);
        (share >= NEARLY_ALL).then(|| (address(network, host), share))
    });
    Look {
        leader,
        banned: 1.0 - free / all.max(1e-9),
        passed: told >= least && known.is_some_and(|known| share_of(halves(known).1) < LEAST_SHARE),
    }
}

/// The network of a subject that is an IPv6 /64.
fn network_of(subject: &Subject) -> Option<u64> {
    match subject {
        Subject::Source(IpNet::V6(prefix)) if *subject == Subject::source(prefix.addr().into()) => {
            Some(halves(prefix.addr()).0)
        }
        _ => None,
    }
}

fn halves(address: Ipv6Addr) -> (u64, u64) {
    let bits = address.to_bits();
    ((bits >> 64) as u64, bits as u64)
}

fn address(network: u64, host: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(network) << 64 | u128::from(host))
}

#[cfg(test)]
mod tests;
