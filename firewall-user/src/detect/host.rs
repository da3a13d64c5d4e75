//! Detectors that look at the host as a whole: floods whose senders are many or forged.

use firewall_common::layout::{TRAFFIC_KINDS, TrafficKind};

use super::book::{Book, Details, RELEASE, Sign};
use super::per_source::{Busy, evidence, seconds, span};
use super::sources::Interval;
use super::window::Window;
use super::{AlertKind, HostCounts, HostRates, Subject, Time};

/// A flood leaves at least this share of its SYNs unanswered; of a busy host's clients, far fewer
/// give up.
const UNFINISHED_SHARE: f64 = 0.3;
/// A service answers more of its datagrams than this.
const ANSWERED_SHARE: f64 = 0.1;
/// From this share on, one source is what a flood is about.
const MAIN_SHARE: f64 = 0.5;

/// What the sources that were active in a tick add up to.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// SYNs that became connections in this tick.
    pub completed: f64,
    /// SYNs of all sources that were told, but those that an alert of their own accounts for.
    pub syns: f64,
    /// SYNs of sources that an alert of their own accounts for; when it fired in this tick, with
    /// those of the window before.
    pub accounted_syns: f64,
    /// The source with the most packets over the window.
    pub top: Option<Busy>,
}

impl Tally {
    /// Keeps the busiest source; among equals the lowest address, whatever the order.
    pub fn offer(&mut self, busy: Busy) {
        let rank = |busy: &Busy| (busy.packets, std::cmp::Reverse(busy.source));
        if self.top.is_none_or(|top| rank(&busy) > rank(&top)) {
            self.top = Some(busy);
        }
    }
}

/// The host's counts over the rate window.
#[derive(Debug)]
pub(super) struct Host {
    span: Time,
    previous: HostCounts,
    inbound: Window<TRAFFIC_KINDS>,
    outbound: Window<TRAFFIC_KINDS>,
    totals: Window<{ Total::COUNT }>,
    /// What the latest tick brought. SYNs among it are too young to be judged by what follows.
    fresh: [f64; TRAFFIC_KINDS],
    /// SYNs accounted for in the latest tick.
    fresh_accounted: f64,
    /// SYNs of the sources that were told in the latest tick.
    fresh_told: f64,
}

/// Columns of [`Host::totals`].
#[derive(Clone, Copy, Debug)]
enum Total {
    Packets,
    /// SYNs, one tick late.
    Syns,
    Completed,
    /// SYNs that an alert about their source accounts for, one tick late as well.
    Accounted,
    /// SYNs of the sources that were told, one tick late as well.
    Told,
}

impl Total {
    const COUNT: usize = 5;
}

impl Host {
    pub fn new(span: Time) -> Self {
        Self {
            span,
            previous: HostCounts::default(),
            inbound: Window::default(),
            outbound: Window::default(),
            totals: Window::default(),
            fresh: [0.0; TRAFFIC_KINDS],
            fresh_accounted: 0.0,
            fresh_told: 0.0,
        }
    }

    /// Takes the counts as they are for history.
    pub fn rebase(&mut self, counts: &HostCounts) {
        *self = Self {
            previous: *counts,
            ..Self::new(self.span)
        };
    }

    /// Takes what was counted since the last tick.
    pub fn update(&mut self, interval: Interval, counts: &HostCounts) {
        let Interval { from, now } = interval;
        let before = std::mem::replace(&mut self.previous, *counts);
        let inbound = differences(&before.kinds, &counts.kinds);
        let outbound = differences(&before.kinds_outbound, &counts.kinds_outbound);
        let packets = difference(before.packets, counts.packets);
        let late = std::mem::replace(&mut self.fresh, inbound);
        let syns = late[TrafficKind::Syn as usize];
        self.inbound.add(from, now, self.span, inbound);
        self.outbound.add(from, now, self.span, outbound);
        self.totals
            .add(from, now, self.span, [packets, syns, 0.0, 0.0, 0.0]);
    }

    /// Whether most of what `busy` requests is provably echo: even if all other requests that the
    /// host got were its own.
    pub fn mostly_echo(&self, now: Time, busy: &Busy) -> bool {
        let kinds = self.inbound.sums(now, self.span);
        let others = kinds[TrafficKind::Request as usize] - kinds[TrafficKind::Echo as usize];
        busy.requests - others.max(0.0) >= busy.requests * MAIN_SHARE
    }

