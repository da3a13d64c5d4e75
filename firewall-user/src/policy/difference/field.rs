//! The fields by which rules tell packets apart, as numbers, and what rules accept of each.

use ipnet::IpNet;
use jiff::Timestamp;

use super::super::{Action, Addresses, Direction, Payload, Policy, Rule};
use crate::policy::protocol::{DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};

/// Inclusive.
pub(super) type Range = (u128, u128);

/// A field of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Source,
    Destination,
    Protocol,
    SourcePort,
    DestinationPort,
    TcpFlags,
    TcpWindow,
    IcmpType,
    Length,
    Ttl,
    Vlan,
    /// Index into [`Context::interfaces`], or the one behind: any other.
    Interface,
    /// A bit for each of [`Context::payloads`] that the packet shows.
    Payload,
    /// 0 whole, 1 first, 2 later.
    Fragment,
    /// How many of [`Context::ends`] have passed.
    Time,
}

impl Field {
    pub const ALL: [Self; 15] = [
        Self::Source,
        Self::Destination,
        Self::Protocol,
        Self::SourcePort,
        Self::DestinationPort,
        Self::TcpFlags,
        Self::TcpWindow,
        Self::IcmpType,
        Self::Length,
        Self::Ttl,
        Self::Vlan,
        Self::Interface,
        Self::Payload,
        Self::Fragment,
        Self::Time,
    ];
}

/// What a field holds when the packet has none: the value behind the last.
pub(super) const NO_PORT: u128 = 65_536;
pub(super) const NO_FLAGS: u128 = 256;
pub(super) const NO_WINDOW: u128 = 65_536;
pub(super) const NO_ICMP: u128 = 256;
pub(super) const NO_VLAN: u128 = 4_096;
pub(super) const WHOLE: u128 = 0;
pub(super) const FIRST: u128 = 1;
pub(super) const LATER: u128 = 2;

/// What the values of some fields stand for.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub direction: Direction,
    pub v6: bool,
    pub interfaces: Vec<String>,
    pub payloads: Vec<Payload>,
    /// When rules expire, ascending, all of them later than the time of the comparison.
    pub ends: Vec<Timestamp>,
    pub now: Timestamp,
}

impl Context {
    /// The highest value of a field.
    pub fn highest(&self, field: Field) -> u128 {
        match field {
            Field::Source | Field::Destination if self.v6 => u128::MAX,
            Field::Source | Field::Destination => u128::from(u32::MAX),
            Field::Protocol | Field::Ttl => 255,
            Field::SourcePort | Field::DestinationPort => NO_PORT,
            Field::TcpFlags => NO_FLAGS,
            Field::TcpWindow => NO_WINDOW,
            Field::IcmpType => NO_ICMP,
            Field::Length => 65_535,
            Field::Vlan => NO_VLAN,
            Field::Interface => self.interfaces.len() as u128,
            Field::Payload => (1 << self.payloads.len()) - 1,
            Field::Fragment => LATER,
            Field::Time => self.ends.len() as u128,
        }
    }

    /// The values of a field that a rule accepts; `None` for all.
    pub fn accepted(&self, policy: &Policy, rule: &Rule, field: Field) -> Option<Vec<Range>> {
        let icmp = if self.v6 { ICMPV6 } else { ICMP };
        match field {
            Field::Source => self.sources(policy, rule),
            Field::Destination => self.addresses(policy, &rule.to),
            Field::Protocol => some(&rule.protocols, |protocols| {
                let foreign = if self.v6 { ICMP } else { ICMPV6 };
                let known = protocols.iter().filter(|number| **number != foreign);
                known.map(|number| one(*number)).collect()
            }),
            Field::SourcePort => some(&rule.from_ports, wide),
            Field::DestinationPort => some(&rule.ports, wide),
            Field::TcpFlags => rule.tcp_flags.map(|wanted| {
                let fits =
                    |flags: &u8| flags & wanted.set == wanted.set && flags & wanted.clear == 0;
                (0..=255).filter(fits).map(one).collect()
            }),
            Field::TcpWindow => some(&rule.tcp_windows, wide),
            Field::IcmpType => some(&rule.icmp_types, |types| {
                let asks = rule.protocols.is_empty() || rule.protocols.contains(&icmp);
                types
                    .iter()
                    .filter(|_| asks)
                    .map(|kind| one(*kind))
                    .collect()
            }),
            Field::Length => some(&rule.lengths, wide),
            Field::Ttl => some(&rule.ttls, wide),
            Field::Vlan => some(&rule.vlans, |vlans| {
                vlans.iter().map(|vlan| one(*vlan)).collect()
            }),
            Field::Interface => some(&rule.interfaces, |names| {
                let known = |name: &String| self.interfaces.iter().position(|other| other == name);
                names
                    .iter()
                    .filter_map(known)
                    .map(|slot| (slot as u128, slot as u128))
                    .collect()
            }),
            Field::Payload => some(&rule.payloads, |payloads| self.showing(payloads)),
            Field::Fragment => rule
                .fragment
                .map(|only| vec![if only { (FIRST, LATER) } else { (WHOLE, WHOLE) }]),
            Field::Time => rule.expires.map(|end| {
                let left = self.ends.iter().position(|known| *known == end);
                left.map(|index| (0, index as u128)).into_iter().collect()
            }),
        }
    }

