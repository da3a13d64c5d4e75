//! Who tries around: a walk for every source that failed at two different things, over the last
//! hour.
//!
//! Forged sources must not push out true ones. A source begins with one failure in a table in which
//! newcomers overwrite each other; only a second failure makes a walk of it, and when there is no
//! room, the walks that say least are forgotten. What a source once reached is remembered, so that a service
//! that stops is not held against its clients.

use std::collections::{BTreeMap, BTreeSet};

use firewall_common::packet::protocol;
use serde_json::json;

use super::book::{Book, Details, Sign};
use super::exchange::{Attempt, Outcome, Parties, Probe};
use super::per_source::{evidence, span};
use super::walk::{Evidence, MEMORY, Position, Walk, threshold};
use super::{AlertKind, Subject, Time};

/// Walks that are kept.
const WALKS: usize = 8_192;
/// First failures, and successes, that are kept.
const FIRSTS: usize = 1 << 15;
const KNOWN: usize = 1 << 16;
/// Sources that are looked at in a tick; the others wait for their next try.
const TOUCHED: usize = 4_096;
/// So many things per host make a port scan of it, fewer a sweep.
const PORTS_PER_HOST: usize = 2;
/// A sweep tries at least so many hosts.
const SWEPT_HOSTS: usize = 5;
/// So many sources whose datagrams begin to tell in one tick are the names of a flood.
const CROWD: usize = 8;
/// Traceroute sends datagrams to ports from here on, and means that nobody listens.
const TRACEROUTE: std::ops::RangeInclusive<u16> = 33_434..=33_534;
/// A slow scan goes on as long as no more than so many of its usual pauses pass.
const PAUSES: Time = 4;
/// For no longer than this, though.
const LONGEST_PAUSE: Time = 900_000_000_000;

/// Source, and neighbourhood of the hosts that it tries.
type Key = (u64, u64);

/// All walks.
#[derive(Debug)]
pub(super) struct Scanners {
    walks: BTreeMap<Key, Walk>,
    firsts: Vec<First>,
    known: Vec<Known>,
    touched: Vec<Parties>,
}

/// A source's only failure so far.
#[derive(Clone, Copy, Debug, Default)]
struct First {
    key: Key,
    at: Time,
    host: u32,
    target: u32,
    evidence: Option<Evidence>,
}

/// Something that a source reached.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    hash: u64,
    at: Time,
}

impl Scanners {
    pub fn new() -> Self {
        Self {
            walks: BTreeMap::new(),
            firsts: vec![First::default(); FIRSTS],
            known: vec![Known::default(); KNOWN],
            touched: Vec::new(),
        }
    }

    /// Forgets everything, because time has been lost.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Takes in what an attempt came to. It is `doubtful` whether it says much about its source: when the
    /// client has a connection of the kind that arranges others, or its packets used to take another way.
    pub fn note(&mut self, attempt: &Attempt, doubtful: bool) {
        let Some(evidence) = weigh(attempt, doubtful) else {
            return;
        };
        let parties = &attempt.parties;
        let key = (parties.source(), parties.neighbourhood());
        let host = hash(&[parties.server.high, parties.server.low]) as u32;
        let mut target = parties.target();
        if let Probe::Impossible(flags) = attempt.probe {
            // Another kind of probe of the same port is another try.
            target |= u32::from(flags | 0x80) << 24;
        }
        let known = hash(&[key.0, u64::from(host), u64::from(target)]);
        if evidence == Evidence::Success {
            self.known[known as usize % KNOWN] = Known {
                hash: known,
                at: attempt.time,
            };
            if let Some(walk) = self.walks.get_mut(&key) {
                walk.note(attempt.time, host, target, evidence);
                walk.proven |= parties.protocol == protocol::TCP;
            }
            return;
        }
        let reached = self.known[known as usize % KNOWN];
        if reached.hash == known && attempt.time.saturating_sub(reached.at) < MEMORY {
            return;
        }
        if let Some(walk) = self.walks.get_mut(&key) {
            if walk.note(attempt.time, host, target, evidence) && self.touched.len() < TOUCHED {
                self.touched.push(*parties);
            }
            return;
        }
        let slot = &mut self.firsts[hash(&[key.0, key.1]) as usize % FIRSTS];
        let first = std::mem::replace(
            slot,
            First {
                key,
                at: attempt.time,
                host,
                target,
                evidence: Some(evidence),
            },
        );
        let Some(before) = first.evidence.filter(|_| first.key == key) else {
            return;
        };
        if (first.host, first.target) == (host, target) {
            return;
        }
        *slot = First::default();
        self.make_room(attempt.time);
        let walk = self.walks.entry(key).or_default();
        walk.note(first.at, first.host, first.target, before);
        walk.note(attempt.time, host, target, evidence);
        self.touched.push(*parties);
    }

    /// Notes the sources whose walks are on their way to the threshold, or beyond it.
    ///
    /// When `flooded`, only those are noted that have shown to be there.
    pub fn judge(&mut self, now: Time, flooded: bool, book: &mut Book) {
        let decided = threshold(book.sensitivity());
        let touched = std::mem::take(&mut self.touched);
        let crowd = self.datagrams_begin_to_tell(now, decided / 2.0, &touched) > CROWD;
        for parties in touched {
            let key = (parties.source(), parties.neighbourhood());
            let Some(walk) = self.walks.get(&key) else {
                continue;
            };
            let position = walk.position(now);
            let forged = flooded || crowd && is_datagram(&parties);
            let Some(kind) = kind(&position).filter(|_| walk.proven || !forged) else {
                continue;
            };
            let subject = Subject::source(parties.client_address());
            let sign = Sign {
                kind,
                subject,
                observed: position.failures as f64,
                expected: position.needed(decided),
                unit: "failed tries",
                started: position.began,
            };
            book.note_exactly(now, sign, || details(subject, &position, walk.proven));
            if position.likelihood >= decided {
                book.keep(kind, subject, now.saturating_add(pause(&position)));
            }
        }
    }

