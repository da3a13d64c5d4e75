//! `palisade diff`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use firewall_common::{Reason, Verdict};
use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::output::{self, counted};
use super::progress::Audience;
use super::{EXIT_FAILED, Global, history};
use crate::daemon::documents::ChangedList;
use crate::policy::difference::{
    Change, Decision, Difference, RuleChange, SetChange, compare, rule_changes, set_changes,
};
use crate::policy::{DefaultAction, Policy, address, render};
use crate::replay::Inside;
use crate::replay::capture::CaptureReader;
use crate::replay::compare::{self, Comparison, PacketChange, Said};

/// Changes that are shown to people; `--json` has them all.
const SHOWN: usize = 50;
/// Names that are shown on one line.
const NAMES: usize = 8;

/// Arguments of `palisade diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy as it was: a file, or @3 for entry 3 of the history
    pub old: PathBuf,
    /// The policy as it would be: likewise
    pub new: PathBuf,
    /// A pcap or pcapng capture: tell which of its packets would be treated otherwise
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,
    /// A prefix behind the fence, for the capture (as in replay)
    #[arg(long, value_name = "CIDR", value_parser = address::parse_prefix, requires = "capture")]
    pub inside: Vec<IpNet>,
    /// The interface that the capture stands for, for rules that name one
    #[arg(long, value_name = "NAME", requires = "capture")]
    pub interface: Option<String>,
}

impl Args {
    /// Two entries of the history.
    pub fn of_entries(old: u64, new: u64) -> Self {
        Self {
            old: history::name(old),
            new: history::name(new),
            capture: None,
            inside: Vec::new(),
            interface: None,
        }
    }
}

/// Everything that was found.
struct Found {
    old: Policy,
    new: Policy,
    difference: Difference,
    rules: Vec<RuleChange>,
    sets: Vec<SetChange>,
    /// Lists of which other prefixes are compared than the entries of the history had.
    lists_changed: [Vec<ChangedList>; 2],
    capture: Option<Comparison>,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let audience = Audience::new(global);
    let (old, new) = (
        load(global, audience, &arguments.old)?,
        load(global, audience, &arguments.new)?,
    );
    let (Some((old, old_lists)), Some((new, new_lists))) = (old, new) else {
        return Ok(ExitCode::from(EXIT_FAILED));
    };
    for (path, lists) in [(&arguments.old, &old_lists), (&arguments.new, &new_lists)] {
        for list in lists {
            eprintln!("note: {}: {list}", path.display());
        }
    }
    let capture = match &arguments.capture {
        Some(path) => Some(over(path, &old, &new, &arguments, audience)?),
        None => None,
    };
    let comparing = audience.waiting("comparing");
    let found = Found {
        difference: compare(&old, &new, Timestamp::now()),
        rules: rule_changes(&old, &new),
        sets: set_changes(&old, &new),
        old,
        new,
        lists_changed: [old_lists, new_lists],
        capture,
    };
    drop(comparing);
    let damage = found
        .capture
        .as_ref()
        .and_then(|capture| capture.damage.as_ref());
    let damage = damage.cloned();
    if global.json {
        output::json(&report(&arguments, &found))?;
    } else {
        output::line(told(&found).trim_end())?;
    }
    if let Some(damage) = damage {
        eprintln!("palisade: the capture was not read to its end: {damage}");
        return Ok(ExitCode::from(EXIT_FAILED));
    }
    Ok(ExitCode::SUCCESS)
}

/// A policy of a file, or of an entry of the history; what is wrong with it is told.
fn load(
    global: &Global,
    audience: Audience,
    path: &Path,
) -> anyhow::Result<Option<(Policy, Vec<ChangedList>)>> {
    let Some(number) = history::named(path) else {
        return Ok(audience.policy(path).map(|policy| (policy, Vec::new())));
    };
    Ok(match history::offered(global, number)? {
        Ok(found) => Some(found),
        Err(refused) => {
            render::show(&refused.errors, refused.more);
            None
        }
    })
}

