//! `palisade rule promote` and `palisade rule demote`: from observing to enforcing, and back.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Map, Value, json};

use super::list::Hits;
use crate::cli::policy_file::Changing;
use crate::cli::{Global, output};
use crate::daemon::documents::Observed;
use crate::policy::edit::{EditError, set_mode};
use crate::policy::{Action, Mode, Policy, Rule};

/// Has a rule do what it only counted so far.
pub fn promote(global: &Global, name: &str, changing: &Changing) -> anyhow::Result<ExitCode> {
    let (path, policy) = match changing.file.load(global)? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let rule = find(&policy, name)?;
    if rule.mode != Mode::Observe {
        if policy.defaults.mode == Mode::Observe {
            bail!(
                "rule \"{name}\" is not observed by itself, the whole policy is: set mode = \"enforce\" in \
                 [defaults] of {}",
                path.display()
            );
        }
        bail!(
            "rule \"{name}\" on line {} of {} is in force already: its mode is \"enforce\"",
            rule.line,
            path.display()
        );
    }
    let hits = Hits::ask(global);
    let observed = hits.observed(name);
    if !global.json {
        output::line(&would_have(rule, hits.is_known(), observed.as_ref()))?;
    }
    let mut telling = Map::new();
    telling.insert("rule".to_owned(), json!(name));
    telling.insert("mode".to_owned(), json!(Mode::Enforce.name()));
    telling.insert("observed".to_owned(), json!(observed));
    let done = format!("rule \"{name}\" is promoted");
    change(global, name, Mode::Enforce, changing, &done, telling)
}

/// Has a rule only count what it would do.
pub fn demote(global: &Global, name: &str, changing: &Changing) -> anyhow::Result<ExitCode> {
    let (path, policy) = match changing.file.load(global)? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let rule = find(&policy, name)?;
    if rule.mode == Mode::Observe {
        bail!(
            "rule \"{name}\" on line {} of {} is only observed already",
            rule.line,
            path.display()
        );
    }
    let mut telling = Map::new();
    telling.insert("rule".to_owned(), json!(name));
    telling.insert("mode".to_owned(), json!(Mode::Observe.name()));
    let done = format!("rule \"{name}\" is only observed");
    change(global, name, Mode::Observe, changing, &done, telling)
}

fn change(
    global: &Global,
    name: &str,
    mode: Mode,
    changing: &Changing,
    done: &str,
    telling: Map<String, Value>,
) -> anyhow::Result<ExitCode> {
    changing.change_policy_telling(global, done, telling, |text, _| {
        Ok(set_mode(text, name, mode)?)
    })
}

fn find<'p>(policy: &'p Policy, name: &str) -> Result<&'p Rule, EditError> {
    let rule = policy.rules.iter().find(|rule| rule.name == name);
    rule.ok_or_else(|| {
        let names: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
        EditError::unknown_rule(name, &names)
    })
}

/// What a rule would have done while it was observed, as a sentence.
pub(super) fn would_have(rule: &Rule, known: bool, observed: Option<&Observed>) -> String {
    let deed = match rule.action {
        Action::Accept => "accepted",
        Action::Drop => "dropped",
        Action::Count => "counted",
    };
    let name = &rule.name;
    let Some(observed) = observed else {
        return if known {
            format!("while observed, rule \"{name}\" would have {deed} nothing")
        } else {
            format!("what rule \"{name}\" would have {deed} is not known: no daemon answers")
        };
    };
    let count = observed.count;
    let mut text = format!(
        "while observed, rule \"{name}\" would have {deed} {} packets, {} bytes",
        count.packets, count.bytes
    );
    if let (Some(first), Some(latest)) = (observed.first, observed.latest) {
        let second = |time: jiff::Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        text.push_str(&format!(
            ", the first {} and the latest {}",
            second(first),
            second(latest)
        ));
    }
    text
}
