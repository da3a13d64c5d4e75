//! Rules, one after the other.

use std::net::IpAddr;

use firewall_user::policy::{Action, Addresses, Direction, Mode, Payload as Wanted, Policy, Rule};
use ipnet::IpNet;

use super::limits::{Held, Limits};
use super::parse::{Body, Fragment, ICMP, ICMPV6, Packet, Payload};
use super::{Hits, INTERFACE};

/// The first rule that decides about a packet. Rules that count and go on are counted in `counts`.
pub fn first_match<'a>(
    policy: &'a Policy,
    packet: &Packet,
    direction: Direction,
    now: u64,
    mut counts: Option<(&mut Hits, &mut Limits, usize)>,
) -> Option<&'a Rule> {
    for rule in &policy.rules {
        if rule.direction != direction || !matches(policy, rule, packet, now) {
            continue;
        }
        let decides = rule.action != Action::Count && rule.mode == Mode::Enforce;
        if let Some((hits, limits, bytes)) = &mut counts {
            hits.count(&rule.name, *bytes);
            if !decides {
                // What its limit would drop is counted, too.
                let held = Held {
                    packet,
                    bytes: *bytes,
                    known: false,
                };
                limits.is_over(rule, &held, now);
            }
        }
        if decides {
            return Some(rule);
        }
    }
    None
}

fn matches(policy: &Policy, rule: &Rule, packet: &Packet, now: u64) -> bool {
    let v6 = packet.destination.is_ipv6();
    let (from, to) = match packet.body {
        Body::Tcp { from, to, .. } | Body::Ports { from, to } => (Some(from), Some(to)),
        Body::Icmp { .. } | Body::Opaque => (None, None),
    };
    // Of a packet that only its answer tells of, rules that accept hope for the best.
    let hoped_for = packet.payload == Payload::Unseen && rule.action == Action::Accept;
    let window = match packet.body {
        Body::Tcp { window, .. } if packet.payload != Payload::Unseen => window,
        _ => None,
    };
    let shows = |wanted: &Wanted| match &packet.payload {
        Payload::Bytes(payload) => shows(wanted, payload),
        Payload::None | Payload::Unseen => false,
    };
    let flags = match packet.body {
        Body::Tcp { flags, .. } => Some(flags),
        _ => None,
    };
    let kind = match packet.body {
        Body::Icmp { kind, .. } => Some(kind),
        _ => None,
    };
    let asked_family = if v6 { ICMPV6 } else { ICMP };
    let other_family = if v6 { ICMP } else { ICMPV6 };
    any_or(&rule.protocols, |&protocol| {
        protocol == packet.protocol && protocol != other_family
    }) && any_or(&rule.icmp_types, |&wanted| {
        Some(wanted) == kind
            && (rule.protocols.is_empty() || rule.protocols.contains(&asked_family))
    }) && any_or(&rule.ports, |&range| within(range, to))
        && any_or(&rule.from_ports, |&range| within(range, from))
        && any_or(&rule.vlans, |&vlan| Some(vlan) == packet.vlan)
        && any_or(&rule.interfaces, |name| name == INTERFACE)
        && any_or(&rule.lengths, |&range| {
            within(range, Some(packet.length.min(65_535) as u16))
        })
        && any_or(&rule.ttls, |&range| within(range, Some(packet.ttl)))
        && (any_or(&rule.tcp_windows, |&range| within(range, window))
            || (hoped_for && matches!(packet.body, Body::Tcp { .. })))
        && (any_or(&rule.payloads, shows) || hoped_for)
        && rule.tcp_flags.is_none_or(|wanted| {
            flags.is_some_and(|flags| flags & wanted.set == wanted.set && flags & wanted.clear == 0)
        })
        && rule
            .fragment
            .is_none_or(|wanted| wanted == (packet.fragment != Fragment::Whole))
        && rule
            .expires
            .is_none_or(|end| i128::from(now) < end.as_nanosecond())
        && listed(policy, &rule.from, packet.source)
        && listed(policy, &rule.to, packet.destination)
        && !(rule.action == Action::Drop
            && rule.direction == Direction::Inbound
            && covered(&policy.never_block, packet.source))
}

/// Whether the digits of a printed pattern stand where they should, `?` being any.
fn shows(wanted: &Wanted, payload: &[u8]) -> bool {
    let printed = wanted.to_string();
    let Some((offset, digits)) = printed.split_once(':') else {
        return false;
    };
    let offset: usize = offset.parse().expect("an offset");
    let hex: String = payload
        .iter()
        .skip(offset)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    hex.len() >= digits.len()
        && digits
            .chars()
            .zip(hex.chars())
            .all(|(wanted, digit)| wanted == '?' || wanted == digit)
}

fn listed(policy: &Policy, addresses: &Addresses, address: IpAddr) -> bool {
    (addresses.sets.is_empty() && addresses.prefixes.is_empty())
        || covered(&addresses.prefixes, address)
        || addresses
            .sets
            .iter()
            .any(|&set| covered(&policy.sets[set].prefixes, address))
}

/// Whether one of `prefixes` covers `address`.
pub fn covered(prefixes: &[IpNet], address: IpAddr) -> bool {
    prefixes.iter().any(|prefix| covers(*prefix, address))
}

/// Whether the bits that a prefix fixes are the address's.
pub fn covers(prefix: IpNet, address: IpAddr) -> bool {
    let length = u32::from(prefix.prefix_len());
    match (prefix.addr(), address) {
        (IpAddr::V4(prefix), IpAddr::V4(address)) => {
            let differing = prefix.to_bits() ^ address.to_bits();
            length == 0 || differing >> (32 - length) == 0
        }
        (IpAddr::V6(prefix), IpAddr::V6(address)) => {
            let differing = prefix.to_bits() ^ address.to_bits();
            length == 0 || differing >> (128 - length) == 0
        }
        _ => false,
    }
}

fn any_or<T>(wanted: &[T], accepts: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(accepts)
}

fn within<T: PartialOrd + Copy>(range: (T, T), value: Option<T>) -> bool {
    value.is_some_and(|value| range.0 <= value && value <= range.1)
}
