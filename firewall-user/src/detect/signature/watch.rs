//! Keeps samples of what is ordinary and of what came last, and looks for the signature of each flood
//! that an alert tells of.

use std::collections::{BTreeMap, VecDeque};

use firewall_common::packet::{flag, protocol};
use firewall_common::sampling::Class;
use firewall_common::signature::Number;
use firewall_common::{Direction, Reason, Verdict};
use ipnet::IpNet;

use super::{Limits, Material, Reservoir, Search, Specimen, search_all};
use crate::detect::{Alert, AlertKind, Sighting, Time};
use crate::engine;

const SECOND: Time = 1_000_000_000;
/// What came last is kept in pieces of this length, ...
const PIECE: Time = SECOND / 10;
/// ... for so long: a flood must be told of within that time, or its beginning is taken for ordinary.
const KEPT: Time = 5 * SECOND;
/// Packets of a piece.
const PER_PIECE: usize = 256;
/// Packets that stand for what is ordinary.
const ORDINARY: usize = 4_096;
/// What is older by this counts half.
const HALF_LIFE: Time = 3_600 * SECOND;
/// Over how long the rate of ordinary packets is averaged, in seconds.
const RATE_OVER: f64 = 60.0;
/// A flood began where its packets came at this share of their highest rate.
const ONSET: f64 = 0.25;
/// Sighted packets without which nothing is looked for.
const FEW: usize = 40;
/// For so long a search is repeated with each look, and then no more.
const EAGER: Time = 3 * SECOND;
/// Signatures for one flood.
const MOST: usize = 3;
/// What is dropped anyway needs no signature, when it is so much of the flood.
const DROPPED: f64 = 0.9;

/// Watches packets for signatures.
#[derive(Debug)]
pub struct Watch {
    limits: Limits,
    ordinary: Reservoir,
    /// Ordinary packets a second, and until when they were counted.
    rate: Option<(f64, Time)>,
    pieces: VecDeque<Piece>,
    floods: BTreeMap<u64, Flood>,
    /// What came before was of a time of floods.
    quiet_since: Time,
}

/// A moment.
#[derive(Debug)]
struct Piece {
    start: Time,
    passed: Reservoir,
    dropped: Reservoir,
}

/// An alert that is answered with a signature.
#[derive(Debug)]
struct Flood {
    about: About,
    since: Time,
    done: bool,
}

/// Which packets an alert is about.
#[derive(Clone, Copy, Debug)]
pub struct About {
    kind: AlertKind,
    /// Their sources, if they have a prefix in common.
    within: Option<IpNet>,
}

/// What is to be said about an alert.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Signatures, best first; and whether there is one for the rest at last.
    Looked(Vec<Search>),
    /// The policy drops nearly all of it anyway.
    Dropped,
    /// Too few packets were seen.
    TooFew,
}

