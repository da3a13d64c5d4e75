//! Who holds connections and does nothing with them: headers that never end (Slowloris), bodies that
//! come byte by byte, answers that nobody reads.
//!
//! The kernel's socket table says exactly how far each connection is; the packets that are shown say it
//! of some, which is what there is in a replay and for hosts behind this one. A connection that is
//! idle after it was answered is held by every browser, and no sign.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::book::{Book, Details, Sign};
use super::exchange::{Connection, Parties};
use super::per_source::evidence;
use super::{AlertKind, SocketSample, Subject, Time};
use crate::engine::ip_address;

/// How long a connection makes no progress until it counts.
const PATIENCE: Time = 6_000_000_000;
/// Such connections of one source, of a prefix, and of all that make an attack.
const SLOW: usize = 40;
const SLOW_OF_PREFIX: usize = 80;
const SLOW_OF_ALL: usize = 200;
/// Connections with hardly a word that make one, where other clients' are different.
const SCANT: usize = 100;
const SCANT_BYTES: u64 = 1_024;
/// A request that is longer is under way, and not slow.
const LONG_REQUEST: u64 = 16_384;
/// What a slow body brings in a while, and a slow reader takes.
const SLOW_BODY: u64 = 2_048;
const SLOW_READ: u64 = 4_096;
/// Slow connections are more than this share of all that a source, or everybody, has there.
const MOSTLY: f64 = 0.5;
/// With so many connections of others, their habits are known.
const OTHERS: usize = 20;
/// Connections of a source of which the packets shown must tell.
const TOLD: usize = 8;
/// Of a distributed attack: how far above its usual share of slow connections a service is, and how many
/// looks it takes to know the usual.
const ABOVE_USUAL: f64 = 0.4;
const LOOKS: f64 = 300.0;

/// The memory of this detector.
#[derive(Debug, Default)]
pub(super) struct Holders {
    sockets: HashMap<(SocketAddr, SocketAddr), Progress>,
    /// Share of slow connections by port, and how often it was looked at.
    usual: BTreeMap<u16, (f64, f64)>,
}

/// How a connection has come on.
#[derive(Clone, Copy, Debug)]
struct Progress {
    since: Time,
    /// Bytes received when the service last said something, and when that was.
    answered: Time,
    acknowledged: u64,
    received_then: u64,
    received: u64,
    /// How often more came since.
    trickles: u32,
    /// Bytes acknowledged when last there was a good deal of progress, and when that was.
    read: u64,
    read_at: Time,
}

/// What a connection is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Answered, or too young to say.
    Ordinary,
    /// The client has not said enough to be answered.
    Unanswered,
    /// The client says a little now and then.
    Trickling,
    /// The client does not read what it asked for.
    Unread,
    /// Answered, and both sides said hardly a word.
    Scant,
}

/// The connections of a source, a prefix or everybody to one service.
#[derive(Clone, Debug, Default)]
struct Count {
    all: usize,
    unanswered: usize,
    trickling: usize,
    unread: usize,
    scant: usize,
    oldest: Time,
    /// Sources, as far as they are told apart, by hash.
    sources: u64,
}

impl Holders {
    /// Forgets everything, because time has been lost.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Judges a look at the socket table.
    pub fn judge_sockets(&mut self, now: Time, samples: &[SocketSample], book: &mut Book) {
        let mut sockets = HashMap::with_capacity(samples.len());
        let mut sources: BTreeMap<(u16, IpNet), Count> = BTreeMap::new();
        let mut services: BTreeMap<u16, Count> = BTreeMap::new();
        for sample in samples {
            let key = (sample.client, sample.server);
            let mut progress = match self.sockets.get(&key) {
                // Fewer bytes than before: another connection over the same ports.
                Some(before) if before.received <= sample.received => *before,
                _ => Progress::new(now, sample),
            };
            let state = progress.advance(now, sample);
            sockets.insert(key, progress);
            let port = sample.server.port();
            let Some(source) = Subject::source(sample.client.ip()).prefix() else {
                continue;
            };
            let age = now.saturating_sub(progress.since);
            if state != State::Ordinary {
                book.blame(now, AlertKind::SlowClients, sample.client.ip());
            }
            sources
                .entry((port, source))
                .or_default()
                .add(state, age, source);
            services.entry(port).or_default().add(state, age, source);
        }
        self.sockets = sockets;
        self.usual.retain(|port, _| services.contains_key(port));
        let mut prefixes: BTreeMap<(u16, IpNet), Count> = BTreeMap::new();
        let mut named = BTreeSet::new();
        for ((port, source), count) in &sources {
            let Some(service) = services.get(port) else {
                continue;
            };
            let subject = Subject::Source(*source);
            if !service.is_usual_for_others(count) && count.is_attack(SLOW) {
                note(book, now, subject, *port, count, SLOW);
                named.insert(*port);
            } else if let Some(prefix) = wider(*source) {
                prefixes
                    .entry((*port, prefix))
                    .or_default()
                    .merge(count, *source);
            }
            if count.is_scant(service) {
                note(book, now, subject, *port, count, SCANT);
            }
        }
        for ((port, prefix), count) in &prefixes {
            let Some(service) = services.get(port) else {
                continue;
            };
            if count.sources.count_ones() > 1
                && !service.is_usual_for_others(count)
                && count.is_attack(SLOW_OF_PREFIX)
            {
                note(
                    book,
                    now,
                    Subject::Source(*prefix),
                    *port,
                    count,
                    SLOW_OF_PREFIX,
                );
                named.insert(*port);
            }
        }
        self.judge_services(now, &services, &named, book);
    }

