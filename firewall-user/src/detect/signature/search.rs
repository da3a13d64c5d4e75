//! The search for the smallest conjunction that tells a flood from ordinary traffic.

use std::collections::BTreeMap;

use firewall_common::signature::{Conditions, NUMBERS};

use super::condition::{Condition, Field, conditions, in_words};
use super::estimate::{Share, information};
use super::{Service, Specimen, propose};

/// Packets of either kind that a search looks at; of more, a sample is taken.
const ATTACK: usize = 1_024;
const ORDINARY: usize = 4_096;
/// How many conjunctions are followed from one size to the next.
const BEAM: usize = 6;
/// Conditions besides the protocol, at most.
const CONDITIONS: usize = 5;
/// A further condition has to tell at least this much more, in bits.
const GAIN: f64 = 0.01;
/// How much of the flood a signature must cover. Less than half, as a flood may have several parts.
const COVERAGE: f64 = 0.25;
/// What is left of a flood after its signatures is looked at again while it is more than this.
const REST: f64 = 0.1;
/// What covers more than this many times what there is of the flood hits ordinary packets that the sample does not show.
const EXCESS: f64 = 1.5;
/// Where more is expected than came, there is still something that made the alert: this share at least is the flood's.
const FLOOD: f64 = 0.1;
/// What it has to tell at all, in bits: less is as good as a guess.
const TELLS: f64 = 0.25;
/// Ordinary packets that are added to the sample as nothing but likely: few of them, so that they
/// matter only where there is hardly a sample.
const ASSUMED: f64 = 4.0;
/// Sighted packets of a service from which on it has a say of its own.
const SERVICE: usize = 5;

const FIELDS: [Field; 10] = [
    Field::Port,
    Field::FromPort,
    Field::Length,
    Field::Ttl,
    Field::TcpFlags,
    Field::TcpWindow,
    Field::IcmpType,
    Field::From,
    Field::Fragment,
    Field::Payload,
];

/// What is to be told apart.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// Packets since the flood began; ordinary ones may be among them.
    pub attack: &'a [Specimen],
    /// Ordinary packets of the time before.
    pub ordinary: &'a [Specimen],
    /// The weight of ordinary packets to be expected within the time of `attack`.
    pub expected: f64,
    /// Of them, those that would be in `attack`: all, unless packets of one kind were picked.
    pub among: f64,
}

/// What a signature must keep to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The share of ordinary packets that it may hit.
    pub collateral: f64,
}

/// A conjunction that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    pub conditions: Vec<Condition>,
    /// The share of the flood that it covers.
    pub coverage: f64,
    /// The share of ordinary packets that it hits.
    pub collateral: Share,
    /// The service that suffers most, and the share of its ordinary packets.
    pub worst: Option<(Service, Share)>,
    /// Whether it covers far more than what there is of the flood: so it hits ordinary packets that the sample does not show.
    pub excessive: bool,
    /// Whether all that is within the limits.
    pub harmless: bool,
}

/// What came of a search.
#[derive(Clone, Debug, PartialEq)]
pub enum Search {
    Found(Signature),
    /// The flood looks like ordinary traffic; the best there is.
    Alike(Option<Signature>),
}

