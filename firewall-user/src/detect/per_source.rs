//! Detectors that look at one source at a time: scans, sweeps and floods from a single place.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::book::{Book, Details, RELEASE, Sign};
use super::contacts::{Distinct, Reach};
use super::delta::Delta;
use super::sources::{Rate, Spans, Track};
use super::suspects::Suspects;
use super::{AlertKind, Config, Subject, Time};

/// A client that gets its connections sends at least three further packets per SYN (ACK, data,
/// FIN), one that fails or aborts at most two on the whole.
const FOLLOW_UPS_PER_SYN: f64 = 1.5;
/// A flood repeats its few ports; below this many SYNs per port it is a scan.
const SYNS_PER_PORT: f64 = 10.0;
/// So many times the threshold, when mostly in vain, are a scan whatever else the source sends.
const CERTAIN: f64 = 3.0;
/// Whoever sent fewer packets than this per port did not try them: others did in its name, and the
/// refusals came to it.
const OWN_SHARE: f64 = 0.25;
/// From this share of tries on, failing is what a source mostly does.
const MOSTLY: f64 = 0.5;

/// One active source, with all that its detectors need.
#[derive(Debug)]
pub(super) struct SourceView<'a> {
    pub config: &'a Config,
    pub spans: Spans,
    pub now: Time,
    pub source: IpAddr,
    pub track: &'a Track,
    pub delta: &'a Delta,
}

impl SourceView<'_> {
    /// Notes what stands out about the source, but for rates of packets and requests, which only
    /// the host's counts can name (see [`packet_spike`] and [`request_flood`]).
    pub fn judge(&self, book: &mut Book, suspects: &mut Suspects) {
        let reach = self.reach(self.spans.scan);
        // Between tries there is nothing new to say, and the quiet counts.
        if self.delta.ports | self.delta.hosts != 0 || self.delta.failed != 0 {
            self.port_scan(book, suspects, &reach);
            self.host_sweep(book, &self.reach(self.spans.sweep));
        }
        self.syn_flood(book, &reach);
    }

    /// Whether the source opens no connections, so that its name may be one of many in a flood of datagrams.
    fn may_be_forged(&self, reach: &Reach) -> bool {
        let syns = self.track.rates.sums(self.now, self.spans.rate)[Rate::Syns as usize];
        syns == 0.0 && reach.completed == 0.0
    }

    /// Many ports on few hosts, without using what was found.
    fn port_scan(&self, book: &mut Book, suspects: &mut Suspects, reach: &Reach) {
        let settings = &self.config.port_scan;
        let ports = reach.ports.estimate;
        let expected = settings.ports;
        let certain = ports >= expected * CERTAIN && failures(reach) >= ports * MOSTLY;
        if ports < expected * RELEASE
            || ports < reach.hosts.estimate * settings.ports_per_host
            || reach.packets < ports * OWN_SHARE
        {
            return;
        }
        // A scanner may look closer at what it found; that does not end the scan.
        let busy = reach.packets > ports * settings.packets_per_port;
        let subject = Subject::source(self.source);
        let goes_on = book.fires(AlertKind::PortScan, subject);
        let flooded = [AlertKind::UdpFlood, AlertKind::Amplification]
            .into_iter()
            .any(|kind| book.fires(kind, Subject::Host));
        let doubtful = !goes_on && self.may_be_forged(reach);
        if !goes_on && busy && !certain || doubtful && flooded {
            return;
        }
        let sign = Sign {
            kind: AlertKind::PortScan,
            subject,
            observed: ports.round(),
            expected,
            unit: "ports",
            started: reach.began,
        };
        let details = || Details {
            why: format!(
                "{} tried {} ports on {} in {}; {:.0} tries failed.",
                sign.subject,
                reach.ports.about(),
                counted(reach.hosts, "host"),
                span(self.now.saturating_sub(reach.began)),
                reach.failed,
            ),
            evidence: reach_evidence(reach, self.spans.scan),
        };
        if doubtful {
            suspects.add(sign, details);
        } else {
            book.note(self.now, sign, details);
        }
    }

    /// Many hosts in vain.
    fn host_sweep(&self, book: &mut Book, reach: &Reach) {
        let settings = &self.config.host_sweep;
        let hosts = reach.hosts.estimate;
        let is_scan = reach.ports.estimate >= hosts * self.config.port_scan.ports_per_host;
        if hosts < settings.hosts * RELEASE
            || failures(reach) < hosts * settings.failed_per_host
            || reach.completed > hosts * settings.completed_per_host
            || is_scan
        {
            return;
        }
        let sign = Sign {
            kind: AlertKind::HostSweep,
            subject: Subject::source(self.source),
            observed: hosts.round(),
            expected: settings.hosts,
            unit: "hosts",
            started: reach.began,
        };
        book.note(self.now, sign, || Details {
            why: format!(
                "{} tried {} hosts on {} in {}; {:.0} tries failed.",
                sign.subject,
                reach.hosts.about(),
                counted(reach.ports, "port"),
                span(self.now.saturating_sub(reach.began)),
                reach.failed,
            ),
            evidence: reach_evidence(reach, self.spans.sweep),
        });
    }

    /// SYNs at a high rate that hardly any other packet follows, towards few ports.
    fn syn_flood(&self, book: &mut Book, reach: &Reach) {
        let sums = self.track.rates.sums(self.now, self.spans.rate);
        let packets = sums[Rate::Packets as usize];
        let all_syns = sums[Rate::Syns as usize];
        let syns = (all_syns - f64::from(self.track.fresh_syns)).max(0.0);
        let expected = self.config.source.syns;
        let observed = syns / seconds(self.spans.rate);
        if observed < expected * RELEASE
            || packets - all_syns > syns * FOLLOW_UPS_PER_SYN
            || all_syns < reach.ports.estimate * SYNS_PER_PORT
        {
            return;
        }
        let sign = Sign {
            kind: AlertKind::SynFlood,
            subject: Subject::source(self.source),
            observed: observed.round(),
            expected,
            unit: "SYNs/s",
            started: self.track.rates.since(self.now, self.spans.rate),
        };
        book.note(self.now, sign, || Details {
            why: format!(
                "{} sent {:.0} SYNs in {} and only {:.0} other packets.",
                sign.subject,
                all_syns,
                span(self.spans.rate),
                packets - all_syns,
            ),
            evidence: evidence([
                ("syns", all_syns),
                ("other_packets", packets - all_syns),
                ("ports", reach.ports.estimate),
                ("window_seconds", seconds(self.spans.rate)),
            ]),
        });
    }

    fn reach(&self, span: Time) -> Reach {
        let contacts = &self.track.contacts;
        contacts.reach(self.now, self.spans.contacts, span)
    }
}

