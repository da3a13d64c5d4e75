//! The detector: takes snapshots, hands out changes of alerts.

use std::net::IpAddr;

use super::book::{Book, Details, Quiet, RELEASE, Sign};
use super::departures::Departures;
use super::host::{Host, Tally};
use super::learned::{Owner, Reading};
use super::outgoing::Outgoing;
use super::per_source::{Busy, SourceView, packet_spike, request_flood, seconds};
use super::prefixes::{Prefixes, Share};
use super::sources::{Interval, Rate, Sources, Spans};
use super::strays::Strays;
use super::suspects::Suspects;
use super::watchers::Watchers;
use super::{Alert, AlertChange, AlertKind, Config, KeptRanges, Snapshot, Subject, Time};

/// A clock that is set back by less than this stands still meanwhile; by more, and the detector
/// starts anew.
const STEP_BACK: Time = 5_000_000_000;

/// All detectors over one host's counts.
///
/// Deterministic: the same snapshots give the same alerts.
#[derive(Debug)]
pub struct Detector {
    config: Config,
    spans: Spans,
    latest: Option<Time>,
    sources: Sources,
    prefixes: Prefixes,
    host: Host,
    outgoing: Outgoing,
    strays: Strays,
    watchers: Watchers,
    departures: Departures,
    book: Book,
}

impl Detector {
    /// A detector to which the counts of its first snapshot are history: it judges what is added
    /// to them. The daemon starts so, because its counters outlive it.
    pub fn new(config: Config) -> Self {
        let spans = Spans {
            rate: nanoseconds(config.rate_window),
            scan: nanoseconds(config.port_scan.window),
            sweep: nanoseconds(config.host_sweep.window),
            contacts: nanoseconds(config.port_scan.window.max(config.host_sweep.window)),
        };
        Self {
            spans,
            latest: None,
            sources: Sources::new(spans, config.tracked_sources),
            prefixes: Prefixes::new(spans.rate),
            host: Host::new(spans.rate),
            outgoing: Outgoing::default(),
            strays: Strays::new(spans.rate),
            watchers: Watchers::new(),
            departures: Departures::new(config.sensitivity, nanoseconds(config.learn_span)),
            book: Book::new(
                config.active_alerts,
                Quiet {
                    floods: nanoseconds(config.quiet),
                    scans: nanoseconds(config.quiet).max(spans.contacts),
                },
            )
            .with_sensitivity(config.sensitivity),
            config,
        }
    }

    /// A detector for counts that all started from zero at `time`, such as a replay's.
    pub fn from_zero(config: Config, time: Time) -> Self {
        let mut detector = Self::new(config);
        detector.tick(&Snapshot {
            time,
            ..Snapshot::default()
        });
        detector
    }

    /// Takes the next snapshot; a tick every 100 ms to 1 s is meant.
    ///
    /// After a gap, counts are spread over it. When time stands still or steps back a little, counts
    /// go on at the latest time; when it steps back far, all alerts are resolved and this snapshot
    /// becomes history.
    pub fn tick(&mut self, snapshot: &Snapshot) -> Vec<AlertChange> {
        let interval = match self.latest {
            Some(latest) if snapshot.time.saturating_add(STEP_BACK) >= latest => Interval {
                from: latest,
                now: snapshot.time.max(latest),
            },
            _ => return self.rebase(snapshot),
        };
        self.latest = Some(interval.now);
        self.book.ban(&snapshot.banned);
        self.book.see(interval.now, &snapshot.sightings);
        self.host.update(interval, &snapshot.host);
        // Before the sources: whose name is only used in a flood is no scanner.
        self.strays.judge(
            &mut self.book,
            interval,
            &self.config.host,
            &snapshot.sightings,
        );
        let (tally, busy) = self.judge_sources(interval, snapshot);
        self.host
            .judge(&mut self.book, interval, &self.config.host, &tally);
        self.judge_busy(interval.now, &busy);
        self.outgoing
            .judge(&mut self.book, interval, &snapshot.sightings);
        self.watchers.judge(&mut self.book, interval, snapshot);
        self.departures.judge(&mut self.book, interval, snapshot);
        self.book.settle(interval.now)
    }

