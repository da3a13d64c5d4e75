//! What differs between two policies as their authors see it: rules, sets and defaults by name. (What
//! differs for packets is [`super::difference`]'s answer, which takes longer.)

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::describe::to_json;
use super::{Policy, Rule, Set};

/// What a rule says, key by key.
type Said = Map<String, Value>;

/// What differs; empty lists are left out of JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules_added: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules_removed: Vec<String>,
    /// Rules that say something else now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules_changed: Vec<String>,
    /// Whether rules that both have are tried in another order.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub order_changed: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<String, SetChange>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub defaults_changed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub never_block_changed: bool,
}

/// How many prefixes a set gained and lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetChange {
    pub added: usize,
    pub removed: usize,
}

impl Changes {
    /// What `new` has that `old` has not, and the other way round.
    pub fn between(old: &Policy, new: &Policy) -> Self {
        let by_name = |policy: &'_ Policy| -> BTreeMap<String, Said> {
            let rules = policy.rules.iter();
            rules
                .map(|rule| (rule.name.clone(), unplaced(policy, rule)))
                .collect()
        };
        let (before, after) = (by_name(old), by_name(new));
        let order = |policy: &Policy, others: &BTreeMap<String, Said>| -> Vec<String> {
            let names = policy.rules.iter().map(|rule| rule.name.clone());
            names.filter(|name| others.contains_key(name)).collect()
        };
        Self {
            rules_added: missing(&after, &before),
            rules_removed: missing(&before, &after),
            rules_changed: after
                .iter()
                .filter(|(name, rule)| before.get(*name).is_some_and(|other| other != *rule))
                .map(|(name, _)| name.clone())
                .collect(),
            order_changed: order(old, &after) != order(new, &before),
            sets: set_changes(old, new),
            defaults_changed: old.defaults != new.defaults,
            never_block_changed: old.never_block != new.never_block,
        }
    }

    /// What goes the other way.
    pub fn turned(&self) -> Self {
        let sets = self.sets.iter().map(|(name, change)| {
            let turned = SetChange {
                added: change.removed,
                removed: change.added,
            };
            (name.clone(), turned)
        });
        Self {
            rules_added: self.rules_removed.clone(),
            rules_removed: self.rules_added.clone(),
            sets: sets.collect(),
            ..self.clone()
        }
    }

    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What a rule says, with its sets by name and without its place in the file.
fn unplaced(policy: &Policy, rule: &Rule) -> Map<String, Value> {
    let mut keys = to_json(policy, rule);
    keys.remove("line");
    keys
}

fn missing(some: &BTreeMap<String, Said>, others: &BTreeMap<String, Said>) -> Vec<String> {
    let names = some.keys().filter(|name| !others.contains_key(*name));
    names.cloned().collect()
}

fn set_changes(old: &Policy, new: &Policy) -> BTreeMap<String, SetChange> {
    let names: BTreeSet<&str> = old
        .sets
        .iter()
        .chain(&new.sets)
        .map(|set| set.name.as_str())
        .collect();
    let of = |policy: &Policy, name: &str| -> BTreeSet<_> {
        let named = policy.sets.iter().find(|set| set.name == name);
        named.map_or_else(BTreeSet::new, |Set { prefixes, .. }| {
            prefixes.iter().copied().collect()
        })
    };
    names
        .into_iter()
        .filter_map(|name| {
            let (before, after) = (of(old, name), of(new, name));
            let change = SetChange {
                added: after.difference(&before).count(),
                removed: before.difference(&after).count(),
            };
            (change != SetChange::default()).then(|| (name.to_owned(), change))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn policy(text: &str) -> Policy {
        let (policy, _) = Policy::parse(text, "policy.toml", Path::new("/")).expect("a policy");
        policy
    }

    const OLD: &str = "version = 1\n[sets]\noffice = [\"198.51.100.0/24\"]\n\
        [[rule]]\nname = \"shop\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 443\n\
        [[rule]]\nname = \"ssh\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 22\nfrom = [\"office\"]\n\
        [[rule]]\nname = \"mail\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 25\n";

    #[test]
    fn what_was_added_removed_changed_and_moved_is_told_by_name() {
        let new = "version = 1\n[defaults]\ninbound = \"accept\"\n[sets]\noffice = [\"198.51.100.0/25\", \"203.0.113.0/24\"]\n\
            # A comment moves every rule one line down.\n\
            [[rule]]\nname = \"ssh\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 22\nfrom = [\"office\"]\n\
            [[rule]]\nname = \"shop\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = [80, 443]\n\
            [[rule]]\nname = \"dns\"\naction = \"accept\"\nprotocol = \"udp\"\nport = 53\n";
        let changes = Changes::between(&policy(OLD), &policy(new));
        assert_eq!(changes.rules_added, ["dns"]);
        assert_eq!(changes.rules_removed, ["mail"]);
        assert_eq!(changes.rules_changed, ["shop"]);
        assert!(changes.order_changed && changes.defaults_changed);
        assert_eq!(
            changes.sets["office"],
            SetChange {
                added: 2,
                removed: 1
            }
        );
        assert!(!changes.never_block_changed);
    }

    #[test]
    fn the_same_policy_with_other_comments_changes_nothing() {
        let same = OLD.replace(
            "[[rule]]\nname = \"ssh\"",
            "# administration\n[[rule]]\nname = \"ssh\"",
        );
        assert!(Changes::between(&policy(OLD), &policy(&same)).is_nothing());
    }
}