    /// How many sources of `touched` have sent datagrams only, and have come so far with them.
    fn datagrams_begin_to_tell(&self, now: Time, so_far: f64, touched: &[Parties]) -> usize {
        let keys: BTreeSet<Key> = touched
            .iter()
            .filter(|parties| is_datagram(parties))
            .map(|parties| (parties.source(), parties.neighbourhood()))
            .collect();
        if keys.len() <= CROWD {
            return keys.len();
        }
        let tells = |key: &&Key| {
            let walk = self.walks.get(key).filter(|walk| !walk.proven);
            walk.is_some_and(|walk| walk.position(now).likelihood >= so_far)
        };
        keys.iter().filter(tells).count()
    }

    /// Forgets, when there is no room, what is over, and then an eighth of the walks that say least.
    fn make_room(&mut self, now: Time) {
        if self.walks.len() < WALKS {
            return;
        }
        let oldest = now.saturating_sub(MEMORY);
        self.walks.retain(|_, walk| walk.latest() >= oldest);
        if self.walks.len() < WALKS * 7 / 8 {
            return;
        }
        let mut ranked: Vec<(usize, Time, Key)> = self
            .walks
            .iter()
            .map(|(key, walk)| (walk.position(now).failures, walk.latest(), *key))
            .collect();
        let (least, ..) = ranked.select_nth_unstable(WALKS / 8);
        for (.., key) in least.iter() {
            self.walks.remove(key);
        }
    }
}

/// What an attempt says about its source; `None` if nothing.
fn weigh(attempt: &Attempt, doubtful: bool) -> Option<Evidence> {
    let parties = &attempt.parties;
    let udp = is_datagram(parties);
    let high = parties.server_port >= 1024;
    match (attempt.probe, attempt.outcome) {
        (Probe::Impossible(_), _) => return Some(Evidence::Impossible),
        (_, Outcome::Answered) => return Some(Evidence::Success),
        (_, Outcome::Unused) => return None,
        _ => {}
    }
    if udp {
        if attempt.outcome == Outcome::Unknown || TRACEROUTE.contains(&parties.server_port) {
            return None;
        }
        // Peers that look for a way through a translator try several ports.
        return Some(if doubtful || (high && parties.client_port >= 1024) {
            Evidence::WeakFailure
        } else {
            Evidence::LostDatagram
        });
    }
    // FTP's data connections come from its port 20, where they do not go where it said.
    let arranged = parties.client_port == 20 || doubtful;
    let ordinary = parties.protocol == protocol::TCP && attempt.probe == Probe::Ordinary;
    match attempt.outcome {
        Outcome::Unknown if !ordinary => None,
        Outcome::Unknown => Some(Evidence::WeakFailure),
        _ if ordinary && !arranged => Some(Evidence::Failure),
        // Pings, stray segments, and protocols that a fence seldom lets in.
        _ => Some(Evidence::WeakFailure),
    }
}

fn is_datagram(parties: &Parties) -> bool {
    matches!(parties.protocol, protocol::UDP | protocol::UDPLITE)
}

/// What the walk is of, if of anything.
fn kind(position: &Position) -> Option<AlertKind> {
    if position.failures >= position.hosts * PORTS_PER_HOST {
        Some(AlertKind::PortScan)
    } else if position.hosts >= SWEPT_HOSTS {
        Some(AlertKind::HostSweep)
    } else {
        None
    }
}

/// How long the next try is waited for until the scan counts as over.
fn pause(position: &Position) -> Time {
    let gaps = position.failures.saturating_sub(1).max(1) as Time;
    let usual = position.latest.saturating_sub(position.began) / gaps;
    usual.saturating_mul(PAUSES).min(LONGEST_PAUSE)
}

fn details(subject: Subject, position: &Position, proven: bool) -> Details {
    let seconds = position.latest.saturating_sub(position.began);
    let mut counts = evidence([
        ("failed_tries", position.failures as f64),
        ("successful_tries", position.successes as f64),
        ("hosts", position.hosts as f64),
        ("ports", position.targets as f64),
        ("seconds", (seconds as f64 / 1e9).round()),
        ("likelihood_ratio", position.likelihood.exp().min(1e9)),
    ]);
    counts.insert("handshake_seen".into(), json!(proven));
    let plural = |count: usize, what: &str| {
        let ending = if count == 1 { "" } else { "s" };
        format!("{count} {what}{ending}")
    };
    Details {
        why: format!(
            "{subject} tried {} on {} in vain within {}, and {} with success.",
            plural(position.targets, "port"),
            plural(position.hosts, "host"),
            span(seconds),
            plural(position.successes, "try").replace("trys", "tries"),
        ),
        evidence: counts,
    }
}

/// A hash that is the same in every run (splitmix64 over the words).
fn hash(words: &[u64]) -> u64 {
    words.iter().fold(0x9e37_79b9_7f4a_7c15, |state, word| {
        let mut mixed = (state ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    })
}
