//! The handle that the parts of the daemon hold: they hand changes over and go on.

use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::watch;

use super::database::Changes;
use super::migrate;
use super::row::Kind;
use super::writer::{WHAT, Writer};
use super::{FILE, Health};

/// Work of the thread's own that needs the file.
pub(super) type Job = Box<dyn FnOnce(&mut Writer) + Send>;

/// What may wait is written together with what comes within this time.
const SOON: Duration = Duration::from_millis(250);
/// What an earlier version left is written a while after the start: the fence comes first.
const TAKEN_OVER: Duration = Duration::from_secs(5);
/// How long an answer waits for the disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// What outlives the daemon. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What the handles and the thread share.
#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// Something was added to the queue.
    pub(super) wake: Condvar,
    pub(super) health: Health,
    /// Number of the change up to which all was written, or tried.
    pub(super) tried: watch::Sender<u64>,
}

/// What waits for the thread.
#[derive(Default)]
pub(super) struct Queue {
    /// The latest of each key.
    pub(super) changes: Changes,
    /// When the thread should begin to write; set while something waits.
    pub(super) due: Option<Instant>,
    /// Number of the latest change.
    pub(super) number: u64,
    pub(super) jobs: Vec<Job>,
    pub(super) closing: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Queue")
            .field("changes", &self.changes.len())
            .field("jobs", &self.jobs.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        // Each change is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Opens the store of a state folder. What is in the way (a full disk, a damaged file) is told in the log and in
    /// [`Health`], and no reason to stay down. What an earlier version left in files of its own is taken over.
    pub fn open(state_dir: &Path, health: Health) -> anyhow::Result<Self> {
        let imported = migrate::read(state_dir, &health);
        let mut changes = Changes::new();
        changes.extend(
            imported
                .rows
                .into_iter()
                .map(|(key, value)| (key, Some(value))),
        );
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                number: u64::from(!changes.is_empty()),
                due: Some(Instant::now() + TAKEN_OVER).filter(|_| !changes.is_empty()),
                changes,
                ..Queue::default()
            }),
            wake: Condvar::new(),
            health,
            tried: watch::Sender::new(0),
        });
        let path: PathBuf = state_dir.join(FILE);
        let mut writer = Writer::new(path, shared.clone(), imported.files);
        let thread = std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || writer.run())
            .context("the thread that keeps the state cannot be started")?;
        Ok(Self {
            shared,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// Keeps a value under a key; the number is for [`Self::tried`].
    pub fn put(&self, kind: Kind, key: &str, value: Vec<u8>) -> u64 {
        self.change([(kind, key.to_owned(), Some(value))])
    }

    /// Keeps what can be written as JSON.
    pub fn put_json(&self, kind: Kind, key: &str, value: &impl serde::Serialize) -> u64 {
        match serde_json::to_vec(value) {
            Ok(text) => self.put(kind, key, text),
            Err(error) => {
                tracing::error!(kind = kind.name(), key, "not kept: {error}");
                *self.shared.tried.borrow()
            }
        }
    }

    /// Keeps and removes rows, all or none of them.
    pub fn change(&self, rows: impl IntoIterator<Item = (Kind, String, Option<Vec<u8>>)>) -> u64 {
        let mut queue = self.shared.queue();
        let rows = rows.into_iter();
        queue
            .changes
            .extend(rows.map(|(kind, key, value)| ((kind, key), value)));
        queue.number += 1;
        queue.due = Some(Instant::now());
        self.shared.wake.notify_one();
        queue.number
    }

    /// As [`Self::put_json`], together with what else comes within a moment: for what changes often and may be lost with
    /// a daemon that is killed.
    pub fn put_soon(&self, kind: Kind, key: &str, value: &impl serde::Serialize) {
        match serde_json::to_vec(value) {
            Ok(text) => self.change_soon([(kind, key.to_owned(), Some(text))]),
            Err(error) => tracing::error!(kind = kind.name(), key, "not kept: {error}"),
        }
    }

    /// As [`Self::change`], soon.
    pub fn change_soon(&self, rows: impl IntoIterator<Item = (Kind, String, Option<Vec<u8>>)>) {
        let mut queue = self.shared.queue();
        let rows = rows.into_iter();
        queue
            .changes
            .extend(rows.map(|(kind, key, value)| ((kind, key), value)));
        queue.number += 1;
        if queue.due.is_none() {
            queue.due = Some(Instant::now() + SOON);
            self.shared.wake.notify_one();
        }
    }

    /// All rows of a kind in the order of their keys, with what waits to be written.
    pub fn load(&self, kind: Kind) -> Vec<(String, Vec<u8>)> {
        self.call(move |writer| writer.load(kind))
            .unwrap_or_default()
    }

    /// One row.
    pub fn get(&self, kind: Kind, key: &str) -> Option<Vec<u8>> {
        let key = key.to_owned();
        self.call(move |writer| writer.get(kind, key)).flatten()
    }

    /// A part of the daemon that is kept as a whole. One that makes no sense is kept under another name, for people.
    pub fn part<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        let text = self.get(Kind::Part, name)?;
        match serde_json::from_slice(&text) {
            Ok(part) => Some(part),
            Err(error) => {
                self.not_understood(name, text, &error.to_string());
                None
            }
        }
    }

    /// Puts a part away that its owner does not understand.
    pub fn not_understood(&self, name: &str, text: Vec<u8>, why: &str) {
        let aside = format!("{name}.not-understood");
        self.shared.health.set_aside(format!(
            "what was kept of {name} is not understood ({why}): it begins anew, and the row is kept as {aside}"
        ));
        self.change([
            (Kind::Part, aside, Some(text)),
            (Kind::Part, name.to_owned(), None),
        ]);
    }

    /// Waits until all that was changed up to now is on the disk, or was at least tried; not for ever, as a disk that
    /// hangs must not hold up an answer.
    pub async fn settle(&self) {
        let number = self.shared.queue().number;
        let mut tried = self.shared.tried.subscribe();
        let settled = tried.wait_for(|tried| *tried >= number);
        // Too late or never: the log says so.
        let _ = tokio::time::timeout(PATIENCE, settled).await;
    }

    /// The same for a thread that may wait.
    pub fn flush(&self) {
        // A thread that has ended has told so.
        let _ = self.call(Writer::write);
    }

    pub fn health(&self) -> &Health {
        &self.shared.health
    }

    /// Writes what waits, as far as the disk takes it, and ends the thread.
    pub fn close(&self) {
        self.shared.queue().closing = true;
        self.shared.wake.notify_one();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // It panicked: what it wrote up to then stands.
            let _ = thread.join();
        }
    }

    /// Has the thread do something and waits for it; `None` if the thread has ended.
    fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Writer) -> R + Send + 'static,
    ) -> Option<R> {
        let (reply, result) = sync_channel(1);
        {
            let mut queue = self.shared.queue();
            if queue.closing {
                return None;
            }
            queue.jobs.push(Box::new(move |writer| {
                // Whoever asked waits right behind.
                let _ = reply.send(job(writer));
            }));
            self.shared.wake.notify_one();
        }
        let result = result.recv().ok();
        if result.is_none() {
            let why = "its thread has ended: restart the daemon";
            self.shared.health.fails(WHAT, why);
        }
        result
    }
}
