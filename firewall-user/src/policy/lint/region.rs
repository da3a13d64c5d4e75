//! What a rule matches of one family, as the values of each field that it accepts: a box in the space of all
//! packets.

use std::collections::HashMap;
use std::sync::Arc;

use firewall_common::image::MAX_PATTERNS;
use firewall_common::packet::NO_VLAN;
use ipnet::IpNet;
use jiff::Timestamp;

use super::coverage::Coverage;
use super::values::{Range, Values};
use crate::policy::model::{Action, Addresses, Direction, Payload, Policy, Rule, TcpFlags};
use crate::policy::protocol::{ICMP, ICMPV6, TCP, WITH_PORTS};

pub(super) const FIELDS: usize = 15;
const PROTOCOL: usize = 0;
const FROM: usize = 1;
const TO: usize = 2;
const PORT: usize = 3;
const FROM_PORT: usize = 4;
const FLAGS: usize = 5;
const ICMP_TYPE: usize = 6;
const VLAN: usize = 7;
const INTERFACE: usize = 8;
const LENGTH: usize = 9;
const TTL: usize = 10;
const WINDOW: usize = 11;
const PAYLOAD: usize = 12;
const FRAGMENT: usize = 13;
/// Nanoseconds from now on.
const TIME: usize = 14;

/// One more than can stand in a packet: there is none.
const NO_PORT: u128 = 65_536;
const NO_FLAGS: u128 = 256;

/// A box: the values of each field.
pub(super) type Region = [Values; FIELDS];

/// Ranges that are merged in all, so that many long lists cannot hold a check up, nor fill the memory.
const WORK: usize = 4_000_000;

/// What is known of a rule's box.
#[derive(Clone, Debug)]
pub(super) struct Known<T> {
    pub what: T,
    /// Whether it is all of it; if not, it is a part, because all would have been too much work.
    pub whole: bool,
}

/// Makes the boxes of a policy's rules.
pub(super) struct Regions<'p> {
    policy: &'p Policy,
    coverage: &'p [Coverage],
    protected: &'p Coverage,
    now: Timestamp,
    interfaces: Vec<&'p str>,
    patterns: [Vec<Payload>; 2],
    /// By what was asked for, so that a list is merged once.
    known: HashMap<(Named, bool, bool), Known<Values>>,
    work: usize,
}

/// [`Addresses`], to look up.
type Named = (Vec<usize>, Vec<IpNet>);

impl<'p> Regions<'p> {
    pub(super) fn new(
        policy: &'p Policy,
        coverage: &'p [Coverage],
        protected: &'p Coverage,
        now: Timestamp,
    ) -> Self {
        let mut interfaces: Vec<&str> = Vec::new();
        let mut patterns = [Vec::new(), Vec::new()];
        for rule in &policy.rules {
            for name in &rule.interfaces {
                if !interfaces.contains(&name.as_str()) {
                    interfaces.push(name);
                }
            }
            let known = &mut patterns[rule.direction as usize];
            for payload in &rule.payloads {
                if !known.contains(payload) && known.len() <= MAX_PATTERNS as usize {
                    known.push(*payload);
                }
            }
        }
        Self {
            policy,
            coverage,
            protected,
            now,
            interfaces,
            patterns,
            known: HashMap::new(),
            work: WORK,
        }
    }

    /// The highest value of each field.
    pub(super) fn last(&self, v6: bool) -> [u128; FIELDS] {
        let address = if v6 { u128::MAX } else { u128::from(u32::MAX) };
        let mut last = [0; FIELDS];
        for (field, value) in [
            (PROTOCOL, 255),
            (FROM, address),
            (TO, address),
            (PORT, NO_PORT),
            (FROM_PORT, NO_PORT),
            (FLAGS, NO_FLAGS),
            (ICMP_TYPE, 256),
            (VLAN, u128::from(NO_VLAN)),
            (INTERFACE, self.interfaces.len() as u128),
            (LENGTH, 65_535),
            (TTL, 255),
            (WINDOW, 65_536),
            (PAYLOAD, (1 << MAX_PATTERNS) - 1),
            (FRAGMENT, 2),
            (TIME, u128::MAX),
        ] {
            last[field] = value;
        }
        last
    }

