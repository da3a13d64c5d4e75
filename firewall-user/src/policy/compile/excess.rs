//! Finds rules that count and go on in such number that one packet would meet more of them than
//! are allowed.

use firewall_common::image::{Field, MAX_COUNTED};

use super::super::{Action, Mode, Policy, Rule};
use super::patterns::Patterns;
use super::sweep::{Range, merged};
use super::{Environment, addresses, values};

/// Regions that are looked at before the search gives up; a policy that needs more is not refused.
const BUDGET: usize = 200_000;

/// Names of rules that count and go on, more than [`MAX_COUNTED`] of which match one packet.
pub(super) fn find(
    policy: &Policy,
    rules: &[&Rule],
    environment: &Environment,
) -> Option<Vec<String>> {
    let counting: Vec<&Rule> = rules
        .iter()
        .copied()
        .filter(|rule| rule.action == Action::Count || rule.mode == Mode::Observe)
        .collect();
    if counting.len() <= MAX_COUNTED {
        return None;
    }
    let patterns = Patterns::of(rules);
    [false, true].into_iter().find_map(|v6| {
        let regions: Vec<Region> = counting
            .iter()
            .map(|rule| Region::of(policy, rule, v6, &patterns, environment))
            .collect();
        let mut search = Search {
            regions: &regions,
            chosen: Vec::new(),
            budget: BUDGET,
        };
        search.extend(0, &Region::default()).then(|| {
            search
                .chosen
                .iter()
                .map(|&index| counting[index].name.clone())
                .collect()
        })
    })
}

/// The packets that a rule matches: per field the accepted values, `None` for all.
#[derive(Clone, Debug, Default)]
struct Region {
    fields: Vec<Option<Vec<Range<u128>>>>,
}

impl Region {
    fn of(
        policy: &Policy,
        rule: &Rule,
        v6: bool,
        patterns: &Patterns,
        environment: &Environment,
    ) -> Self {
        let fields: Vec<Option<Vec<Range<u128>>>> = Field::ALL
            .into_iter()
            .map(|field| match field {
                Field::Source => addresses::accepted(policy, &rule.from, v6),
                Field::Destination => addresses::accepted(policy, &rule.to, v6),
                _ => values::accepted(rule, field, patterns, environment, &mut Vec::new()).map(
                    |ranges| {
                        let family = |range: &Range<u32>| match field {
                            Field::Protocol => (range.0 & 256 != 0) == v6,
                            _ => true,
                        };
                        let wide = |range: Range<u32>| (u128::from(range.0), u128::from(range.1));
                        ranges.into_iter().filter(family).map(wide).collect()
                    },
                ),
            })
            .collect();
        let fields = fields
            .into_iter()
            .map(|ranges: Option<Vec<_>>| ranges.map(|r| merged(&r)));
        Self {
            fields: fields.collect(),
        }
    }

    /// How many ranges it is made of.
    fn size(&self) -> usize {
        self.fields.iter().flatten().map(Vec::len).sum()
    }

    /// The packets in both; `None` when there are none.
    fn meet(&self, other: &Self) -> Option<Self> {
        if self.fields.is_empty() {
            let possible = other
                .fields
                .iter()
                .flatten()
                .all(|ranges| !ranges.is_empty());
            return possible.then(|| other.clone());
        }
        let mut fields = Vec::with_capacity(self.fields.len());
        for (mine, theirs) in self.fields.iter().zip(&other.fields) {
            fields.push(match (mine, theirs) {
                (None, ranges) | (ranges, None) => ranges.clone(),
                (Some(mine), Some(theirs)) => Some(overlap(mine, theirs)),
            });
        }
        let possible = fields.iter().flatten().all(|ranges| !ranges.is_empty());
        possible.then_some(Self { fields })
    }
}

/// What two ascending lists without overlaps have in common.
fn overlap(mine: &[Range<u128>], theirs: &[Range<u128>]) -> Vec<Range<u128>> {
    let mut common = Vec::new();
    let (mut a, mut b) = (0, 0);
    while a < mine.len() && b < theirs.len() {
        let range = (mine[a].0.max(theirs[b].0), mine[a].1.min(theirs[b].1));
        if range.0 <= range.1 {
            common.push(range);
        }
        if mine[a].1 < theirs[b].1 {
            a += 1;
        } else {
            b += 1;
        }
    }
    common
}

struct Search<'a> {
    regions: &'a [Region],
    chosen: Vec<usize>,
    budget: usize,
}

impl Search<'_> {
    /// Whether enough regions from `from` on meet with `region`; they are then chosen.
    fn extend(&mut self, from: usize, region: &Region) -> bool {
        if self.chosen.len() > MAX_COUNTED {
            return true;
        }
        for index in from..self.regions.len() {
            let missing = MAX_COUNTED + 1 - self.chosen.len();
            if self.regions.len() - index < missing || self.budget == 0 {
                return false;
            }
            // In units of what a small region takes.
            let work = 1 + (region.size() + self.regions[index].size()) / 64;
            self.budget = self.budget.saturating_sub(work);
            let Some(common) = region.meet(&self.regions[index]) else {
                continue;
            };
            self.chosen.push(index);
            if self.extend(index + 1, &common) {
                return true;
            }
            self.chosen.pop();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Policy;
    use super::*;
    use crate::policy::CompileError;

    fn policy(ports: impl Iterator<Item = u16>) -> Policy {
        let mut text = "version = 1\n".to_owned();
        for (index, port) in ports.enumerate() {
            text += &format!(
                "[[rule]]\nname = \"c{index}\"\naction = \"count\"\nprotocol = \"tcp\"\nport = {port}\n"
            );
        }
        Policy::parse(&text, "policy.toml", ".".as_ref()).unwrap().0
    }

    #[test]
    fn nine_counting_rules_on_one_packet_are_named() {
        let refused = policy(std::iter::repeat_n(80, 9)).compile(&Environment::default());
        let Err(CompileError::TooManyCounting { rules }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(rules, "c0, c1, c2, c3, c4, c5, c6, c7, c8");
    }

    #[test]
    fn many_counting_rules_that_never_meet_are_fine() {
        assert!(policy(1..=200).compile(&Environment::default()).is_ok());
        let eight = std::iter::repeat_n(80, 8).chain(81..=120);
        assert!(policy(eight).compile(&Environment::default()).is_ok());
    }
}
