//! Fields with few values: protocol, ports, flags and the like. What a rule asks of all of them
//! together is its *condition*; each value of a field belongs to a class, the conditions that accept
//! it.

use std::collections::HashMap;

use firewall_common::image::{ANY_WINDOW, Field, ICMP_TYPES, TCP_FLAGS};
use firewall_common::packet::protocol;

use super::super::{Action, Rule, TcpFlags};
use super::Environment;
use super::cross::Sink;
use super::patterns::Patterns;
use super::sweep::{Range, sweep};

/// What each rule asks of the fields that are no addresses; equal conditions are one.
#[derive(Debug)]
pub(super) struct Conditions {
    /// Per condition and field of [`Field::ALL`]: the accepted values, `None` for all.
    pub(super) fields: Vec<Vec<Option<Vec<Range<u32>>>>>,
    /// The condition of each rule.
    pub(super) of_rule: Vec<u32>,
}

impl Conditions {
    pub(super) fn gather(
        rules: &[&Rule],
        environment: &Environment,
        notes: &mut Vec<String>,
    ) -> Self {
        let mut conditions = Self {
            fields: Vec::new(),
            of_rule: Vec::with_capacity(rules.len()),
        };
        let patterns = Patterns::of(rules);
        let mut known = HashMap::new();
        for rule in rules {
            let fields: Vec<_> = Field::ALL
                .into_iter()
                .map(|field| {
                    let ranges = accepted(rule, field, &patterns, environment, notes)?;
                    Some(super::sweep::merged(&ranges))
                })
                .collect();
            let number = *known.entry(fields.clone()).or_insert_with(|| {
                conditions.fields.push(fields);
                conditions.fields.len() as u32 - 1
            });
            conditions.of_rule.push(number);
        }
        conditions
    }

    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether every packet meets a condition.
    pub(super) fn is_any(&self, condition: u32) -> bool {
        self.fields[condition as usize].iter().all(Option::is_none)
    }

    /// Whether every packet that meets `other` meets `condition`.
    pub(super) fn covers(&self, condition: u32, other: u32) -> bool {
        let within =
            |wide: &Option<Vec<Range<u32>>>, narrow: &Option<Vec<Range<u32>>>| match (wide, narrow)
            {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(wide), Some(narrow)) => narrow.iter().all(|range| {
                    let after = wide.partition_point(|candidate| candidate.0 <= range.0);
                    after > 0 && range.1 <= wide[after - 1].1
                }),
            };
        self.fields[condition as usize]
            .iter()
            .zip(&self.fields[other as usize])
            .all(|(wide, narrow)| within(wide, narrow))
    }

    /// The classes of a field's values; `None` when no condition looks at it.
    pub(super) fn classes(&self, field: Field) -> Option<Values> {
        let mut lists: Vec<Vec<Range<u32>>> = Vec::new();
        let mut by_list: Vec<Vec<u32>> = Vec::new();
        let mut known: HashMap<&[Range<u32>], usize> = HashMap::new();
        let mut always = Vec::new();
        for (condition, fields) in self.fields.iter().enumerate() {
            let Some(accepted) = &fields[field as usize] else {
                always.push(condition as u32);
                continue;
            };
            let list = *known.entry(accepted).or_insert_with(|| {
                lists.push(accepted.clone());
                by_list.push(Vec::new());
                lists.len() - 1
            });
            by_list[list].push(condition as u32);
        }
        if lists.is_empty() {
            return None;
        }
        let swept = sweep(&lists);
        let values = field.values();
        let mut numbers: Vec<Option<u32>> = vec![None; swept.classes.len()];
        let mut classes: Vec<Vec<u32>> = Vec::new();
        let mut of_value = Vec::with_capacity(values);
        let ends = swept
            .stretches
            .iter()
            .skip(1)
            .map(|next| next.start as usize);
        for (stretch, end) in swept.stretches.iter().zip(ends.chain([usize::MAX])) {
            if stretch.start as usize >= values {
                break;
            }
            let number = *numbers[stretch.class].get_or_insert_with(|| {
                let mut members = always.clone();
                for &list in &swept.classes[stretch.class] {
                    members.extend_from_slice(&by_list[list as usize]);
                }
                members.sort_unstable();
                classes.push(members);
                classes.len() as u32 - 1
            });
            of_value.resize(end.min(values), number);
        }
        Some(Values {
            field,
            of_value,
            classes,
        })
    }
}

/// The classes of a field.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) field: Field,
    /// The class of each value.
    of_value: Vec<u32>,
    /// The conditions that each class meets, ascending.
    pub(super) classes: Vec<Vec<u32>>,
}

impl Values {
    /// Puts the table of classes.
    pub(super) fn place(&self, sink: &mut Sink) -> u32 {
        let table = sink.place();
        sink.narrow(self.of_value.iter().copied());
        table
    }

    /// How many conditions a class meets on average.
    pub(super) fn crowd(&self) -> usize {
        self.classes.iter().map(Vec::len).sum::<usize>() / self.classes.len().max(1)
    }
}

