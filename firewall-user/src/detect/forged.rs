//! Packets that cannot come from where they say: from addresses that nobody has, and from clients whose
//! packets have another way to go.
//!
//! The hops that a packet took show in its TTL, as systems start from 32, 64, 128 or 255 (C. Jin, H. Wang,
//! K. G. Shin: Hop-count filtering: an effective defense against spoofed DDoS traffic, CCS 2003). A client
//! that completed a connection is who it says, and its hops are known from then on; contacts in
//! its name that took another way are somebody else's.

use std::collections::BTreeSet;

use firewall_common::packet::{Kind, Packet};
use firewall_common::{Address, Direction, Reason};

use super::book::{Book, Details, Sign};
use super::exchange::{Attempt, Session};
use super::fifo::Fifo;
use super::per_source::{evidence, seconds};
use super::sources::Interval;
use super::window::Window;
use super::{AlertKind, Sighting, Subject, Time};
use crate::engine::ip_address;

/// What is counted is counted over this span.
const SPAN: Time = 10_000_000_000;
/// Impossible addresses that make an alert: one may be a mistake, as many are made up.
const IMPOSSIBLE: usize = 8;
/// Impossible addresses that are told apart.
const TOLD_APART: usize = 256;
/// Contacts by another way that make an alert, and the clients in whose name they come: one alone may
/// be a scanner, which writes what it likes into its TTL.
const ASTRAY: f64 = 20.0;
const NAMES: u32 = 5;
/// Ways change by a few hops, as the Internet's routes do.
const DETOUR: u8 = 4;
/// Clients whose hops are remembered, and for how long.
const CLIENTS: usize = 1 << 14;
const REMEMBERED: Time = 3_600_000_000_000;

/// The memory of this detector.
#[derive(Debug)]
pub(super) struct Forged {
    clients: Fifo<Address, Hops>,
    impossible: BTreeSet<Address>,
    /// When the oldest of them came, and how many packets they sent since.
    began: Time,
    packets: u64,
    astray: Window<1>,
    fresh: f64,
    /// In whose name, by hash, in this span and the one before.
    names: [u64; 2],
    span: u64,
    example: Option<Address>,
}

/// The way of a client.
#[derive(Clone, Copy, Debug)]
struct Hops {
    hops: u8,
    at: Time,
}

impl Forged {
    pub fn new() -> Self {
        Self {
            clients: Fifo::new(CLIENTS),
            impossible: BTreeSet::new(),
            began: 0,
            packets: 0,
            astray: Window::default(),
            fresh: 0.0,
            names: [0; 2],
            span: 0,
            example: None,
        }
    }

    /// Forgets everything, because time has been lost.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Looks at where a packet says that it comes from.
    pub fn see(&mut self, sighting: &Sighting) {
        let packet = &sighting.packet;
        if sighting.direction != Direction::Inbound
            || packet.kind != Kind::Ip
            || sighting.reason == Reason::Link
            || !is_impossible(packet)
        {
            return;
        }
        if sighting.time.saturating_sub(self.began) > SPAN || sighting.time < self.began {
            self.impossible.clear();
            self.packets = 0;
        }
        if self.impossible.is_empty() {
            self.began = sighting.time;
        }
        if self.impossible.len() < TOLD_APART {
            self.impossible.insert(packet.sender);
        }
        self.packets = self.packets.saturating_add(sighting.packets);
    }

    /// A connection that came to its end tells its client's way.
    pub fn learn(&mut self, session: &Session) {
        if let Some(ttl) = session.proven_ttl {
            let way = Hops {
                hops: hops(ttl),
                at: session.ended,
            };
            self.clients.insert(session.parties.client, way);
        }
    }

    /// Whether a contact came by another way than its sender's packets do. It is counted.
    pub fn is_astray(&mut self, attempt: &Attempt) -> bool {
        let Some(known) = self.clients.get(&attempt.parties.client) else {
            return false;
        };
        let astray = attempt.ttl != 0
            && attempt.time.abs_diff(known.at) < REMEMBERED
            && hops(attempt.ttl).abs_diff(known.hops) >= DETOUR;
        if astray {
            self.fresh += 1.0;
            let hash = attempt.parties.source().wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.names[0] |= 1 << (hash >> 58);
            self.example = Some(attempt.parties.client);
        }
        astray
    }

    /// Notes what stands out.
    pub fn judge(&mut self, interval: Interval, book: &mut Book) {
        let Interval { from, now } = interval;
        let fresh = std::mem::take(&mut self.fresh);
        self.astray.add(from, now, SPAN, [fresh]);
        if self.began.saturating_add(SPAN) >= now && !self.impossible.is_empty() {
            self.note_impossible(now, book);
        }
        let [astray] = self.astray.sums(now, SPAN);
        let names = (self.names[0] | self.names[1]).count_ones();
        if now / SPAN != self.span {
            self.span = now / SPAN;
            self.names = [0, self.names[0]];
        }
        if fresh > 0.0 && names >= NAMES {
            self.note_astray(now, astray, names, book);
        }
    }

    fn note_impossible(&self, now: Time, book: &mut Book) {
        let sign = Sign {
            kind: AlertKind::SpoofedSource,
            subject: Subject::Host,
            observed: self.impossible.len() as f64,
            expected: IMPOSSIBLE as f64,
            unit: "impossible sources",
            started: self.began,
        };
        book.note(now, sign, || {
            let mut counts = evidence([
                ("impossible_sources", sign.observed),
                ("packets", self.packets as f64),
                ("window_seconds", seconds(SPAN)),
            ]);
            let some: Vec<String> = self
                .impossible
                .iter()
                .take(5)
                .map(|address| ip_address(*address).to_string())
                .collect();
            counts.insert("some_sources".into(), some.into());
            Details {
                why: format!(
                    "Packets came from {} addresses that no host can have.",
                    self.impossible.len()
                ),
                evidence: counts,
            }
        });
    }

    fn note_astray(&self, now: Time, astray: f64, names: u32, book: &mut Book) {
        let sign = Sign {
            kind: AlertKind::SpoofedSource,
            subject: Subject::Host,
            observed: astray.round(),
            expected: ASTRAY,
            unit: "contacts",
            started: self.astray.since(now, SPAN),
        };
        book.note(now, sign, || {
            let mut counts = evidence([
                ("contacts_by_another_way", astray),
                ("clients_at_least", f64::from(names)),
                ("window_seconds", seconds(SPAN)),
            ]);
            if let Some(example) = self.example {
                counts.insert("in_the_name_of".into(), ip_address(example).to_string().into());
            }
            Details {
                why: format!(
                    "{astray:.0} contacts in {} came in the name of known clients, whose own packets take another way.",
                    super::per_source::span(SPAN)
                ),
                evidence: counts,
            }
        });
    }
}

/// Whether no host can have the address that a packet comes from: 0/8, loopback, multicast, the reserved
/// 240/4 (RFC 6890); or its own destination's ("Land").
fn is_impossible(packet: &Packet) -> bool {
    let source = packet.sender;
    if source == packet.destination {
        return true;
    }
    if source.is_v4() {
        let address = source.as_v4();
        // 0.0.0.0 is who has no address yet.
        address != 0 && matches!(address >> 24, 0 | 127 | 224..=255)
    } else {
        source.high >> 56 == 0xff || (source.high == 0 && source.low == 1)
    }
}

/// How many hops a packet has come: from the next number above its TTL that systems start from.
fn hops(ttl: u8) -> u8 {
    [32, 64, 128, 255]
        .into_iter()
        .find(|start| *start >= ttl)
        .map_or(0, |start| start - ttl)
}
