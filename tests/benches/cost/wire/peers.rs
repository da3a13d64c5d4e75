//! One policy in the languages of what people would use instead: nftables at the netdev ingress
//! hook, and iptables' raw table with ipset.

use std::fmt::{Display, Write as _};

use crate::policies::{DROPPED_PORT, OPEN_PORT, partners};

/// What the set lists.
#[derive(Clone, Debug)]
pub enum Listed {
    Nothing,
    Addresses(Vec<String>),
    /// Prefixes and addresses.
    Prefixes(Vec<String>),
}

impl Listed {
    pub fn items(&self) -> &[String] {
        match self {
            Self::Nothing => &[],
            Self::Addresses(items) | Self::Prefixes(items) => items,
        }
    }
}

/// How rules are written in nftables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One after the other.
    Plain,
    /// A verdict map from protocol and port, a hash, to the rule of that service.
    Maps,
}

/// A ruleset for `nft -f`. What no rule matches meets the last one, which counts and drops.
pub fn nftables(interface: &str, rules: usize, listed: &Listed, form: Form) -> String {
    let mut text = String::from("table netdev bench {\n");
    let mut chain = String::new();
    if !listed.items().is_empty() {
        let flags = match listed {
            Listed::Prefixes(_) => "flags interval; ",
            // With its size the kernel takes the hash that does not grow, its fastest.
            _ => "",
        };
        add(
            &mut text,
            format_args!(
                "set blocked {{ type ipv4_addr; {flags}size {}; elements = {{ {} }} }}\n",
                listed.items().len(),
                listed.items().join(", ")
            ),
        );
        chain += "ip saddr @blocked counter drop\n";
    }
    match form {
        Form::Plain => {
            for partner in partners(rules) {
                add(
                    &mut chain,
                    format_args!(
                        "ip saddr {} {} dport {} accept\n",
                        partner.prefix, partner.protocol, partner.port
                    ),
                );
            }
            if rules > 1 {
                add(&mut chain, format_args!("tcp dport {DROPPED_PORT} drop\n"));
            }
            add(&mut chain, format_args!("tcp dport {OPEN_PORT} accept\n"));
        }
        Form::Maps => {
            let mut services = format!("tcp . {OPEN_PORT} : accept");
            if rules > 1 {
                add(&mut services, format_args!(", tcp . {DROPPED_PORT} : drop"));
            }
            for partner in partners(rules) {
                add(
                    &mut text,
                    format_args!(
                        "chain r{} {{ ip saddr {} accept; }}\n",
                        partner.number, partner.prefix
                    ),
                );
                add(
                    &mut services,
                    format_args!(
                        ", {} . {} : jump r{}",
                        partner.protocol, partner.port, partner.number
                    ),
                );
            }
            add(
                &mut text,
                format_args!(
                    "map services {{ type inet_proto . inet_service : verdict; size {}; elements = {{ {services} }} }}\n",
                    rules.max(1)
                ),
            );
            chain += "meta l4proto . th dport vmap @services\n";
        }
    }
    add(
        &mut text,
        format_args!(
            "chain in {{ type filter hook ingress device \"{interface}\" priority 0; policy accept;\n\
             {chain}counter drop\n}}\n}}\n"
        ),
    );
    text
}

/// What `ipset restore` reads.
pub fn ipset(listed: &Listed) -> Option<String> {
    let kind = match listed {
        Listed::Nothing => return None,
        Listed::Addresses(_) => "hash:ip",
        Listed::Prefixes(_) => "hash:net",
    };
    let items = listed.items();
    let size = items.len().next_power_of_two().max(1_024);
    let mut text = format!(
        "create blocked {kind} family inet hashsize {size} maxelem {}\n",
        items.len().max(65_536)
    );
    for item in items {
        add(&mut text, format_args!("add blocked {item}\n"));
    }
    Some(text)
}

/// What `iptables-restore` reads.
pub fn iptables(rules: usize, listed: &Listed) -> String {
    let mut text = String::from("*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n");
    if !listed.items().is_empty() {
        text += "-A PREROUTING -m set --match-set blocked src -j DROP\n";
    }
    for partner in partners(rules) {
        let protocol = partner.protocol;
        add(
            &mut text,
            format_args!(
                "-A PREROUTING -s {} -p {protocol} -m {protocol} --dport {} -j ACCEPT\n",
                partner.prefix, partner.port
            ),
        );
    }
    let service =
        |port, target| format!("-A PREROUTING -p tcp -m tcp --dport {port} -j {target}\n");
    if rules > 1 {
        text += &service(DROPPED_PORT, "DROP");
    }
    text + &service(OPEN_PORT, "ACCEPT") + "-A PREROUTING -j DROP\nCOMMIT\n"
}

fn add(text: &mut String, what: impl Display) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{what}");
}
