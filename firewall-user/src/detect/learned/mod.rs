//! What is usual for the host and for each service, learned from their counts, and what departs from it: a rise that
//! nobody expected at this time of the day, or customers that stay away.
//!
//! Each count has a [`Baseline`](super::baseline::Baseline) of its rate by the minute and one of its bursts. What is known
//! is kept across restarts ([`Learned::kept`]).

mod limits;
mod measure;
mod series;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::limits::Sensitivity;
pub use self::measure::Measure;
use self::series::Series;
pub use self::series::{DEFAULT_SPAN, Departure, Side};
use super::Time;
use super::baseline::Expected;

/// The form in which it is kept.
const VERSION: u32 = 1;
/// Most services of which something is learned.
pub const MOST_SERVICES: usize = 256;
const MEASURES: usize = Measure::ALL.len();

/// Counts of one span, indexed by [`Measure`]; those that are not known are left out.
pub type Counts = [Option<f64>; MEASURES];

/// Whose counts these are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    Host,
    Service(String),
}

/// A count that departs from what was learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finding {
    pub measure: Measure,
    pub departure: Departure,
}

/// The last whole minute of a count beside what was expected of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub measure: Measure,
    pub observed: f64,
    pub expected: Expected,
    /// Too little was seen yet for a departure to mean anything.
    pub learning: bool,
}

/// All that is learned.
#[derive(Clone, Debug)]
pub struct Learned {
    sensitivity: Sensitivity,
    /// By spans of this length.
    span: Time,
    owners: BTreeMap<Owner, [Series; MEASURES]>,
}

/// What is kept across restarts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    version: u32,
    #[serde(default = "default_span")]
    span: Time,
    owners: Vec<(Owner, Vec<(Measure, Series)>)>,
}

impl Learned {
    /// Learns by spans of this length ([`DEFAULT_SPAN`]).
    pub fn new(sensitivity: Sensitivity, span: Time) -> Self {
        Self {
            sensitivity,
            span,
            owners: BTreeMap::new(),
        }
    }

    /// Takes what was counted between two moments, and gives what departs from the usual.
    pub fn add(&mut self, owner: &Owner, span: (Time, Time), counts: &Counts) -> Vec<Finding> {
        let limits = self.sensitivity.limits(self.span);
        let is_full = self.owners.len() > MOST_SERVICES;
        let all = match self.owners.get_mut(owner) {
            Some(all) => all,
            None if is_full => return Vec::new(),
            None => self.owners.entry(owner.clone()).or_default(),
        };
        let known = Measure::ALL.into_iter().zip(all).zip(counts);
        let findings = known.filter_map(|((measure, series), count)| {
            let departure = series.add(span, (*count)?, measure, &limits)?;
            Some(Finding { measure, departure })
        });
        findings.collect()
    }

    /// Counts were lost or set back, or the clock was: the minutes around that say nothing.
    pub fn forget_lately(&mut self) {
        for series in self.owners.values_mut().flatten() {
            series.forget_lately();
        }
    }

    /// Makes room: of services that are no more, what was learned is forgotten once there are very many.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        if self.owners.len() > MOST_SERVICES {
            self.owners.retain(|owner, _| match owner {
                Owner::Host => true,
                Owner::Service(name) => is_there(name),
            });
        }
    }

    /// The last whole minutes beside what was expected of them.
    pub fn readings(&self) -> impl Iterator<Item = (&Owner, Reading)> {
        self.owners.iter().flat_map(|(owner, all)| {
            let known = Measure::ALL.into_iter().zip(all);
            known.filter_map(move |(measure, series)| {
                let (observed, expected) = series.latest()?;
                let reading = Reading {
                    measure,
                    observed,
                    expected,
                    learning: series.usual_burst().is_none(),
                };
                Some((owner, reading))
            })
        })
    }

    /// The highest burst of a count that is usual now; nothing during the warm-up.
    pub fn usual_burst(&self, owner: &Owner, measure: Measure) -> Option<f64> {
        let place = Measure::ALL.iter().position(|one| *one == measure)?;
        self.owners.get(owner)?[place].usual_burst()
    }

    /// What is to be kept.
    pub fn kept(&self) -> Kept {
        let owners = self.owners.iter().map(|(owner, all)| {
            let series = Measure::ALL.into_iter().zip(all.iter().cloned());
            (owner.clone(), series.collect())
        });
        Kept {
            version: VERSION,
            span: self.span,
            owners: owners.collect(),
        }
    }

    /// Takes up what was kept; the error says what is wrong with it.
    pub fn restore(&mut self, kept: Kept) -> Result<(), String> {
        if kept.version != VERSION {
            return Err(format!("version {} is unknown", kept.version));
        }
        if kept.span != self.span {
            // What is usual within a minute is not what is usual within seconds: it is learned anew.
            return Ok(());
        }
        for (owner, series) in kept.owners.into_iter().take(MOST_SERVICES + 1) {
            let all = self.owners.entry(owner).or_default();
            for (measure, series) in series {
                if let Some(place) = Measure::ALL.iter().position(|one| *one == measure) {
                    all[place] = series;
                }
            }
        }
        Ok(())
    }
}

const fn default_span() -> Time {
    DEFAULT_SPAN
}

#[cfg(test)]
mod tests;
