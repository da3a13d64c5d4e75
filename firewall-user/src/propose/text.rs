//! The proposal as files.

use std::fmt::Write;

use super::{Proposal, Rule, listed};
use crate::host::{Host, Interface};
use crate::policy::{DefaultAction, Mode};

/// Columns of a comment.
const WIDTH: usize = 100;
/// Most that a rule's `reason` may have, and most that is made of it here.
const LONGEST_REASON: usize = 200;

impl Proposal {
    /// The policy's text.
    pub fn policy(&self, host: &Host, interfaces: &[&Interface], now: jiff::Timestamp) -> String {
        let mut text = String::new();
        let mut say = |line: &str| comment(&mut text, line);
        say(&format!(
            "Proposed by `palisade init` at {} from what this host serves and whom it talks to.",
            now.strftime("%Y-%m-%d %H:%M UTC")
        ));
        if let Some(namespace) = &host.namespace {
            say(&format!(
                "It was looked at from within the network namespace {namespace}."
            ));
        }
        let names: Vec<&str> = interfaces.iter().map(|one| one.name.as_str()).collect();
        say(&format!("For the interfaces: {}.", listed(&names, 64)));
        let gateways: Vec<String> = host
            .gateways
            .iter()
            .map(|(gateway, interface)| format!("{gateway} by {interface}"))
            .collect();
        if !gateways.is_empty() {
            say(&format!(
                "Gateways: {}; ARP and neighbour discovery with them need no rule.",
                listed(&gateways, 8)
            ));
        }
        for note in &self.notes {
            say(&format!("Note: {note}."));
        }
        say(match self.wishes.mode {
            Mode::Observe => {
                "Nothing is dropped yet: `palisade rule list` and `palisade status` show what would be. When \
                 only strangers are left there, set mode to \"enforce\" and `palisade apply --confirm 60s`."
            }
            Mode::Enforce => {
                "It is enforced as soon as it is applied: try `palisade apply --confirm 60s`."
            }
        });
        text.push_str("version = 1\n\n[defaults]\n");
        let action = |action| match action {
            DefaultAction::Accept => "accept",
            DefaultAction::Drop => "drop",
        };
        let mode = match self.wishes.mode {
            Mode::Observe => "observe",
            Mode::Enforce => "enforce",
        };
        let outbound = action(self.wishes.outbound);
        text.push_str("inbound  = \"drop\"      # what no rule below lets in\n");
        let _ = writeln!(text, "outbound = \"{outbound}\"");
        let _ = writeln!(text, "mode     = \"{mode}\"");
        let (outbound, inbound): (Vec<&Rule>, Vec<&Rule>) =
            self.rules.iter().partition(|rule| rule.outbound);
        for rule in inbound {
            write_rule(&mut text, rule);
        }
        if !self.closed.is_empty() {
            text.push('\n');
            comment(&mut text, "Not opened:");
            for closed in &self.closed {
                comment(&mut text, &format!("  {closed}"));
            }
        }
        if !outbound.is_empty() {
            text.push('\n');
            comment(
                &mut text,
                match self.wishes.outbound {
                    DefaultAction::Accept => {
                        "What goes out now. The default lets everything out; these rules count, so that you \
                         see what is missing here before outbound becomes \"drop\"."
                    }
                    DefaultAction::Drop => "What goes out now; nothing else does.",
                },
            );
        }
        for rule in outbound {
            write_rule(&mut text, rule);
        }
        text
    }
}

/// The host settings' text.
pub fn settings(interfaces: &[&Interface], policy: &str) -> String {
    let mut text = String::new();
    comment(
        &mut text,
        "Host settings, proposed by `palisade init`; every other key has its default.",
    );
    for interface in interfaces {
        let addresses = listed(&interface.addresses, 4);
        let driver = interface.driver.as_deref().unwrap_or("unknown");
        let line = format!("{}: {addresses}; driver {driver}", interface.name);
        comment(&mut text, &line);
    }
    let names: Vec<String> = interfaces.iter().map(|one| quoted(&one.name)).collect();
    let _ = writeln!(text, "interfaces = [{}]", names.join(", "));
    let _ = writeln!(text, "policy     = {}", quoted(policy));
    text
}

fn write_rule(text: &mut String, rule: &Rule) {
    text.push('\n');
    for line in &rule.comments {
        comment(text, line);
    }
    text.push_str("[[rule]]\n");
    let mut keys: Vec<(&str, String)> = vec![("name", quoted(&rule.name))];
    if rule.outbound {
        keys.push(("direction", quoted("outbound")));
    }
    keys.push(("action", quoted("accept")));
    let protocols: Vec<String> = rule.protocols.iter().map(|name| quoted(name)).collect();
    keys.push(("protocol", list(&protocols)));
    if !rule.ports.is_empty() {
        let ports: Vec<String> = rule.ports.iter().map(u16::to_string).collect();
        keys.push(("port", list(&ports)));
    }
    if let Some(from) = &rule.from {
        keys.push(("# from", from.clone()));
    }
    if !rule.to.is_empty() {
        let to: Vec<String> = rule.to.iter().map(|to| quoted(to)).collect();
        keys.push(("to", list(&to)));
    }
    if let Some(interface) = &rule.interface {
        keys.push(("interface", quoted(interface)));
    }
    keys.extend(rule.keys.iter().map(|(key, value)| (*key, value.clone())));
    keys.push(("owner", quoted(&rule.owner)));
    let reason: String = rule.reason.chars().take(LONGEST_REASON).collect();
    keys.push(("reason", quoted(&reason)));
    let width = keys.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    for (key, value) in keys {
        let _ = writeln!(text, "{key:width$} = {value}");
    }
}

fn list(values: &[String]) -> String {
    match values {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

/// A string of TOML, whatever is in it.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

/// A comment, over as many lines as it takes; what does not print is left out of it.
fn comment(text: &mut String, line: &str) {
    let indent = line.len() - line.trim_start().len();
    let mut column = 0;
    for word in line.split_whitespace() {
        let word: String = word.chars().filter(|letter| !letter.is_control()).collect();
        if column == 0 {
            let _ = write!(text, "# {}{word}", " ".repeat(indent));
            column = indent + word.len();
        } else if column + 1 + word.len() > WIDTH {
            let _ = write!(text, "\n# {}{word}", " ".repeat(indent));
            column = indent + word.len();
        } else {
            let _ = write!(text, " {word}");
            column += 1 + word.len();
        }
    }
    text.push('\n');
}
