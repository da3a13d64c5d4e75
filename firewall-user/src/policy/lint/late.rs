//! What can be said of a policy only with more than its text: where it will run, and whether it compiles.

use super::code;
use crate::policy::finding::{Finding, Severity};
use crate::policy::model::Policy;
use crate::policy::source::Source;

impl Finding {
    /// Rules about interfaces that are not among those of the host.
    pub fn about_interfaces(
        policy: &Policy,
        file: &str,
        text: &str,
        interfaces: &[String],
    ) -> Vec<Self> {
        let source = source(file, text);
        let mut findings = Vec::new();
        for rule in &policy.rules {
            let unknown = rule
                .interfaces
                .iter()
                .filter(|name| !interfaces.contains(name));
            let unknown: Vec<&str> = unknown.map(String::as_str).collect();
            if unknown.is_empty() {
                continue;
            }
            let effect = if unknown.len() == rule.interfaces.len() {
                "can never match"
            } else {
                "matches nothing there"
            };
            let message = format!(
                "rule \"{}\" {effect}: the host settings do not name interface {}",
                rule.name,
                unknown.join(", ")
            );
            let help = format!("the host's interfaces are {}", interfaces.join(", "));
            let span = source.line_span(rule.line);
            let mut finding = source.finding(Severity::Warning, span, message, Some(help));
            finding.code = Some(code::INTERFACE_NOT_PROTECTED);
            findings.push(finding);
        }
        findings
    }

    /// An error that names rules, at the line of the first of them.
    pub fn about_rules(policy: &Policy, file: &str, text: &str, message: String) -> Self {
        let first = policy
            .rules
            .iter()
            .filter_map(|rule| Some((message.find(&format!("\"{}\"", rule.name))?, rule)))
            .min_by_key(|(place, _)| *place);
        match first {
            Some((_, rule)) => {
                let source = source(file, text);
                source.finding(Severity::Error, source.line_span(rule.line), message, None)
            }
            None => Self::about_file(file, message),
        }
    }
}

fn source<'t>(file: &str, text: &'t str) -> Source<'t> {
    Source::new(file, text.strip_prefix('\u{feff}').unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TEXT: &str = "version = 1\n[[rule]]\nname = \"a\"\naction = \"drop\"\ninterface = [\"eth0\", \"eth1\"]\n[[rule]]\nname = \"b\"\naction = \"drop\"\ninterface = \"eth2\"\n";

    #[test]
    fn rules_about_interfaces_that_the_host_does_not_have_are_named() {
        let (policy, _) = Policy::parse(TEXT, "p", Path::new("")).unwrap();
        let findings = Finding::about_interfaces(&policy, "p", TEXT, &["eth0".to_owned()]);
        let told: Vec<_> = findings
            .iter()
            .map(|finding| {
                (
                    finding.place.as_ref().unwrap().line,
                    finding.message.as_str(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (
                    2,
                    "rule \"a\" matches nothing there: the host settings do not name interface eth1"
                ),
                (
                    6,
                    "rule \"b\" can never match: the host settings do not name interface eth2"
                ),
            ]
        );
    }

    #[test]
    fn an_error_that_names_rules_stands_at_the_first_that_it_names() {
        let (policy, _) = Policy::parse(TEXT, "p", Path::new("")).unwrap();
        let found = Finding::about_rules(&policy, "p", TEXT, "too many: \"b\", \"a\"".to_owned());
        assert_eq!(found.place.unwrap().line, 6);
        let found = Finding::about_rules(&policy, "p", TEXT, "too large".to_owned());
        assert_eq!(found.place, None);
    }
}