    /// Notes what stands out, once all sources of the tick are known.
    pub fn judge(&mut self, book: &mut Book, interval: Interval, rates: &HostRates, tally: &Tally) {
        let Interval { from, now } = interval;
        let late = std::mem::replace(&mut self.fresh_accounted, tally.accounted_syns);
        let told = std::mem::replace(&mut self.fresh_told, tally.syns);
        let columns = [0.0, 0.0, tally.completed, late, told];
        self.totals.add(from, now, self.span, columns);
        let view = View {
            now,
            tick: now.saturating_sub(from),
            fresh: &self.fresh,
            span: self.span,
            kinds: self.inbound.sums(now, self.span),
            answers: self.outbound.sums(now, self.span),
            totals: self.totals.sums(now, self.span),
            started: self.inbound.since(now, self.span),
            tally,
        };
        view.syn_flood(book, rates.syns);
        view.udp_flood(book, rates.udp);
        view.icmp_flood(book, rates.icmp);
        view.amplification(book, rates.amplifier_replies);
        view.reflection(book, rates.syn_acks);
        view.malformed(book, rates.malformed);
    }
}

/// The sums at one moment.
struct View<'a> {
    now: Time,
    tick: Time,
    fresh: &'a [f64; TRAFFIC_KINDS],
    span: Time,
    kinds: [f64; TRAFFIC_KINDS],
    answers: [f64; TRAFFIC_KINDS],
    totals: [f64; Total::COUNT],
    started: Time,
    tally: &'a Tally,
}

