//! Regions in the words of the language.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::field::{Field, LATER, NO_VLAN, Range, WHOLE};
use super::region::Region;
use super::space::Space;
use crate::policy::address::print_prefix;
use crate::policy::protocol::{ICMP, ICMPV6, icmp_type_name, protocol_name, tcp_flag_names};

/// Words kept for one key; of more it is told how many.
const WORDS: usize = 12;

/// What the packets of a region have in common; empty for all packets.
pub(super) fn packets(space: &Space, region: &Region) -> Vec<(&'static str, Vec<String>)> {
    let mut keys = Vec::new();
    for (field, classes) in Field::ALL.into_iter().zip(&region.fields) {
        if let Some(classes) = classes {
            let ranges = space.ranges(field, classes);
            keys.push((key(field), words(space, field, &ranges)));
        }
    }
    keys
}

const fn key(field: Field) -> &'static str {
    match field {
        Field::Source => "from",
        Field::Destination => "to",
        Field::Protocol => "protocol",
        Field::SourcePort => "from_port",
        Field::DestinationPort => "port",
        Field::TcpFlags => "tcp_flags",
        Field::TcpWindow => "tcp_window",
        Field::IcmpType => "icmp_type",
        Field::Length => "length",
        Field::Ttl => "ttl",
        Field::Vlan => "vlan",
        Field::Interface => "interface",
        Field::Payload => "payload",
        Field::Fragment => "fragment",
        Field::Time => "until",
    }
}

fn words(space: &Space, field: Field, ranges: &[Range]) -> Vec<String> {
    let context = &space.context;
    let each = |word: &dyn Fn(u128) -> String| {
        let values = ranges.iter().flat_map(|&(low, high)| low..=high);
        bounded(values.map(word))
    };
    match field {
        Field::Source | Field::Destination => bounded(
            ranges
                .iter()
                .flat_map(|range| addresses(*range, context.v6)),
        ),
        Field::Protocol => each(&|number| protocol_name(number as u8)),
        Field::TcpFlags => vec![flags(ranges)],
        Field::IcmpType => {
            let icmp = if context.v6 { ICMPV6 } else { ICMP };
            each(&|kind| icmp_type_name(icmp, kind as u8))
        }
        Field::Vlan => each(&|vlan| match vlan {
            NO_VLAN => "none".to_owned(),
            vlan => vlan.to_string(),
        }),
        Field::Interface => each(&|slot| match context.interfaces.get(slot as usize) {
            Some(name) => name.clone(),
            None => "any other".to_owned(),
        }),
        Field::Payload => {
            let shown = |mask: u128| {
                let payloads = context.payloads.iter().enumerate();
                let shown = payloads.filter(|(index, _)| mask >> index & 1 != 0);
                shown
                    .map(|(_, payload)| payload.to_string())
                    .collect::<Vec<_>>()
                    .join(" and ")
            };
            each(&shown)
        }
        Field::Fragment => vec![(ranges != [(WHOLE, WHOLE)]).to_string()],
        // Rules end, and none begins later.
        Field::Time => {
            let last = ranges.last().map_or(LATER, |range| range.1) as usize;
            let end = context.ends.get(last).map(ToString::to_string);
            end.into_iter().collect()
        }
        Field::SourcePort
        | Field::DestinationPort
        | Field::TcpWindow
        | Field::Length
        | Field::Ttl => bounded(ranges.iter().map(|&(low, high)| {
            if low == high {
                low.to_string()
            } else {
                format!("{low}-{high}")
            }
        })),
    }
}

/// The first words, and how many more there are.
fn bounded(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut words = words;
    let mut kept: Vec<String> = words.by_ref().take(WORDS).collect();
    match words.count() {
        0 => {}
        more => kept.push(format!("and {more} more")),
    }
    kept
}

/// The prefixes that make up a range.
fn addresses((low, high): Range, v6: bool) -> Vec<String> {
    let nets: Vec<IpNet> = if v6 {
        ipnet::Ipv6Subnets::new(Ipv6Addr::from_bits(low), Ipv6Addr::from_bits(high), 0)
            .map(IpNet::V6)
            .collect()
    } else {
        let address = |bits: u128| Ipv4Addr::from_bits(bits as u32);
        ipnet::Ipv4Subnets::new(address(low), address(high), 0)
            .map(IpNet::V4)
            .collect()
    };
    match nets.as_slice() {
        [net] => vec![print_prefix(net)],
        [first, second] => vec![print_prefix(first), print_prefix(second)],
        _ if v6 => vec![format!(
            "{}-{}",
            Ipv6Addr::from_bits(low),
            Ipv6Addr::from_bits(high)
        )],
        _ => {
            let address = |bits: u128| Ipv4Addr::from_bits(bits as u32);
            vec![format!("{}-{}", address(low), address(high))]
        }
    }
}

/// `syn,!ack` where the combinations are all that fit such a condition.
fn flags(ranges: &[Range]) -> String {
    let values = || {
        ranges
            .iter()
            .flat_map(|&(low, high)| low..=high)
            .map(|flags| flags as u8)
    };
    let set = values().fold(u8::MAX, |set, flags| set & flags);
    let clear = values().fold(u8::MAX, |clear, flags| clear & !flags);
    let free = (set | clear).count_zeros();
    if values().count() != 1 << free {
        return format!("{} combinations of flags", values().count());
    }
    let set = tcp_flag_names(set).map(str::to_owned);
    let clear = tcp_flag_names(clear).map(|name| format!("!{name}"));
    set.chain(clear).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_addresses_are_prefixes_where_one_or_two_say_it() {
        let v4 = |low: [u8; 4], high: [u8; 4]| {
            let bits = |octets: [u8; 4]| u128::from(u32::from_be_bytes(octets));
            addresses((bits(low), bits(high)), false).join(" ")
        };
        assert_eq!(
            v4([198, 51, 100, 0], [198, 51, 100, 255]),
            "198.51.100.0/24"
        );
        assert_eq!(v4([198, 51, 100, 7], [198, 51, 100, 7]), "198.51.100.7");
        assert_eq!(
            v4([198, 51, 100, 0], [198, 51, 100, 191]),
            "198.51.100.0/25 198.51.100.128/26"
        );
        assert_eq!(
            v4([198, 51, 100, 1], [198, 51, 100, 254]),
            "198.51.100.1-198.51.100.254"
        );
        assert_eq!(v4([0; 4], [255; 4]), "0.0.0.0/0");
    }

    #[test]
    fn flags_are_a_condition_where_they_are_one() {
        let with_syn_without_ack: Vec<Range> = (0..=255_u128)
            .filter(|flags| flags & 0x12 == 2)
            .map(|flags| (flags, flags))
            .collect();
        assert_eq!(flags(&with_syn_without_ack), "syn,!ack");
        assert_eq!(flags(&[(1, 2)]), "2 combinations of flags");
    }
}