    /// The sources that a rule accepts: a drop rule passes over the protected ones.
    fn sources(&self, policy: &Policy, rule: &Rule) -> Option<Vec<Range>> {
        let from = self.addresses(policy, &rule.from);
        let spares = rule.action == Action::Drop
            && rule.direction == Direction::Inbound
            && !policy.never_block.is_empty();
        if !spares {
            return from;
        }
        let all = vec![(0, self.highest(Field::Source))];
        let protected = merged(self.ranges(&policy.never_block));
        Some(without(&merged(from.unwrap_or(all)), &protected))
    }

    fn addresses(&self, policy: &Policy, addresses: &Addresses) -> Option<Vec<Range>> {
        if addresses.is_any() {
            return None;
        }
        let mut ranges = self.ranges(&addresses.prefixes);
        for set in &addresses.sets {
            ranges.extend(self.ranges(&policy.sets[*set].prefixes));
        }
        Some(ranges)
    }

    /// The prefixes of the family.
    fn ranges(&self, prefixes: &[IpNet]) -> Vec<Range> {
        let range = |prefix: &IpNet| match prefix {
            IpNet::V4(net) if !self.v6 => Some((
                net.network().to_bits().into(),
                net.broadcast().to_bits().into(),
            )),
            IpNet::V6(net) if self.v6 => Some((net.network().to_bits(), net.broadcast().to_bits())),
            _ => None,
        };
        prefixes.iter().filter_map(range).collect()
    }

    /// The sets of patterns that have one of `payloads`.
    fn showing(&self, payloads: &[Payload]) -> Vec<Range> {
        let known = self.payloads.iter().enumerate();
        let mask = known
            .filter(|(_, known)| payloads.contains(known))
            .fold(0, |mask, (index, _)| mask | 1_u128 << index);
        let all = 0..=self.highest(Field::Payload);
        merged(
            all.filter(|shown| shown & mask != 0)
                .map(|shown| (shown, shown))
                .collect(),
        )
    }

    /// The sets of patterns that a payload can show.
    fn possible_payloads(&self) -> Vec<Range> {
        let apart: Vec<u128> = (0..self.payloads.len())
            .flat_map(|a| (0..a).map(move |b| (a, b)))
            .filter(|(a, b)| self.payloads[*a].contradicts(&self.payloads[*b]))
            .map(|(a, b)| 1 << a | 1 << b)
            .collect();
        let possible = |shown: &u128| !apart.iter().any(|both| shown & both == *both);
        let all = 0..=self.highest(Field::Payload);
        merged(all.filter(possible).map(|shown| (shown, shown)).collect())
    }

    /// The packets that there are: each entry is a kind of them by what its fields can hold. Fields that
    /// are not named can hold anything.
    pub fn kinds(&self) -> Vec<Vec<(Field, Vec<Range>)>> {
        const PORTS: Range = (0, 65_535);
        let icmp = if self.v6 { ICMPV6 } else { ICMP };
        let header = if self.v6 { 40 } else { 20 };
        let none = [
            (Field::SourcePort, vec![(NO_PORT, NO_PORT)]),
            (Field::DestinationPort, vec![(NO_PORT, NO_PORT)]),
            (Field::TcpFlags, vec![(NO_FLAGS, NO_FLAGS)]),
            (Field::TcpWindow, vec![(NO_WINDOW, NO_WINDOW)]),
            (Field::IcmpType, vec![(NO_ICMP, NO_ICMP)]),
        ];
        let kind =
            |protocols: Vec<u8>, fragment: u128, least: u128, has: Vec<(Field, Vec<Range>)>| {
                // IPv6 has an extension header in each fragment.
                let extra = if self.v6 && fragment != WHOLE { 8 } else { 0 };
                let mut fields = none.to_vec();
                fields.retain(|(field, _)| !has.iter().any(|(other, _)| other == field));
                fields.extend(has);
                fields.push((Field::Protocol, protocols.into_iter().map(one).collect()));
                fields.push((Field::Fragment, vec![(fragment, fragment)]));
                fields.push((Field::Length, vec![(header + extra + least, 65_535)]));
                let shown = if fragment == LATER {
                    vec![(0, 0)]
                } else {
                    self.possible_payloads()
                };
                fields.push((Field::Payload, shown));
                fields
            };
        let ports = || {
            vec![
                (Field::SourcePort, vec![PORTS]),
                (Field::DestinationPort, vec![PORTS]),
            ]
        };
        let mut kinds = Vec::new();
        for fragment in [WHOLE, FIRST] {
            let mut tcp = ports();
            tcp.push((Field::TcpFlags, vec![(0, 255)]));
            tcp.push((Field::TcpWindow, vec![PORTS]));
            kinds.push(kind(vec![TCP], fragment, 20, tcp));
            kinds.push(kind(vec![UDP, UDPLITE], fragment, 8, ports()));
            kinds.push(kind(vec![SCTP, DCCP], fragment, 12, ports()));
            let types = vec![(Field::IcmpType, vec![(0, 255)])];
            kinds.push(kind(vec![icmp], fragment, 8, types));
            kinds.push(kind(self.without_header(icmp), fragment, 0, Vec::new()));
        }
        let mut any = self.without_header(icmp);
        any.extend([TCP, UDP, UDPLITE, SCTP, DCCP, icmp]);
        kinds.push(kind(any, LATER, 0, Vec::new()));
        if self.direction == Direction::Inbound {
            let asking = kinds.clone();
            for kind in &mut kinds {
                kind.push((Field::Source, self.possible_sources()));
            }
            if !self.v6 {
                kinds.extend(asking.into_iter().filter_map(lacking_address));
            }
        }
        kinds
    }