impl Watch {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ordinary: Reservoir::fading(ORDINARY, HALF_LIFE),
            rate: None,
            pieces: VecDeque::new(),
            floods: BTreeMap::new(),
            quiet_since: 0,
        }
    }

    /// Takes in what was seen since the last time.
    pub fn take(&mut self, now: Time, sightings: &[Sighting]) {
        // A sighting speaks for those before it that were not shown, whatever became of them: all of a
        // class that came in one look stand for equally many.
        let mut classes = [(0.0, 0.0); Class::ALL.len()];
        for sighting in sightings {
            let (packets, count) = &mut classes[sighting.class as usize];
            *packets += sighting.packets as f64;
            *count += 1.0;
        }
        for sighting in sightings {
            let Some(passed) = is_of_strangers(sighting) else {
                continue;
            };
            let (packets, count) = classes[sighting.class as usize];
            let specimen = Specimen::sighted(sighting, packets / count);
            let piece = self.piece(sighting.time);
            if passed {
                piece.passed.add(specimen);
            } else {
                piece.dropped.add(specimen);
            }
        }
        self.retire(now);
    }

    /// An alert fires.
    pub fn fired(&mut self, alert: &Alert) {
        if !answers(alert.kind) {
            return;
        }
        // One that names a single source is answered by source; but what it brings is not ordinary.
        let done = alert.subject.prefix().is_some_and(is_one_source);
        self.floods.entry(alert.id).or_insert(Flood {
            about: About::of(alert),
            since: alert.detected,
            done,
        });
    }

    /// An alert is over.
    pub fn resolved(&mut self, id: u64) {
        self.floods.remove(&id);
    }

    /// Looks again for what is left of a flood in spite of its signatures.
    pub fn look_again(&mut self, id: u64, now: Time) {
        if let Some(flood) = self.floods.get_mut(&id) {
            flood.done = false;
            flood.since = now;
            // What came before is covered.
            self.pieces.clear();
        }
    }

    /// What can be said by now, by the number of the alert; each is told of once.
    pub fn look(&mut self, now: Time) -> Vec<(u64, Finding)> {
        let due: Vec<(u64, About, Time)> = self
            .floods
            .iter()
            .filter(|(_, flood)| !flood.done)
            .map(|(id, flood)| (*id, flood.about, flood.since))
            .collect();
        let mut told = Vec::new();
        for (id, about, since) in due {
            let late = now.saturating_sub(since) >= EAGER;
            if let Some(finding) = self.examine(about, now, late) {
                told.push((id, finding));
                if let Some(flood) = self.floods.get_mut(&id) {
                    flood.done = true;
                }
            }
        }
        told
    }

    /// The packets of strangers a second that were let through lately and belong to a kind of alert.
    pub fn passing(&self, about: About, now: Time, over: Time) -> f64 {
        let from = now.saturating_sub(over);
        let pieces = self.pieces.iter().filter(|piece| piece.start >= from);
        let weight: f64 = pieces.map(|piece| weight(about, &piece.passed)).sum();
        weight / (over as f64 / SECOND as f64)
    }

    /// Looks for signatures; `None` as long as it pays to wait. When it is late, something is said.
    fn examine(&self, about: About, now: Time, late: bool) -> Option<Finding> {
        let onset = self.onset(about)?;
        let (mut attack, mut passed, mut dropped) = (Vec::new(), 0.0, 0.0);
        for piece in self.pieces.iter().filter(|piece| piece.start >= onset) {
            let picked = picked(about, &piece.passed);
            passed += picked.iter().map(|specimen| specimen.weight).sum::<f64>();
            dropped += weight(about, &piece.dropped);
            attack.extend(picked);
        }
        if dropped > (passed + dropped) * DROPPED {
            return Some(Finding::Dropped);
        }
        if attack.len() < FEW {
            return late.then_some(Finding::TooFew);
        }
        let ordinary = self.ordinary.specimens(now);
        let seconds = now.saturating_sub(onset) as f64 / SECOND as f64;
        let expected = self.rate.map_or(0.0, |(rate, _)| rate * seconds);
        let (mut all, mut of_kind) = (0.0, 0.0);
        for specimen in &ordinary {
            all += specimen.weight;
            if about.is_about(specimen) {
                of_kind += specimen.weight;
            }
        }
        let among = if all > 0.0 {
            expected * of_kind / all
        } else {
            0.0
        };
        let material = Material {
            attack: &attack,
            ordinary: &ordinary,
            expected,
            among,
        };
        let searches = search_all(material, self.limits, MOST);
        let found = matches!(searches.first(), Some(Search::Found(_)));
        (found || late).then_some(Finding::Looked(searches))
    }

    /// Since when packets of a kind come as they do now; the beginning of a piece.
    fn onset(&self, about: About) -> Option<Time> {
        let weights: Vec<(Time, f64)> = self
            .pieces
            .iter()
            .map(|piece| {
                let all = weight(about, &piece.passed) + weight(about, &piece.dropped);
                (piece.start, all)
            })
            .collect();
        let most = weights
            .iter()
            .map(|(_, weight)| *weight)
            .fold(0.0, f64::max);
        if most == 0.0 {
            return None;
        }
        let mut onset = None;
        let mut gaps = 0;
        for (start, weight) in weights.iter().rev() {
            if *weight >= most * ONSET {
                onset = Some(*start);
                gaps = 0;
            } else if onset.is_some() {
                gaps += 1;
                // A sender, or this daemon, may have been held up for a moment.
                if gaps > 1 {
                    break;
                }
            }
        }
        onset
    }

    /// The piece of a time.
    fn piece(&mut self, time: Time) -> &mut Piece {
        let start = time - time % PIECE;
        let at = match self
            .pieces
            .binary_search_by_key(&start, |piece| piece.start)
        {
            Ok(at) => at,
            Err(at) => {
                let piece = Piece {
                    start,
                    passed: Reservoir::new(PER_PIECE),
                    dropped: Reservoir::new(PER_PIECE / 8),
                };
                self.pieces.insert(at, piece);
                at
            }
        };
        &mut self.pieces[at]
    }

    /// Takes what is old enough for ordinary, unless a flood goes on.
    fn retire(&mut self, now: Time) {
        if !self.floods.is_empty() {
            self.quiet_since = now;
        }
        while let Some(first) = self.pieces.front()
            && first.start.saturating_add(KEPT) <= now
        {
            let Some(piece) = self.pieces.pop_front() else {
                return;
            };
            if piece.start < self.quiet_since {
                // The time of a flood says nothing about ordinary rates.
                self.rate = self.rate.map(|(rate, _)| (rate, piece.start + PIECE));
                continue;
            }
            let specimens = piece.passed.specimens(piece.start);
            self.count(piece.start, specimens.iter().map(|one| one.weight).sum());
            for specimen in specimens {
                self.ordinary.add(specimen);
            }
        }
        // A clock that was set back leaves pieces of the future.
        self.quiet_since = self.quiet_since.min(now);
        self.pieces
            .retain(|piece| piece.start <= now.saturating_add(SECOND));
    }

    /// Counts the ordinary packets of a piece.
    fn count(&mut self, start: Time, packets: f64) {
        let until = start + PIECE;
        let (rate, since) = self.rate.unwrap_or((0.0, start));
        let seconds = until.saturating_sub(since).max(PIECE) as f64 / SECOND as f64;
        let share = if self.rate.is_some() {
            1.0 - (-seconds / RATE_OVER).exp()
        } else {
            1.0
        };
        let rate = rate + (packets / seconds - rate) * share;
        self.rate = Some((rate, until));
    }
}

