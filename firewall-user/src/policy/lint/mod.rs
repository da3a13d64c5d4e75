//! Warnings and notes about policies that are valid and yet perhaps not what was meant.
//!
//! They are looked for with every reading of a policy, so that ten thousand rules and a million addresses
//! may cost tenths of a second and no more: lists are compared as merged ranges.

mod contradictions;
mod coverage;
mod exposure;
mod late;
mod limits;
mod reach;
mod region;
mod sets;
#[cfg(test)]
mod tests;
mod values;

use std::ops::Range;

use jiff::Timestamp;

pub(crate) use exposure::is_admin_port;

use self::coverage::Coverage;
use self::reach::{Unreached, reach};
use super::finding::{Findings, Severity};
use super::model::{Mode, Policy, Rule};
use super::source::Source;

/// What the findings are called in JSON. Scripts go by them.
pub mod code {
    pub const EXPIRED: &str = "expired";
    pub const EXPIRES_SOON: &str = "expires-soon";
    pub const NEVER_MATCHES: &str = "never-matches";
    pub const EXTENSION_HEADER: &str = "extension-header";
    pub const UNREACHABLE: &str = "unreachable";
    pub const DUPLICATE: &str = "duplicate";
    pub const NOT_COMPARED: &str = "not-compared";
    pub const NEVER_BLOCK_OVERLAP: &str = "never-block-overlap";
    pub const PROTECTS_ALL: &str = "protects-all";
    pub const SET_COVERS_ALL: &str = "set-covers-all";
    pub const SET_UNUSED: &str = "set-unused";
    pub const SET_ENTRY_COVERED: &str = "set-entry-covered";
    pub const ADMIN_PORT_OPEN: &str = "admin-port-open";
    pub const LIMIT: &str = "limit";
    pub const UNEXPLAINED: &str = "unexplained";
    pub const OBSERVES: &str = "observes";
    pub const INTERFACE_NOT_PROTECTED: &str = "interface-not-protected";
}

/// Looks a valid policy over, as of `now`. `in_protect` are the sets that `never_block` names.
pub(super) fn lint(
    policy: &Policy,
    in_protect: &[usize],
    source: &Source<'_>,
    now: Timestamp,
    findings: &mut Findings,
) {
    let sets = policy.sets.iter();
    let mut linter = Linter {
        policy,
        source,
        coverage: sets.map(|set| Coverage::of(&set.prefixes)).collect(),
        protected: Coverage::of(&policy.never_block),
        findings,
    };
    let usable: Vec<bool> = policy
        .rules
        .iter()
        .map(|rule| linter.can_match(rule, now))
        .collect();
    linter.unreachable(&usable, now);
    linter.everybody();
    linter.spared(&usable);
    linter.exposed(&usable);
    linter.limits();
    linter.sets(in_protect);
    linter.unexplained();
}

struct Linter<'p> {
    policy: &'p Policy,
    source: &'p Source<'p>,
    /// By set.
    coverage: Vec<Coverage>,
    /// `never_block`.
    protected: Coverage,
    findings: &'p mut Findings,
}

impl Linter<'_> {
    fn report(
        &mut self,
        severity: Severity,
        code: &'static str,
        rule: &Rule,
        message: String,
        help: &str,
    ) {
        let span = self.source.line_span(rule.line);
        self.report_at(severity, code, span, message, help);
    }

    fn report_at(
        &mut self,
        severity: Severity,
        code: &'static str,
        span: Range<usize>,
        message: String,
        help: &str,
    ) {
        let help = Some(help.to_owned());
        let mut finding = self.source.finding(severity, span, message, help);
        finding.code = Some(code);
        self.findings.push(finding);
    }

    fn unreachable(&mut self, usable: &[bool], now: Timestamp) {
        let reach = reach(self.policy, &self.coverage, &self.protected, usable, now);
        for unreached in &reach.unreached {
            self.say_unreachable(unreached);
        }
        if reach.unknown > 0
            && let Some(last) = self.policy.rules.last()
        {
            let message = format!(
                "{} rules were not compared with all earlier ones: there is too much to compare",
                reach.unknown
            );
            let help = "addresses and ports can be put together in fewer rules";
            self.report(Severity::Note, code::NOT_COMPARED, last, message, help);
        }
    }

    fn say_unreachable(&mut self, unreached: &Unreached) {
        const SHOWN: usize = 4;
        let rule = &self.policy.rules[unreached.rule];
        let by: Vec<String> = unreached
            .by
            .iter()
            .map(|index| &self.policy.rules[*index])
            .map(|rule| format!("\"{}\" on line {}", rule.name, rule.line))
            .collect();
        if unreached.repeats {
            let message = format!("rule \"{}\" repeats rule {}", rule.name, by[0]);
            let help = "remove one of the two";
            self.report(Severity::Warning, code::DUPLICATE, rule, message, help);
            return;
        }
        let (deciders, help) = match by.len() {
            1 => (
                format!("rule {} decides", by[0]),
                "move it before that rule, or remove it",
            ),
            many if many <= SHOWN => (
                format!("rules {} together decide", by.join(", ")),
                "move it before them, or remove it",
            ),
            many => (
                format!(
                    "rules {} and {} more together decide",
                    by[..SHOWN].join(", "),
                    many - SHOWN
                ),
                "move it before them, or remove it",
            ),
        };
        let message = format!(
            "rule \"{}\" can never match: {deciders} every packet of it first",
            rule.name
        );
        self.report(Severity::Warning, code::UNREACHABLE, rule, message, help);
    }

    /// Rules that nobody answers for, and policies that enforce nothing.
    fn unexplained(&mut self) {
        if self.policy.defaults.mode == Mode::Observe {
            let message = "the policy observes: it counts what it would drop and drops nothing";
            let help = "set mode = \"enforce\" in [defaults] to drop";
            self.report_at(
                Severity::Note,
                code::OBSERVES,
                0..0,
                message.to_owned(),
                help,
            );
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
        let help = "say who answers for a rule and why it exists";
        self.report(Severity::Note, code::UNEXPLAINED, first, message, help);
    }
}
