//! Floods from a prefix of which no single source stands out: 200 addresses of one /24 (IPv6: networks of
//! one /48) that each stay below what one source may send.
//!
//! Sums over the sources that were active in a tick: silent ones cost nothing.

mod newcomers;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::book::{Book, Details, RELEASE, Sign};
use super::delta::Delta;
use super::hashed::HashMap;
use super::per_source::{evidence, seconds, span};
use super::sources::Interval;
use super::window::Window;
use super::{AlertKind, PrefixRates, Subject, Time};
use newcomers::{ACQUAINTED, Newcomers};

/// How much of an address makes its prefix: the least that is routed in the Internet by itself.
const V4_LENGTH: u8 = 24;
const V6_LENGTH: u8 = 48;
/// A prefix of fewer active sources is left to the detectors of single ones.
const FEW_SOURCES: u32 = 8;
/// A source with at least this share is what the flood is about.
const MAIN_SHARE: f64 = 0.5;
/// Clients that get their connections send more packets after each SYN.
const FOLLOW_UPS_PER_SYN: f64 = 1.5;
/// Most prefixes that are remembered, some 250 bytes each.
const MOST: usize = 16_384;
/// With no room left, prefixes with fewer packets than this in the window are forgotten: forged sources
/// are spread over all of the Internet.
const FEW_PACKETS: f64 = 4.0;

/// All prefixes that were active lately.
#[derive(Debug)]
pub(super) struct Prefixes {
    span: Time,
    tracks: HashMap<IpNet, Track>,
    /// Those with news in this tick.
    touched: Vec<IpNet>,
    swept: Time,
    /// New sources of all prefixes.
    newcomers: Window<1>,
    /// Prefixes with too many of them, which are judged also when they are silent.
    waiting: Vec<IpNet>,
    /// Since when sources are watched.
    began: Option<Time>,
}

#[derive(Clone, Debug, Default)]
struct Track {
    rates: Window<{ Column::COUNT }>,
    newcomers: Newcomers,
    /// SYNs of the latest tick: too young to be judged by what follows them.
    fresh_syns: f64,
    members: Members,
    /// The most that one source brought to each column in the running span and the one before.
    largest: [[f64; Column::COUNT]; 2],
    touched: Time,
}

/// Columns of [`Track::rates`].
#[derive(Clone, Copy, Debug)]
enum Column {
    Packets,
    Syns,
    Requests,
}

impl Column {
    const COUNT: usize = 3;
}

/// Which sources were active, a bit for each, in the running span and the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Members {
    index: u64,
    maps: [[u64; 4]; 2],
}

/// What an active source adds to its prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share<'a> {
    pub source: IpAddr,
    pub delta: &'a Delta,
    /// What the source sent over the window: packets, SYNs, requests.
    pub sums: [f64; Column::COUNT],
}