/// Looks for a signature.
pub fn search(material: Material<'_>, limits: Limits) -> Search {
    let attack = propose::thinned(material.attack, ATTACK);
    let ordinary = propose::thinned(material.ordinary, ORDINARY);
    let population = Population::new(&attack, &ordinary, material);
    let mut beam: Vec<Candidate<'_>> = propose::protocols(&population.attack)
        .into_iter()
        .map(|protocol| population.whole().with(protocol, &population))
        .collect();
    let mut best: Option<Candidate<'_>> = None;
    for _ in 0..=CONDITIONS {
        beam.sort_by(|one, other| other.tells.total_cmp(&one.tells));
        beam.dedup_by(|one, other| one.conditions == other.conditions);
        beam.truncate(BEAM);
        let mut next = Vec::new();
        let mut tried = Vec::new();
        for candidate in &beam {
            if best
                .as_ref()
                .is_none_or(|best| candidate.beats(best, limits, &population))
            {
                best = Some(candidate.clone());
            }
            next.extend(candidate.extended(&population, &mut tried));
        }
        if next.is_empty() {
            break;
        }
        beam = next;
    }
    let Some(best) = best.map(|best| best.pruned(limits, &population)) else {
        return Search::Alike(None);
    };
    let signature = best.signature(limits, &population);
    if best.tells < TELLS || best.coverage < COVERAGE {
        return Search::Alike(Some(signature));
    }
    Search::Found(signature)
}

/// Looks for up to `most` signatures: the second for what the first leaves, and so on. Shares of the
/// flood are those of the whole.
pub fn search_all(material: Material<'_>, limits: Limits, most: usize) -> Vec<Search> {
    let mut attack = material.attack.to_vec();
    let mut among = material.among;
    let all = weight(attack.iter());
    let whole = (all - among).max(all * FLOOD);
    let mut found = Vec::new();
    while found.len() < most {
        let rest_of = Material {
            attack: &attack,
            among,
            ..material
        };
        let rest = ((weight(attack.iter()) - among) / whole).min(1.0);
        // The first look is at what made the alert, however little that seems to be.
        if rest.is_nan() || (rest < REST && !found.is_empty()) {
            break;
        }
        let mut outcome = search(rest_of, limits);
        let signature = match &mut outcome {
            Search::Found(signature) => {
                signature.coverage *= rest;
                signature.clone()
            }
            Search::Alike(_) => {
                found.push(outcome);
                break;
            }
        };
        found.push(outcome);
        attack.retain(|specimen| !signature.fits(specimen));
        let hit = material.expected * signature.collateral.share;
        among = (among - hit).max(0.0);
    }
    found
}

impl Signature {
    /// The conditions in one line.
    pub fn in_words(&self) -> String {
        in_words(&self.conditions)
    }

    /// Whether a packet fits.
    pub fn fits(&self, specimen: &Specimen) -> bool {
        conditions(&self.conditions).meet(&specimen.shown)
    }
}

/// All that a search looks at.
struct Population<'a> {
    attack: Vec<&'a Specimen>,
    ordinary: Vec<&'a Specimen>,
    attack_weight: f64,
    expected: f64,
    among: f64,
    ordinary_weight: f64,
    ordinary_squares: f64,
    services: BTreeMap<Service, Totals>,
}

#[derive(Clone, Copy, Default)]
struct Totals {
    count: usize,
    weight: f64,
    squares: f64,
}

impl Totals {
    fn add(&mut self, weight: f64) {
        self.count += 1;
        self.weight += weight;
        self.squares += weight * weight;
    }
}

impl<'a> Population<'a> {
    fn new(attack: &'a [Specimen], ordinary: &'a [Specimen], material: Material<'_>) -> Self {
        let attack_weight = weight(attack.iter());
        let most = attack_weight * (1.0 - FLOOD);
        let scale = if material.among > most {
            most / material.among
        } else {
            1.0
        };
        let mut all = Totals::default();
        let mut services: BTreeMap<Service, Totals> = BTreeMap::new();
        for specimen in ordinary {
            all.add(specimen.weight);
            services
                .entry(specimen.service())
                .or_default()
                .add(specimen.weight);
        }
        Self {
            attack: attack.iter().collect(),
            ordinary: ordinary.iter().collect(),
            attack_weight,
            expected: material.expected * scale,
            among: material.among * scale,
            ordinary_weight: all.weight,
            ordinary_squares: all.squares,
            services,
        }
    }

    fn whole(&self) -> Candidate<'a> {
        Candidate {
            conditions: Vec::new(),
            attack: self.attack.clone(),
            ordinary: self.ordinary.clone(),
            coverage: 1.0,
            excessive: false,
            tells: 0.0,
        }
    }
}

