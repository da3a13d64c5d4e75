//! Puts a rule that was read back into the language's words, for lists and JSON.

use serde_json::{Map, Value, json};

use super::address::print_prefix;
use super::limit::unit_name;
use super::model::{Action, Addresses, Mode, Policy, Rule, TcpFlags};
use super::protocol::{ICMPV6, icmp_type_name, protocol_name, tcp_flag_names};

impl Action {
    /// The word of the language.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
            Self::Count => "count",
        }
    }
}

impl Mode {
    /// The word of the language.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// The keys by which a rule matches, with their values as the language writes them.
pub fn matches(policy: &Policy, rule: &Rule) -> Vec<(&'static str, Vec<String>)> {
    let icmp = match rule.protocols.as_slice() {
        [ICMPV6] => ICMPV6,
        _ => super::protocol::ICMP,
    };
    let mut keys: Vec<(&'static str, Vec<String>)> = vec![
        (
            "protocol",
            rule.protocols
                .iter()
                .map(|number| protocol_name(*number))
                .collect(),
        ),
        ("port", ranges(&rule.ports)),
        ("from_port", ranges(&rule.from_ports)),
        ("from", addresses(policy, &rule.from)),
        ("to", addresses(policy, &rule.to)),
        ("tcp_flags", rule.tcp_flags.map(flags).into_iter().collect()),
        (
            "icmp_type",
            rule.icmp_types
                .iter()
                .map(|kind| icmp_type_name(icmp, *kind))
                .collect(),
        ),
        ("length", ranges(&rule.lengths)),
        ("ttl", ranges(&rule.ttls)),
        ("tcp_window", ranges(&rule.tcp_windows)),
        (
            "payload",
            rule.payloads.iter().map(ToString::to_string).collect(),
        ),
        ("vlan", rule.vlans.iter().map(ToString::to_string).collect()),
        ("interface", rule.interfaces.clone()),
        (
            "fragment",
            rule.fragment
                .map(|fragment| fragment.to_string())
                .into_iter()
                .collect(),
        ),
    ];
    keys.retain(|(_, words)| !words.is_empty());
    keys
}

/// What a rule matches and its limit, on one line: `protocol tcp, port 80 443, from office`.
pub fn summary(policy: &Policy, rule: &Rule) -> String {
    let keys: Vec<String> = matches(policy, rule)
        .iter()
        .map(|(key, words)| format!("{key} {}", words.join(" ")))
        .collect();
    let matched = if keys.is_empty() {
        "everything".to_owned()
    } else {
        keys.join(", ")
    };
    match rule.limit {
        Some(limit) => format!("{matched}; limit {limit}"),
        None => matched,
    }
}

/// A rule's JSON form.
pub fn to_json(policy: &Policy, rule: &Rule) -> Map<String, Value> {
    let matches: Map<String, Value> = matches(policy, rule)
        .into_iter()
        .map(|(key, words)| (key.to_owned(), json!(words)))
        .collect();
    let mut document = Map::new();
    document.insert("name".to_owned(), json!(rule.name));
    document.insert("action".to_owned(), json!(rule.action.name()));
    document.insert("direction".to_owned(), json!(rule.direction.name()));
    document.insert("mode".to_owned(), json!(rule.mode.name()));
    document.insert("match".to_owned(), Value::Object(matches));
    let limit = rule.limit.map(|limit| {
        json!({
            "rate": limit.rate(),
            "burst": limit.terms.burst,
            "per": limit.per(),
            "unit": unit_name(limit.unit),
        })
    });
    document.insert("limit".to_owned(), json!(limit));
    document.insert("log".to_owned(), json!(rule.log));
    document.insert("owner".to_owned(), json!(rule.owner));
    document.insert("reason".to_owned(), json!(rule.reason));
    document.insert(
        "expires".to_owned(),
        json!(rule.expires.map(|expires| expires.to_string())),
    );
    document.insert("line".to_owned(), json!(rule.line));
    document
}

fn ranges<T: PartialEq + ToString>(ranges: &[(T, T)]) -> Vec<String> {
    let print = |(low, high): &(T, T)| {
        if low == high {
            low.to_string()
        } else {
            format!("{}-{}", low.to_string(), high.to_string())
        }
    };
    ranges.iter().map(print).collect()
}

fn addresses(policy: &Policy, addresses: &Addresses) -> Vec<String> {
    let sets = addresses
        .sets
        .iter()
        .map(|set| policy.sets[*set].name.clone());
    sets.chain(addresses.prefixes.iter().map(print_prefix))
        .collect()
}

fn flags(flags: TcpFlags) -> String {
    let set = tcp_flag_names(flags.set).map(str::to_owned);
    let clear = tcp_flag_names(flags.clear).map(|name| format!("!{name}"));
    set.chain(clear).collect::<Vec<_>>().join(",")
}
