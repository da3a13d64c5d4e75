//! Much data sent to one peer that this host itself contacted.
//!
//! A server answers with more than it is asked; so only what goes out over contacts of the host's own
//! counts, and only where far more goes out than comes back. What a peer has been sent before, as with
//! a backup every night, is what may be sent to it again.

use std::net::IpAddr;

use firewall_common::Direction;
use firewall_common::sampling::Class;
use serde_json::{Map, Value, json};

use super::SECOND;
use super::recent::Recent;
use crate::detect::book::{Book, Details, Sign};
use crate::detect::window::Window;
use crate::detect::{AlertKind, Sighting, Subject, Time};

/// Over how long volumes are added up.
const SPAN: Time = 600 * SECOND;
/// What may go to one peer in that time, known or not.
const BYTES: f64 = 64.0 * 1024.0 * 1024.0;
/// What may go to it, times what has gone before.
const GROWTH: f64 = 3.0;
/// So many times more must go out than comes back.
const LOPSIDED: f64 = 4.0;
/// For so long it is known what goes to a peer.
const KEEP: Time = 14 * 86_400 * SECOND;
/// And for so long a contact is known to be our own, from its latest packet.
const CONTACT: Time = 3_600 * SECOND;
const PEERS: usize = 4_096;
const CONTACTS: usize = 16_384;

/// Whom we send to.
#[derive(Debug)]
pub(super) struct Uploads {
    /// Peers and their ports that this host contacted.
    contacts: Recent<(IpAddr, u16, u8), ()>,
    peers: Recent<IpAddr, Volume>,
}

#[derive(Debug, Default)]
struct Volume {
    /// Bytes out and in.
    sums: Window<2>,
    /// The largest volume of earlier spans.
    usual: f64,
    /// The largest of the running volume, and when it was last as large.
    peak: f64,
    peak_at: Time,
}

impl Default for Uploads {
    fn default() -> Self {
        Self {
            contacts: Recent::new(CONTACTS, CONTACT),
            peers: Recent::new(PEERS, KEEP),
        }
    }
}

impl Uploads {
    pub fn see(&mut self, at: Time, sighting: &Sighting) {
        let packet = &sighting.packet;
        let (peer, port, goes_out) = match sighting.direction {
            Direction::Outbound => (sighting.destination(), packet.destination_port, true),
            Direction::Inbound => (sighting.sender(), packet.source_port, false),
        };
        let contact = (peer, port, packet.protocol);
        match sighting.class {
            Class::Contact if goes_out => {
                self.contacts.touch(contact, at);
            }
            Class::Pass if self.contacts.get(&contact).is_some() => {
                self.contacts.touch(contact, at);
                let bytes = sighting.bytes as f64;
                let counts = if goes_out { [bytes, 0.0] } else { [0.0, bytes] };
                if let Some(volume) = self.peers.touch(peer, at) {
                    volume.sums.add(at, at, SPAN, counts);
                }
            }
            _ => {}
        }
    }

    pub fn judge(&mut self, book: &mut Book, now: Time) {
        self.contacts.forget(now);
        self.peers.forget(now);
        for (peer, volume) in self.peers.iter_mut() {
            let [sent, received] = volume.sums.sums(now, SPAN);
            volume.learn(now, sent);
            if sent < received * LOPSIDED {
                continue;
            }
            let subject = Subject::source(*peer);
            let sign = Sign {
                kind: AlertKind::Exfiltration,
                subject,
                observed: sent.round(),
                expected: BYTES.max(volume.usual * GROWTH),
                unit: "bytes/10min",
                started: volume.sums.since(now, SPAN),
            };
            book.note(now, sign, || {
                let evidence: [(&str, Value); 4] = [
                    ("bytes_sent", json!(sent.round() as u64)),
                    ("bytes_received", json!(received.round() as u64)),
                    ("most_sent_before", json!(volume.usual.round() as u64)),
                    ("window_seconds", json!(SPAN / SECOND)),
                ];
                let before = if volume.usual > 0.0 {
                    format!("at most {} before", megabytes(volume.usual))
                } else {
                    "nothing of note before".to_owned()
                };
                Details {
                    why: format!(
                        "This host sent {} to {subject} within ten minutes and got {} back; {before}.",
                        megabytes(sent),
                        megabytes(received),
                    ),
                    evidence: Map::from_iter(evidence.map(|(key, value)| (key.to_owned(), value))),
                }
            });
        }
    }
}

impl Volume {
    /// What has been sent becomes usual once it has been over for a span.
    fn learn(&mut self, now: Time, sent: f64) {
        if sent >= self.peak {
            (self.peak, self.peak_at) = (sent, now);
        } else if now.saturating_sub(self.peak_at) >= 2 * SPAN {
            self.usual = self.usual.max(self.peak);
            (self.peak, self.peak_at) = (sent, now);
        }
    }
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}
