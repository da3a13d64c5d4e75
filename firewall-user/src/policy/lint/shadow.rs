//! Rules that an earlier one keeps from ever matching.
//!
//! The test goes key by key: if in every key the earlier rule matches whatever the later one does,
//! the later one is shadowed. That finds no rule shadowed that is not; a rule shadowed only by
//! several others together is not found.

use ipnet::IpNet;

use super::coverage::Coverage;
use crate::policy::model::{Action, Addresses, Mode, Policy, Rule};

/// Pairs of rules compared at most, some tenths of a second.
const PAIRS: usize = 20_000_000;
/// Sets up to this size are compared address by address; larger ones only by name.
const COMPARED: usize = 1_024;

/// The pairs (earlier, later) of rules' indices where the earlier one shadows the later.
pub(super) struct Shadows {
    pub pairs: Vec<(usize, usize)>,
    /// Whether every rule was looked at.
    pub complete: bool,
}

pub(super) fn shadows(policy: &Policy, coverage: &[Coverage], usable: &[bool]) -> Shadows {
    let mut budget = PAIRS;
    let mut pairs = Vec::new();
    for (later_index, later) in policy.rules.iter().enumerate() {
        if budget < later_index {
            return Shadows {
                pairs,
                complete: false,
            };
        }
        budget -= later_index;
        if !usable[later_index] {
            continue;
        }
        let earlier = policy.rules[..later_index]
            .iter()
            .zip(usable)
            .position(|(earlier, usable)| *usable && shadowed(policy, coverage, earlier, later));
        pairs.extend(earlier.map(|earlier| (earlier, later_index)));
    }
    Shadows {
        pairs,
        complete: true,
    }
}

fn shadowed(policy: &Policy, coverage: &[Coverage], earlier: &Rule, later: &Rule) -> bool {
    let decides = match earlier.action {
        Action::Count => false,
        Action::Accept => true,
        // A drop rule passes over protected sources, which the later rule may yet meet.
        Action::Drop => policy.never_block.is_empty() || later.action == Action::Drop,
    };
    let lasts = match (earlier.expires, later.expires) {
        (None, _) => true,
        (Some(earlier), Some(later)) => earlier >= later,
        (Some(_), None) => false,
    };
    decides
        && lasts
        && earlier.mode == Mode::Enforce
        && earlier.direction == later.direction
        && list_covers(&earlier.protocols, &later.protocols)
        && ranges_cover(&earlier.ports, &later.ports)
        && ranges_cover(&earlier.from_ports, &later.from_ports)
        && list_covers(&earlier.icmp_types, &later.icmp_types)
        && list_covers(&earlier.vlans, &later.vlans)
        && list_covers(&earlier.interfaces, &later.interfaces)
        && ranges_cover(&earlier.lengths, &later.lengths)
        && ranges_cover(&earlier.ttls, &later.ttls)
        && ranges_cover(&earlier.tcp_windows, &later.tcp_windows)
        && list_covers(&earlier.payloads, &later.payloads)
        && (earlier.fragment.is_none() || earlier.fragment == later.fragment)
        && flags_cover(earlier, later)
        && addresses_cover(policy, coverage, &earlier.from, &later.from)
        && addresses_cover(policy, coverage, &earlier.to, &later.to)
}

/// An empty list matches everything.
fn list_covers<T: PartialEq>(earlier: &[T], later: &[T]) -> bool {
    earlier.is_empty()
        || (!later.is_empty() && later.iter().all(|element| earlier.contains(element)))
}

fn ranges_cover<T: PartialOrd>(earlier: &[(T, T)], later: &[(T, T)]) -> bool {
    let within = |(low, high): &(T, T)| earlier.iter().any(|(from, to)| from <= low && high <= to);
    earlier.is_empty() || (!later.is_empty() && later.iter().all(within))
}

fn flags_cover(earlier: &Rule, later: &Rule) -> bool {
    match (earlier.tcp_flags, later.tcp_flags) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(earlier), Some(later)) => {
            earlier.set & !later.set == 0 && earlier.clear & !later.clear == 0
        }
    }
}

fn addresses_cover(
    policy: &Policy,
    coverage: &[Coverage],
    earlier: &Addresses,
    later: &Addresses,
) -> bool {
    let covered = |prefix: &IpNet| {
        earlier.prefixes.iter().any(|wide| wide.contains(prefix))
            || earlier.sets.iter().any(|set| coverage[*set].covers(prefix))
    };
    let set_covered = |set: &usize| {
        let prefixes = &policy.sets[*set].prefixes;
        earlier.sets.contains(set) || (prefixes.len() <= COMPARED && prefixes.iter().all(covered))
    };
    earlier.is_any()
        || (!later.is_any()
            && later.prefixes.iter().all(covered)
            && later.sets.iter().all(set_covered))
}