    /// The box of a rule in one family.
    pub(super) fn of(&mut self, rule: &Rule, v6: bool) -> Known<Region> {
        let last = self.last(v6);
        let mut region = [const { Values::ALL }; FIELDS];
        let spares = rule.action == Action::Drop && rule.direction == Direction::Inbound;
        let from = self.addresses(&rule.from, v6, spares);
        let to = self.addresses(&rule.to, v6, false);
        let mut whole = from.whole && to.whole;
        region[FROM] = from.what;
        region[TO] = to.what;
        let mut set = |field: usize, ranges: Vec<Range>| {
            region[field] = Values::of(ranges, last[field]);
        };
        let listed = |values: &[u8]| values.iter().map(|value| one(*value)).collect();
        if !rule.protocols.is_empty() {
            let other_family = if v6 { ICMP } else { ICMPV6 };
            let mut protocols = rule.protocols.clone();
            protocols.retain(|protocol| *protocol != other_family);
            set(PROTOCOL, listed(&protocols));
        }
        if !rule.icmp_types.is_empty() {
            set(ICMP_TYPE, listed(&rule.icmp_types));
        }
        for (field, ranges) in [(PORT, &rule.ports), (FROM_PORT, &rule.from_ports)] {
            if !ranges.is_empty() {
                set(field, wide(ranges));
            }
        }
        if let Some(flags) = rule.tcp_flags {
            set(FLAGS, with_flags(flags));
        }
        if !rule.tcp_windows.is_empty() {
            set(WINDOW, wide(&rule.tcp_windows));
        }
        if !rule.vlans.is_empty() {
            set(VLAN, rule.vlans.iter().map(|vlan| one(*vlan)).collect());
        }
        if !rule.interfaces.is_empty() {
            let numbers = rule.interfaces.iter().filter_map(|name| {
                let number = self.interfaces.iter().position(|known| known == name)?;
                Some(one(number as u32))
            });
            set(INTERFACE, numbers.collect());
        }
        if !rule.lengths.is_empty() {
            set(LENGTH, wide(&rule.lengths));
        }
        if !rule.ttls.is_empty() {
            set(TTL, wide(&rule.ttls));
        }
        if let Some(fragment) = rule.fragment {
            set(FRAGMENT, vec![if fragment { (1, 2) } else { (0, 0) }]);
        }
        if !rule.payloads.is_empty() {
            match self.payloads(rule) {
                Some(shown) => set(PAYLOAD, shown),
                None => whole = false,
            }
        }
        if let Some(expires) = rule.expires {
            let left = expires.as_nanosecond() - self.now.as_nanosecond();
            set(
                TIME,
                match u128::try_from(left) {
                    Ok(left @ 1..) => vec![(0, left - 1)],
                    _ => Vec::new(),
                },
            );
        }
        Known {
            what: region,
            whole,
        }
    }

    /// Takes from a rule's box what no packet is: one that has a part of a transport header has all of it.
    pub(super) fn without_impossible(rule: &Rule, region: &Region) -> Region {
        let mut region = region.clone();
        let only = |allowed: &[u8]| {
            !rule.protocols.is_empty() && rule.protocols.iter().all(|p| allowed.contains(p))
        };
        let has_header = !rule.ports.is_empty()
            || !rule.from_ports.is_empty()
            || rule.tcp_flags.is_some()
            || !rule.tcp_windows.is_empty()
            || rule.fragment == Some(false);
        let mut fill = |field: usize, none: u128| {
            if region[field].is_all() {
                region[field] = Values::of(vec![(0, none - 1)], none);
            }
        };
        if has_header && only(&WITH_PORTS) {
            fill(PORT, NO_PORT);
            fill(FROM_PORT, NO_PORT);
        }
        if has_header && only(&[TCP]) {
            fill(FLAGS, NO_FLAGS);
        }
        region
    }

    /// The addresses of a family, without those that a drop rule spares.
    fn addresses(&mut self, addresses: &Addresses, v6: bool, spares: bool) -> Known<Values> {
        let spares = spares && !self.policy.never_block.is_empty();
        let key = (addresses.sets.clone(), addresses.prefixes.clone());
        if let Some(known) = self.known.get(&(key.clone(), v6, spares)) {
            return known.clone();
        }
        let values = self.merged(addresses, v6, spares);
        self.known.insert((key, v6, spares), values.clone());
        values
    }