impl View<'_> {
    /// SYNs that no handshake follows and no single source's alert accounts for.
    fn syn_flood(&self, book: &mut Book, expected: f64) {
        let syns = self.totals[Total::Syns as usize];
        let completed = self.totals[Total::Completed as usize];
        let accounted = self.totals[Total::Accounted as usize] + self.tally.accounted_syns;
        // When there are more sources than places, not all are told: of the others as many shake hands.
        let told = self.totals[Total::Told as usize];
        let unknown = (syns - accounted - told).max(0.0);
        let completed = completed + completed.min(told) / told.max(1.0) * unknown;
        let unfinished = syns - accounted - completed;
        if unfinished < (unfinished + completed) * UNFINISHED_SHARE {
            return;
        }
        let sign = self.sign(
            AlertKind::SynFlood,
            Subject::Host,
            unfinished,
            expected,
            "SYNs/s",
        );
        book.note(self.now, sign, || Details {
            why: format!(
                "{:.0} SYNs came in {} that nothing followed; {completed:.0} became connections.",
                unfinished,
                span(self.span),
            ),
            evidence: self.with_top(evidence([
                ("syns", syns),
                ("unfinished", unfinished),
                ("completed", completed),
                ("syns_of_alerted_sources", accounted),
                ("window_seconds", seconds(self.span)),
            ])),
        });
    }

    /// Datagrams that hardly any go back for.
    fn udp_flood(&self, book: &mut Book, expected: f64) {
        let udp = self.inbound(TrafficKind::Udp) - self.inbound(TrafficKind::AmplifierReply);
        let answers = self.answers[TrafficKind::Udp as usize];
        if answers > udp * ANSWERED_SHARE {
            return;
        }
        if !self.goes_on(TrafficKind::Udp, expected) {
            return;
        }
        let subject = self.subject(book, AlertKind::UdpFlood, udp);
        let sign = self.sign(AlertKind::UdpFlood, subject, udp, expected, "packets/s");
        book.note(self.now, sign, || Details {
            why: format!(
                "{:.0} UDP packets/s came in and {:.0}/s went out.",
                sign.observed,
                answers / seconds(self.span),
            ),
            evidence: self.with_top(evidence([
                ("udp_packets", udp),
                ("udp_packets_out", answers),
                ("window_seconds", seconds(self.span)),
            ])),
        });
    }

    fn icmp_flood(&self, book: &mut Book, expected: f64) {
        let echo = self.inbound(TrafficKind::Echo);
        let errors = self.inbound(TrafficKind::IcmpError);
        let other = self.inbound(TrafficKind::IcmpOther);
        // What a recording shows of errors answers what it shows of packets.
        let answered = if self.is_one_sided() {
            self.inbound(TrafficKind::Udp) + self.inbound(TrafficKind::Syn)
        } else {
            0.0
        };
        let icmp = echo + other + (errors - answered).max(0.0);
        let kinds = [
            TrafficKind::Echo,
            TrafficKind::IcmpError,
            TrafficKind::IcmpOther,
        ];
        if !kinds.into_iter().any(|kind| self.goes_on(kind, expected)) {
            return;
        }
        let subject = self.subject(book, AlertKind::IcmpFlood, icmp);
        let sign = self.sign(AlertKind::IcmpFlood, subject, icmp, expected, "packets/s");
        book.note(self.now, sign, || Details {
            why: format!("{:.0} ICMP packets/s came in.", sign.observed),
            evidence: self.with_top(evidence([
                ("echo_requests", echo),
                ("errors", errors),
                ("other", other),
                ("window_seconds", seconds(self.span)),
            ])),
        });
    }

    /// Replies of services that amplify, beyond what the host asked for.
    fn amplification(&self, book: &mut Book, expected: f64) {
        let replies = self.inbound(TrafficKind::AmplifierReply);
        let asked = if self.is_one_sided() {
            self.inbound(TrafficKind::Udp) - replies
        } else {
            self.answers[TrafficKind::Request as usize]
        };
        let unasked = replies - asked;
        let sign = self.sign(
            AlertKind::Amplification,
            Subject::Host,
            unasked,
            expected,
            "packets/s",
        );
        book.note(self.now, sign, || Details {
            why: format!(
                "{:.0} replies/s came from ports of services that amplify, and nobody asked.",
                sign.observed,
            ),
            evidence: self.with_top(evidence([
                ("replies", replies),
                ("asked", asked),
                ("window_seconds", seconds(self.span)),
            ])),
        });
    }

    /// SYN-ACKs for SYNs that the host never sent.
    fn reflection(&self, book: &mut Book, expected: f64) {
        let replies = self.inbound(TrafficKind::SynAck);
        let asked = if self.is_one_sided() {
            self.inbound(TrafficKind::Syn)
        } else {
            self.answers[TrafficKind::Syn as usize]
        };
        let unasked = replies - asked;
        let sign = self.sign(
            AlertKind::Reflection,
            Subject::Host,
            unasked,
            expected,
            "SYN-ACKs/s",
        );
        book.note(self.now, sign, || Details {
            why: format!(
                "{:.0} SYN-ACKs/s came in answer to SYNs that this host did not send.",
                sign.observed,
            ),
            evidence: self.with_top(evidence([
                ("syn_acks", replies),
                ("syns_sent", asked),
                ("resets", self.inbound(TrafficKind::Reset)),
                ("window_seconds", seconds(self.span)),
            ])),
        });
    }

    fn malformed(&self, book: &mut Book, expected: f64) {
        let malformed = self.inbound(TrafficKind::Malformed);
        let sign = self.sign(
            AlertKind::Malformed,
            Subject::Host,
            malformed,
            expected,
            "packets/s",
        );
        book.note(self.now, sign, || Details {
            why: format!(
                "{:.0} packets/s contradicted themselves or came from impossible sources.",
                sign.observed,
            ),
            evidence: self.with_top(evidence([
                ("malformed", malformed),
                ("window_seconds", seconds(self.span)),
            ])),
        });
    }

    /// Whether the latest tick brought its share too. When a flood is over, the window still holds
    /// it, but its sender is no longer there to be named.
    fn goes_on(&self, kind: TrafficKind, expected: f64) -> bool {
        self.fresh[kind as usize] >= expected * RELEASE * seconds(self.tick)
    }

    /// Recordings and hosts without an egress program show one direction only.
    fn is_one_sided(&self) -> bool {
        self.answers.iter().all(|count| *count == 0.0)
    }

    fn inbound(&self, kind: TrafficKind) -> f64 {
        self.kinds[kind as usize]
    }

    /// The source that provably sent most of `count` packets of a kind, even if all packets of
    /// other kinds were its own; otherwise the host. An alert keeps the subject it fired with.
    fn subject(&self, book: &Book, kind: AlertKind, count: f64) -> Subject {
        let others = (self.totals[Total::Packets as usize] - count).max(0.0);
        match self.tally.top {
            Some(top)
                if top.packets - others >= count * MAIN_SHARE
                    && !book.fires(kind, Subject::Host) =>
            {
                Subject::source(top.source)
            }
            _ => Subject::Host,
        }
    }

    fn sign(
        &self,
        kind: AlertKind,
        subject: Subject,
        count: f64,
        expected: f64,
        unit: &'static str,
    ) -> Sign {
        Sign {
            kind,
            subject,
            observed: (count / seconds(self.span)).round(),
            expected,
            unit,
            started: self.started,
        }
    }

    fn with_top(
        &self,
        mut evidence: serde_json::Map<String, serde_json::Value>,
    ) -> serde_json::Map<String, serde_json::Value> {
        if let Some(top) = self.tally.top {
            let source = Subject::source(top.source).to_string();
            evidence.insert("top_source".into(), source.into());
            let packets = top.packets.round() as u64;
            evidence.insert("top_source_packets".into(), packets.into());
        }
        evidence
    }
}

fn differences(
    before: &[u64; TRAFFIC_KINDS],
    after: &[u64; TRAFFIC_KINDS],
) -> [f64; TRAFFIC_KINDS] {
    std::array::from_fn(|kind| difference(before[kind], after[kind]))
}

/// What was added; a counter that went back was reset and says nothing this time.
fn difference(before: u64, after: u64) -> f64 {
    after.saturating_sub(before) as f64
}
