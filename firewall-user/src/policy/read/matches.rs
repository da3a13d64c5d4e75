//! The values by which a rule matches: addresses, protocols, flags, message types, tags.

use std::collections::HashMap;

use ipnet::IpNet;
use toml::de::DeValue;

use super::reader::{At, Reader, Value, kind};
use crate::policy::address::{parse_prefix, print_prefix, resembles_address};
use crate::policy::model::{Addresses, TcpFlags};
use crate::policy::names::{nearest, suggest};
use crate::policy::protocol::{
    ICMP, ICMPV6, icmp_types, number, protocol_names, protocol_number, tcp_flag, tcp_flag_names,
};

/// Longest name of an interface in bytes (the kernel's IFNAMSIZ less its terminator).
const INTERFACE_LENGTH: usize = 15;

impl<'t> Reader<'t> {
    /// Set names, addresses and prefixes.
    pub(super) fn addresses(
        &mut self,
        at: At<'_>,
        value: &Value<'t>,
        sets: &HashMap<&str, usize>,
    ) -> Addresses {
        let mut addresses = Addresses::default();
        for element in self.some_of(at, value, "leave the key out to match every address") {
            let Some(text) = element.get_ref().as_str() else {
                let kind = kind(element.get_ref());
                let message = format!("{at} takes set names and addresses, not {kind}");
                self.error(element.span(), message, "write it in quotes");
                continue;
            };
            if let Some(set) = sets.get(text) {
                if !addresses.sets.contains(set) {
                    addresses.sets.push(*set);
                }
                continue;
            }
            match parse_prefix(text) {
                Ok(prefix) => addresses.prefixes.push(prefix),
                Err(bad) if resembles_address(text) || text.starts_with('!') => {
                    self.error(
                        element.span(),
                        format!("{} for {at}", bad.message),
                        bad.help,
                    );
                }
                Err(_) => {
                    let known = sets.keys().copied();
                    let help = match nearest(text, known) {
                        _ if text == "any" => "leave the key out to match every address".to_owned(),
                        Some(near) => format!("did you mean \"{near}\"?"),
                        None => {
                            "sets are defined in [sets], as name = [\"198.51.100.0/24\"]".to_owned()
                        }
                    };
                    let message = format!("unknown set \"{}\" for {at}", text.escape_debug());
                    self.error(element.span(), message, help);
                }
            }
        }
        addresses
    }

    /// As [`Reader::addresses`], refusing prefixes of a family that the protocols do not have.
    pub(super) fn addresses_for(
        &mut self,
        at: At<'_>,
        value: &Value<'t>,
        sets: &HashMap<&str, usize>,
        protocols: &[u8],
    ) -> Addresses {
        let addresses = self.addresses(at, value, sets);
        let unfit: Option<(&IpNet, &str, &str)> = match protocols {
            [ICMP] => addresses
                .prefixes
                .iter()
                .find(|prefix| matches!(prefix, IpNet::V6(_)))
                .map(|prefix| {
                    (
                        prefix,
                        "icmp",
                        "IPv4 only; the protocol of IPv6 is \"icmpv6\"",
                    )
                }),
            [ICMPV6] => addresses
                .prefixes
                .iter()
                .find(|prefix| matches!(prefix, IpNet::V4(_)))
                .map(|prefix| {
                    (
                        prefix,
                        "icmpv6",
                        "IPv6 only; the protocol of IPv4 is \"icmp\"",
                    )
                }),
            _ => None,
        };
        if let Some((prefix, protocol, help)) = unfit {
            let message = format!(
                "{} for {at} cannot occur with protocol \"{protocol}\"",
                print_prefix(prefix)
            );
            self.error(value.span(), message, format!("{protocol} is {help}"));
        }
        addresses
    }

    pub(super) fn protocols(&mut self, at: At<'_>, value: &Value<'t>) -> Vec<u8> {
        let mut protocols = Vec::new();
        for element in self.some_of(at, value, "leave the key out to match every protocol") {
            let protocol = match element.get_ref() {
                DeValue::Integer(_) => self
                    .integer(at, element, 0..=255)
                    .map(|number| number as u8),
                DeValue::String(name) => {
                    let protocol = protocol_number(name);
                    if protocol.is_none() {
                        let message =
                            format!("unknown protocol \"{}\" for {at}", name.escape_debug());
                        let help = match nearest(name, protocol_names()) {
                            _ if name == "any" => {
                                "leave the key out to match every protocol".to_owned()
                            }
                            _ if name.parse::<u8>().is_ok() => {
                                "write the number without quotes".to_owned()
                            }
                            Some(near) => format!("did you mean \"{near}\"?"),
                            None => {
                                "write a name such as \"tcp\", or the protocol's number".to_owned()
                            }
                        };
                        self.error(element.span(), message, help);
                    }
                    protocol
                }
                other => {
                    let message = format!("{at} must be a name or a number, not {}", kind(other));
                    self.error(
                        element.span(),
                        message,
                        "write a name such as \"tcp\", or the protocol's number",
                    );
                    None
                }
            };
            protocols.extend(protocol.filter(|protocol| !protocols.contains(protocol)));
        }
        protocols
    }

