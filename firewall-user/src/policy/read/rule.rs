//! The `[[rule]]` tables.

use std::collections::HashMap;

use firewall_common::Direction;
use jiff::Timestamp;
use jiff::civil;
use jiff::tz::{Offset, TimeZone};
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::reader::{At, Reader, Value};
use super::{MAX_RULES, MODES};
use crate::policy::model::{Action, Addresses, Mode, Rule};
use crate::policy::names::{NAME_HELP, check_name};
use crate::policy::protocol::{ICMP, ICMPV6, TCP, WITH_PORTS, protocol_name};

/// Every key of a rule, in the order in which `rule add` writes them.
pub const RULE_KEYS: &[&str] = &[
    "name",
    "action",
    "direction",
    "mode",
    "protocol",
    "port",
    "from_port",
    "from",
    "to",
    "tcp_flags",
    "icmp_type",
    "length",
    "ttl",
    "tcp_window",
    "payload",
    "vlan",
    "interface",
    "fragment",
    "limit",
    "log",
    "owner",
    "reason",
    "expires",
];

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("accept", Action::Accept),
    ("drop", Action::Drop),
    ("count", Action::Count),
];
pub(super) const DIRECTIONS: &[(&str, Direction)] = &[
    ("inbound", Direction::Inbound),
    ("outbound", Direction::Outbound),
];

impl<'t> Reader<'t> {
    pub(super) fn rules(
        &mut self,
        at: At<'_>,
        value: &Value<'t>,
        sets: &HashMap<&str, usize>,
    ) -> Vec<Rule> {
        const HELP: &str = "begin each rule with [[rule]] on a line of its own";
        let Some(elements) = value.get_ref().as_array() else {
            let message = format!("{at} must be a list of tables");
            self.error(value.span(), message, HELP);
            return Vec::new();
        };
        let mut rules = Vec::with_capacity(elements.len().min(MAX_RULES));
        let mut lines: HashMap<String, usize> = HashMap::new();
        for (index, element) in elements.iter().enumerate() {
            if index == MAX_RULES {
                let message = format!("there are {} rules", elements.len());
                let help = format!(
                    "at most {MAX_RULES} rules fit in a policy; addresses can be put together in sets"
                );
                self.error(element.span(), message, help);
                break;
            }
            let Some(table) = element.get_ref().as_table() else {
                self.error(element.span(), "a rule must be a table", HELP);
                continue;
            };
            let rule = self.rule(index, element, table, sets);
            let name = table.get("name");
            if let Some(name) = name.filter(|_| !rule.name.is_empty()) {
                if let Some(first) = lines.get(&rule.name) {
                    let message = format!("a second rule is named \"{}\"", rule.name);
                    let help = format!("the first is on line {first}; names are unique");
                    self.error(name.span(), message, help);
                } else {
                    lines.insert(rule.name.clone(), rule.line);
                }
            }
            rules.push(rule);
        }
        rules
    }

    fn rule(
        &mut self,
        index: usize,
        element: &Value<'t>,
        table: &DeTable<'t>,
        sets: &HashMap<&str, usize>,
    ) -> Rule {
        let within = match table.get("name").and_then(|name| name.get_ref().as_str()) {
            Some(name) => format!("rule \"{}\"", name.escape_debug()),
            None => format!("rule {}", index + 1),
        };
        let mut rule = Rule {
            name: String::new(),
            action: Action::Count,
            direction: Direction::Inbound,
            mode: Mode::Enforce,
            protocols: Vec::new(),
            from: Addresses::default(),
            to: Addresses::default(),
            from_ports: Vec::new(),
            ports: Vec::new(),
            tcp_flags: None,
            icmp_types: Vec::new(),
            vlans: Vec::new(),
            interfaces: Vec::new(),
            lengths: Vec::new(),
            ttls: Vec::new(),
            tcp_windows: Vec::new(),
            payloads: Vec::new(),
            fragment: None,
            limit: None,
            log: false,
            owner: None,
            reason: None,
            expires: None,
            line: self.source.line(element.span().start),
        };
        for required in ["name", "action"] {
            if !table.contains_key(required) {
                let help = match required {
                    "name" => "give it one, such as name = \"shop\"",
                    _ => "write action = \"accept\", \"drop\" or \"count\"",
                };
                self.error(
                    element.span(),
                    format!("{within} has no \"{required}\""),
                    help,
                );
            }
        }
        // What other keys mean depends on the protocol.
        if let Some(value) = table.get("protocol") {
            rule.protocols = self.protocols(
                At {
                    key: "protocol",
                    within: &within,
                },
                value,
            );
        }
        for (key, value) in table {
            let at = At {
                key: key.get_ref(),
                within: &within,
            };
            if !RULE_KEYS.contains(&at.key) {
                self.unknown_key(key, &within, RULE_KEYS);
            } else {
                self.rule_key(at, value, sets, &mut rule);
            }
        }
        self.needs_protocols(table, &rule, &within);
        if let Some((key, _)) = table.get_key_value("limit")
            && table.contains_key("action")
            && rule.action != Action::Accept
        {
            let message = format!("{within} has a limit and does not accept");
            let help = "a limit says how much an accept rule lets through; leave it out, or write action = \"accept\"";
            self.error(key.span(), message, help);
        }
        rule
    }

