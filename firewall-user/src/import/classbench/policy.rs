//! A set as a policy.

use std::fmt::Write as _;

use clap::ValueEnum;
use ipnet::Ipv4Net;

use super::filter::{ANY_PORT, Filter, Masked};
use crate::policy::protocol::{ICMP, ICMPV6, TCP, WITH_PORTS, protocol_name, tcp_flag_names};

/// What the rules do: filters say only what they match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Actions {
    Accept,
    Drop,
    /// Accept and drop by turns, beginning with accept, so that it shows which rule decides
    #[default]
    Alternate,
}

/// What became of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The policy.
    pub text: String,
    /// How many rules it has.
    pub rules: usize,
    /// Filters that no packet can match, by their number from 1, and why. They are left out.
    pub left_out: Vec<(usize, String)>,
    /// Filters whose rule matches more than they do, by their number from 1, and what.
    pub widened: Vec<(usize, String)>,
}

/// Writes the policy of a set. Rules are named by `name` and the number of their filter from 1, and stand
/// in its order.
pub fn import(filters: &[Filter], name: &str, actions: Actions) -> Imported {
    let mut imported = Imported {
        text: format!(
            "# {} filters of the ClassBench set {name}.\nversion = 1\n\n[defaults]\ninbound = \"drop\"\noutbound = \"accept\"\n",
            filters.len()
        ),
        rules: 0,
        left_out: Vec::new(),
        widened: Vec::new(),
    };
    for (index, filter) in filters.iter().enumerate() {
        let number = index + 1;
        match conditions(filter) {
            Ok((keys, widened)) => {
                let action = match actions {
                    Actions::Accept => "accept",
                    Actions::Drop => "drop",
                    Actions::Alternate if index % 2 == 0 => "accept",
                    Actions::Alternate => "drop",
                };
                // Writing to a string cannot fail.
                let _ = write!(
                    imported.text,
                    "\n[[rule]]\nname = \"{name}-{number:05}\"\naction = \"{action}\"\n{keys}"
                );
                imported.rules += 1;
                imported.widened.extend(widened.map(|what| (number, what)));
            }
            Err(why) => {
                let _ = write!(imported.text, "\n# {name}-{number:05} is left out: {why}\n");
                imported.left_out.push((number, why));
            }
        }
    }
    imported
}

/// The keys by which a rule matches what a filter does, and what it matches besides; or why no packet
/// can match the filter.
fn conditions(filter: &Filter) -> Result<(String, Option<String>), String> {
    let mut keys = String::new();
    let mut put = |key: &str, value: String| {
        let _ = writeln!(keys, "{key} = {value}");
    };
    let mut protocols = filter.protocol.values();
    let with_ports = filter.source_ports != ANY_PORT || filter.destination_ports != ANY_PORT;
    if with_ports {
        let mut having = protocols.unwrap_or_else(|| WITH_PORTS.to_vec());
        let first = having.first().map(|&number| protocol_name(number));
        having.retain(|number| WITH_PORTS.contains(number));
        if having.is_empty() {
            let first = first.unwrap_or_default();
            return Err(format!("a packet of protocol {first} has no ports"));
        }
        protocols = Some(having);
    }
    // ICMPv6 stands in IPv6 alone, and the filters are IPv4's.
    if let Some(protocols) = &mut protocols {
        protocols.retain(|&number| number != ICMPV6);
        if protocols.is_empty() {
            return Err("an IPv4 packet does not carry ICMPv6".to_owned());
        }
        put(
            "protocol",
            list(protocols.iter().map(|&number| named(number))),
        );
    }
    for (key, range) in [
        ("from_port", filter.source_ports),
        ("port", filter.destination_ports),
    ] {
        if range != ANY_PORT {
            put(key, ports(range));
        }
    }
    // One address is enough to say that the packet is IPv4.
    if filter.source.prefix_len() > 0 || filter.destination.prefix_len() == 0 {
        put("from", address(filter.source));
    }
    if filter.destination.prefix_len() > 0 {
        put("to", address(filter.destination));
    }
    let mut widened = None;
    if filter.flags.mask != 0 {
        match protocols.as_deref() {
            Some([TCP]) if filter.flags.low().mask == 0 => {
                put("tcp_flags", format!("\"{}\"", flags(filter.flags.high())));
            }
            Some([ICMP]) => {
                let types = filter.flags.high().values();
                if let Some(types) = types {
                    put("icmp_type", list(types.iter().map(u8::to_string)));
                }
                if filter.flags.low().mask != 0 {
                    widened = Some(
                        "every code of its message types: the language has no key for codes"
                            .to_owned(),
                    );
                }
            }
            _ => {
                return Err(format!(
                    "flags {:#06x}/{:#06x} mean nothing for its protocol",
                    filter.flags.value, filter.flags.mask
                ));
            }
        }
    }
    Ok((keys, widened))
}

fn named(number: u8) -> String {
    match protocol_name(number) {
        name if name.parse::<u8>().is_ok() => name,
        name => format!("\"{name}\""),
    }
}

fn list(values: impl ExactSizeIterator<Item = String>) -> String {
    let one = values.len() == 1;
    let joined = values.collect::<Vec<_>>().join(", ");
    if one { joined } else { format!("[{joined}]") }
}

fn ports((low, high): (u16, u16)) -> String {
    if low == high {
        low.to_string()
    } else {
        format!("\"{low}-{high}\"")
    }
}

fn address(prefix: Ipv4Net) -> String {
    if prefix.prefix_len() == 32 {
        format!("\"{}\"", prefix.addr())
    } else {
        format!("\"{prefix}\"")
    }
}

fn flags(flags: Masked<u8>) -> String {
    let set = tcp_flag_names(flags.value).map(str::to_owned);
    let clear = tcp_flag_names(flags.mask & !flags.value).map(|name| format!("!{name}"));
    set.chain(clear).collect::<Vec<_>>().join(",")
}
