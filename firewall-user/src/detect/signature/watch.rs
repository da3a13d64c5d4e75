//! Keeps samples of what is ordinary and of what came last, and looks for the signature of each flood
//! that an alert tells of.

use std::collections::{BTreeMap, VecDeque};

use firewall_common::sampling::Class;
use serde::{Deserialize, Serialize};

use super::about::{About, answers, is_of_strangers, is_one_source};
use super::{Limits, Material, Reservoir, Search, Specimen, search_all};
use crate::detect::{Alert, AlertKind, Sighting, Time};

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
/// For so long a search is repeated, each time after twice the pause of the time before, and then no more.
const EAGER: Time = 3 * SECOND;
const FIRST_PAUSE: Time = SECOND / 5;
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

/// What is ordinary, as it is kept across restarts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KeptOrdinary {
    specimens: Vec<Specimen>,
    rate: Option<(f64, Time)>,
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
    /// Not looked at before.
    next: Time,
    pause: Time,
    done: bool,
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

/// What came of a look.
enum Examined {
    Told(Finding),
    /// Nothing was found. It pays to wait for more packets.
    InVain,
    /// There are too few packets to look for anything.
    TooEarly,
}

impl Flood {
    fn is_due(&self, now: Time) -> bool {
        // A clock that was set back must not put it off.
        !self.done && (now >= self.next || now < self.since)
    }
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
        // One that names a single source is answered by source, and that a network's addresses are new says
        // nothing about their packets; but what it brings is not ordinary.
        let done = alert
            .subject
            .prefix()
            .is_some_and(|prefix| is_one_source(prefix) || alert.kind == AlertKind::NewSourceSurge);
        self.floods.entry(alert.id).or_insert(Flood {
            about: About::of(alert),
            since: alert.detected,
            next: 0,
            pause: FIRST_PAUSE,
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
            (flood.next, flood.pause) = (now, FIRST_PAUSE);
            // What came before is covered.
            self.pieces.clear();
        }
    }

    /// What can be said by now, by the number of the alert; each is told of once.
    pub fn look(&mut self, now: Time) -> Vec<(u64, Finding)> {
        let due: Vec<(u64, About, Time)> = self
            .floods
            .iter()
            .filter(|(_, flood)| flood.is_due(now))
            .map(|(id, flood)| (*id, flood.about, flood.since))
            .collect();
        let mut told = Vec::new();
        for (id, about, since) in due {
            let late = now.saturating_sub(since) >= EAGER;
            let examined = self.examine(about, now, late);
            let Some(flood) = self.floods.get_mut(&id) else {
                continue;
            };
            match examined {
                Examined::Told(finding) => {
                    told.push((id, finding));
                    flood.done = true;
                }
                Examined::InVain => {
                    flood.next = now.saturating_add(flood.pause);
                    flood.pause = flood.pause.saturating_mul(2);
                }
                Examined::TooEarly => {}
            }
        }
        told
    }

    /// What is ordinary, to be kept across restarts.
    pub fn kept(&self, now: Time) -> KeptOrdinary {
        // With the weights of now, so that age counts once.
        let specimens = self.ordinary.specimens(now).into_iter();
        KeptOrdinary {
            specimens: specimens
                .map(|specimen| Specimen {
                    time: now,
                    ..specimen
                })
                .collect(),
            rate: self.rate,
        }
    }

    /// Takes up what was kept before: a flood that begins with the daemon is told from what came until then.
    pub fn restore(&mut self, kept: KeptOrdinary) {
        for specimen in kept.specimens.into_iter().take(ORDINARY) {
            if specimen.weight.is_finite() {
                self.ordinary.add(specimen);
            }
        }
        self.rate = kept
            .rate
            .filter(|(rate, _)| rate.is_finite() && *rate >= 0.0);
    }

    /// The packets of strangers a second that were let through lately and belong to a kind of alert.
    pub fn passing(&self, about: About, now: Time, over: Time) -> f64 {
        let from = now.saturating_sub(over);
        let pieces = self.pieces.iter().filter(|piece| piece.start >= from);
        let weight: f64 = pieces
            .map(|piece| piece.passed.weight(|specimen| about.is_about(specimen)))
            .sum();
        weight / (over as f64 / SECOND as f64)
    }

    /// Looks for signatures. When it is late, something is said.
    fn examine(&self, about: About, now: Time, late: bool) -> Examined {
        let Some(onset) = self.onset(about) else {
            return Examined::TooEarly;
        };
        let (mut attack, mut passed, mut dropped) = (Vec::new(), 0.0, 0.0);
        for piece in self.pieces.iter().filter(|piece| piece.start >= onset) {
            // No fading within seconds: the time does not matter.
            let mut picked = piece.passed.specimens(0);
            picked.retain(|specimen| about.is_about(specimen));
            passed += picked.iter().map(|specimen| specimen.weight).sum::<f64>();
            dropped += piece.dropped.weight(|specimen| about.is_about(specimen));
            attack.extend(picked);
        }
        if dropped > (passed + dropped) * DROPPED {
            return Examined::Told(Finding::Dropped);
        }
        if attack.len() < FEW {
            return if late {
                Examined::Told(Finding::TooFew)
            } else {
                Examined::TooEarly
            };
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
        if found || late {
            Examined::Told(Finding::Looked(searches))
        } else {
            Examined::InVain
        }
    }

    /// Since when packets of a kind come as they do now; the beginning of a piece.
    fn onset(&self, about: About) -> Option<Time> {
        let weights: Vec<(Time, f64)> = self
            .pieces
            .iter()
            .map(|piece| {
                let of = |sample: &Reservoir| sample.weight(|specimen| about.is_about(specimen));
                (piece.start, of(&piece.passed) + of(&piece.dropped))
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

#[cfg(test)]
mod tests;