    fn rule_key(
        &mut self,
        at: At<'_>,
        value: &Value<'t>,
        sets: &HashMap<&str, usize>,
        rule: &mut Rule,
    ) {
        match at.key {
            "name" => rule.name = self.rule_name(at, value).unwrap_or_default(),
            "action" => rule.action = self.choice(at, value, ACTIONS).unwrap_or(rule.action),
            "direction" => {
                rule.direction = self.choice(at, value, DIRECTIONS).unwrap_or(rule.direction);
            }
            "mode" => rule.mode = self.choice(at, value, MODES).unwrap_or(rule.mode),
            "port" => rule.ports = self.ranges(at, value, u16::MAX, "port"),
            "from_port" => rule.from_ports = self.ranges(at, value, u16::MAX, "port"),
            "from" => rule.from = self.addresses_for(at, value, sets, &rule.protocols),
            "to" => rule.to = self.addresses_for(at, value, sets, &rule.protocols),
            "tcp_flags" => rule.tcp_flags = self.tcp_flags(at, value),
            "icmp_type" => rule.icmp_types = self.icmp_types(at, value, &rule.protocols),
            "length" => rule.lengths = self.ranges(at, value, u16::MAX, "length"),
            "ttl" => {
                let narrow = |(low, high)| (low as u8, high as u8);
                let ranges = self.ranges(at, value, u16::from(u8::MAX), "ttl");
                rule.ttls = ranges.into_iter().map(narrow).collect();
            }
            "tcp_window" => rule.tcp_windows = self.ranges(at, value, u16::MAX, "window"),
            "payload" => rule.payloads = self.payloads(at, value),
            "vlan" => rule.vlans = self.vlans(at, value),
            "interface" => rule.interfaces = self.interfaces(at, value),
            "fragment" => rule.fragment = self.boolean(at, value),
            "limit" => rule.limit = self.limit(at, value),
            "log" => rule.log = self.boolean(at, value).unwrap_or_default(),
            "owner" => rule.owner = self.remark(at, value),
            "reason" => rule.reason = self.remark(at, value),
            "expires" => rule.expires = self.expiry(at, value),
            // The protocol was read first.
            _ => {}
        }
    }

    fn rule_name(&mut self, at: At<'_>, value: &Value<'_>) -> Option<String> {
        let name = self.string(At { within: "", ..at }, value, "\"shop\"")?;
        match check_name(name) {
            Ok(()) => Some(name.to_owned()),
            Err(fault) => {
                let message = format!("the rule name \"{}\" {fault}", name.escape_debug());
                self.error(value.span(), message, NAME_HELP);
                None
            }
        }
    }

