//! What the view knows at one moment: the daemon's documents, and rates between two of them.

use std::collections::HashMap;

use crate::daemon::documents::{BanDocument, RuleDocument, Services, SourceDocument, Status};
use crate::detect::Incident;

/// The daemon's documents, as they were read together.
#[derive(Clone, Debug)]
pub struct Documents {
    pub status: Status,
    pub sources: Vec<SourceDocument>,
    pub services: Services,
    pub rules: Vec<RuleDocument>,
    pub incidents: Vec<Incident>,
    pub bans: Vec<BanDocument>,
}

/// Documents, with how fast the counts of rules and services grew.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub documents: Documents,
    /// Packets per second by rule.
    pub rule_rates: HashMap<String, f64>,
    /// Per second by service and measure.
    pub service_rates: HashMap<(String, &'static str), f64>,
}

/// Seconds over which rates are averaged.
const WINDOW: f64 = 5.0;

/// Turns counts that grow into rates.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    rules: Growth<String>,
    services: Growth<(String, &'static str)>,
}

impl Rates {
    /// Documents as they were `at` so many seconds, with their rates.
    pub fn snapshot(&mut self, at: f64, documents: Documents) -> Snapshot {
        let rules = documents.rules.iter();
        let rules = rules.map(|rule| (rule.rule.clone(), rule.packets));
        let services = documents.services.services.iter().flat_map(|counts| {
            [
                ("packets", counts.packets),
                ("bytes", counts.bytes),
                ("connections", counts.connections),
                ("requests", counts.requests),
            ]
            .map(|(measure, count)| ((counts.service.clone(), measure), count))
        });
        Snapshot {
            rule_rates: self.rules.rates(at, rules),
            service_rates: self.services.rates(at, services),
            documents,
        }
    }
}

#[derive(Clone, Debug)]
struct Growth<K> {
    at: Option<f64>,
    known: HashMap<K, (u64, f64)>,
}

impl<K> Default for Growth<K> {
    fn default() -> Self {
        Self {
            at: None,
            known: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + std::hash::Hash> Growth<K> {
    fn rates(&mut self, at: f64, counts: impl Iterator<Item = (K, u64)>) -> HashMap<K, f64> {
        let elapsed = self.at.map_or(0.0, |before| at - before);
        let weight = 1.0 - (-elapsed / WINDOW).exp();
        let mut known = HashMap::new();
        for (key, count) in counts {
            let rate = match self.known.get(&key) {
                Some((before, rate)) if elapsed > 0.0 => {
                    let latest = count.saturating_sub(*before) as f64 / elapsed;
                    rate + weight * (latest - rate)
                }
                Some((_, rate)) => *rate,
                None => 0.0,
            };
            known.insert(key, (count, rate));
        }
        self.known = known;
        self.at = Some(at);
        let known = self.known.iter();
        known.map(|(key, (_, rate))| (key.clone(), *rate)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_s_rate_shows_after_a_while_and_a_new_one_has_none() {
        let mut growth = Growth::default();
        for second in 0..60_u32 {
            let count = u64::from(second) * 20;
            let rates = growth.rates(f64::from(second), [("old", count)].into_iter());
            assert!(rates["old"] <= 20.0);
        }
        let rates = growth.rates(60.0, [("old", 1_200), ("new", 5_000)].into_iter());
        assert!((rates["old"] - 20.0).abs() < 0.1, "{rates:?}");
        assert_eq!(rates["new"], 0.0);
    }
}