impl Prefixes {
    pub fn new(span: Time) -> Self {
        Self {
            span,
            tracks: HashMap::default(),
            touched: Vec::new(),
            swept: 0,
            newcomers: Window::default(),
            waiting: Vec::new(),
            began: None,
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.tracks.clear();
        self.touched.clear();
        self.newcomers = Window::default();
        self.waiting.clear();
        self.began = None;
    }

    /// Adds what a source did in this tick.
    pub fn add(&mut self, interval: Interval, share: &Share<'_>) {
        let prefix = prefix_of(share.source);
        if share.delta.is_new {
            self.newcomers
                .add(interval.from, interval.now, self.span, [1.0]);
        }
        // At the cap only is it worth a look whether the prefix is known.
        if self.tracks.len() >= MOST && !self.tracks.contains_key(&prefix) {
            self.make_room(interval.now);
            if self.tracks.len() >= MOST {
                return;
            }
        }
        let track = self.tracks.entry(prefix).or_default();
        if track.touched != interval.now {
            track.touched = interval.now;
            track.fresh_syns = 0.0;
            self.touched.push(prefix);
        }
        track.add(interval, self.span, share);
    }

    /// Judges the prefixes that were active in this tick; gives the SYNs of those that a SYN flood is known
    /// of: of this tick, or when it has just become known, of the window.
    pub fn judge(&mut self, book: &mut Book, now: Time, rates: &PrefixRates) -> f64 {
        let mut accounted = 0.0;
        let began = *self.began.get_or_insert(now);
        // As long as hardly anybody is known, no prefix has most of those who are new.
        let acquainted = now.saturating_sub(began) >= ACQUAINTED;
        let [newcomers] = match acquainted {
            true => self.newcomers.sums(now, self.span),
            false => [f64::INFINITY],
        };
        let silent = std::mem::take(&mut self.waiting);
        let touched = std::mem::take(&mut self.touched);
        let silent = silent.into_iter().map(|prefix| (prefix, false));
        for (prefix, is_active) in silent.chain(touched.into_iter().map(|prefix| (prefix, true))) {
            let Some(track) = self.tracks.get_mut(&prefix) else {
                continue;
            };
            if !is_active && track.touched == now {
                continue;
            }
            let subject = Subject::Source(prefix);
            let was_known = book.fires(AlertKind::SynFlood, subject);
            let sources = track.members.count(now, self.span);
            let surge = track.newcomers.surge(now, self.span, sources, newcomers);
            if track.newcomers.is_waiting(now) {
                self.waiting.push(prefix);
            }
            let view = View {
                now,
                span: self.span,
                subject,
                sources,
                track,
                sums: track.rates.sums(now, self.span),
            };
            if is_active {
                view.syn_flood(book, rates.syns);
                view.request_flood(book, rates.requests);
                view.packet_spike(book, rates.packets);
            }
            if let Some(newcomers) = surge {
                view.new_source_surge(book, newcomers);
            }
            if !is_active {
                continue;
            }
            accounted += match (was_known, book.fires(AlertKind::SynFlood, subject)) {
                (true, _) => track.fresh_syns,
                (false, true) => view.sums[Column::Syns as usize],
                (false, false) => 0.0,
            };
        }
        self.sweep(now);
        accounted
    }

    fn sweep(&mut self, now: Time) {
        if now.saturating_sub(self.swept) < self.span {
            return;
        }
        self.swept = now;
        let longest = self.span.saturating_mul(2);
        self.tracks
            .retain(|_, track| now.saturating_sub(track.touched) <= longest);
    }

    fn make_room(&mut self, now: Time) {
        let span = self.span;
        // Once a tick is enough: `swept` is `now` afterwards.
        if self.swept == now {
            return;
        }
        self.swept = now;
        self.tracks.retain(|_, track| {
            track.rates.sums(now, span)[Column::Packets as usize] >= FEW_PACKETS
        });
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.tracks.len()
    }
}

impl Track {
    fn add(&mut self, interval: Interval, span: Time, share: &Share<'_>) {
        let Interval { from, now } = interval;
        let syns = f64::from(share.delta.syns);
        if share.delta.is_new {
            self.newcomers.add(from, now, span);
        }
        self.fresh_syns += syns;
        self.rates.add(
            from,
            now,
            span,
            [
                share.delta.packets as f64,
                syns,
                f64::from(share.delta.requests),
            ],
        );
        if self.members.add(share.source, now, span) {
            self.largest = [[0.0; Column::COUNT], self.largest[0]];
        }
        for (largest, sum) in self.largest[0].iter_mut().zip(share.sums) {
            *largest = largest.max(sum);
        }
    }
}

impl Members {
    /// Adds a source; whether a span began with it.
    fn add(&mut self, source: IpAddr, now: Time, span: Time) -> bool {
        let index = now / span;
        let begins = index > self.index;
        if begins {
            let earlier = if index == self.index + 1 {
                self.maps[0]
            } else {
                [0; 4]
            };
            self.maps = [[0; 4], earlier];
            self.index = index;
        }
        let bit = match source {
            IpAddr::V4(address) => address.octets()[3],
            // The last two bytes of the /64's network.
            IpAddr::V6(address) => {
                let network = address.segments()[3];
                (u32::from(network).wrapping_mul(0x9e37_79b1) >> 24) as u8
            }
        };
        self.maps[0][usize::from(bit >> 6)] |= 1 << (bit & 63);
        begins
    }

    /// How many there were: exactly in IPv4, at least in IPv6.
    fn count(&self, now: Time, span: Time) -> u32 {
        if now / span > self.index + 1 {
            return 0;
        }
        let [running, before] = &self.maps;
        let both = running.iter().zip(before);
        both.map(|(one, other)| (one | other).count_ones()).sum()
    }
}

/// A prefix that was active in this tick.
struct View<'a> {
    now: Time,
    span: Time,
    subject: Subject,
    sources: u32,
    track: &'a Track,
    sums: [f64; Column::COUNT],
}

