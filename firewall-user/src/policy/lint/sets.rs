//! Sets that nothing names, that hold what they need not, or that hold everybody.

use std::collections::HashMap;

use ipnet::IpNet;

use super::coverage::Coverage;
use super::{Linter, code};
use crate::policy::address::print_prefix;
use crate::policy::edit::set_lines;
use crate::policy::finding::Severity;
use crate::policy::model::{Action, Addresses, Direction};

impl Linter<'_> {
    /// `in_protect` are the sets that `never_block` names.
    pub(super) fn sets(&mut self, in_protect: &[usize]) {
        let mut used = vec![false; self.policy.sets.len()];
        let rules = self.policy.rules.iter();
        let named = rules.flat_map(|rule| rule.from.sets.iter().chain(&rule.to.sets));
        for set in named.chain(in_protect) {
            used[*set] = true;
        }
        let mut said = Vec::new();
        for (index, set) in self.policy.sets.iter().enumerate() {
            let coverage = &self.coverage[index];
            if !used[index] {
                said.push((
                    index,
                    code::SET_UNUSED,
                    format!("no rule names set \"{}\", nor does never_block", set.name),
                    "name it in \"from\" or \"to\", or remove it",
                ));
            }
            if let Some((inner, outer)) = &coverage.example {
                let (needless, inner) = (coverage.needless, print_prefix(inner));
                let file = match &set.file {
                    Some(file) => format!(" ({})", file.display()),
                    None => String::new(),
                };
                let entries = if needless == 1 { "entry" } else { "entries" };
                said.push((
                    index,
                    code::SET_ENTRY_COVERED,
                    format!(
                        "set \"{}\"{file} has {needless} {entries} that others cover, such as {inner}, which is in {}",
                        set.name,
                        print_prefix(outer)
                    ),
                    "they change nothing and can go",
                ));
            }
        }
        if said.is_empty() {
            return;
        }
        // Where the sets stand is only worth a second look at the text when there is something to say.
        let lines = set_lines(self.source.text);
        for (index, code, message, help) in said {
            let span = lines
                .get(self.policy.sets[index].name.as_str())
                .map_or(0..0, |start| {
                    let line = self.source.line(*start);
                    self.source.line_span(line)
                });
            self.report_at(Severity::Note, code, span, message, help);
        }
    }

    /// Drop rules, and protection, that mean everybody without saying so.
    pub(super) fn everybody(&mut self) {
        for rule in &self.policy.rules {
            if rule.action != Action::Drop {
                continue;
            }
            for (key, addresses) in [("from", &rule.from), ("to", &rule.to)] {
                let whole = addresses.sets.iter().find_map(|set| {
                    let family = whole_family(&self.coverage[*set])?;
                    Some((self.policy.sets[*set].name.clone(), family))
                });
                if let Some((set, family)) = whole {
                    let message = format!(
                        "drop rule \"{}\": set \"{set}\" in its \"{key}\" covers all of {family}",
                        rule.name
                    );
                    let help = "look for a prefix of length 0, or for a list that grew too far; leave the key out to drop everybody";
                    self.report(Severity::Warning, code::SET_COVERS_ALL, rule, message, help);
                }
            }
        }
        if let Some(family) = whole_family(&self.protected) {
            let message =
                format!("never_block covers all of {family}: no ban and no drop rule works there");
            let help = "protect only who must never be cut off";
            self.report_at(Severity::Warning, code::PROTECTS_ALL, 0..0, message, help);
        }
    }

    /// Drop rules that meet sources of `never_block`.
    pub(super) fn spared(&mut self, usable: &[bool]) {
        let mut by_set = HashMap::new();
        for (rule, usable) in self.policy.rules.iter().zip(usable) {
            let drops = rule.action == Action::Drop && rule.direction == Direction::Inbound;
            if !drops || !usable || rule.from.is_any() {
                continue;
            }
            if let Some(met) = self.met(&rule.from, &mut by_set) {
                let message = format!(
                    "drop rule \"{}\" passes over protected sources: {met} meets never_block",
                    rule.name
                );
                let help = "nothing to do if that is meant";
                self.report(
                    Severity::Note,
                    code::NEVER_BLOCK_OVERLAP,
                    rule,
                    message,
                    help,
                );
            }
        }
    }

    /// A prefix of a list that meets `never_block`. `by_set` remembers what was found in each set.
    fn met(
        &self,
        addresses: &Addresses,
        by_set: &mut HashMap<usize, Option<IpNet>>,
    ) -> Option<String> {
        let meets = |prefix: &&IpNet| self.protected.overlaps(prefix);
        let own = addresses.prefixes.iter().find(meets).copied();
        let met = own.or_else(|| {
            addresses.sets.iter().find_map(|set| {
                *by_set.entry(*set).or_insert_with(|| {
                    let prefixes = &self.policy.sets[*set].prefixes;
                    prefixes.iter().find(meets).copied()
                })
            })
        })?;
        Some(print_prefix(&met))
    }
}

fn whole_family(coverage: &Coverage) -> Option<&'static str> {
    match (coverage.is_whole(false), coverage.is_whole(true)) {
        (true, true) => Some("the Internet"),
        (true, false) => Some("IPv4"),
        (false, true) => Some("IPv6"),
        (false, false) => None,
    }
}
