//! Which condition of a rule a packet does not meet: for people who wonder why a rule did not
//! match. The verdict is the engine's; this only puts into words what it passed over.

use firewall_common::image::Field;
use firewall_common::packet::{Fragment, NO_VLAN, Packet, mark, protocol};

use super::Question;
use crate::engine::ip_address;
use crate::policy::protocol::{icmp_type_name, protocol_name, tcp_flag_names};
use crate::policy::{Action, Addresses, Policy, Rule};

/// The first condition of `rule` that the packet does not meet, as a sentence; `None` if it meets
/// all.
pub(super) fn first_unmet(
    policy: &Policy,
    rule: &Rule,
    packet: &Packet,
    question: &Question<'_>,
) -> Option<String> {
    expired(rule, question)
        .or_else(|| protected(policy, rule, packet))
        .or_else(|| protocols(rule, packet))
        .or_else(|| addresses(policy, rule, packet))
        .or_else(|| ports(rule, packet))
        .or_else(|| flags_and_types(rule, packet))
        .or_else(|| place(rule, packet, question))
        .or_else(|| shape(rule, packet))
        .or_else(|| payload(rule, packet, question.frame))
}

fn expired(rule: &Rule, question: &Question<'_>) -> Option<String> {
    let expires = rule.expires?;
    (expires.as_nanosecond() <= i128::from(question.now)).then(|| format!("it expired {expires}"))
}

fn protected(policy: &Policy, rule: &Rule, packet: &Packet) -> Option<String> {
    let source = ip_address(packet.source);
    let spared = rule.action == Action::Drop
        && rule.direction == firewall_common::Direction::Inbound
        && policy.never_blocks(source);
    spared.then(|| format!("it drops, and never_block protects {source}"))
}

fn protocols(rule: &Rule, packet: &Packet) -> Option<String> {
    let v6 = packet.is(mark::V6);
    let other_family = if v6 { protocol::ICMP } else { protocol::ICMPV6 };
    let met = rule.protocols.is_empty()
        || (rule.protocols.contains(&packet.protocol) && packet.protocol != other_family);
    let names: Vec<String> = rule
        .protocols
        .iter()
        .map(|&number| protocol_name(number))
        .collect();
    (!met).then(|| {
        let wanted = names.join(" or ");
        format!(
            "it is about {wanted}, this is {}",
            protocol_name(packet.protocol)
        )
    })
}

fn addresses(policy: &Policy, rule: &Rule, packet: &Packet) -> Option<String> {
    for (key, addresses, address) in [
        ("from", &rule.from, packet.source),
        ("to", &rule.to, packet.destination),
    ] {
        let address = ip_address(address);
        if !addresses.contains(policy, address) {
            return Some(format!(
                "{address} is not in its {key} ({})",
                named(policy, addresses)
            ));
        }
    }
    None
}

/// An address list as the rule has it, shortened.
fn named(policy: &Policy, addresses: &Addresses) -> String {
    const SHOWN: usize = 4;
    let sets = addresses
        .sets
        .iter()
        .map(|&set| policy.sets[set].name.clone());
    let prefixes = addresses
        .prefixes
        .iter()
        .map(crate::policy::address::print_prefix);
    let all: Vec<String> = sets.chain(prefixes).collect();
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => all.join(", "),
        Some(more) => format!("{} and {more} more", all[..SHOWN].join(", ")),
    }
}

fn ports(rule: &Rule, packet: &Packet) -> Option<String> {
    for (key, ranges, port) in [
        ("port", &rule.ports, packet.destination_port),
        ("from_port", &rule.from_ports, packet.source_port),
    ] {
        if ranges.is_empty() {
            continue;
        }
        if !packet.is(mark::PORTS) {
            return Some(format!("it has a {key}, and the packet has no ports"));
        }
        if !within(ranges, port) {
            return Some(format!("{key} {port} is not {}", listed(ranges)));
        }
    }
    None
}