    /// Many sources with few connections each: the service as a whole against what is usual there.
    /// Where somebody is `named`, what is seen is not usual.
    fn judge_services(
        &mut self,
        now: Time,
        services: &BTreeMap<u16, Count>,
        named: &BTreeSet<u16>,
        book: &mut Book,
    ) {
        for (port, count) in services {
            let share = count.slow() as f64 / count.all.max(1) as f64;
            let (usual, looks) = self.usual.entry(*port).or_insert((share, 0.0));
            let stands_out = *looks >= LOOKS / 10.0 && share >= *usual + ABOVE_USUAL;
            if stands_out && count.is_attack(SLOW_OF_ALL) {
                note(book, now, Subject::Host, *port, count, SLOW_OF_ALL);
            } else if !named.contains(port) {
                *looks = (*looks + 1.0).min(LOOKS);
                *usual += (share - *usual) / *looks;
            }
        }
    }

    /// Judges the connections that were seen, by the packets that were shown of them.
    pub fn judge_seen<'a>(
        &self,
        now: Time,
        open: impl Iterator<Item = (&'a Parties, &'a Connection)>,
        book: &mut Book,
    ) {
        let mut sources: HashMap<(u16, IpAddr), (Count, usize)> = HashMap::new();
        for (parties, connection) in open {
            let age = now.saturating_sub(connection.opened);
            if age < PATIENCE || now.saturating_sub(connection.seen) > LONGEST_SILENCE {
                continue;
            }
            let source = ip_address(parties.client);
            let key = (parties.server_port, source);
            let (count, told) = sources.entry(key).or_default();
            let late = connection.seen.saturating_sub(connection.opened) >= PATIENCE / 2;
            let state = if !late {
                State::Ordinary
            } else if connection.server_sent == 0
                && u64::from(connection.client_sent) < LONG_REQUEST
            {
                State::Unanswered
            } else {
                State::Ordinary
            };
            *told += usize::from(late);
            count.all += 1;
            count.unanswered += usize::from(state == State::Unanswered);
            count.oldest = count.oldest.max(age);
        }
        for ((port, source), (count, told)) in sources {
            // Those that were not shown are taken to be like the others.
            if count.all < SLOW
                || told < TOLD
                || (count.unanswered as f64) < told as f64 * MOSTLY_TOLD
            {
                continue;
            }
            let whole = Count {
                unanswered: count.all * count.unanswered / told,
                ..count
            };
            if whole.is_attack(SLOW) {
                for _ in 0..whole.slow().min(SLOW) {
                    book.blame(now, AlertKind::SlowClients, source);
                }
                note(book, now, Subject::source(source), port, &whole, SLOW);
            }
        }
    }
}

/// Of the connections that are told of by packets, so many must be slow: few are told of.
const MOSTLY_TOLD: f64 = 0.8;
/// A connection without a packet for longer is over, as far as anybody can tell.
const LONGEST_SILENCE: Time = 120_000_000_000;

impl Progress {
    fn new(now: Time, sample: &SocketSample) -> Self {
        Self {
            since: now,
            answered: now,
            acknowledged: sample.acknowledged,
            received_then: sample.received,
            received: sample.received,
            trickles: 0,
            read: sample.acknowledged,
            read_at: now,
        }
    }