    /// Keys that only packets of certain protocols can have.
    fn needs_protocols(&mut self, table: &DeTable<'t>, rule: &Rule, within: &str) {
        const NEEDS: [(&str, &[u8], &str); 5] = [
            (
                "port",
                &WITH_PORTS,
                "protocol = \"tcp\" or \"udp\" (or sctp, dccp, udplite)",
            ),
            (
                "from_port",
                &WITH_PORTS,
                "protocol = \"tcp\" or \"udp\" (or sctp, dccp, udplite)",
            ),
            ("tcp_flags", &[TCP], "protocol = \"tcp\""),
            ("tcp_window", &[TCP], "protocol = \"tcp\""),
            (
                "icmp_type",
                &[ICMP, ICMPV6],
                "protocol = \"icmp\" or \"icmpv6\"",
            ),
        ];
        // A protocol that could not be read has its own error.
        if table.contains_key("protocol") && rule.protocols.is_empty() {
            return;
        }
        for (key, allowed, wanted) in NEEDS {
            let Some((key, value)) = table.get_key_value(key) else {
                continue;
            };
            let at = At {
                key: key.get_ref(),
                within,
            };
            let unfit = rule
                .protocols
                .iter()
                .find(|protocol| !allowed.contains(protocol));
            if let Some(unfit) = unfit {
                let message = format!(
                    "{at} does not go with protocol \"{}\"",
                    protocol_name(*unfit)
                );
                self.error(key.span(), message, format!("it needs {wanted}"));
            } else if rule.protocols.is_empty() {
                self.error(
                    key.span(),
                    format!("{at} needs a protocol"),
                    format!("add {wanted}"),
                );
            } else if at.key == "icmp_type" && rule.protocols.len() > 1 {
                let message = format!("{at} means different messages for icmp and icmpv6");
                self.error(
                    value.span(),
                    message,
                    "write one rule for each of the two protocols",
                );
            }
        }
    }

    fn expiry(&mut self, at: At<'_>, value: &Value<'_>) -> Option<Timestamp> {
        const HELP: &str = "write a date such as 2027-06-30 (in force through that day, UTC) or a time such as 2027-06-30T18:00:00Z";
        let DeValue::Datetime(written) = value.get_ref() else {
            let help = match value.get_ref() {
                DeValue::String(_) => "write the date without quotes, such as 2027-06-30",
                _ => HELP,
            };
            let kind = super::reader::kind(value.get_ref());
            self.error(
                value.span(),
                format!("{at} must be a date, not {kind}"),
                help,
            );
            return None;
        };
        let expires = instant(written);
        if expires.is_none() {
            let fault = if written.date.is_none() {
                "has no date"
            } else if written.time.is_some() && written.offset.is_none() {
                "has a time without its offset from UTC"
            } else {
                "is out of range"
            };
            self.error(value.span(), format!("{at} {fault}"), HELP);
        }
        expires
    }
}

/// The instant at which a rule stops: a time as written, a date at its end in UTC.
fn instant(written: &Datetime) -> Option<Timestamp> {
    let date = written.date?;
    let date = civil::Date::new(
        i16::try_from(date.year).ok()?,
        i8::try_from(date.month).ok()?,
        i8::try_from(date.day).ok()?,
    )
    .ok()?;
    let Some(time) = written.time else {
        let next = date.tomorrow().ok()?;
        return Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp());
    };
    let minutes = match written.offset? {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i32::from(minutes),
    };
    // A leap second counts as the second before it.
    let second = time.second.unwrap_or(0).min(59);
    let time = civil::Time::new(
        i8::try_from(time.hour).ok()?,
        i8::try_from(time.minute).ok()?,
        i8::try_from(second).ok()?,
        i32::try_from(time.nanosecond.unwrap_or(0)).ok()?,
    )
    .ok()?;
    let offset = Offset::from_seconds(minutes * 60).ok()?;
    offset.to_timestamp(date.to_datetime(time)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_lasts_through_its_day_and_a_time_to_the_second() {
        for (written, instant_is) in [
            ("2027-06-30", Some("2027-07-01T00:00:00Z")),
            ("2024-12-31", Some("2025-01-01T00:00:00Z")),
            ("2027-06-30T18:00:00Z", Some("2027-06-30T18:00:00Z")),
            (
                "2027-06-30 18:00:00.5+02:00",
                Some("2027-06-30T16:00:00.5Z"),
            ),
            ("2027-06-30T18:00:00", None),
            ("18:00:00", None),
        ] {
            let written: Datetime = written.parse().unwrap();
            let read = instant(&written).map(|instant| instant.to_string());
            assert_eq!(read.as_deref(), instant_is, "{written}");
        }
    }
}
