//! What was done to the rules and sets themselves, by their names.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::align;
use crate::policy::{Policy, describe};

/// A rule that is not in both policies as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleChange {
    Added(String),
    Removed(String),
    /// With the keys that changed.
    Changed(String, Vec<String>),
    /// It stands elsewhere among the others.
    Moved(String),
}

/// A set whose prefixes are not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetChange {
    pub name: String,
    /// How many prefixes only one of the policies has.
    pub added: usize,
    pub removed: usize,
}

/// Rules that were added, removed, changed or moved, in the order of the old policy, then of the new.
pub fn rule_changes(old: &Policy, new: &Policy) -> Vec<RuleChange> {
    let described = |policy: &Policy| -> Vec<(String, Map<String, Value>)> {
        let rules = policy.rules.iter();
        rules
            .map(|rule| {
                let mut keys = describe::to_json(policy, rule);
                // Where it stands in the file is no part of it.
                keys.remove("line");
                (rule.name.clone(), keys)
            })
            .collect()
    };
    let (old, new) = (described(old), described(new));
    let names = |rules: &[(String, Map<String, Value>)]| -> Vec<String> {
        rules.iter().map(|(name, _)| name.clone()).collect()
    };
    let (in_old, _) = align::common(&names(&old), &names(&new));
    let by_name: HashMap<&str, &Map<String, Value>> = new
        .iter()
        .map(|(name, keys)| (name.as_str(), keys))
        .collect();
    let known: HashSet<&str> = old.iter().map(|(name, _)| name.as_str()).collect();
    let mut changes = Vec::new();
    for ((name, keys), in_order) in old.iter().zip(in_old) {
        let Some(now) = by_name.get(name.as_str()) else {
            changes.push(RuleChange::Removed(name.clone()));
            continue;
        };
        let changed = changed_keys(keys, now);
        if !changed.is_empty() {
            changes.push(RuleChange::Changed(name.clone(), changed));
        } else if !in_order {
            changes.push(RuleChange::Moved(name.clone()));
        }
    }
    let added = new
        .iter()
        .filter(|(name, _)| !known.contains(name.as_str()));
    changes.extend(added.map(|(name, _)| RuleChange::Added(name.clone())));
    changes
}

/// The keys that differ; those by which a rule matches under their own names.
fn changed_keys(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<String> {
    let mut changed = Vec::new();
    for (key, value) in old {
        match (value, new.get(key)) {
            (Value::Object(old), Some(Value::Object(new))) if key == "match" => {
                let keys = old
                    .keys()
                    .chain(new.keys().filter(|key| !old.contains_key(*key)));
                changed.extend(keys.filter(|key| old.get(*key) != new.get(*key)).cloned());
            }
            (value, now) if now != Some(value) => changed.push(key.clone()),
            _ => {}
        }
    }
    changed
}

/// Sets whose prefixes differ, those that only one of the policies has included.
pub fn set_changes(old: &Policy, new: &Policy) -> Vec<SetChange> {
    let mut names: Vec<&str> = old.sets.iter().map(|set| set.name.as_str()).collect();
    names.extend(
        new.sets
            .iter()
            .map(|set| set.name.as_str())
            .filter(|name| !old.sets.iter().any(|set| set.name == *name)),
    );
    let prefixes = |policy: &Policy, name: &str| -> HashSet<ipnet::IpNet> {
        let set = policy.sets.iter().find(|set| set.name == name);
        set.into_iter()
            .flat_map(|set| set.prefixes.iter().map(ipnet::IpNet::trunc))
            .collect()
    };
    let mut changes = Vec::new();
    for name in names {
        let (before, after) = (prefixes(old, name), prefixes(new, name));
        let added = after.difference(&before).count();
        let removed = before.difference(&after).count();
        if added + removed > 0 {
            changes.push(SetChange {
                name: name.to_owned(),
                added,
                removed,
            });
        }
    }
    changes
}