fn weight<'a>(specimens: impl Iterator<Item = &'a Specimen>) -> f64 {
    // The sum of nothing is -0, which people would be shown.
    specimens.map(|specimen| specimen.weight).sum::<f64>() + 0.0
}

/// The number that conditions are about, if they are about one and nothing else.
fn only_number(conditions: &Conditions) -> Option<usize> {
    let everything = Conditions::EVERYTHING;
    let at = (0..NUMBERS).find(|at| {
        (conditions.low[*at], conditions.high[*at]) != (everything.low[*at], everything.high[*at])
    })?;
    let mut others = *conditions;
    (others.low[at], others.high[at]) = (everything.low[at], everything.high[at]);
    (others == everything).then_some(at)
}

/// A conjunction that was judged, and whether it is followed.
struct Tried {
    conjunction: Vec<Condition>,
    tells: f64,
    kept: bool,
}

/// A conjunction, and what meets it.
#[derive(Clone)]
struct Candidate<'a> {
    /// By field.
    conditions: Vec<Condition>,
    attack: Vec<&'a Specimen>,
    ordinary: Vec<&'a Specimen>,
    coverage: f64,
    excessive: bool,
    tells: f64,
}

impl<'a> Candidate<'a> {
    /// Its conditions and one more.
    fn conjunction(&self, condition: &Condition) -> Vec<Condition> {
        let mut conditions = self.conditions.clone();
        conditions.push(condition.clone());
        conditions.sort_by_key(Condition::field);
        conditions
    }