impl About {
    /// What an alert is about.
    pub fn of(alert: &Alert) -> Self {
        Self {
            kind: alert.kind,
            within: alert.subject.prefix(),
        }
    }

    fn is_about(&self, specimen: &Specimen) -> bool {
        belongs(self.kind, specimen)
            && self
                .within
                .is_none_or(|prefix| prefix.contains(&engine::ip_address(specimen.shown.source)))
    }
}

/// Whether a prefix is what is accounted as one source.
fn is_one_source(prefix: IpNet) -> bool {
    match prefix {
        IpNet::V4(prefix) => prefix.prefix_len() == 32,
        IpNet::V6(prefix) => prefix.prefix_len() >= 64,
    }
}

/// Whether the sender's packet was let through without belonging to a connection: what a signature
/// would have had a say in. `None` for what it would not.
fn is_of_strangers(sighting: &Sighting) -> Option<bool> {
    if sighting.direction != Direction::Inbound {
        return None;
    }
    match (sighting.reason, sighting.verdict) {
        (Reason::Rule | Reason::Default, Verdict::Pass) | (Reason::Limit, _) => Some(true),
        (Reason::Rule | Reason::Default | Reason::Ban, Verdict::Drop) => Some(false),
        _ => None,
    }
}

/// Whether alerts of a kind are about packets that a signature may tell.
fn answers(kind: AlertKind) -> bool {
    matches!(
        kind,
        AlertKind::SynFlood
            | AlertKind::UdpFlood
            | AlertKind::IcmpFlood
            | AlertKind::RequestFlood
            | AlertKind::Amplification
            | AlertKind::Reflection
            | AlertKind::NewSourceSurge
            | AlertKind::TrafficSpike
    )
}