fn over(
    path: &Path,
    old: &Policy,
    new: &Policy,
    arguments: &Args,
    audience: Audience,
) -> anyhow::Result<Comparison> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("{name} cannot be opened"))?;
    let reader = CaptureReader::new(BufReader::with_capacity(
        1 << 20,
        audience.watch(path, file),
    ))
    .map_err(|error| anyhow!("{name} {error}"))?;
    let inside = Inside::new(arguments.inside.clone());
    compare::compare(reader, [old, new], &inside, arguments.interface.as_deref())
}

/// What people read.
fn told(found: &Found) -> String {
    let mut text = String::new();
    for (what, names) in by_what(&found.rules) {
        if !names.is_empty() {
            text += &format!(
                "{} {what}: {}\n",
                counted(names.len(), "rule"),
                some(&names)
            );
        }
    }
    for set in &found.sets {
        let SetChange {
            name,
            added,
            removed,
        } = set;
        text += &format!("set {name}: {added} prefixes added, {removed} removed\n");
    }
    for (key, old, new) in defaults(found) {
        text += &format!("{key}: {old} -> {new}\n");
    }
    let changes = &found.difference.changes;
    if changes.is_empty() && found.difference.complete {
        text += "no verdict changes: rules and defaults decide about each packet as before\n";
    }
    for change in changes.iter().take(SHOWN) {
        text += &told_change(change);
    }
    if changes.len() > SHOWN {
        text += &format!(
            "and {} more; --json has them\n",
            counted(changes.len() - SHOWN, "change")
        );
    }
    if !found.difference.complete {
        text += "there may be more changes: the search was ended\n";
    }
    if let Some(capture) = &found.capture {
        text += &format!(
            "capture: {} of {} would have another verdict\n",
            capture.changed,
            counted(capture.packets as usize, "packet")
        );
        for change in capture.changes.iter().take(SHOWN) {
            text += &format!(
                "  {} {} {} -> {}, first packet {}\n",
                counted(change.packets as usize, "packet"),
                change.direction.name(),
                said(&change.old),
                said(&change.new),
                change.first
            );
        }
    }
    text
}

fn told_change(change: &Change) -> String {
    let family = change
        .family
        .map_or(String::new(), |family| format!(" {}", family.name()));
    let mut text = format!(
        "{}{family}: {} -> {}\n",
        change.direction.name(),
        change.old,
        change.new
    );
    let keys = change.packets.iter();
    let keys: Vec<String> = keys
        .map(|(key, words)| format!("{key} {}", words.join(" ")))
        .collect();
    let packets = if keys.is_empty() {
        "all packets".to_owned()
    } else {
        keys.join(", ")
    };
    text += &format!("    {packets}\n");
    if change.exceptions > 0 {
        let mut names: Vec<&str> = change.except.iter().map(String::as_str).collect();
        names.truncate(NAMES);
        let more = change.exceptions - names.len();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        text += &format!(
            "    except what decides earlier: {}{more}\n",
            names.join(", ")
        );
    }
    text += &match &change.example {
        Some(example) => format!("    for example {example}\n"),
        None => "    possibly: the search for such a packet was ended\n".to_owned(),
    };
    text
}

fn said(said: &Said) -> String {
    let rule = said
        .rule
        .as_ref()
        .map_or(String::new(), |rule| format!(" {rule}"));
    format!("{} ({}{rule})", said.verdict.name(), said.reason.name())
}

fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES).map(String::as_str).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Names of rules by what was done to them.
fn by_what(changes: &[RuleChange]) -> [(&'static str, Vec<String>); 4] {
    let mut by = [
        ("added", Vec::new()),
        ("removed", Vec::new()),
        ("changed", Vec::new()),
        ("moved", Vec::new()),
    ];
    for change in changes {
        let (index, name) = match change {
            RuleChange::Added(name) => (0, name.clone()),
            RuleChange::Removed(name) => (1, name.clone()),
            RuleChange::Changed(name, keys) => (2, format!("{name} ({})", keys.join(", "))),
            RuleChange::Moved(name) => (3, name.clone()),
        };
        by[index].1.push(name);
    }
    by
}

/// What differs beside rules and sets.
fn defaults(found: &Found) -> Vec<(&'static str, String, String)> {
    let (old, new) = (&found.old, &found.new);
    let action = |action: DefaultAction| match action {
        DefaultAction::Accept => "accept".to_owned(),
        DefaultAction::Drop => "drop".to_owned(),
    };
    let mode = |policy: &Policy| policy.defaults.mode.name().to_owned();
    let protected = |policy: &Policy| format!("{} prefixes", policy.never_block.len());
    let mut all = vec![
        (
            "defaults.inbound",
            action(old.defaults.inbound),
            action(new.defaults.inbound),
        ),
        (
            "defaults.outbound",
            action(old.defaults.outbound),
            action(new.defaults.outbound),
        ),
        ("defaults.mode", mode(old), mode(new)),
    ];
    all.retain(|(_, old, new)| old != new);
    if old.never_block != new.never_block {
        all.push(("protect.never_block", protected(old), protected(new)));
    }
    all
}

/// The document of `--json`.
fn report(arguments: &Args, found: &Found) -> Value {
    let Difference { changes, complete } = &found.difference;
    let defaults: Map<String, Value> = defaults(found)
        .into_iter()
        .map(|(key, old, new)| (key.to_owned(), json!({ "old": old, "new": new })))
        .collect();
    let rules: Vec<Value> = found.rules.iter().map(rule_json).collect();
    let sets: Vec<Value> = found
        .sets
        .iter()
        .map(|set| json!({ "name": set.name, "added": set.added, "removed": set.removed }))
        .collect();
    json!({
        "old": arguments.old,
        "new": arguments.new,
        "same_verdicts": *complete && changes.is_empty(),
        "complete": complete,
        "rules": rules,
        "sets": sets,
        "lists_changed": { "old": found.lists_changed[0], "new": found.lists_changed[1] },
        "settings": defaults,
        "changes": changes.iter().map(change_json).collect::<Vec<_>>(),
        "capture": found.capture.as_ref().map(capture_json),
    })
}

fn rule_json(change: &RuleChange) -> Value {
    match change {
        RuleChange::Added(name) => json!({ "name": name, "what": "added" }),
        RuleChange::Removed(name) => json!({ "name": name, "what": "removed" }),
        RuleChange::Changed(name, keys) => json!({ "name": name, "what": "changed", "keys": keys }),
        RuleChange::Moved(name) => json!({ "name": name, "what": "moved" }),
    }
}

fn change_json(change: &Change) -> Value {
    let packets: Map<String, Value> = change
        .packets
        .iter()
        .map(|(key, words)| ((*key).to_owned(), json!(words)))
        .collect();
    json!({
        "direction": change.direction.name(),
        "family": change.family.map(|family| family.name()),
        "old": decision_json(&change.old),
        "new": decision_json(&change.new),
        "packets": packets,
        "except": change.except,
        "except_total": change.exceptions,
        "example": change.example.as_ref().map(ToString::to_string),
    })
}

fn decision_json(decision: &Decision) -> Value {
    json!({
        "verdict": decision.outcome.verdict.name(),
        "reason": reason(decision).name(),
        "rule": decision.rule,
        "limit": decision.outcome.limit.map(|limit| limit.to_string()),
    })
}

const fn reason(decision: &Decision) -> Reason {
    match decision.rule {
        Some(_) => Reason::Rule,
        None => Reason::Default,
    }
}

fn capture_json(capture: &Comparison) -> Value {
    let said = |said: &Said| {
        let verdict: Verdict = said.verdict;
        json!({ "verdict": verdict.name(), "reason": said.reason.name(), "rule": said.rule })
    };
    let change = |change: &PacketChange| {
        json!({
            "direction": change.direction.name(),
            "old": said(&change.old),
            "new": said(&change.new),
            "packets": change.packets,
            "bytes": change.bytes,
            "first": change.first,
        })
    };
    json!({
        "packets": capture.packets,
        "changed": capture.changed,
        "changes": capture.changes.iter().map(change).collect::<Vec<_>>(),
        "skipped": capture.skipped,
        "damage": capture.damage,
    })
}
