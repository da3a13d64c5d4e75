//! Who tries passwords: many short connections to a service that asks for a login, each with as little
//! data as a login that fails.
//!
//! What was said cannot be seen, and often is encrypted. But a login that fails looks the same every
//! time: the connection is over soon, and neither side sent much. Each such connection fills a leaky
//! bucket of its source and its prefix; one over which more was said empties it again, and one that comes like
//! clockwork, as monitoring does, is left out.

use firewall_common::Address;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::book::{Book, Details, Sign};
use super::exchange::Session;
use super::fifo::Fifo;
use super::per_source::{evidence, span};
use super::{AlertKind, Subject, Time};

/// Sources and prefixes, with the services that they used, that are remembered.
const RUNS: usize = 1 << 14;
/// Failed logins in the bucket that make an attack.
const LOGINS: f64 = 20.0;
/// A prefix may hold several clients.
const LOGINS_OF_PREFIX: f64 = 40.0;
/// Sources that make a prefix of them.
const SOURCES_OF_PREFIX: u32 = 4;
/// The bucket loses one in so long: who mistypes a password now and then never fills it.
const LEAK: Time = 20_000_000_000;
/// How many failed logins a connection makes up for over which more was said.
const USED: f64 = 3.0;
/// A burst of connections that is over sooner is no attack yet: programs open several at once.
const SHORTEST: Time = 5_000_000_000;
/// Unless there are so many times as many of them.
const CERTAIN: f64 = 2.0;
/// A failed login does not take longer.
const LONGEST: Time = 120_000_000_000;
/// The next connection is waited for so long.
const PAUSE: Time = 120_000_000_000;
/// Pauses between connections whose deviation is a smaller share of them are a clock's.
const REGULAR: f64 = 0.15;
/// A client that is busy for less than this share of the time waits for a clock.
const IDLE: f64 = 0.5;
/// Nor does it ask more often than so many seconds: who does is a tool, or many addresses of a prefix in turn.
const SOONEST: f64 = 1.0;
/// Pauses that it takes to tell.
const PAUSES: f64 = 5.0;
/// Logins side by side are a tool's: people have two hands. What each counts at services where ordinary
/// programs do not work that way (and a connection has room for several passwords), and how many it takes.
const TOGETHER: f64 = 5.0;
const SIDE_BY_SIDE: usize = 4;
const ALONE: [u16; 7] = [22, 222, 2022, 2200, 2222, 22022, 22222];

/// A service that asks for a login, and what a failed one looks like there.
struct Service {
    port: u16,
    /// Bytes that the client, and the server, send at most.
    client: u32,
    server: u32,
    /// What one such connection counts: less where programs connect that briefly too.
    weight: f64,
}

const fn service(port: u16, client: u32, server: u32, weight: f64) -> Service {
    Service {
        port,
        client,
        server,
        weight,
    }
}

/// FTP, Telnet, mail, SMB and remote desktops say who they are by their ports; ssh is known to be moved to
/// some others. ssh and TLS exchange keys first; databases are asked briefly by programs all the time.
const SERVICES: [Service; 23] = [
    service(21, 1_000, 3_000, 1.0),
    service(22, 8_000, 8_000, 1.0),
    service(222, 8_000, 8_000, 1.0),
    service(2022, 8_000, 8_000, 1.0),
    service(2200, 8_000, 8_000, 1.0),
    service(2222, 8_000, 8_000, 1.0),
    service(22022, 8_000, 8_000, 1.0),
    service(22222, 8_000, 8_000, 1.0),
    service(23, 1_000, 4_000, 1.0),
    service(2323, 1_000, 4_000, 1.0),
    service(25, 1_500, 2_500, 0.5),
    service(587, 5_000, 10_000, 0.5),
    service(465, 5_000, 10_000, 0.5),
    service(110, 1_000, 2_000, 0.5),
    service(143, 1_000, 2_000, 0.5),
    service(993, 3_000, 8_000, 0.25),
    service(995, 3_000, 8_000, 0.25),
    service(139, 3_000, 3_000, 1.0),
    service(445, 3_000, 3_000, 1.0),
    service(3306, 300, 300, 0.2),
    service(5432, 300, 300, 0.2),
    service(3389, 6_000, 6_000, 1.0),
    service(5900, 500, 500, 1.0),
];

/// A source or prefix, and the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    client: IpNet,
    server: Address,
    port: u16,
}

/// Short connections of one source or prefix to one service.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// The bucket, and when it was last looked at.
    level: f64,
    at: Time,
    began: Time,
    sessions: u32,
    client_sent: u64,
    server_sent: u64,
    lasted: Time,
    /// Which sources of a prefix took part, by hash.
    sources: u64,
    /// Pauses between the beginnings of connections, in seconds: how many, their mean and the sum of
    /// squared deviations, the older ones fading.
    pauses: f64,
    mean: f64,
    deviations: f64,
    opened: Time,
    /// When the latest of them ended, and whether they ran side by side.
    ends: [Time; SIDE_BY_SIDE - 1],
    together: bool,
}

/// All runs.
#[derive(Debug)]
pub(super) struct Logins {
    runs: Fifo<Key, Run>,
}

impl Logins {
    pub fn new() -> Self {
        Self {
            runs: Fifo::new(RUNS),
        }
    }