    /// The alerts that fire now, by kind and subject.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.book.alerts()
    }

    /// What was learned, to be kept across restarts.
    pub fn kept_ranges(&self) -> KeptRanges {
        self.departures.kept()
    }

    /// Takes up what was learned before; the error says what is wrong with it.
    pub fn restore_ranges(&mut self, kept: KeptRanges) -> Result<(), String> {
        self.departures.restore(kept)
    }

    /// What the host and its services got in the last whole minute, beside what was expected of it.
    pub fn readings(&self) -> impl Iterator<Item = (&Owner, Reading)> {
        self.departures.readings()
    }

    /// Notes what was done about an active alert; whether there is one with this id.
    pub fn record_response(&mut self, id: u64, what: impl Into<String>) -> bool {
        match self.book.alert_mut(id) {
            Some(alert) => {
                alert.response.push(what.into());
                true
            }
            None => false,
        }
    }

    /// Raises, or keeps up, the alert that answers are held back: `held` of them in the time that lets `cap`.
    /// The next tick tells of it, and it ends when nothing has been held back for a while.
    pub fn note_withheld(&mut self, now: Time, held: Withheld) {
        let sign = Sign {
            kind: AlertKind::ResponseWithheld,
            subject: Subject::Host,
            observed: held.wanted,
            expected: held.cap,
            unit: held.unit,
            started: now,
        };
        self.book.note_exactly(now, sign, || Details {
            why: held.why,
            evidence: held.evidence,
        });
    }

    /// Signs that would have fired, had there not been [`Config::active_alerts`] already.
    pub fn suppressed(&self) -> u64 {
        self.book.suppressed()
    }

    /// Starts anew from this snapshot.
    fn rebase(&mut self, snapshot: &Snapshot) -> Vec<AlertChange> {
        self.latest = Some(snapshot.time);
        self.sources
            .rebase(snapshot.time, snapshot.clock, &snapshot.sources);
        self.prefixes.clear();
        self.host.rebase(&snapshot.host);
        self.outgoing = Outgoing::default();
        self.strays = Strays::new(self.spans.rate);
        self.watchers.clear();
        self.departures.rebase(snapshot);
        self.book.close();
        self.book.settle(snapshot.time)
    }

    /// Judges each active source by itself; gives their sums, and those with remarkable rates.
    fn judge_sources(&mut self, interval: Interval, snapshot: &Snapshot) -> (Tally, Vec<Busy>) {
        let now = interval.now;
        let (config, spans, book) = (&self.config, self.spans, &mut self.book);
        let prefixes = &mut self.prefixes;
        let (mut tally, mut remarkable) = (Tally::default(), Vec::new());
        let mut suspects = Suspects::default();
        let limit = |rate: f64| rate * RELEASE * seconds(spans.rate);
        let many_packets = limit(config.source.packets);
        let many_requests = limit(config.source.requests);
        self.sources.update(
            interval,
            snapshot.clock,
            &snapshot.sources,
            |source, track, delta| {
                // Forged: whose it is cannot be told, and `spoofed_source` tells that it is.
                if is_nobodys(source) {
                    tally.accounted_syns += f64::from(delta.syns);
                    return;
                }
                let view = SourceView {
                    config,
                    spans,
                    now,
                    source,
                    track,
                    delta,
                };
                view.judge(book, &mut suspects);
                let sums = track.rates.sums(now, spans.rate);
                let subject = Subject::source(source);
                let accounted_for = snapshot.banned.contains(&source)
                    || book.fires(AlertKind::SynFlood, subject)
                    || book.fires(AlertKind::PortScan, subject);
                let was_before = std::mem::replace(&mut track.accounted_for, accounted_for);
                match (was_before, accounted_for) {
                    (true, true) => tally.accounted_syns += f64::from(delta.syns),
                    (false, true) => tally.accounted_syns += sums[Rate::Syns as usize],
                    (_, false) => {
                        tally.completed += f64::from(delta.completed);
                        tally.syns += f64::from(delta.syns);
                    }
                }
                let is_named = |kind| book.fires(kind, subject);
                if !accounted_for
                    && !is_named(AlertKind::RequestFlood)
                    && !is_named(AlertKind::TrafficSpike)
                {
                    prefixes.add(
                        interval,
                        &Share {
                            source,
                            delta,
                            sums,
                        },
                    );
                }
                let busy = Busy {
                    source,
                    packets: sums[Rate::Packets as usize],
                    requests: sums[Rate::Requests as usize],
                    started: track.rates.since(now, spans.rate),
                };
                tally.offer(busy);
                if busy.packets >= many_packets || busy.requests >= many_requests {
                    remarkable.push(busy);
                }
            },
        );
        suspects.settle(now, book);
        tally.accounted_syns += prefixes.judge(book, now, &config.prefix);
        (tally, remarkable)
    }

    /// Judges the rates of single sources, now that the host's alerts may explain them.
    fn judge_busy(&mut self, now: Time, remarkable: &[Busy]) {
        let (rates, span) = (&self.config.source, self.spans.rate);
        for busy in remarkable {
            packet_spike(&mut self.book, now, busy, rates.packets, span);
            if !self.host.mostly_echo(now, busy) {
                request_flood(&mut self.book, now, busy, rates.requests, span);
            }
        }
    }
}

/// Whether no host has this address: nothing comes from there, whatever it says. (The whole of an IPv6
/// /64 is one source.)
fn is_nobodys(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => v6.is_multicast() || v6.segments()[..4] == [0; 4],
    }
}

/// Answers that were held back because a cap was reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Withheld {
    /// What was asked for, above the cap, and the cap; in `unit`.
    pub wanted: f64,
    pub cap: f64,
    pub unit: &'static str,
    pub why: String,
    pub evidence: serde_json::Map<String, serde_json::Value>,
}

/// A span in nanoseconds; never zero, as windows are divided by it.
fn nanoseconds(span: std::time::Duration) -> Time {
    Time::try_from(span.as_nanos()).unwrap_or(Time::MAX).max(1)
}