    /// Protocols of whose header nothing is read.
    fn without_header(&self, icmp: u8) -> Vec<u8> {
        // Extension headers are passed over, and are no protocols.
        const EXTENSIONS: [u8; 8] = [0, 43, 44, 51, 60, 135, 139, 140];
        let with = [TCP, UDP, UDPLITE, SCTP, DCCP, icmp];
        let known =
            |number: &u8| !(with.contains(number) || self.v6 && EXTENSIONS.contains(number));
        (0..=255).filter(known).collect()
    }

    /// Sources of packets that are not dropped as malformed.
    fn possible_sources(&self) -> Vec<Range> {
        if self.v6 {
            let mapped = 0xffff_u128 << 32;
            return vec![
                (2, mapped - 1),
                (mapped + (1 << 32), (0xff_u128 << 120) - 1),
            ];
        }
        vec![
            (0x0100_0000, 0x7eff_ffff),
            (0x8000_0000, 0xdfff_ffff),
            (0xf000_0000, 0xffff_fffe),
        ]
    }
}

/// The packets of a kind that may come from 0.0.0.0: they ask for an address, or report a group.
fn lacking_address(mut kind: Vec<(Field, Vec<Range>)>) -> Option<Vec<(Field, Vec<Range>)>> {
    const IGMP: u8 = 2;
    const DHCP_SERVER: u16 = 67;
    let has = |wanted: Field, value: u128| {
        kind.iter().any(|(field, ranges)| {
            *field == wanted
                && ranges
                    .iter()
                    .any(|range| (range.0..=range.1).contains(&value))
        })
    };
    let narrowed =
        if has(Field::Protocol, UDP.into()) && has(Field::DestinationPort, DHCP_SERVER.into()) {
            vec![
                (Field::Protocol, one(UDP)),
                (Field::DestinationPort, one(DHCP_SERVER)),
            ]
        } else if has(Field::Protocol, IGMP.into()) {
            vec![(Field::Protocol, one(IGMP))]
        } else {
            return None;
        };
    for (field, range) in narrowed {
        kind.retain(|(other, _)| *other != field);
        kind.push((field, vec![range]));
    }
    kind.push((Field::Source, vec![(0, 0)]));
    Some(kind)
}

fn some<T>(values: &[T], ranges: impl FnOnce(&[T]) -> Vec<Range>) -> Option<Vec<Range>> {
    (!values.is_empty()).then(|| ranges(values))
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

/// Ranges without overlap, ascending.
pub(super) fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if last.1 == u128::MAX || low <= last.1 + 1 => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}

/// What is left of some ranges without others; both ascending and without overlap.
fn without(ranges: &[Range], others: &[Range]) -> Vec<Range> {
    let mut left = Vec::new();
    let mut next = 0;
    for &(mut low, high) in ranges {
        while next < others.len() && others[next].1 < low {
            next += 1;
        }
        let mut index = next;
        let mut covered = false;
        while index < others.len() && others[index].0 <= high {
            if others[index].0 > low {
                left.push((low, others[index].0 - 1));
            }
            if others[index].1 >= high {
                covered = true;
                break;
            }
            low = others[index].1 + 1;
            index += 1;
        }
        if !covered {
            left.push((low, high));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_left_is_in_the_one_and_not_in_the_other(
            ranges in prop::collection::vec((0..60_u128, 0..9_u128), 0..8),
            others in prop::collection::vec((0..60_u128, 0..9_u128), 0..8),
        ) {
            let list = |ranges: Vec<(u128, u128)>| {
                merged(ranges.into_iter().map(|(low, length)| (low, low + length)).collect())
            };
            let (ranges, others) = (list(ranges), list(others));
            let left = without(&ranges, &others);
            let holds = |ranges: &[Range], value: u128| {
                ranges.iter().any(|range| (range.0..=range.1).contains(&value))
            };
            for value in 0..80 {
                let expected = holds(&ranges, value) && !holds(&others, value);
                prop_assert_eq!(holds(&left, value), expected, "{}", value);
            }
        }
    }
}