    fn merged(&mut self, addresses: &Addresses, v6: bool, spares: bool) -> Known<Values> {
        let last = self.last(v6)[FROM];
        let protected = self.protected.ranges(v6);
        let mut lists: Vec<Arc<[Range]>> = addresses
            .sets
            .iter()
            .map(|set| self.coverage[*set].ranges(v6))
            .collect();
        if !addresses.prefixes.is_empty() {
            lists.push(Coverage::of(&addresses.prefixes).ranges(v6));
        }
        // The shortest first: they are what there is of it if all is too much.
        lists.sort_by_key(|list| list.len());
        let mut whole = true;
        let mut all = match lists.as_slice() {
            [] => Values::ALL,
            [one] => Values::of_merged(one.clone(), last),
            many => {
                let mut taken = Vec::new();
                for list in many {
                    if self.spend(list.len()) {
                        taken.extend_from_slice(list);
                    } else {
                        whole = false;
                    }
                }
                Values::of(taken, last)
            }
        };
        if spares && all.meets(&Values::of_merged(protected.clone(), last)) {
            if self.spend(all.size() + protected.len()) {
                all = all.less(&Values::of_merged(protected, last), last);
            } else {
                // Which part of it is not spared is not known.
                (all, whole) = (Values::of(Vec::new(), last), false);
            }
        }
        Known { what: all, whole }
    }

    fn spend(&mut self, work: usize) -> bool {
        match self.work.checked_sub(work) {
            Some(left) => {
                self.work = left;
                true
            }
            None => false,
        }
    }

    /// The sets of patterns that a payload can show and that match.
    fn payloads(&self, rule: &Rule) -> Option<Vec<Range>> {
        let patterns = &self.patterns[rule.direction as usize];
        if patterns.len() > MAX_PATTERNS as usize {
            return None;
        }
        let wanted: u32 = patterns
            .iter()
            .enumerate()
            .filter(|(_, pattern)| rule.payloads.contains(pattern))
            .fold(0, |bits, (index, _)| bits | 1 << index);
        let possible = |shown: u32| {
            let has = |index: usize| shown & 1 << index != 0;
            !(0..patterns.len())
                .any(|a| has(a) && (0..a).any(|b| has(b) && patterns[a].contradicts(&patterns[b])))
        };
        let shown = 0..1_u32 << patterns.len();
        Some(
            shown
                .filter(|shown| shown & wanted != 0 && possible(*shown))
                .map(one)
                .collect(),
        )
    }
}

fn one(value: impl Into<u128>) -> Range {
    let value = value.into();
    (value, value)
}

fn wide<T: Copy + Into<u128>>(ranges: &[(T, T)]) -> Vec<Range> {
    ranges
        .iter()
        .map(|&(low, high)| (low.into(), high.into()))
        .collect()
}

fn with_flags(wanted: TcpFlags) -> Vec<Range> {
    (0..=255_u8)
        .filter(|flags| flags & wanted.set == wanted.set && flags & wanted.clear == 0)
        .map(one)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn where_all_of_a_rule_is_too_much_work_a_part_of_it_stands_for_it() {
        let text = "version = 1\n[sets]\none = [\"198.51.100.1\", \"203.0.113.0/24\"]\n[[rule]]\nname = \"r\"\n\
                    action = \"accept\"\nfrom = [\"one\", \"198.51.100.9\"]\n";
        let (policy, _) = Policy::parse(text, "p", Path::new("")).unwrap();
        let coverage: Vec<Coverage> = policy
            .sets
            .iter()
            .map(|set| Coverage::of(&set.prefixes))
            .collect();
        let protected = Coverage::of(&policy.never_block);
        let from = |work| {
            let mut regions = Regions::new(&policy, &coverage, &protected, Timestamp::UNIX_EPOCH);
            regions.work = work;
            let known = regions.of(&policy.rules[0], false);
            (known.what[FROM].size(), known.whole)
        };
        assert_eq!(from(3), (3, true));
        assert_eq!(from(2), (1, false));
        assert_eq!(from(0), (0, false));
    }
}
