//! The policies that were in force, one after the other: when each was put in force, by whom, from where, why, and
//! what it changed. An entry for each change of what is in force, from a number that never comes again.
//!
//! Kept are the policy's text, by its SHA-256, and of the lists that its sets come from the path, the number of
//! prefixes and their SHA-256: lists have a life of their own and may be long. The oldest entries go when there are
//! too many, or their texts become too large.

mod lists;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::audit::{Author, Channel};
use crate::policy::{Changes, Policy};
use crate::state::{Kind, Store, number};
use lists::lists;
pub use lists::{ChangedList, ListDigest, changed_lists};

/// Entries that are kept.
const KEEP: usize = 1_000;
/// Bytes of the texts of all of them; the one in force and the one before it are kept whatever they take.
const TEXTS: usize = 64 << 20;

/// Whoever has a policy put in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct By {
    pub who: Author,
    pub from: Channel,
    /// In their own words.
    pub reason: Option<String>,
}

/// By what a policy came in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The daemon started with it.
    Start,
    Apply,
    Rollback,
    /// A policy on trial was given back, and this is the one before it.
    Return,
}

/// What became of a trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trial {
    Pending,
    Confirmed,
    /// With the reason.
    GivenBack(String),
}

/// A policy that was put in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub number: u64,
    pub time: Timestamp,
    pub generation: u64,
    pub how: How,
    /// The number of the entry that was gone back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    #[serde(flatten)]
    pub by: By,
    /// The file it was read from, or what else it came from.
    pub source: String,
    /// The folder against which it names its files.
    pub base: PathBuf,
    /// Whether it was read from the daemon's own policy file.
    pub own: bool,
    /// Of its text.
    pub sha256: String,
    pub bytes: usize,
    pub rules: usize,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<String, ListDigest>,
    /// What differs from the policy that was in force before.
    pub changes: Changes,
}

/// What an entry says of a policy itself.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    pub policy: &'a Policy,
    pub text: &'a str,
    pub source: &'a str,
    pub base: &'a PathBuf,
    pub own: bool,
}

/// All entries, the oldest first.
#[derive(Debug)]
pub struct History {
    store: Store,
    entries: VecDeque<Entry>,
    /// Most bytes of all texts.
    texts: usize,
}

impl By {
    /// The daemon by itself.
    pub fn daemon(reason: Option<String>) -> Self {
        Self {
            who: Author {
                program: Some("palisade".to_owned()),
                ..Author::default()
            },
            from: Channel::Daemon,
            reason,
        }
    }

    /// Whoever sent a signal: the kernel does not say who.
    pub fn signal() -> Self {
        Self {
            who: Author::default(),
            from: Channel::Signal,
            reason: None,
        }
    }
}

impl History {
    pub fn load(store: Store) -> Self {
        let mut entries = VecDeque::new();
        for (key, text) in store.load(Kind::History) {
            match serde_json::from_slice(&text) {
                Ok(entry) => entries.push_back(entry),
                Err(error) => tracing::warn!(key, "an entry of the history is left out: {error}"),
            }
        }
        Self {
            store,
            entries,
            texts: TEXTS,
        }
    }

    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    pub fn latest(&self) -> Option<&Entry> {
        self.entries.back()
    }

    pub fn get(&self, number: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.number == number)
    }

    /// Whether the latest entry says the same, with the same lists.
    pub fn holds(&self, content: &Content<'_>) -> bool {
        self.latest().is_some_and(|latest| {
            latest.sha256 == digest(content.text)
                && latest.base == *content.base
                && latest.lists == lists(content.policy)
        })
    }

    /// Adds an entry. One that says what the latest says is none, unless it is on trial.
    pub fn enter(
        &mut self,
        content: &Content<'_>,
        generation: u64,
        how: How,
        by: By,
        changes: Changes,
    ) -> Option<&mut Entry> {
        if self.holds(content) {
            return None;
        }
        let sha256 = digest(content.text);
        self.store
            .put(Kind::Text, &sha256, content.text.as_bytes().to_vec());
        self.push(Entry {
            number: 0,
            time: Timestamp::now(),
            generation,
            how,
            to: None,
            trial: None,
            by,
            source: content.source.to_owned(),
            base: content.base.clone(),
            own: content.own,
            sha256,
            bytes: content.text.len(),
            rules: content.policy.rules.len(),
            lists: lists(content.policy),
            changes,
        });
        self.entries.back_mut()
    }

    /// Notes what became of the trial that the latest entry is.
    pub fn note_trial(&mut self, outcome: Trial) {
        if let Some(latest) = self.entries.back_mut()
            && latest.trial == Some(Trial::Pending)
        {
            latest.trial = Some(outcome);
            self.keep_latest();
        }
    }

    /// The policy on trial was given back: the one before it is in force again.
    pub fn give_back(&mut self, why: &str, by: By, generation: u64) {
        if self.latest().and_then(|latest| latest.trial.as_ref()) != Some(&Trial::Pending) {
            return;
        }
        self.note_trial(Trial::GivenBack(why.to_owned()));
        let Some(before) = self.entries.iter().nth_back(1).cloned() else {
            return;
        };
        let changes = self
            .latest()
            .map_or_else(Changes::default, |trial| trial.changes.turned());
        self.push(Entry {
            time: Timestamp::now(),
            generation,
            how: How::Return,
            to: Some(before.number),
            trial: None,
            by,
            changes,
            ..before
        });
        self.keep_latest();
    }

    /// Notes which entry the latest one goes back to.
    pub fn note_target(&mut self, number: u64) {
        if let Some(latest) = self.entries.back_mut() {
            latest.to = Some(number);
        }
        self.keep_latest();
    }

    /// Has the latest entry written as it is now.
    pub fn keep_latest(&self) {
        if let Some(entry) = self.latest() {
            let key = number(entry.number);
            self.store.put_json(Kind::History, &key, entry);
        }
    }

    fn push(&mut self, mut entry: Entry) {
        entry.number = self.latest().map_or(1, |latest| latest.number + 1);
        self.entries.push_back(entry);
        self.keep_latest();
        self.trim();
    }

    /// Lets the oldest entries go, and the texts that none has any more.
    fn trim(&mut self) {
        let mut gone = Vec::new();
        while self.entries.len() > 2
            && (self.entries.len() > KEEP || self.text_bytes() > self.texts)
        {
            gone.extend(self.entries.pop_front());
        }
        for entry in gone {
            let mut rows = vec![(Kind::History, number(entry.number), None)];
            if self
                .entries
                .iter()
                .all(|other| other.sha256 != entry.sha256)
            {
                rows.push((Kind::Text, entry.sha256, None));
            }
            self.store.change(rows);
        }
    }

    fn text_bytes(&self) -> usize {
        let texts: BTreeSet<(&str, usize)> = self
            .entries
            .iter()
            .map(|entry| (entry.sha256.as_str(), entry.bytes))
            .collect();
        texts.into_iter().map(|(_, bytes)| bytes).sum()
    }
}

