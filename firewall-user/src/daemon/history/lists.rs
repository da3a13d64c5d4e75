//! What the history knows of the lists that sets come from: enough to tell that one is not as it was then, and not
//! what it held. Lists are fed by others, change by the hour and may hold a million prefixes: keeping each of them
//! for a thousand entries would make the state folder the largest thing on the host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hex;
use crate::policy::Policy;

/// A set that comes from a file, as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListDigest {
    pub file: PathBuf,
    pub prefixes: usize,
    /// Of the prefixes in their order, one a line.
    pub sha256: String,
}

/// A list that an entry of the history had and that is not the same now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedList {
    pub set: String,
    pub file: PathBuf,
    /// How many prefixes it had; which, is not known.
    pub prefixes_then: usize,
    pub prefixes_now: usize,
}

impl std::fmt::Display for ChangedList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            set,
            file,
            prefixes_then,
            prefixes_now,
        } = self;
        let file = file.display();
        write!(
            f,
            "set {set}: its list {file} is not what it was then, when it had {prefixes_then} prefixes: taken as it is \
             now, with {prefixes_now}"
        )
    }
}

/// Lists of which a policy, read again, has other prefixes than an entry says.
pub fn changed_lists(then: &BTreeMap<String, ListDigest>, now: &Policy) -> Vec<ChangedList> {
    let now = lists(now);
    let changed = then.iter().filter_map(|(set, then)| {
        let now = now.get(set).filter(|now| now.sha256 != then.sha256)?;
        Some(ChangedList {
            set: set.clone(),
            file: now.file.clone(),
            prefixes_then: then.prefixes,
            prefixes_now: now.prefixes,
        })
    });
    changed.collect()
}

/// What is kept of the lists of a policy.
pub(super) fn lists(policy: &Policy) -> BTreeMap<String, ListDigest> {
    let sets = policy.sets.iter();
    sets.filter_map(|set| {
        let file = set.file.clone()?;
        let mut hasher = Sha256::new();
        for prefix in &set.prefixes {
            hasher.update(format!("{prefix}\n"));
        }
        let digest = ListDigest {
            file,
            prefixes: set.prefixes.len(),
            sha256: hex(&hasher.finalize()),
        };
        Some((set.name.clone(), digest))
    })
    .collect()
}
