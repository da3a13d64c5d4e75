//! Who tries passwords at a web server: request after request, each over a connection of its own and with
//! hardly an answer, where other visitors get pages.
//!
//! A service that programs use looks like that all the time. So a source is judged against the others at
//! the same service: only where they get more, it stands out.

use firewall_common::Address;
use ipnet::IpNet;

use super::book::{Book, Details, Sign};
use super::exchange::Session;
use super::fifo::Fifo;
use super::per_source::{evidence, span};
use super::{AlertKind, Subject, Time};

/// Ports of web servers, with what a visit without an answer to speak of is at most: bytes of the client and
/// of the server. TLS begins with certificates.
const WEB: [(u16, u32, u32); 6] = [
    (80, 1_000, 1_000),
    (8000, 1_000, 1_000),
    (8080, 1_000, 1_000),
    (443, 2_000, 6_000),
    (8443, 2_000, 6_000),
    (8888, 1_000, 1_000),
];
/// Such visits in the bucket that make an attack; it loses two a second.
const VISITS: f64 = 100.0;
const LEAK: f64 = 2.0;
/// A burst that is over sooner is a page with many parts.
const SHORTEST: Time = 5_000_000_000;
/// Past visits count half after this long.
const HALF: f64 = 300.0;
/// It takes so many visits of others to know what is usual, of which at most so many got as little.
const OTHERS: f64 = 20.0;
const USUAL: f64 = 0.3;
/// Services, and sources at each of them, that are remembered.
const SERVICES: usize = 1 << 10;
const SOURCES: usize = 1 << 14;

/// A service: address and port.
type Service = (Address, u16);

/// The memory of this detector.
#[derive(Debug)]
pub(super) struct WebLogins {
    services: Fifo<Service, Visits>,
    sources: Fifo<(IpNet, Service), Source>,
}

/// Visits, of which the older count less.
#[derive(Clone, Copy, Debug, Default)]
struct Visits {
    all: f64,
    scant: f64,
    at: Time,
}

#[derive(Clone, Copy, Debug, Default)]
struct Source {
    visits: Visits,
    level: f64,
    began: Time,
    sessions: u32,
    client_sent: u64,
    server_sent: u64,
}

impl WebLogins {
    pub fn new() -> Self {
        Self {
            services: Fifo::new(SERVICES),
            sources: Fifo::new(SOURCES),
        }
    }

    /// Forgets everything, because time has been lost.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Takes in a connection that ended.
    pub fn note(&mut self, now: Time, session: &Session, book: &mut Book) {
        let parties = &session.parties;
        let limits = WEB.iter().find(|(port, ..)| *port == parties.server_port);
        let Some((_, client, server)) = limits else {
            return;
        };
        let subject = Subject::source(parties.client_address());
        let Some(prefix) = subject.prefix() else {
            return;
        };
        if session.client_sent == 0 {
            return;
        }
        let scant = session.client_sent <= *client && session.server_sent <= *server;
        let service = (parties.server, parties.server_port);
        let mut all = self.services.remove(&service).unwrap_or_default();
        all.add(session.ended, scant);
        self.services.insert(service, all);
        let mut source = self.sources.remove(&(prefix, service)).unwrap_or_default();
        source.add(session, scant);
        self.sources.insert((prefix, service), source);
        if scant && all.is_unlike(&source.visits) {
            let who = parties.client_address();
            book.blame(session.ended, AlertKind::BruteForce, who);
            source.judge(now, subject, service.1, book);
        }
    }
}

impl Visits {
    fn add(&mut self, now: Time, scant: bool) {
        let seconds = now.saturating_sub(self.at) as f64 / 1e9;
        let kept = (-seconds / HALF * std::f64::consts::LN_2).exp();
        self.all = self.all * kept + 1.0;
        self.scant = self.scant * kept + f64::from(u8::from(scant));
        self.at = self.at.max(now);
    }

    /// Whether, in `self` as the whole service, others get more than `part` does.
    fn is_unlike(&self, part: &Self) -> bool {
        let others = self.all - part.all;
        others >= OTHERS && self.scant - part.scant <= others * USUAL
    }
}

impl Source {
    fn add(&mut self, session: &Session, scant: bool) {
        let seconds = session.ended.saturating_sub(self.visits.at) as f64 / 1e9;
        self.level = (self.level - seconds * LEAK).max(0.0);
        if self.level == 0.0 {
            *self = Self {
                visits: self.visits,
                began: session.opened,
                ..Self::default()
            };
        }
        self.visits.add(session.ended, scant);
        if scant {
            self.level += 1.0;
            self.sessions = self.sessions.saturating_add(1);
            self.client_sent += u64::from(session.client_sent);
            self.server_sent += u64::from(session.server_sent);
        } else {
            // Who also gets pages looks around.
            self.level = (self.level - 1.0).max(0.0);
        }
    }

    fn judge(&self, now: Time, subject: Subject, port: u16, book: &mut Book) {
        let lasts = self.visits.at.saturating_sub(self.began);
        if lasts < SHORTEST {
            return;
        }
        let sign = Sign {
            kind: AlertKind::BruteForce,
            subject,
            observed: self.level.round(),
            expected: VISITS,
            unit: "short visits",
            started: self.began,
        };
        let sessions = f64::from(self.sessions.max(1));
        let each = |sum: u64| (sum as f64 / sessions).round();
        book.note(now, sign, || Details {
            why: format!(
                "{subject} opened {} short connections to port {port} in {} and got about {} bytes over each, where others get \
                 pages: as when passwords are tried.",
                self.sessions,
                span(lasts),
                each(self.server_sent),
            ),
            evidence: evidence([
                ("connections", f64::from(self.sessions)),
                ("port", f64::from(port)),
                ("seconds", (lasts as f64 / 1e9).round()),
                ("bytes_of_client_each", each(self.client_sent)),
                ("bytes_of_server_each", each(self.server_sent)),
            ]),
        });
    }
}
