//! The payload patterns of a direction: each different one has a bit, and the bits that a packet can show
//! are the values of the field that the rules look at.

use firewall_common::image::{ANY_PAYLOAD, MAX_PATTERNS, Pattern};

use super::super::{Action, Direction, Payload, Rule};
use super::CompileError;
use super::sweep::Range;

/// The different patterns of some rules, in the order of their first mention.
#[derive(Debug)]
pub(super) struct Patterns {
    patterns: Vec<Payload>,
}

impl Patterns {
    pub(super) fn of(rules: &[&Rule]) -> Self {
        let mut patterns: Vec<Payload> = Vec::new();
        for payload in rules.iter().flat_map(|rule| &rule.payloads) {
            if !patterns.contains(payload) {
                patterns.push(*payload);
            }
        }
        Self { patterns }
    }

    pub(super) fn count(&self) -> u32 {
        self.patterns.len() as u32
    }

    /// Refuses more than have a bit.
    pub(super) fn check(&self, rules: &[&Rule], direction: Direction) -> Result<(), CompileError> {
        if self.patterns.len() <= MAX_PATTERNS as usize {
            return Ok(());
        }
        let with: Vec<String> = rules
            .iter()
            .filter(|rule| !rule.payloads.is_empty())
            .map(|rule| format!("\"{}\"", rule.name))
            .collect();
        Err(CompileError::TooManyPatterns {
            direction: direction.name(),
            count: self.patterns.len(),
            rules: with.join(", "),
        })
    }

    /// The words to put in the image.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> {
        self.patterns
            .iter()
            .flat_map(|payload| Pattern::from(*payload).words())
    }

    /// The sets of patterns by which a rule matches; `None` for all.
    pub(super) fn accepted(&self, rule: &Rule) -> Option<Vec<Range<u32>>> {
        if rule.payloads.is_empty() {
            return None;
        }
        let bit = |payload: &Payload| {
            let index = self.patterns.iter().position(|known| known == payload);
            index.map_or(0, |index| 1 << index)
        };
        let wanted = rule
            .payloads
            .iter()
            .map(bit)
            .fold(0, |bits, bit| bits | bit);
        let mut ranges: Vec<Range<u32>> = (0..1 << self.patterns.len().min(MAX_PATTERNS as usize))
            .filter(|shown| shown & wanted != 0 && self.possible(*shown))
            .map(|shown| (shown, shown))
            .collect();
        if rule.action == Action::Accept {
            ranges.push((ANY_PAYLOAD, ANY_PAYLOAD));
        }
        Some(ranges)
    }

    /// Whether one payload can show all of these patterns.
    fn possible(&self, shown: u32) -> bool {
        let chosen = || {
            let chosen = self.patterns.iter().enumerate();
            chosen.filter(move |(index, _)| shown & 1 << index != 0)
        };
        chosen().all(|(index, one)| {
            chosen()
                .skip_while(move |(other, _)| *other <= index)
                .all(|(_, other)| !one.contradicts(other))
        })
    }
}
