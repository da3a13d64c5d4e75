//! Warnings about policies that are valid and yet probably not what was meant.

mod coverage;
mod limits;
mod shadow;

use jiff::Timestamp;

use self::coverage::Coverage;
use super::address::print_prefix;
use super::finding::{Findings, Severity};
use super::model::{Action, Addresses, Mode, Policy, Rule};
use super::protocol::{ICMP, ICMPV6, protocol_name};
use super::source::Source;

/// Headers of IPv6 that are passed over to find the protocol: hop-by-hop options, routing, fragment,
/// authentication, destination options, mobility, HIP, shim6.
const EXTENSION_HEADERS: [u8; 8] = [0, 43, 44, 51, 60, 135, 139, 140];

/// Looks a valid policy over, as of `now`.
pub(super) fn lint(policy: &Policy, source: &Source<'_>, now: Timestamp, findings: &mut Findings) {
    let coverage: Vec<Coverage> = policy
        .sets
        .iter()
        .map(|set| Coverage::of(&set.prefixes))
        .collect();
    let mut linter = Linter {
        policy,
        source,
        coverage,
        findings,
    };
    let usable: Vec<bool> = policy
        .rules
        .iter()
        .map(|rule| linter.can_match(rule, now))
        .collect();
    linter.shadowed(&usable);
    linter.protected();
    linter.limits();
    linter.unexplained();
}

struct Linter<'p> {
    policy: &'p Policy,
    source: &'p Source<'p>,
    /// By set.
    coverage: Vec<Coverage>,
    findings: &'p mut Findings,
}

impl Linter<'_> {
    fn report(&mut self, severity: Severity, rule: &Rule, message: String, help: &str) {
        let span = self.source.line_span(rule.line);
        let help = Some(help.to_owned());
        let finding = self.source.finding(severity, span, message, help);
        self.findings.push(finding);
    }

    /// Whether any packet can match; if not, says why.
    fn can_match(&mut self, rule: &Rule, now: Timestamp) -> bool {
        let name = &rule.name;
        if let Some(expires) = rule.expires.filter(|expires| *expires <= now) {
            let message = format!("rule \"{name}\" expired at {expires}");
            self.report(
                Severity::Warning,
                rule,
                message,
                "it matches nothing any more; remove it or move the date",
            );
            return false;
        }
        let passed_over = |protocol: &&u8| EXTENSION_HEADERS.contains(protocol);
        if let Some(protocol) = rule.protocols.iter().find(passed_over) {
            let protocol = protocol_name(*protocol);
            let message = format!(
                "rule \"{name}\" matches no IPv6 packet by protocol {protocol}, which is an extension header there"
            );
            self.report(
                Severity::Warning,
                rule,
                message,
                "name the protocol behind the extension headers",
            );
        }
        let (from, to) = (self.families(&rule.from), self.families(&rule.to));
        for (key, families) in [("from", from), ("to", to)] {
            if families == (false, false) {
                let message =
                    format!("rule \"{name}\" can never match: the sets of \"{key}\" are empty");
                self.report(
                    Severity::Warning,
                    rule,
                    message,
                    "fill the set, or remove the rule",
                );
                return false;
            }
        }
        let protocol = match rule.protocols.as_slice() {
            [ICMP] => (true, false),
            [ICMPV6] => (false, true),
            _ => (true, true),
        };
        let v4 = from.0 && to.0 && protocol.0;
        let v6 = from.1 && to.1 && protocol.1;
        if !v4 && !v6 {
            let message = format!(
                "rule \"{name}\" can never match: its addresses and protocol are of different IP versions"
            );
            self.report(
                Severity::Warning,
                rule,
                message,
                "write one rule for IPv4 and one for IPv6",
            );
        }
        v4 || v6
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

    fn shadowed(&mut self, usable: &[bool]) {
        let shadows = shadow::shadows(self.policy, &self.coverage, usable);
        for (earlier, later) in shadows.pairs {
            let (earlier, later) = (&self.policy.rules[earlier], &self.policy.rules[later]);
            let message = format!(
                "rule \"{}\" can never match: rule \"{}\" on line {} decides every packet of it first",
                later.name, earlier.name, earlier.line
            );
            self.report(
                Severity::Warning,
                later,
                message,
                "move it before that rule, or remove it",
            );
        }
        if !shadows.complete
            && let Some(last) = self.policy.rules.last()
        {
            let message =
                "the last rules were not compared with all earlier ones: there are too many"
                    .to_owned();
            self.report(
                Severity::Note,
                last,
                message,
                "addresses and ports can be put together in fewer rules",
            );
        }
    }

    /// Drop rules that meet sources of `never_block`.
    fn protected(&mut self) {
        if self.policy.never_block.is_empty() {
            return;
        }
        let protected = Coverage::of(&self.policy.never_block);
        for rule in &self.policy.rules {
            if rule.action != Action::Drop || rule.from.is_any() {
                continue;
            }
            let sets = rule
                .from
                .sets
                .iter()
                .flat_map(|set| &self.policy.sets[*set].prefixes);
            let met = rule
                .from
                .prefixes
                .iter()
                .chain(sets)
                .find(|prefix| protected.overlaps(prefix));
            if let Some(met) = met {
                let message = format!(
                    "drop rule \"{}\" passes over protected sources: {} meets never_block",
                    rule.name,
                    print_prefix(met)
                );
                self.report(
                    Severity::Note,
                    rule,
                    message,
                    "nothing to do if that is meant",
                );
            }
        }
    }

    /// Rules that nobody answers for, and policies that enforce nothing.
    fn unexplained(&mut self) {
        if self.policy.defaults.mode == Mode::Observe {
            let span = 0..0;
            let message = "the policy observes: it counts what it would drop and drops nothing";
            let help = Some("set mode = \"enforce\" in [defaults] to drop".to_owned());
            let finding = self.source.finding(Severity::Note, span, message, help);
            self.findings.push(finding);
        }
        let unexplained: Vec<&Rule> = self
            .policy
            .rules
            .iter()
            .filter(|rule| rule.owner.is_none() || rule.reason.is_none())
            .collect();
        let Some(first) = unexplained.first() else {
            return;
        };
        let named: Vec<String> = unexplained
            .iter()
            .take(5)
            .map(|rule| format!("\"{}\"", rule.name))
            .collect();
        let more = match unexplained.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!("without owner or reason: {}{more}", named.join(", "));
        self.report(
            Severity::Note,
            first,
            message,
            "say who answers for a rule and why it exists",
        );
    }
}

#[cfg(test)]
mod tests;
