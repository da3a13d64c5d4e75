//! Rules that no packet can match, whatever the other rules.

use ipnet::IpNet;
use jiff::{Timestamp, ToSpan};

use super::coverage::Coverage;
use super::{Linter, code};
use crate::policy::finding::Severity;
use crate::policy::model::{Action, Addresses, Direction, Rule};
use crate::policy::protocol::{DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE, protocol_name};

/// Headers of IPv6 that are passed over to find the protocol: hop-by-hop options, routing, fragment,
/// authentication, destination options, mobility, HIP, shim6.
const EXTENSION_HEADERS: [u8; 8] = [0, 43, 44, 51, 60, 135, 139, 140];
/// A rule that expires within this time is worth a note, in days.
const SOON: i64 = 14;
/// Sources from which every inbound packet is dropped as malformed before any rule.
const IMPOSSIBLE_SOURCES: [&str; 5] = [
    "127.0.0.0/8",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::1/128",
    "ff00::/8",
];

/// What a rule can match.
#[derive(Clone, Copy)]
struct Families {
    v4: bool,
    v6: bool,
}

impl Linter<'_> {
    /// Whether any packet can match; if not, says why.
    pub(super) fn can_match(&mut self, rule: &Rule, now: Timestamp) -> bool {
        if self.has_expired(rule, now) {
            return false;
        }
        self.extension_header(rule);
        let Some(families) = self.families_of(rule) else {
            return false;
        };
        if let Some(why) = self.impossible(rule, families) {
            let message = format!("rule \"{}\" can never match: {}", rule.name, why.0);
            self.report(
                Severity::Warning,
                code::NEVER_MATCHES,
                rule,
                message,
                &why.1,
            );
            return false;
        }
        true
    }

    fn has_expired(&mut self, rule: &Rule, now: Timestamp) -> bool {
        let Some(expires) = rule.expires else {
            return false;
        };
        let name = &rule.name;
        if expires <= now {
            let message = format!("rule \"{name}\" expired at {expires}");
            let help = "it matches nothing any more; remove it or move the date";
            self.report(Severity::Warning, code::EXPIRED, rule, message, help);
            return true;
        }
        let soon = now.checked_add((SOON * 24).hours());
        if soon.is_ok_and(|soon| expires <= soon) {
            let message = format!("rule \"{name}\" expires soon, at {expires}");
            let help = "move the date if it is still wanted then";
            self.report(Severity::Note, code::EXPIRES_SOON, rule, message, help);
        }
        false
    }

    fn extension_header(&mut self, rule: &Rule) {
        let passed_over = |protocol: &&u8| EXTENSION_HEADERS.contains(protocol);
        let Some(protocol) = rule.protocols.iter().find(passed_over) else {
            return;
        };
        let message = format!(
            "rule \"{}\" matches no IPv6 packet by protocol {}, which is an extension header there",
            rule.name,
            protocol_name(*protocol)
        );
        let help = "name the protocol behind the extension headers";
        self.report(
            Severity::Warning,
            code::EXTENSION_HEADER,
            rule,
            message,
            help,
        );
    }

    /// The IP versions that a rule can match; if there is none, says why.
    fn families_of(&mut self, rule: &Rule) -> Option<Families> {
        let (from, to) = (self.families(&rule.from), self.families(&rule.to));
        for (key, families) in [("from", from), ("to", to)] {
            if families == (false, false) {
                let message = format!(
                    "rule \"{}\" can never match: the sets of \"{key}\" are empty",
                    rule.name
                );
                let help = "fill the set, or remove the rule";
                self.report(Severity::Warning, code::NEVER_MATCHES, rule, message, help);
                return None;
            }
        }
        let protocol = match rule.protocols.as_slice() {
            [ICMP] => (true, false),
            [ICMPV6] => (false, true),
            _ => (true, true),
        };
        let families = Families {
            v4: from.0 && to.0 && protocol.0,
            v6: from.1 && to.1 && protocol.1,
        };
        if !families.v4 && !families.v6 {
            let message = format!(
                "rule \"{}\" can never match: its addresses and protocol are of different IP versions",
                rule.name
            );
            let help = "write one rule for IPv4 and one for IPv6";
            self.report(Severity::Warning, code::NEVER_MATCHES, rule, message, help);
            return None;
        }
        Some(families)
    }

    fn families(&self, addresses: &Addresses) -> (bool, bool) {
        if addresses.is_any() {
            return (true, true);
        }
        let own = Coverage::of(&addresses.prefixes).families();
        addresses
            .sets
            .iter()
            .map(|set| self.coverage[*set].families())
            .fold(own, |one, other| (one.0 || other.0, one.1 || other.1))
    }

    /// Why no packet can match, and what would be right.
    fn impossible(&self, rule: &Rule, families: Families) -> Option<(String, String)> {
        let least = least_length(rule, families);
        let longest = rule.lengths.iter().map(|range| usize::from(range.1)).max();
        if let Some(longest) = longest.filter(|longest| *longest < least) {
            return Some((
                format!(
                    "its packets have {least} bytes at least, and its \"length\" ends at {longest}"
                ),
                format!(
                    "the length counts from the IP header on; {least} is the least that it can be here"
                ),
            ));
        }
        if rule.direction != Direction::Inbound || rule.from.is_any() {
            return None;
        }
        let sources: Vec<Coverage> = rule
            .from
            .sets
            .iter()
            .map(|set| self.coverage[*set].clone())
            .chain([Coverage::of(&rule.from.prefixes)])
            .collect();
        if sources
            .iter()
            .all(|part| impossible_sources().covers_all(part))
        {
            return Some((
                "no packet comes in from its \"from\": such sources are dropped as malformed first"
                    .to_owned(),
                "loopback, multicast and broadcast addresses are no sources; remove the rule"
                    .to_owned(),
            ));
        }
        if rule.action == Action::Drop && sources.iter().all(|part| self.protected.covers_all(part))
        {
            return Some((
                "it drops, and never_block spares all of its \"from\"".to_owned(),
                "take the addresses out of never_block, or remove the rule".to_owned(),
            ));
        }
        None
    }
}

/// The least length of a packet that a rule can match.
fn least_length(rule: &Rule, families: Families) -> usize {
    let header = if families.v4 { 20 } else { 40 };
    let payload = rule.payloads.iter().map(|payload| payload.end()).min();
    // Only the later fragments of a packet lack the header of its protocol.
    let begins = rule.fragment == Some(false)
        || payload.is_some()
        || rule.tcp_flags.is_some()
        || ![&rule.ports, &rule.from_ports, &rule.tcp_windows]
            .iter()
            .all(|ranges| ranges.is_empty())
        || !rule.icmp_types.is_empty();
    if !begins {
        return header;
    }
    let transport = rule.protocols.iter().map(|protocol| match *protocol {
        TCP => 20,
        UDP | UDPLITE | ICMP | ICMPV6 => 8,
        // Their payload counts from the IP header on.
        SCTP | DCCP if payload.is_none() => 12,
        _ => 0,
    });
    header + transport.min().unwrap_or(0) + payload.unwrap_or(0)
}

fn impossible_sources() -> Coverage {
    let prefixes: Vec<IpNet> = IMPOSSIBLE_SOURCES
        .iter()
        .filter_map(|prefix| prefix.parse().ok())
        .collect();
    Coverage::of(&prefixes)
}