impl View<'_> {
    /// SYNs that hardly any other packet follows.
    fn syn_flood(&self, book: &mut Book, expected: f64) {
        let (packets, all) = (self.sum(Column::Packets), self.sum(Column::Syns));
        let syns = (all - self.track.fresh_syns).max(0.0);
        if packets - all > syns * FOLLOW_UPS_PER_SYN {
            return;
        }
        let kind = AlertKind::SynFlood;
        self.note(book, (kind, Column::Syns), syns, expected, "SYNs");
    }

    fn request_flood(&self, book: &mut Book, expected: f64) {
        let requests = self.sum(Column::Requests);
        let kind = AlertKind::RequestFlood;
        self.note(
            book,
            (kind, Column::Requests),
            requests,
            expected,
            "requests",
        );
    }

    fn packet_spike(&self, book: &mut Book, expected: f64) {
        let packets = self.sum(Column::Packets);
        let kind = AlertKind::TrafficSpike;
        self.note(book, (kind, Column::Packets), packets, expected, "packets");
    }

    /// Notes `count` of a column in the window, if it is no single source's.
    fn note(
        &self,
        book: &mut Book,
        (kind, column): (AlertKind, Column),
        count: f64,
        expected: f64,
        what: &str,
    ) {
        let observed = count / seconds(self.span);
        if observed < expected * RELEASE || self.sources < FEW_SOURCES {
            return;
        }
        let largest = self.track.largest;
        let column = column as usize;
        let largest = largest[0][column].max(largest[1][column]);
        if largest >= self.sum_of(column) * MAIN_SHARE {
            return;
        }
        let unit = match kind {
            AlertKind::SynFlood => "SYNs/s",
            AlertKind::RequestFlood => "requests/s",
            _ => "packets/s",
        };
        let sign = Sign {
            kind,
            subject: self.subject,
            observed: observed.round(),
            expected,
            unit,
            started: self.track.rates.since(self.now, self.span),
        };
        book.note(self.now, sign, || Details {
            why: format!(
                "{} sources of {} sent {count:.0} {what} in {}, {:.0} of them the busiest.",
                self.sources,
                self.subject,
                span(self.span),
                largest,
            ),
            evidence: evidence([
                ("sources", f64::from(self.sources)),
                ("packets", self.sum(Column::Packets)),
                ("syns", self.sum(Column::Syns)),
                ("requests", self.sum(Column::Requests)),
                ("busiest_source", largest),
                ("window_seconds", seconds(self.span)),
            ]),
        });
    }

    fn sum(&self, column: Column) -> f64 {
        self.sum_of(column as usize)
    }

    fn sum_of(&self, column: usize) -> f64 {
        self.sums[column]
    }
}

/// The prefix that a source belongs to.
pub fn prefix_of(source: IpAddr) -> IpNet {
    match source {
        IpAddr::V4(address) => {
            let network = address.to_bits() & u32::MAX << (32 - V4_LENGTH);
            IpNet::new_assert(Ipv4Addr::from_bits(network).into(), V4_LENGTH)
        }
        IpAddr::V6(address) => {
            let network = address.to_bits() & u128::MAX << (128 - V6_LENGTH);
            IpNet::new_assert(Ipv6Addr::from_bits(network).into(), V6_LENGTH)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Time = 1_000_000_000;

    fn interval(tick: u64) -> Interval {
        Interval {
            from: tick * SECOND / 4,
            now: (tick + 1) * SECOND / 4,
        }
    }

    fn packet(source: IpAddr, delta: &Delta) -> Share<'_> {
        Share {
            source,
            delta,
            sums: [1.0, 0.0, 0.0],
        }
    }

    #[test]
    fn sources_are_counted_over_the_window_and_no_longer() {
        let mut prefixes = Prefixes::new(2 * SECOND);
        let one = Delta {
            packets: 1,
            ..Delta::default()
        };
        for last in 0..20 {
            prefixes.add(interval(1), &packet([203, 0, 113, last % 10].into(), &one));
        }
        let track = &prefixes.tracks[&prefix_of([203, 0, 113, 0].into())];
        assert_eq!(track.members.count(SECOND, 2 * SECOND), 10);
        assert_eq!(track.members.count(3 * SECOND, 2 * SECOND), 10);
        assert_eq!(track.members.count(6 * SECOND, 2 * SECOND), 0);
    }

    #[test]
    fn forged_sources_from_everywhere_do_not_keep_a_prefix_out() {
        let mut prefixes = Prefixes::new(2 * SECOND);
        let one = Delta {
            packets: 1,
            ..Delta::default()
        };
        for tick in 0..8 {
            for number in 0..10_000_u32 {
                let source = Ipv4Addr::from((tick as u32 * 10_000 + number) << 8);
                prefixes.add(interval(tick), &packet(source.into(), &one));
                assert!(prefixes.len() <= MOST);
            }
            for last in 0..50 {
                prefixes.add(interval(tick), &packet([203, 0, 113, last].into(), &one));
            }
        }
        let track = &prefixes.tracks[&prefix_of([203, 0, 113, 0].into())];
        let packets = track.rates.sums(2 * SECOND, 2 * SECOND)[Column::Packets as usize];
        assert!(packets >= 200.0, "{packets} of 400");
    }
}
