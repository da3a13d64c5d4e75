//! Data carried in echo requests and replies: each shows other bytes.
//!
//! A ping repeats its payload (behind a time stamp in the first 16 bytes) and the answer repeats the
//! question; what carries data cannot.

use std::net::IpAddr;

use firewall_common::Direction;
use firewall_common::packet::mark;
use firewall_common::sampling::Class;
use serde_json::{Map, Value, json};

use super::SECOND;
use super::recent::Recent;
use crate::detect::book::{Book, Details, Sign};
use crate::detect::window::Window;
use crate::detect::{AlertKind, Sighting, Subject, Time, hash};

const SPAN: Time = 60 * SECOND;
/// Payloads that differ, within that time.
const PAYLOADS: f64 = 20.0;
/// And of all payloads, at least this share.
const SHARE: f64 = 0.5;
/// Where programs put the time, and how many bytes behind it are compared.
const STAMP: usize = 16;
const COMPARED: usize = 32;
/// A payload that is shorter behind the stamp says nothing.
const SHORTEST: usize = 8;
/// Payloads that are remembered of one peer.
const REMEMBERED: usize = 64;
const PEERS: usize = 4_096;

/// Who exchanges echoes with us.
#[derive(Debug)]
pub(super) struct Echoes {
    peers: Recent<IpAddr, Exchange>,
}

#[derive(Debug, Default)]
struct Exchange {
    /// Hashes of the latest payloads.
    latest: Vec<u64>,
    next: usize,
    /// Payloads that were not among them, all payloads, their bytes.
    sums: Window<3>,
}

impl Default for Echoes {
    fn default() -> Self {
        Self {
            peers: Recent::new(PEERS, 2 * SPAN),
        }
    }
}

impl Echoes {
    pub fn see(&mut self, at: Time, sighting: &Sighting) {
        if sighting.class != Class::Query
            || !sighting.packet.is(mark::ECHO_REQUEST) && !sighting.packet.is(mark::ECHO_REPLY)
        {
            return;
        }
        let payload = sighting.payload();
        let Some(data) = payload.get(STAMP..).filter(|data| data.len() >= SHORTEST) else {
            return;
        };
        let peer = match sighting.direction {
            Direction::Inbound => sighting.sender(),
            Direction::Outbound => sighting.destination(),
        };
        let Some(exchange) = self.peers.touch(peer, at) else {
            return;
        };
        // What is not shown is not spoken for here: it may have come from others.
        let novel = exchange.learn(hash(&data[..data.len().min(COMPARED)]));
        let novel = if novel { 1.0 } else { 0.0 };
        let bytes = f64::from(sighting.payload_length());
        exchange.sums.add(at, at, SPAN, [novel, 1.0, bytes]);
    }

    pub fn judge(&mut self, book: &mut Book, now: Time) {
        self.peers.forget(now);
        for (peer, exchange) in self.peers.iter_mut() {
            let [novel, all, bytes] = exchange.sums.sums(now, SPAN);
            if novel < all * SHARE {
                continue;
            }
            let subject = Subject::source(*peer);
            let sign = Sign {
                kind: AlertKind::Tunnel,
                subject,
                observed: novel.round(),
                expected: PAYLOADS,
                unit: "echo payloads/min",
                started: exchange.sums.since(now, SPAN),
            };
            book.note(now, sign, || {
                let evidence: [(&str, Value); 5] = [
                    ("carrier", json!("icmp echo")),
                    ("packets", json!(all.round() as u64)),
                    ("different_payloads", json!(novel.round() as u64)),
                    ("payload_bytes", json!(bytes.round() as u64)),
                    ("window_seconds", json!(SPAN / SECOND)),
                ];
                Details {
                    why: format!(
                        "{novel:.0} of {all:.0} echo packets exchanged with {subject} within a minute had a \
                         payload of their own, {:.0} bytes on average: a ping repeats its payload.",
                        bytes / all,
                    ),
                    evidence: Map::from_iter(evidence.map(|(key, value)| (key.to_owned(), value))),
                }
            });
        }
    }
}

impl Exchange {
    /// Remembers a payload; whether it is new.
    fn learn(&mut self, payload: u64) -> bool {
        if self.latest.contains(&payload) {
            return false;
        }
        if self.latest.len() < REMEMBERED {
            self.latest.push(payload);
        } else {
            self.latest[self.next % REMEMBERED] = payload;
            self.next = self.next.wrapping_add(1);
        }
        true
    }
}
