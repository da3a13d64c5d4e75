//! The policies that may be needed again, kept in a file of the state folder: the one in force, so
//! that a trial that fails while nobody watches, or across a restart, ends at a known text; the one
//! before it, for `rollback`; the one on trial; and one that was given back, for its author.
//!
//! The texts are kept, and where they came from. The lists of their sets are read from their own
//! files whenever a text is.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::offer::Offer;
use crate::policy::Policy;

const FILE: &str = "policies.json";
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
#[derive(Debug, Serialize, Deserialize)]
pub struct Memory {
    #[serde(skip)]
    folder: PathBuf,
    version: u32,
    pub in_force: Option<Remembered>,
    pub before: Option<Remembered>,
    pub trial: Option<Remembered>,
    pub given_back: Option<GivenBack>,
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
    /// Reads what is remembered. A damaged file is set aside: memory then starts anew.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let fresh = Self {
            folder: folder.to_owned(),
            version: VERSION,
            in_force: None,
            before: None,
            trial: None,
            given_back: None,
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(fresh),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let why = match serde_json::from_str::<Self>(&text) {
            Ok(memory) if memory.version == VERSION => {
                return Ok(Self {
                    folder: folder.to_owned(),
                    ..memory
                });
            }
            Ok(memory) => format!("version {} is unknown", memory.version),
            Err(error) => error.to_string(),
        };
        let aside = path.with_extension("json.corrupt");
        tracing::error!(
            file = %path.display(), set_aside = %aside.display(), why,
            "the remembered policies cannot be read; there is none to go back to"
        );
        fs::rename(&path, &aside).with_context(|| format!("setting {} aside", path.display()))?;
        Ok(fresh)
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
        self.given_back = None;
        self.store();
    }

    /// A policy is on trial.
    pub fn try_out(&mut self, policy: Remembered) {
        self.trial = Some(policy);
        self.store();
    }

    /// The policy on trial stays.
    pub fn keep(&mut self) {
        if let Some(policy) = self.trial.take() {
            self.take(policy);
        }
    }

    /// The policy on trial does not stay.
    pub fn give_back_trial(&mut self, generation: u64, why: &str) {
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

    /// Writes everything down. The fence does not depend on it: a full disk costs the memory.
    fn store(&self) {
        let stored = serde_json::to_vec(self)
            .map_err(anyhow::Error::from)
            .and_then(|bytes| write(&self.folder, FILE, &bytes));
        if let Err(error) = stored {
            tracing::error!("the policies in force will not be remembered: {error:#}");
        }
    }
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
    use super::*;

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
        let mut memory = Memory::load(folder.path()).unwrap();
        memory.take(policy("1"));
        memory.take(policy("2"));
        assert_eq!(texts(&memory), [Some("2"), Some("1"), None, None]);
        memory.try_out(policy("3"));
        assert_eq!(texts(&memory), [Some("2"), Some("1"), Some("3"), None]);
        memory.give_back_trial(3, "not confirmed");
        assert_eq!(texts(&memory), [Some("2"), Some("1"), None, Some("3")]);
        memory.give_back(2, "asked for");
        assert_eq!(texts(&memory), [Some("1"), None, None, Some("2")]);
        memory.try_out(policy("4"));
        memory.keep();
        assert_eq!(texts(&memory), [Some("4"), Some("1"), None, None]);
        memory.take(policy("4"));
        assert_eq!(texts(&memory), [Some("4"), Some("1"), None, None]);

        let read = Memory::load(folder.path()).unwrap();
        assert_eq!(texts(&read), texts(&memory));
        let kept = fs::read_to_string(memory.given_back_file()).unwrap();
        assert_eq!(kept, "2");
        assert_eq!(fs::read_to_string(memory.in_force_file()).unwrap(), "1");
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{\"version\": 1, ").unwrap();
        let memory = Memory::load(folder.path()).unwrap();
        assert_eq!(texts(&memory), [None; 4]);
        assert!(folder.path().join("policies.json.corrupt").exists());
    }
}