/// Whether a packet is of what an alert of a kind is about.
fn belongs(kind: AlertKind, specimen: &Specimen) -> bool {
    let number = specimen.number(Number::Protocol);
    let is = |wanted: u8| number == u32::from(wanted);
    let flags = specimen.shown.flags;
    let has = |bit: u8| flags & u32::from(bit) != 0;
    match kind {
        AlertKind::SynFlood => is(protocol::TCP) && has(flag::SYN) && !has(flag::ACK),
        AlertKind::Reflection => is(protocol::TCP) && has(flag::SYN) && has(flag::ACK),
        AlertKind::UdpFlood | AlertKind::Amplification => is(protocol::UDP),
        AlertKind::IcmpFlood => is(protocol::ICMP) || is(protocol::ICMPV6),
        _ => true,
    }
}

fn picked(about: About, from: &Reservoir) -> Vec<Specimen> {
    // No fading within seconds: the time does not matter.
    let mut specimens = from.specimens(0);
    specimens.retain(|specimen| about.is_about(specimen));
    specimens
}

fn weight(about: About, of: &Reservoir) -> f64 {
    picked(about, of).iter().map(|one| one.weight).sum()
}

#[cfg(test)]
mod tests {
    use firewall_common::Address;
    use firewall_common::packet::{Packet, mark};

    use super::*;
    use crate::detect::{AlertState, Severity, Subject};

    const LIMITS: Limits = Limits { collateral: 0.02 };

    /// A SYN to the shop: of a visitor, or of the flood.
    fn syn(time: Time, number: u64, flood: bool) -> Sighting {
        let source =
            Address::v4(0x5d00_0000 | (number.wrapping_mul(2_654_435_761) & 0x3f_ffff) as u32);
        let packet = Packet {
            source,
            sender: source,
            ip_length: if flood { 40 } else { 60 },
            protocol: protocol::TCP,
            tcp_flags: flag::SYN,
            tcp_window: if flood { 512 } else { 64_240 },
            ttl: 40 + (number % 20) as u8,
            source_port: 1_024 + (number.wrapping_mul(40_503) % 60_000) as u16,
            destination_port: 443,
            marks: mark::PORTS,
            ..Packet::default()
        };
        Sighting {
            reason: Reason::Rule,
            ..Sighting::new(time, packet, Class::Contact, &[])
        }
    }

    fn alert(id: u64, detected: Time) -> Alert {
        Alert {
            id,
            kind: AlertKind::SynFlood,
            subject: Subject::Host,
            severity: Severity::Critical,
            state: AlertState::Firing,
            started: detected,
            detected,
            ended: None,
            observed: 1.0,
            expected: 1.0,
            unit: String::new(),
            why: String::new(),
            evidence: serde_json::Map::new(),
            response: Vec::new(),
            incident: None,
        }
    }

    /// Ticks of a tenth of a second with so many visitors each, and a flood of so many.
    fn run(watch: &mut Watch, from: Time, ticks: u64, visitors: u64, flood: u64) -> Time {
        let mut now = from;
        for _ in 0..ticks {
            let at = |number: u64, of: u64| now + number * PIECE / of;
            let seed = now / PIECE * 1_000;
            let mut seen: Vec<_> = (0..visitors)
                .map(|number| syn(at(number, visitors), seed + number, false))
                .collect();
            seen.extend((0..flood).map(|number| syn(at(number, flood), seed * 7 + number, true)));
            now += PIECE;
            watch.take(now, &seen);
        }
        now
    }