fn flags_and_types(rule: &Rule, packet: &Packet) -> Option<String> {
    if let Some(wanted) = rule.tcp_flags {
        if packet.protocol != protocol::TCP || !packet.is(mark::PORTS) {
            return Some("it has tcp_flags, and the packet has none".to_owned());
        }
        let missing = wanted.set & !packet.tcp_flags;
        let excess = wanted.clear & packet.tcp_flags;
        if let Some(flag) = tcp_flag_names(missing).next() {
            return Some(format!("TCP flag {flag} is not set"));
        }
        if let Some(flag) = tcp_flag_names(excess).next() {
            return Some(format!("TCP flag {flag} is set"));
        }
    }
    if !rule.tcp_windows.is_empty() {
        if packet.protocol != protocol::TCP
            || !packet.is(mark::PORTS)
            || packet.is(mark::ICMP_ERROR)
        {
            return Some("it has a tcp_window, and the packet has none".to_owned());
        }
        if !within(&rule.tcp_windows, packet.tcp_window) {
            let wanted = listed(&rule.tcp_windows);
            return Some(format!("tcp_window {} is not {wanted}", packet.tcp_window));
        }
    }
    if !rule.icmp_types.is_empty() {
        let icmp = matches!(packet.protocol, protocol::ICMP | protocol::ICMPV6);
        if !icmp || packet.fragment == Fragment::Later || packet.is(mark::ICMP_ERROR) {
            return Some("it has an icmp_type, and the packet has none".to_owned());
        }
        if !rule.icmp_types.contains(&packet.icmp_type) {
            let name = icmp_type_name(packet.protocol, packet.icmp_type);
            return Some(format!("icmp_type {name} is not among its own"));
        }
    }
    None
}

fn place(rule: &Rule, packet: &Packet, question: &Question<'_>) -> Option<String> {
    if !rule.vlans.is_empty() && !rule.vlans.contains(&packet.vlan) {
        return Some(if packet.vlan == NO_VLAN {
            "it has a vlan, and the packet is untagged".to_owned()
        } else {
            format!("VLAN {} is not among its own", packet.vlan)
        });
    }
    if rule.interfaces.is_empty() {
        return None;
    }
    match &question.interface {
        Some(name) if rule.interfaces.contains(name) => None,
        Some(name) => Some(format!("interface {name} is not among its own")),
        None => Some(format!(
            "it is about interface {}; say --interface to ask for one",
            rule.interfaces.join(", ")
        )),
    }
}

fn shape(rule: &Rule, packet: &Packet) -> Option<String> {
    let length = packet.ip_length.min(u32::from(u16::MAX)) as u16;
    if !rule.lengths.is_empty() && !within(&rule.lengths, length) {
        return Some(format!("length {length} is not {}", listed(&rule.lengths)));
    }
    if !rule.ttls.is_empty() && !within(&rule.ttls, packet.ttl) {
        return Some(format!("ttl {} is not {}", packet.ttl, listed(&rule.ttls)));
    }
    match (rule.fragment, packet.fragment) {
        (Some(true), Fragment::Whole) => Some("it is about fragments, this is none".to_owned()),
        (Some(false), Fragment::First | Fragment::Later) => {
            Some("it is about whole packets, this is a fragment".to_owned())
        }
        _ => None,
    }
}

fn payload(rule: &Rule, packet: &Packet, frame: &[u8]) -> Option<String> {
    if rule.payloads.is_empty() {
        return None;
    }
    let payload = payload_of(packet, frame)
        .filter(|payload| !payload.is_empty())
        .map(|payload| rule.payloads.iter().any(|wanted| wanted.is_in(payload)));
    let wanted: Vec<String> = rule.payloads.iter().map(ToString::to_string).collect();
    match payload {
        Some(true) => None,
        Some(false) => Some(format!("its payload does not show {}", wanted.join(" or "))),
        None => Some("it has a payload, and the packet has none".to_owned()),
    }
}

/// What stands behind a packet's transport header, where one can be found.
fn payload_of<'f>(packet: &Packet, frame: &'f [u8]) -> Option<&'f [u8]> {
    if packet.fragment == Fragment::Later || packet.is(mark::ICMP_ERROR) {
        return None;
    }
    let transport = frame.get(packet.transport as usize..)?;
    let transport = transport.get(..packet.payload as usize)?;
    let header = match packet.protocol {
        protocol::TCP => usize::from(transport.get(12)? >> 4) * 4,
        protocol::UDP | protocol::UDPLITE => 8,
        protocol::ICMP if !packet.is(mark::V6) => 8,
        protocol::ICMPV6 if packet.is(mark::V6) => 8,
        _ => 0,
    };
    transport.get(header..)
}

fn within<T: Copy + PartialOrd>(ranges: &[(T, T)], value: T) -> bool {
    ranges
        .iter()
        .any(|&(first, last)| first <= value && value <= last)
}

fn listed<T: PartialEq + std::fmt::Display>(ranges: &[(T, T)]) -> String {
    let ranges: Vec<String> = ranges
        .iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    ranges.join(", ")
}

/// The key of the language by which rules look at a field.
pub(super) const fn field_name(field: Field) -> &'static str {
    match field {
        Field::Source => "from",
        Field::Destination => "to",
        Field::Protocol => "protocol",
        Field::DestinationPort => "port",
        Field::SourcePort => "from_port",
        Field::Vlan => "vlan",
        Field::Interface => "interface",
        Field::Length => "length",
        Field::Ttl => "ttl",
        Field::Fragment => "fragment",
        Field::TcpWindow => "tcp_window",
        Field::Payload => "payload",
    }
}