fn reach_evidence(reach: &Reach, window: Time) -> Map<String, Value> {
    let mut evidence = evidence([
        ("ports", reach.ports.estimate),
        ("hosts", reach.hosts.estimate),
        ("failed", reach.failed),
        ("completed", reach.completed),
        ("packets", reach.packets),
        ("window_seconds", seconds(window)),
    ]);
    // The maps are full: the true numbers may be far higher.
    evidence.insert("ports_at_least".into(), json!(reach.ports.at_least));
    evidence.insert("hosts_at_least".into(), json!(reach.hosts.at_least));
    evidence
}

/// Tries that failed. Refusals that answer what others sent in a source's name are not its own: a
/// source cannot fail more often than it sends.
fn failures(reach: &Reach) -> f64 {
    reach.failed.min(reach.packets)
}

/// A source with a rate that is judged once the host's counts are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Busy {
    pub source: IpAddr,
    /// Over the rate window.
    pub packets: f64,
    pub requests: f64,
    pub started: Time,
}

/// More packets from one source than expected of any, unless a flood alert names it already.
pub(super) fn packet_spike(book: &mut Book, now: Time, busy: &Busy, expected: f64, span: Time) {
    let subject = Subject::source(busy.source);
    let named = [
        AlertKind::SynFlood,
        AlertKind::UdpFlood,
        AlertKind::IcmpFlood,
    ];
    if named.into_iter().any(|kind| book.fires(kind, subject)) {
        return;
    }
    let sign = Sign {
        kind: AlertKind::TrafficSpike,
        subject,
        observed: (busy.packets / seconds(span)).round(),
        expected,
        unit: "packets/s",
        started: busy.started,
    };
    book.note(now, sign, || Details {
        why: format!("{subject} sent {:.0} packets/s.", sign.observed),
        evidence: evidence([("packets", busy.packets), ("window_seconds", seconds(span))]),
    });
}

/// More requests from one source than expected of any.
pub(super) fn request_flood(book: &mut Book, now: Time, busy: &Busy, expected: f64, span: Time) {
    let subject = Subject::source(busy.source);
    let sign = Sign {
        kind: AlertKind::RequestFlood,
        subject,
        observed: (busy.requests / seconds(span)).round(),
        expected,
        unit: "requests/s",
        started: busy.started,
    };
    book.note(now, sign, || Details {
        why: format!("{subject} sent {:.0} requests/s.", sign.observed),
        evidence: evidence([
            ("requests", busy.requests),
            ("packets", busy.packets),
            ("window_seconds", seconds(span)),
        ]),
    });
}

/// Counts by name, rounded to whole ones where they are large.
pub(super) fn evidence<const N: usize>(counts: [(&str, f64); N]) -> Map<String, Value> {
    counts
        .into_iter()
        .map(|(name, count)| {
            let value = if count.fract() == 0.0 || count >= 10.0 {
                json!(count.round() as u64)
            } else {
                json!((count * 100.0).round() / 100.0)
            };
            (name.to_owned(), value)
        })
        .collect()
}

pub(super) fn seconds(span: Time) -> f64 {
    span as f64 / 1e9
}

/// A span of time as people say it.
pub(super) fn span(span: Time) -> String {
    let seconds = seconds(span);
    if seconds >= 10.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{seconds:.2} s")
    }
}

impl Distinct {
    fn about(&self) -> String {
        if self.at_least {
            format!("at least {:.0}", self.estimate)
        } else {
            format!("about {:.0}", self.estimate)
        }
    }
}

fn counted(distinct: Distinct, what: &str) -> String {
    if distinct.estimate.round() <= 1.0 {
        format!("one {what}")
    } else {
        format!("{} {what}s", distinct.about())
    }
}