/// The text of an entry, if it is kept.
pub fn text_of(store: &Store, entry: &Entry) -> Option<String> {
    let text = store.get(Kind::Text, &entry.sha256)?;
    String::from_utf8(text)
        .ok()
        .filter(|text| digest(text) == entry.sha256)
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::state::Health;

    fn text(port: usize) -> String {
        format!(
            "version = 1\n[[rule]]\nname = \"shop\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = {port}\n"
        )
    }

    fn enter(history: &mut History, text: &str, trial: bool) -> Option<u64> {
        let (policy, _) = Policy::parse(text, "policy.toml", Path::new("/")).expect("a policy");
        let content = Content {
            policy: &policy,
            text,
            source: "policy.toml",
            base: &PathBuf::from("/"),
            own: true,
        };
        let by = By::daemon(Some("for the test".to_owned()));
        let entry = history.enter(&content, 1, How::Apply, by, Changes::default())?;
        entry.trial = trial.then_some(Trial::Pending);
        let number = entry.number;
        history.keep_latest();
        Some(number)
    }

    fn history(folder: &Path) -> History {
        History::load(Store::open(folder, Health::default()).expect("a store"))
    }

    #[test]
    fn entries_and_their_texts_outlive_the_daemon_and_numbers_go_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut before = history(folder.path());
        assert_eq!(enter(&mut before, &text(80), false), Some(1));
        assert_eq!(
            enter(&mut before, &text(80), false),
            None,
            "nothing changed"
        );
        assert_eq!(enter(&mut before, &text(443), false), Some(2));
        before.store.close();
        let mut after = history(folder.path());
        assert_eq!(after.entries, before.entries);
        let first = after.get(1).expect("kept").clone();
        assert_eq!(text_of(&after.store, &first), Some(text(80)));
        assert_eq!(first.by.reason.as_deref(), Some("for the test"));
        assert_eq!(enter(&mut after, &text(80), false), Some(3));
    }

    #[test]
    fn a_trial_that_is_given_back_is_followed_by_what_was_before_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut history = history(folder.path());
        enter(&mut history, &text(80), false);
        enter(&mut history, &text(443), true);
        history.give_back("not confirmed", By::daemon(None), 1);
        // Only once.
        history.give_back("again", By::daemon(None), 1);
        let told: Vec<_> = history
            .entries()
            .map(|entry| (entry.number, entry.how, entry.to, entry.trial.clone()))
            .collect();
        let given_back = Some(Trial::GivenBack("not confirmed".to_owned()));
        assert_eq!(
            told,
            [
                (1, How::Apply, None, None),
                (2, How::Apply, None, given_back),
                (3, How::Return, Some(1), None),
            ]
        );
        assert_eq!(
            history.get(3).map(|entry| &entry.sha256),
            history.get(1).map(|entry| &entry.sha256)
        );
    }

    #[test]
    fn the_oldest_entries_go_with_texts_that_nothing_else_needs() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut history = history(folder.path());
        for port in 1..=KEEP + 5 {
            enter(
                &mut history,
                &text(if port % 2 == 0 { 2_000 } else { port }),
                false,
            );
        }
        assert_eq!(history.entries.len(), KEEP);
        assert_eq!(history.entries[0].number, 6);
        assert_eq!(history.store.load(Kind::History).len(), KEEP);
        // Half of them share one text.
        assert_eq!(history.store.load(Kind::Text).len(), KEEP / 2 + 1);
        // Texts are bounded, too.
        history.texts = 100_000;
        for size in [40_000, 41_000, 42_000] {
            let large = format!("{}#{}", text(9), "x".repeat(size));
            enter(&mut history, &large, false);
        }
        assert_eq!(history.entries.len(), 2);
        assert_eq!(history.store.load(Kind::Text).len(), 2);
    }
}
