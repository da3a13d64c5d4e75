//! The policies that may be needed again, kept in the state: the one in force, so
//! that a trial that fails while nobody watches, or across a restart, ends at a known text; the one
//! before it, for `rollback`; the one on trial; and one that was given back, for its author.
//!
//! The texts are kept, and where they came from. The lists of their sets are read from their own
//! files whenever a text is.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::offer::Offer;
use crate::policy::Policy;
use crate::state::{Kind, Store};

const PART: &str = "policies";
const VERSION: u32 = 1;

/// The text of a policy that was given back, to be mended.
const GIVEN_BACK: &str = "given-back.toml";
/// The text of the policy that is in force instead.
const IN_FORCE: &str = "in-force.toml";

/// A policy's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    pub text: String,
    /// The file it was read from, or what else it came from, for people.
    pub source: String,
    /// The folder against which it names its files.
    pub base: PathBuf,
    /// Whether it was read from the daemon's own policy file.
    pub own: bool,
    pub applied: Timestamp,
}

/// A policy that was in force and is not any more because it was not to stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenBack {
    pub policy: Remembered,
    pub generation: u64,
    pub why: String,
    pub when: Timestamp,
}

/// What is remembered.
#[derive(Debug)]
pub struct Memory {
    folder: PathBuf,
    store: Store,
    pub in_force: Option<Remembered>,
    pub before: Option<Remembered>,
    pub trial: Option<Remembered>,
    /// The entry of the history that the trial goes back to, if it does.
    pub back_to: Option<u64>,
    pub given_back: Option<GivenBack>,
}

/// As it is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    version: u32,
    in_force: Option<Remembered>,
    before: Option<Remembered>,
    trial: Option<Remembered>,
    #[serde(default)]
    back_to: Option<u64>,
    given_back: Option<GivenBack>,
}

impl Remembered {
    pub fn new(offer: &Offer, applied: Timestamp) -> Self {
        Self {
            text: offer.text.clone(),
            source: offer.source.clone(),
            base: offer.base.clone(),
            own: offer.own,
            applied,
        }
    }

    /// Reads the policy again, with the lists of its sets as they are now.
    pub fn offer(&self) -> Result<Offer, String> {
        let (policy, findings) = Policy::parse(&self.text, &self.source, &self.base)
            .map_err(|errors| errors.to_string())?;
        Ok(Offer {
            policy,
            source: self.source.clone(),
            warnings: findings.iter().map(ToString::to_string).collect(),
            text: self.text.clone(),
            base: self.base.clone(),
            own: self.own,
        })
    }

    /// Whether both say the same in the same place.
    fn same(&self, other: &Self) -> bool {
        self.text == other.text && self.base == other.base
    }
}

impl Memory {
    /// Reads what is remembered. `folder` gets texts that people may want to mend.
    pub fn load(store: Store, folder: &Path) -> Self {
        let kept = match store.part::<Document>(PART) {
            Some(document) if document.version == VERSION => Some(document),
            Some(document) => {
                let text = store.get(Kind::Part, PART).unwrap_or_default();
                store.not_understood(PART, text, &format!("version {}", document.version));
                None
            }
            None => None,
        };
        let kept = kept.unwrap_or_default();
        Self {
            folder: folder.to_owned(),
            store,
            in_force: kept.in_force,
            before: kept.before,
            trial: kept.trial,
            back_to: kept.back_to,
            given_back: kept.given_back,
        }
    }

    /// A policy is in force for good. The one before it is remembered, unless it is the same.
    pub fn take(&mut self, policy: Remembered) {
        let before = self.in_force.replace(policy);
        let same = match (&before, &self.in_force) {
            (Some(before), Some(now)) => before.same(now),
            _ => false,
        };
        if !same {
            self.before = before;
        }
        self.trial = None;
        self.back_to = None;
        self.given_back = None;
        self.store();
    }

    /// A policy is on trial; `back_to` is its entry of the history if it was in force before.
    pub fn try_out(&mut self, policy: Remembered, back_to: Option<u64>) {
        self.trial = Some(policy);
        self.back_to = back_to;
        self.store();
    }

    /// The policy on trial stays, and `generation`, the one before it, does not. Whether it went back in the
    /// history, and so gave that one back.
    pub fn keep(&mut self, generation: u64) -> Option<u64> {
        let back_to = self.back_to.take();
        if let Some(policy) = self.trial.take() {
            match back_to {
                Some(entry) => self.go_back_to(policy, generation, &went_back(entry)),
                None => self.take(policy),
            }
            self.store();
        }
        back_to
    }

    /// The policy on trial does not stay.
    pub fn give_back_trial(&mut self, generation: u64, why: &str) {
        self.back_to = None;
        if let Some(policy) = self.trial.take() {
            self.note(policy, generation, why);
        }
    }

    /// The policy in force gives way to the one before, which is forgotten as such: nobody goes
    /// back to a policy that was itself given back.
    pub fn give_back(&mut self, generation: u64, why: &str) {
        let before = self.before.take();
        if let Some(policy) = std::mem::replace(&mut self.in_force, before) {
            self.note(policy, generation, why);
        }
    }