    fn with(&self, condition: Condition, population: &Population<'_>) -> Self {
        let one = conditions(std::slice::from_ref(&condition));
        // Most conditions are about one number: nothing else needs to be read.
        let number = only_number(&one);
        let met = |set: &[&'a Specimen]| -> Vec<&'a Specimen> {
            let mut met = Vec::with_capacity(set.len());
            match number {
                Some(at) => {
                    let range = one.low[at]..=one.high[at];
                    let fits = |specimen: &&Specimen| range.contains(&specimen.shown.numbers[at]);
                    met.extend(set.iter().copied().filter(fits));
                }
                None => {
                    let fits = |specimen: &&Specimen| one.meet(&specimen.shown);
                    met.extend(set.iter().copied().filter(fits));
                }
            }
            met
        };
        let mut candidate = Self {
            conditions: self.conjunction(&condition),
            attack: met(&self.attack),
            ordinary: met(&self.ordinary),
            coverage: 0.0,
            excessive: false,
            tells: 0.0,
        };
        candidate.judge(population);
        candidate
    }

    /// Estimates what it covers and what it tells.
    fn judge(&mut self, population: &Population<'_>) {
        let hit = weight(self.ordinary.iter().copied());
        let (total, squares) = (population.ordinary_weight, population.ordinary_squares);
        let share = if total > 0.0 { hit / total } else { 0.0 };
        // What is ordinary among the packets of the flood's time is not the flood's.
        let covered = weight(self.attack.iter().copied()) - population.expected * share;
        let flood = population.attack_weight - population.among;
        self.coverage = (covered / flood).clamp(0.0, 1.0);
        self.excessive = covered > flood * EXCESS;
        let sample = if squares > 0.0 {
            total * total / squares
        } else {
            0.0
        };
        let likely: f64 = self.conditions.iter().map(Condition::likely).product();
        let ordinary = (share * sample + likely * ASSUMED) / (sample + ASSUMED);
        self.tells = if self.coverage > ordinary {
            // Among conditions that tell alike, one on the source comes last: who has not come
            // lately is not seen among ordinary packets, but may still come.
            let by_source = self.conditions.iter().any(|one| one.field() == Field::From);
            information(self.coverage, ordinary) - if by_source { GAIN * 2.0 } else { 0.0 }
        } else {
            0.0
        };
    }

    /// With one more condition that is worth it. The same conjunction comes about in several orders: `tried` are
    /// those that have been judged.
    fn extended(&self, population: &Population<'_>, tried: &mut Vec<Tried>) -> Vec<Self> {
        let Some(Condition::Protocol(protocol)) = self.conditions.first() else {
            return Vec::new();
        };
        let mut extended = Vec::new();
        for field in FIELDS {
            if self.conditions.iter().any(|known| known.field() == field) {
                continue;
            }
            for condition in propose::conditions(field, *protocol, &self.attack) {
                let wanted = self.tells + GAIN;
                let conjunction = self.conjunction(&condition);
                let known = tried.iter().position(|it| it.conjunction == conjunction);
                if known.is_some_and(|at| tried[at].kept || tried[at].tells < wanted) {
                    continue;
                }
                let candidate = self.with(condition, population);
                let judged = Tried {
                    conjunction,
                    tells: candidate.tells,
                    kept: candidate.tells >= wanted,
                };
                if judged.kept {
                    extended.push(candidate);
                }
                match known {
                    Some(at) => tried[at] = judged,
                    None => tried.push(judged),
                }
            }
        }
        extended
    }

    /// Without the conditions that others make superfluous.
    fn pruned(self, limits: Limits, population: &Population<'a>) -> Self {
        let mut best = self;
        let harmless = best.is_harmless(limits, population);
        let mut at = best.conditions.len();
        while at > 1 {
            at -= 1;
            let mut fewer = population.whole();
            for (index, condition) in best.conditions.iter().enumerate() {
                if index != at {
                    fewer = fewer.with(condition.clone(), population);
                }
            }
            if fewer.tells >= best.tells - GAIN / 2.0
                && (!harmless || fewer.is_harmless(limits, population))
            {
                best = fewer;
            }
        }
        best
    }

    /// Whether it is to be preferred: harmless before telling, and telling before short.
    fn beats(&self, other: &Self, limits: Limits, population: &Population<'_>) -> bool {
        let rank = |candidate: &Self| {
            let covers = candidate.coverage >= COVERAGE;
            (covers && candidate.is_harmless(limits, population), covers)
        };
        match rank(self).cmp(&rank(other)) {
            std::cmp::Ordering::Equal => self.tells > other.tells + GAIN / 2.0,
            order => order.is_gt(),
        }
    }

    fn is_harmless(&self, limits: Limits, population: &Population<'_>) -> bool {
        !self.excessive
            && self.collateral(population).at_most <= limits.collateral
            && self
                .worst(population)
                .is_none_or(|(_, share)| share.at_least <= limits.collateral)
    }

    fn collateral(&self, population: &Population<'_>) -> Share {
        Share::of(
            weight(self.ordinary.iter().copied()),
            population.ordinary_weight,
            population.ordinary_squares,
        )
    }

    /// The service that provably loses the largest share of its ordinary packets.
    fn worst(&self, population: &Population<'_>) -> Option<(Service, Share)> {
        let mut hits: BTreeMap<Service, f64> = BTreeMap::new();
        for specimen in &self.ordinary {
            *hits.entry(specimen.service()).or_default() += specimen.weight;
        }
        let shares = hits.into_iter().filter_map(|(service, hit)| {
            let all = population.services.get(&service)?;
            (all.count >= SERVICE).then(|| (service, Share::of(hit, all.weight, all.squares)))
        });
        shares.max_by(|one, other| one.1.at_least.total_cmp(&other.1.at_least))
    }

    fn signature(&self, limits: Limits, population: &Population<'_>) -> Signature {
        Signature {
            conditions: self.conditions.clone(),
            coverage: self.coverage,
            collateral: self.collateral(population),
            worst: self.worst(population),
            excessive: self.excessive,
            harmless: self.is_harmless(limits, population),
        }
    }
}