    /// Forgets everything, because time has been lost.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// Takes in a connection that ended.
    pub fn note(&mut self, now: Time, session: &Session, book: &mut Book) {
        let parties = &session.parties;
        let Some(service) = SERVICES
            .iter()
            .find(|service| service.port == parties.server_port)
        else {
            return;
        };
        let lasted = session.ended.saturating_sub(session.opened);
        // Who says nothing asks for no login.
        if session.client_sent == 0 {
            return;
        }
        let failed = session.client_sent <= service.client
            && session.server_sent <= service.server
            && lasted <= LONGEST;
        if failed {
            let who = parties.client_address();
            book.blame(session.ended, AlertKind::BruteForce, who);
        }
        let source = Subject::source(parties.client_address());
        for (client, threshold) in [
            (source.prefix(), LOGINS),
            (wider(parties.client), LOGINS_OF_PREFIX),
        ] {
            let Some(client) = client else { continue };
            let key = Key {
                client,
                server: parties.server,
                port: service.port,
            };
            let mut run = self.runs.remove(&key).unwrap_or_default();
            run.advance(session.ended);
            if failed {
                run.add(session, service.weight);
            } else {
                run.level = (run.level - USED * service.weight).max(0.0);
            }
            let of_several = threshold == LOGINS || run.sources.count_ones() >= SOURCES_OF_PREFIX;
            let named = threshold != LOGINS
                && source.prefix().is_some()
                && book.fires(AlertKind::BruteForce, source);
            if failed && of_several && !named {
                judge(now, &key, &run, threshold, book);
            }
            self.runs.insert(key, run);
        }
    }
}

impl Run {
    /// Lets the bucket leak until `now`.
    fn advance(&mut self, now: Time) {
        let elapsed = now.saturating_sub(self.at);
        self.level = (self.level - elapsed as f64 / LEAK as f64).max(0.0);
        self.at = self.at.max(now);
        if self.level == 0.0 {
            *self = Self {
                at: self.at,
                pauses: self.pauses,
                mean: self.mean,
                deviations: self.deviations,
                opened: self.opened,
                ..Self::default()
            };
        }
    }

    fn add(&mut self, session: &Session, weight: f64) {
        self.pace(session);
        if self.sessions == 0 {
            self.began = session.opened;
        }
        let lasted = session.ended.saturating_sub(session.opened);
        self.sessions += 1;
        self.client_sent += u64::from(session.client_sent);
        self.server_sent += u64::from(session.server_sent);
        self.lasted = self.lasted.saturating_add(lasted);
        let bits = session.parties.source().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        self.sources |= 1 << bits;
        let together = ALONE.contains(&session.parties.server_port)
            && self.ends.iter().all(|end| *end > session.opened);
        if together {
            // The first to be noticed stands for those that ended before it, too.
            let so_far = if self.together { 1 } else { SIDE_BY_SIDE };
            self.level += TOGETHER * so_far as f64 - (so_far - 1) as f64;
        } else if !self.is_clockwork() {
            self.level += weight;
        }
        self.together |= together;
        self.ends.rotate_left(1);
        self.ends[SIDE_BY_SIDE - 2] = session.ended;
    }

    /// Learns how regularly connections begin; the past fades with 20 of them.
    fn pace(&mut self, session: &Session) {
        if self.opened != 0 {
            // Those that run side by side may end in another order than they began: no pause.
            let pause = session.opened.saturating_sub(self.opened) as f64 / 1e9;
            let keep = 0.95;
            self.pauses = self.pauses * keep + 1.0;
            let off = pause - self.mean;
            self.mean += off / self.pauses;
            self.deviations = self.deviations * keep + off * (pause - self.mean);
        }
        self.opened = self.opened.max(session.opened);
    }

    /// Whether a clock opens these connections, rather than the end of the one before.
    fn is_clockwork(&self) -> bool {
        if self.pauses < PAUSES || self.mean < SOONEST {
            return false;
        }
        let deviation = (self.deviations / self.pauses).max(0.0).sqrt();
        let lasted = self.lasted as f64 / 1e9 / f64::from(self.sessions.max(1));
        deviation < self.mean * REGULAR && lasted < self.mean * IDLE
    }
}

fn judge(now: Time, key: &Key, run: &Run, threshold: f64, book: &mut Book) {
    let lasts = run.at.saturating_sub(run.began);
    let subject = Subject::Source(key.client);
    let certain = run.together || run.level >= threshold * CERTAIN;
    if lasts < SHORTEST && !certain && !book.fires(AlertKind::BruteForce, subject) {
        return;
    }
    let sign = Sign {
        kind: AlertKind::BruteForce,
        subject,
        observed: run.level.round(),
        expected: threshold,
        unit: "short logins",
        started: run.began,
    };
    let sessions = f64::from(run.sessions.max(1));
    let (client, server) = (
        run.client_sent as f64 / sessions,
        run.server_sent as f64 / sessions,
    );
    book.note(now, sign, || Details {
        why: format!(
            "{subject} opened {} short connections to port {} in {}, with about {client:.0} bytes there and {server:.0} back \
             in each, as when passwords are tried.",
            run.sessions,
            key.port,
            span(lasts),
        ),
        evidence: evidence([
            ("connections", f64::from(run.sessions)),
            ("port", f64::from(key.port)),
            ("seconds", (lasts as f64 / 1e9).round()),
            ("sources_at_least", f64::from(run.sources.count_ones())),
            ("bytes_of_client_each", client.round()),
            ("bytes_of_server_each", server.round()),
            ("seconds_each", run.lasted as f64 / 1e9 / sessions),
        ]),
    });
    book.keep(AlertKind::BruteForce, subject, now.saturating_add(PAUSE));
}

/// The /24 or /48 around a client.
fn wider(client: Address) -> Option<IpNet> {
    let net = if client.is_v4() {
        IpNet::V4(Ipv4Net::new(client.as_v4().into(), 24).ok()?)
    } else {
        let bits = u128::from(client.high) << 64;
        IpNet::V6(Ipv6Net::new(bits.into(), 48).ok()?)
    };
    Some(net.trunc())
}