    fn found(findings: &[(u64, Finding)]) -> &super::super::Signature {
        let [(_, Finding::Looked(searches))] = findings else {
            panic!("{findings:?}");
        };
        let Some(Search::Found(signature)) = searches.first() else {
            panic!("{searches:?}");
        };
        signature
    }

    #[test]
    fn a_flood_has_its_signature_in_the_tick_in_which_the_alert_fires() {
        let mut watch = Watch::new(LIMITS);
        let now = run(&mut watch, 1_000 * SECOND, 300, 5, 0);
        let now = run(&mut watch, now, 2, 5, 200);
        watch.fired(&alert(1, now));
        let findings = watch.look(now);
        let signature = found(&findings);
        assert!(signature.harmless, "{signature:?}");
        assert!(signature.coverage > 0.97, "{signature:?}");
        assert!(watch.look(now + PIECE).is_empty(), "it is told of once");
    }

    #[test]
    fn a_flood_does_not_become_ordinary_however_long_it_lasts() {
        let mut watch = Watch::new(LIMITS);
        let now = run(&mut watch, 1_000 * SECOND, 300, 5, 0);
        let start = now;
        let now = run(&mut watch, now, 3, 5, 200);
        watch.fired(&alert(1, now));
        let now = run(&mut watch, now, 600, 5, 200);
        let lengths = watch.ordinary.specimens(now);
        let flood = lengths
            .iter()
            .filter(|specimen| specimen.number(Number::Length) == 40);
        assert_eq!(flood.count(), 0, "since {start}");
        watch.resolved(1);
        let now = run(&mut watch, now, 100, 5, 0);
        watch.fired(&alert(2, now));
        run(&mut watch, now, 2, 5, 200);
        assert!(found(&watch.look(now + 2 * PIECE)).harmless);
    }

    #[test]
    fn a_rush_of_visitors_has_no_signature_and_that_is_said_in_the_end() {
        let mut watch = Watch::new(LIMITS);
        let now = run(&mut watch, 1_000 * SECOND, 300, 5, 0);
        watch.fired(&alert(1, now));
        let now = run(&mut watch, now, 10, 200, 0);
        assert!(watch.look(now).is_empty());
        let now = run(&mut watch, now, 25, 200, 0);
        let findings = watch.look(now);
        let [(1, Finding::Looked(searches))] = &findings[..] else {
            panic!("{findings:?}");
        };
        assert!(matches!(searches[..], [Search::Alike(_)]), "{searches:?}");
    }

    #[test]
    fn what_the_policy_drops_anyway_needs_no_signature() {
        let mut watch = Watch::new(LIMITS);
        let now = 1_000 * SECOND;
        let dropped = (0..500).map(|number| Sighting {
            reason: Reason::Default,
            verdict: Verdict::Drop,
            ..syn(now, number, true)
        });
        watch.take(now, &dropped.collect::<Vec<_>>());
        watch.fired(&alert(1, now));
        assert_eq!(watch.look(now), [(1, Finding::Dropped)]);
    }

    #[test]
    fn an_alert_about_a_source_is_not_answered_but_keeps_its_packets_from_the_ordinary() {
        let mut watch = Watch::new(LIMITS);
        let now = 1_000 * SECOND;
        watch.fired(&Alert {
            subject: Subject::source([203, 0, 113, 7].into()),
            ..alert(1, now)
        });
        let now = run(&mut watch, now, 100, 0, 50);
        assert!(watch.look(now).is_empty());
        assert!(watch.ordinary.is_empty());
    }

    #[test]
    fn time_that_jumps_does_no_harm() {
        let mut watch = Watch::new(LIMITS);
        let now = run(&mut watch, 1_000 * SECOND, 20, 5, 0);
        let back = run(&mut watch, now - 500 * SECOND, 20, 5, 0);
        assert!(watch.pieces.iter().all(|piece| piece.start < back));
        run(&mut watch, now + 1_000_000 * SECOND, 20, 5, 0);
        assert!(watch.pieces.len() <= 51);
    }
}