    /// The policy in force gives way to an earlier one.
    pub fn go_back_to(&mut self, policy: Remembered, generation: u64, why: &str) {
        if self
            .before
            .as_ref()
            .is_some_and(|before| before.same(&policy))
        {
            self.before = None;
        }
        if let Some(given_back) = self.in_force.replace(policy) {
            self.note(given_back, generation, why);
        }
    }

    /// The one on trial, else the one in force.
    pub fn current(&self) -> Option<&Remembered> {
        self.trial.as_ref().or(self.in_force.as_ref())
    }

    fn note(&mut self, policy: Remembered, generation: u64, why: &str) {
        let texts = [
            (GIVEN_BACK, Some(&policy)),
            (IN_FORCE, self.in_force.as_ref()),
        ];
        for (name, policy) in texts {
            if let Some(policy) = policy
                && let Err(error) = write(&self.folder, name, policy.text.as_bytes())
            {
                tracing::error!("a policy's text is not kept: {error:#}");
            }
        }
        self.given_back = Some(GivenBack {
            policy,
            generation,
            why: why.to_owned(),
            when: Timestamp::now(),
        });
        self.store();
    }

    /// The file with the text that was given back.
    pub fn given_back_file(&self) -> PathBuf {
        self.folder.join(GIVEN_BACK)
    }

    /// The file with the text that is in force instead of it.
    pub fn in_force_file(&self) -> PathBuf {
        self.folder.join(IN_FORCE)
    }

    /// Has everything kept. The fence does not depend on it: a full disk costs the memory.
    fn store(&self) {
        let document = Document {
            version: VERSION,
            in_force: self.in_force.clone(),
            before: self.before.clone(),
            trial: self.trial.clone(),
            back_to: self.back_to,
            given_back: self.given_back.clone(),
        };
        self.store.put_json(Kind::Part, PART, &document);
    }
}

/// Why a policy is not in force any more.
pub fn went_back(entry: u64) -> String {
    format!("it was rolled back to entry {entry} of the history")
}

/// Writes a file, whole or not at all.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(name);
    let write = || -> anyhow::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::state::Health;

    fn load(folder: &Path) -> Memory {
        Memory::load(Store::open(folder, Health::default()).unwrap(), folder)
    }

    fn policy(text: &str) -> Remembered {
        Remembered {
            text: text.to_owned(),
            source: "policy.toml".to_owned(),
            base: PathBuf::from("/etc/palisade"),
            own: true,
            applied: Timestamp::UNIX_EPOCH,
        }
    }

    fn texts(memory: &Memory) -> [Option<&str>; 4] {
        let given_back = memory.given_back.as_ref().map(|given| &given.policy);
        [
            memory.in_force.as_ref(),
            memory.before.as_ref(),
            memory.trial.as_ref(),
            given_back,
        ]
        .map(|policy| policy.map(|policy| policy.text.as_str()))
    }

    #[test]
    fn a_policy_that_was_given_back_is_never_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = load(folder.path());
        memory.take(policy("1"));
        memory.take(policy("2"));
        assert_eq!(texts(&memory), [Some("2"), Some("1"), None, None]);
        memory.try_out(policy("3"), None);
        assert_eq!(texts(&memory), [Some("2"), Some("1"), Some("3"), None]);
        memory.give_back_trial(3, "not confirmed");
        assert_eq!(texts(&memory), [Some("2"), Some("1"), None, Some("3")]);
        memory.give_back(2, "asked for");
        assert_eq!(texts(&memory), [Some("1"), None, None, Some("2")]);
        memory.try_out(policy("4"), None);
        assert_eq!(memory.keep(2), None);
        assert_eq!(texts(&memory), [Some("4"), Some("1"), None, None]);
        memory.take(policy("4"));
        assert_eq!(texts(&memory), [Some("4"), Some("1"), None, None]);

        memory.store.close();
        let read = load(folder.path());
        assert_eq!(texts(&read), texts(&memory));
        let kept = fs::read_to_string(memory.given_back_file()).unwrap();
        assert_eq!(kept, "2");
        assert_eq!(fs::read_to_string(memory.in_force_file()).unwrap(), "1");
    }

    #[test]
    fn a_trial_that_went_back_gives_back_what_it_replaced_when_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = load(folder.path());
        memory.take(policy("1"));
        memory.take(policy("2"));
        memory.try_out(policy("1"), Some(1));
        memory.store.close();
        let mut memory = load(folder.path());
        assert_eq!(memory.keep(2), Some(1));
        assert_eq!(texts(&memory), [Some("1"), None, None, Some("2")]);

        memory.try_out(policy("0"), Some(7));
        memory.give_back_trial(3, "not confirmed");
        assert_eq!(texts(&memory), [Some("1"), None, None, Some("0")]);
        memory.try_out(policy("3"), None);
        assert_eq!(memory.keep(3), None);
        assert_eq!(texts(&memory), [Some("3"), Some("1"), None, None]);
    }

    #[test]
    fn what_an_earlier_version_remembered_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let text = r##"{"version":1,"in_force":{"text":"2","source":"policy.toml","base":"/etc/palisade",
            "own":true,"applied":"1970-01-01T00:00:00Z"},"before":null,"trial":null,"given_back":null}"##;
        fs::write(folder.path().join("policies.json"), text).unwrap();
        assert_eq!(texts(&load(folder.path())), [Some("2"), None, None, None]);
    }
}
