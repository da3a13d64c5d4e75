//! Floods of requests of which no source sends many: one service is asked far more often than it was before.
//!
//! Which kind of request it is (HTTP, the beginning of TLS or QUIC, DNS) is read off the packets that are
//! shown.

use std::collections::BTreeMap;

use firewall_common::packet::{Packet, mark, protocol};
use serde_json::json;

use super::book::{Book, Details, Sign};
use super::per_source::{evidence, seconds};
use super::sources::Interval;
use super::window::Window;
use super::{AlertKind, ServiceCounts, Sighting, Snapshot, Subject, Time};

/// Requests are counted over this span.
const SPAN: Time = 2_000_000_000;
/// A service that is asked less often than this is not flooded.
const REQUESTS: f64 = 2_000.0;
/// As long as nobody knows what is usual, it takes more.
const UNKNOWN: f64 = 10_000.0;
/// How many times as often as usual.
const TIMES: f64 = 5.0;
/// What is usual is a mean over about this many seconds, and known after some of them. What
/// would be an attack moves it a tenth as fast.
const MEMORY: f64 = 600.0;
const KNOWN: f64 = 120.0;
const RELUCTANT: f64 = 10.0;
/// Services that are followed.
const SERVICES: usize = 1_024;

/// Kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Tls,
    Quic,
    Dns,
    Echo,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Http, Self::Tls, Self::Quic, Self::Dns, Self::Echo];

    const fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP requests",
            Self::Tls => "TLS ClientHellos",
            Self::Quic => "QUIC Initials",
            Self::Dns => "DNS queries",
            Self::Echo => "echo requests",
        }
    }

    /// What a request is, by what carries it.
    fn of(sighting: &Sighting) -> Self {
        let packet: &Packet = &sighting.packet;
        match packet.protocol {
            protocol::TCP if sighting.payload().first() == Some(&0x16) => Self::Tls,
            protocol::TCP => Self::Http,
            protocol::UDP if packet.destination_port == 53 => Self::Dns,
            protocol::UDP => Self::Quic,
            _ => Self::Echo,
        }
    }
}

/// The requests of all services.
#[derive(Debug, Default)]
pub(super) struct Requests {
    services: BTreeMap<u32, Service>,
}

#[derive(Clone, Copy, Debug)]
struct Service {
    before: u64,
    rate: Window<1>,
    /// Requests per second, and for how many seconds they were watched.
    usual: f64,
    watched: f64,
    /// Of those shown lately, by kind.
    kinds: [f64; Kind::ALL.len()],
}

impl Requests {
    /// Forgets everything, because time has been lost.
    pub fn clear(&mut self) {
        self.services.clear();
    }

    /// Takes in the use of the services, and notes what stands out.
    pub fn judge(&mut self, interval: Interval, snapshot: &Snapshot, book: &mut Book) {
        self.services.retain(|rule, _| {
            let same = |service: &ServiceCounts| service.rule == *rule;
            snapshot.services.iter().any(same)
        });
        for sighting in &snapshot.sightings {
            if sighting.packet.is(mark::REQUEST)
                && let Some(service) = self.services.get_mut(&sighting.rule)
            {
                service.kinds[Kind::of(sighting) as usize] += sighting.packets as f64;
            }
        }
        // Who is named accounts for it.
        let named = book
            .alerts()
            .any(|alert| alert.kind == AlertKind::RequestFlood && alert.subject != Subject::Host);
        for counts in snapshot.services.iter().take(SERVICES) {
            match self.services.get_mut(&counts.rule) {
                Some(service) => {
                    service.advance(interval, counts);
                    if !named {
                        service.judge(interval.now, &counts.name, book);
                    }
                }
                None => {
                    self.services.insert(counts.rule, Service::new(counts));
                }
            }
        }
    }
}

impl Service {
    fn new(counts: &ServiceCounts) -> Self {
        Self {
            before: counts.requests,
            rate: Window::default(),
            usual: 0.0,
            watched: 0.0,
            kinds: [0.0; Kind::ALL.len()],
        }
    }

    fn advance(&mut self, interval: Interval, counts: &ServiceCounts) {
        let Interval { from, now } = interval;
        // Counts that went back were reset.
        let fresh = counts.requests.saturating_sub(self.before) as f64;
        self.before = counts.requests;
        self.rate.add(from, now, SPAN, [fresh]);
        let elapsed = seconds(now.saturating_sub(from));
        if elapsed <= 0.0 {
            return;
        }
        self.watched += elapsed;
        let rate = fresh / elapsed;
        let memory = self.watched.clamp(1.0, MEMORY);
        let reluctance = if rate >= self.expected() {
            RELUCTANT
        } else {
            1.0
        };
        let weight = (elapsed / memory / reluctance).min(1.0);
        self.usual += (rate - self.usual) * weight;
        for kind in &mut self.kinds {
            *kind *= (-elapsed).exp2();
        }
    }

    fn is_known(&self) -> bool {
        self.watched >= KNOWN
    }

    fn expected(&self) -> f64 {
        let least = if self.is_known() { REQUESTS } else { UNKNOWN };
        least.max(self.usual * TIMES)
    }

    fn judge(&self, now: Time, name: &str, book: &mut Book) {
        let most = Kind::ALL
            .into_iter()
            .max_by(|one, other| self.kinds[*one as usize].total_cmp(&self.kinds[*other as usize]));
        let kind = most.filter(|kind| self.kinds[*kind as usize] > 0.0);
        // Pings have a kind of their own.
        if kind == Some(Kind::Echo) {
            return;
        }
        let [requests] = self.rate.sums(now, SPAN);
        let sign = Sign {
            kind: AlertKind::RequestFlood,
            subject: Subject::Host,
            observed: (requests / seconds(SPAN)).round(),
            expected: self.expected().round(),
            unit: "requests/s",
            started: self.rate.since(now, SPAN),
        };
        let what = kind.map_or("requests", Kind::name);
        book.note(now, sign, || {
            let mut counts = evidence([
                ("requests", requests),
                ("usual_per_second", self.usual.round()),
                ("window_seconds", seconds(SPAN)),
            ]);
            counts.insert("service".into(), name.into());
            counts.insert("kind_of_request".into(), json!(what));
            Details {
                why: format!(
                    "The service \"{name}\" got {:.0} {what}/s, of which no source sent many; usual are {:.0}/s.",
                    sign.observed, self.usual
                ),
                evidence: counts,
            }
        });
    }
}