    pub(super) fn icmp_types(
        &mut self,
        at: At<'_>,
        value: &Value<'t>,
        protocols: &[u8],
    ) -> Vec<u8> {
        let mut types = Vec::new();
        for element in self.some_of(at, value, "leave the key out to match every message") {
            let kind = match (element.get_ref(), protocols) {
                (DeValue::Integer(_), _) => self
                    .integer(at, element, 0..=255)
                    .map(|number| number as u8),
                (DeValue::String(name), [protocol @ (ICMP | ICMPV6)]) => {
                    let table = icmp_types(*protocol);
                    let found = number(table, name);
                    if found.is_none() {
                        let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
                        let message =
                            format!("unknown message \"{}\" for {at}", name.escape_debug());
                        self.error(element.span(), message, suggest(name, &names));
                    }
                    found
                }
                // Without one ICMP protocol there is an error about that already.
                (DeValue::String(_), _) => None,
                (other, _) => {
                    let message = format!("{at} must be a name or a number, not {}", kind(other));
                    self.error(
                        element.span(),
                        message,
                        "write \"echo-request\", or the type's number",
                    );
                    None
                }
            };
            types.extend(kind.filter(|kind| !types.contains(kind)));
        }
        types
    }

    pub(super) fn tcp_flags(&mut self, at: At<'_>, value: &Value<'_>) -> Option<TcpFlags> {
        const HELP: &str =
            "write flags that must be set and, with !, those that must not, such as \"syn,!ack\"";
        let text = self.string(at, value, "\"syn,!ack\"")?;
        let mut flags = TcpFlags::default();
        for word in text.split(',').map(str::trim) {
            let (name, set) = match word.strip_prefix('!') {
                Some(name) => (name, false),
                None => (word, true),
            };
            let Some(bit) = tcp_flag(name) else {
                let known: Vec<&str> = tcp_flag_names(u8::MAX).collect();
                let help = if name.is_empty() {
                    HELP.to_owned()
                } else {
                    suggest(name, &known)
                };
                let message = format!("unknown flag \"{}\" for {at}", name.escape_debug());
                self.error(value.span(), message, help);
                return None;
            };
            if set {
                flags.set |= bit;
            } else {
                flags.clear |= bit;
            }
        }
        if let Some(both) = tcp_flag_names(flags.set & flags.clear).next() {
            let message = format!("{at} asks for \"{both}\" to be set and not set");
            self.error(value.span(), message, HELP);
            return None;
        }
        Some(flags)
    }

    pub(super) fn vlans(&mut self, at: At<'_>, value: &Value<'t>) -> Vec<u16> {
        let elements = self.some_of(at, value, "leave the key out to match any tag and none");
        elements
            .into_iter()
            .filter_map(|element| self.integer(at, element, 0..=4094))
            .map(|tag| tag as u16)
            .collect()
    }

    pub(super) fn interfaces(&mut self, at: At<'_>, value: &Value<'t>) -> Vec<String> {
        let mut interfaces: Vec<String> = Vec::new();
        for element in self.some_of(at, value, "leave the key out to match every interface") {
            let Some(name) = self.string(at, element, "\"eth0\"") else {
                continue;
            };
            let odd = |character: char| {
                character.is_whitespace() || character.is_control() || "/:".contains(character)
            };
            if name.is_empty()
                || name.len() > INTERFACE_LENGTH
                || name.contains(odd)
                || matches!(name, "." | "..")
            {
                let message = format!(
                    "\"{}\" for {at} cannot be the name of an interface",
                    name.escape_debug()
                );
                let help =
                    format!("a name has 1 to {INTERFACE_LENGTH} characters, such as \"eth0\"");
                self.error(element.span(), message, help);
            } else if !interfaces.iter().any(|known| known == name) {
                interfaces.push(name.to_owned());
            }
        }
        interfaces
    }
}