/// The values of a field that a rule accepts; `None` for all.
pub(super) fn accepted(
    rule: &Rule,
    field: Field,
    patterns: &Patterns,
    environment: &Environment,
    notes: &mut Vec<String>,
) -> Option<Vec<Range<u32>>> {
    match field {
        Field::Source | Field::Destination => None,
        Field::Protocol => protocols(rule),
        Field::DestinationPort => wide(&rule.ports),
        Field::SourcePort => wide(&rule.from_ports),
        Field::Vlan => listed(&rule.vlans, u32::from),
        Field::Interface => interfaces(rule, environment, notes),
        Field::Length => wide(&rule.lengths),
        Field::Ttl => wide(&rule.ttls),
        Field::Fragment => rule
            .fragment
            .map(|only| if only { vec![(1, 2)] } else { vec![(0, 0)] }),
        Field::TcpWindow => windows(rule),
        Field::Payload => patterns.accepted(rule),
    }
}

fn wide<T: Copy + Into<u32>>(ranges: &[(T, T)]) -> Option<Vec<Range<u32>>> {
    (!ranges.is_empty()).then(|| {
        ranges
            .iter()
            .map(|&(first, last)| (first.into(), last.into()))
            .collect()
    })
}

fn listed<T: Copy>(values: &[T], index: impl Fn(T) -> u32) -> Option<Vec<Range<u32>>> {
    (!values.is_empty()).then(|| values.iter().map(|&v| (index(v), index(v))).collect())
}

fn windows(rule: &Rule) -> Option<Vec<Range<u32>>> {
    let mut ranges = wide(&rule.tcp_windows)?;
    if rule.action == Action::Accept {
        ranges.push((ANY_WINDOW, ANY_WINDOW));
    }
    Some(ranges)
}

/// Protocols by family: `icmp` is IPv4's and `icmpv6` IPv6's. With flags or types, only the TCP headers and
/// ICMP messages that have them; no range spans both families.
fn protocols(rule: &Rule) -> Option<Vec<Range<u32>>> {
    if rule.protocols.is_empty() && rule.tcp_flags.is_none() && rule.icmp_types.is_empty() {
        return None;
    }
    let named = |number: u8| rule.protocols.is_empty() || rule.protocols.contains(&number);
    let plain = rule.tcp_flags.is_none() && rule.icmp_types.is_empty();
    let mut ranges = Vec::new();
    for (family, icmp) in [(0, protocol::ICMP), (256, protocol::ICMPV6)] {
        if plain {
            let foreign = protocol::ICMP + protocol::ICMPV6 - icmp;
            let numbers = rule.protocols.iter().filter(|number| **number != foreign);
            ranges.extend(numbers.map(|number| single(family + u32::from(*number))));
        }
        if named(protocol::TCP) && rule.icmp_types.is_empty() {
            let first = TCP_FLAGS + family;
            match rule.tcp_flags {
                Some(wanted) => ranges.extend(flags(wanted).map(|flags| single(first + flags))),
                None => ranges.push((first, first + 255)),
            }
        }
        if named(icmp) && rule.tcp_flags.is_none() {
            let first = ICMP_TYPES + family;
            if rule.icmp_types.is_empty() {
                ranges.push((first, first + 255));
            }
            let types = rule.icmp_types.iter();
            ranges.extend(types.map(|kind| single(first + u32::from(*kind))));
        }
    }
    Some(ranges)
}

const fn single(value: u32) -> Range<u32> {
    (value, value)
}

fn flags(wanted: TcpFlags) -> impl Iterator<Item = u32> {
    (0..=255_u8)
        .filter(move |flags| flags & wanted.set == wanted.set && flags & wanted.clear == 0)
        .map(u32::from)
}

fn interfaces(
    rule: &Rule,
    environment: &Environment,
    notes: &mut Vec<String>,
) -> Option<Vec<Range<u32>>> {
    if rule.interfaces.is_empty() {
        return None;
    }
    let mut ranges = Vec::new();
    for name in &rule.interfaces {
        match environment.interfaces.iter().position(|known| known == name) {
            Some(slot) => ranges.push((slot as u32, slot as u32)),
            // Without any interface it is a check or a replay, and the name cannot be judged.
            None if environment.interfaces.is_empty() => {}
            None => notes.push(format!(
                "rule \"{}\" names interface {name}, which is not protected: it matches nothing there",
                rule.name
            )),
        }
    }
    Some(ranges)
}

pub(super) const fn name(field: Field) -> &'static str {
    match field {
        Field::Source => "source address",
        Field::Destination => "destination address",
        Field::Protocol => "protocol, TCP flags and ICMP type",
        Field::DestinationPort => "destination port",
        Field::SourcePort => "source port",
        Field::Vlan => "VLAN",
        Field::Interface => "interface",
        Field::Length => "length",
        Field::Ttl => "TTL",
        Field::Fragment => "fragment",
        Field::TcpWindow => "TCP window",
        Field::Payload => "payload",
    }
}