    /// Takes in how far the connection is, and says what it is up to.
    fn advance(&mut self, now: Time, sample: &SocketSample) -> State {
        if sample.acknowledged > self.acknowledged {
            self.answered = now;
            self.acknowledged = sample.acknowledged;
            self.received_then = sample.received;
            self.trickles = 0;
        } else if sample.received > self.received {
            self.trickles += 1;
        }
        self.received = sample.received;
        if sample.acknowledged >= self.read.saturating_add(SLOW_READ) || sample.waiting == 0 {
            self.read = sample.acknowledged;
            self.read_at = now;
        }
        let long = |since: Time| now.saturating_sub(since) >= PATIENCE;
        let came = sample.received - self.received_then.min(sample.received);
        // The SYN may count as a byte.
        if sample.waiting > 0 && long(self.read_at) {
            State::Unread
        } else if sample.acknowledged <= 1 && sample.waiting == 0 {
            if long(self.since) && sample.received < LONG_REQUEST {
                State::Unanswered
            } else {
                State::Ordinary
            }
        } else if long(self.answered) && self.trickles > 1 && came < SLOW_BODY {
            State::Trickling
        } else if sample.received < SCANT_BYTES && sample.acknowledged < SCANT_BYTES {
            State::Scant
        } else {
            State::Ordinary
        }
    }
}

impl Count {
    fn add(&mut self, state: State, age: Time, source: IpNet) {
        self.all += 1;
        self.oldest = self.oldest.max(age);
        self.sources |= bit(source);
        match state {
            State::Ordinary => {}
            State::Unanswered => self.unanswered += 1,
            State::Trickling => self.trickling += 1,
            State::Unread => self.unread += 1,
            State::Scant => self.scant += 1,
        }
    }

    fn merge(&mut self, other: &Self, source: IpNet) {
        self.all += other.all;
        self.unanswered += other.unanswered;
        self.trickling += other.trickling;
        self.unread += other.unread;
        self.scant += other.scant;
        self.oldest = self.oldest.max(other.oldest);
        self.sources |= bit(source);
    }

    fn slow(&self) -> usize {
        self.unanswered + self.trickling + self.unread
    }

    /// So many are slow, and of all most.
    fn is_attack(&self, threshold: usize) -> bool {
        self.slow() * 2 >= threshold && self.slow() as f64 >= self.all as f64 * MOSTLY
    }

    /// Whether, to `self` as the whole service, slow connections belong even without those of `part`: where
    /// news are waited for, everybody waits.
    fn is_usual_for_others(&self, part: &Self) -> bool {
        let others = self.all.saturating_sub(part.all);
        let slow = self.slow().saturating_sub(part.slow());
        others >= OTHERS && slow as f64 >= others as f64 * MOSTLY
    }

    /// Many connections with hardly a word, while others' are different.
    fn is_scant(&self, service: &Self) -> bool {
        let others = service.all.saturating_sub(self.all);
        let scant = service.scant.saturating_sub(self.scant);
        self.scant * 2 >= SCANT
            && self.scant as f64 >= self.all as f64 * MOSTLY
            && others >= OTHERS / 4
            && (scant as f64) < others as f64 * (1.0 - MOSTLY)
    }
}

fn note(book: &mut Book, now: Time, subject: Subject, port: u16, count: &Count, expected: usize) {
    let observed = if expected == SCANT {
        count.scant
    } else {
        count.slow()
    };
    let sign = Sign {
        kind: AlertKind::SlowClients,
        subject,
        observed: observed as f64,
        expected: expected as f64,
        unit: "connections",
        started: now.saturating_sub(count.oldest),
    };
    let what = if expected == SCANT {
        "over which hardly a word was said"
    } else if count.unread * 2 > observed {
        "and does not read what it asked for"
    } else if count.trickling * 2 > observed {
        "and sends a few bytes now and then"
    } else {
        "without having said enough to be answered"
    };
    book.note(now, sign, || Details {
        why: format!("{subject} holds {observed} connections to port {port} {what}."),
        evidence: evidence([
            ("connections", count.all as f64),
            ("unanswered", count.unanswered as f64),
            ("trickling", count.trickling as f64),
            ("unread", count.unread as f64),
            ("scant", count.scant as f64),
            ("port", f64::from(port)),
            ("seconds_held", (count.oldest as f64 / 1e9).round()),
            ("sources_at_least", f64::from(count.sources.count_ones())),
        ]),
    });
}

/// The /24 or /48 around a source.
fn wider(source: IpNet) -> Option<IpNet> {
    let length = match source {
        IpNet::V4(_) => 24,
        IpNet::V6(_) => 48,
    };
    Some(IpNet::new(source.addr(), length).ok()?.trunc())
}

/// One of 64 bits for a source.
fn bit(source: IpNet) -> u64 {
    let bits = match source.addr() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    };
    1 << (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}
