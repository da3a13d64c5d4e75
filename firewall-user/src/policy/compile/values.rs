//! Fields with few values: protocol, ports, flags and the like, each by a table of rows.

use std::collections::HashMap;

use firewall_common::image::{ANY_WINDOW, Field, NO_ICMP};
use firewall_common::packet::protocol;

use super::super::{Action, Rule, TcpFlags};
use super::matrix::{Rows, set};
use super::patterns::Patterns;
use super::sweep::{Range, sweep};
use super::{Build, CompileError, Environment, Placed};

/// Puts the table and rows of a field; `None` when no rule looks at it and it is not needed.
pub(super) fn place(
    build: &Build<'_>,
    environment: &Environment,
    image: &mut Vec<u64>,
    notes: &mut Vec<String>,
) -> Result<Option<Placed>, CompileError> {
    let patterns = Patterns::of(build.rules);
    let mut lists: Vec<Vec<Range<u32>>> = Vec::new();
    let mut known: HashMap<Vec<Range<u32>>, u32> = HashMap::new();
    let mut always = build.matrix.empty();
    let mut by_list: Vec<Vec<usize>> = Vec::new();
    for (index, rule) in build.rules.iter().enumerate() {
        let Some(accepted) = accepted(rule, build.field, &patterns, environment, notes) else {
            set(&mut always, index);
            continue;
        };
        let list = *known.entry(accepted.clone()).or_insert_with(|| {
            lists.push(accepted);
            by_list.push(Vec::new());
            lists.len() as u32 - 1
        });
        by_list[list as usize].push(index);
    }
    if lists.is_empty() && !build.needed {
        return Ok(None);
    }
    let swept = sweep(&lists);
    let mut rows = Rows::new(build.matrix);
    let row_of: Vec<u32> = swept
        .classes
        .iter()
        .map(|holding| {
            let mut bits = always.clone();
            for rule in holding.iter().flat_map(|&list| &by_list[list as usize]) {
                set(&mut bits, *rule);
            }
            rows.id(bits)
        })
        .collect();
    if rows.len() > 1 << 16 {
        return Err(CompileError::TooManyRows {
            direction: build.direction.name(),
            field: name(build.field),
            rows: rows.len(),
        });
    }
    let values = build.field.values();
    let table = image.len();
    image.resize(table + values.div_ceil(4), 0);
    let ends = swept
        .stretches
        .iter()
        .skip(1)
        .map(|next| next.start as usize)
        .chain([usize::MAX]);
    for (stretch, end) in swept.stretches.iter().zip(ends) {
        for value in stretch.start as usize..end.min(values) {
            image[table + value / 4] |= u64::from(row_of[stretch.class]) << (value % 4 * 16);
        }
    }
    Ok(Some(Placed {
        table: table as u32,
        table_v6: 0,
        rows: rows.place(image),
    }))
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
        Field::TcpFlags => rule.tcp_flags.map(flags),
        Field::IcmpType => icmp_types(rule),
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

/// Protocol numbers by family: `icmp` is IPv4's and `icmpv6` IPv6's.
fn protocols(rule: &Rule) -> Option<Vec<Range<u32>>> {
    if rule.protocols.is_empty() {
        return None;
    }
    let mut ranges = Vec::new();
    for &number in &rule.protocols {
        if number != protocol::ICMPV6 {
            ranges.push((u32::from(number), u32::from(number)));
        }
        if number != protocol::ICMP {
            ranges.push((256 + u32::from(number), 256 + u32::from(number)));
        }
    }
    Some(ranges)
}

fn icmp_types(rule: &Rule) -> Option<Vec<Range<u32>>> {
    if rule.icmp_types.is_empty() {
        return None;
    }
    let v4 = rule.protocols.is_empty() || rule.protocols.contains(&protocol::ICMP);
    let v6 = rule.protocols.is_empty() || rule.protocols.contains(&protocol::ICMPV6);
    let mut ranges = Vec::new();
    for &kind in &rule.icmp_types {
        if v4 {
            ranges.push((u32::from(kind), u32::from(kind)));
        }
        if v6 {
            ranges.push((256 + u32::from(kind), 256 + u32::from(kind)));
        }
    }
    debug_assert!(ranges.iter().all(|range| range.1 < NO_ICMP));
    Some(ranges)
}

fn flags(wanted: TcpFlags) -> Vec<Range<u32>> {
    (0..=255_u8)
        .filter(|flags| flags & wanted.set == wanted.set && flags & wanted.clear == 0)
        .map(|flags| (u32::from(flags), u32::from(flags)))
        .collect()
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

const fn name(field: Field) -> &'static str {
    match field {
        Field::Source => "source address",
        Field::Destination => "destination address",
        Field::Protocol => "protocol",
        Field::DestinationPort => "destination port",
        Field::SourcePort => "source port",
        Field::TcpFlags => "TCP flags",
        Field::IcmpType => "ICMP type",
        Field::Vlan => "VLAN",
        Field::Interface => "interface",
        Field::Length => "length",
        Field::Ttl => "TTL",
        Field::Fragment => "fragment",
        Field::TcpWindow => "TCP window",
        Field::Payload => "payload",
    }
}
