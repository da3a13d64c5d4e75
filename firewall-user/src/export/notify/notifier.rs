//! One notifier: its way to the peer, what waits for it, and how it has gone so far.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::channel::Channel;
use super::notice::{Notice, Open};
use super::queue::Queue;
use super::settings::{Filter, NotifySettings};
use super::{Delivery, NotifierDocument, TestDocument};
use crate::detect::Time;

/// The file in which open alerts are kept, beside the queue.
const OPEN: &str = "open.json";

/// The way to a peer, opened before there is anything else of a notifier.
#[derive(Debug)]
pub struct Way {
    instance: String,
    channel: Result<Channel, String>,
}

impl Way {
    pub(super) fn open(settings: &NotifySettings) -> Self {
        let instance = settings.instance.clone().unwrap_or_else(host_name);
        Self {
            channel: Channel::open(settings, &instance),
            instance,
        }
    }
}

#[derive(Debug)]
pub struct Notifier {
    pub name: String,
    pub(super) filter: Filter,
    pub(super) retry_at_most: Duration,
    pub(super) instance: String,
    /// Why there is no way, if there is none.
    pub(super) channel: Result<Channel, String>,
    pub(super) queue: Mutex<Queue>,
    pub(super) open: Mutex<Open>,
    /// For whoever takes from the queue.
    pub(super) wake: Notify,
    /// Changes that a peer that is told states does not know yet.
    pub(super) untold: AtomicUsize,
    open_file: std::path::PathBuf,
    kind: &'static str,
    counts: Counts,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    last_delivered: Option<Timestamp>,
    trouble: Option<String>,
}

impl Notifier {
    pub(super) fn prepare(settings: &NotifySettings, way: Way, folder: &Path) -> Self {
        let name = settings.name.as_str();
        let Way { instance, channel } = way;
        match &channel {
            Ok(channel) => {
                if let Some(caution) = channel.caution() {
                    warn!(notifier = name, "{caution}");
                }
            }
            Err(why) => error!(notifier = name, "nobody is told: {why}"),
        }
        let folder = folder.join(name);
        let mut trouble = None;
        let (queue, lost) = Queue::open(&folder, settings.queue).unwrap_or_else(|error| {
            let why = format!("{} cannot be used: {error}", folder.display());
            error!(notifier = name, "what waits is kept in memory only: {why}");
            trouble = Some(why);
            (Queue::in_memory(&folder, settings.queue), 0)
        });
        if lost > 0 {
            warn!(notifier = name, lost, "notifications that waited are lost");
        }
        if queue.len() > 0 {
            info!(notifier = name, queued = queue.len(), "notifications wait");
        }
        let open_file = folder.join(OPEN);
        let open = std::fs::read(&open_file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            name: settings.name.clone(),
            filter: settings.filter.clone(),
            retry_at_most: settings.retry_at_most,
            instance,
            state: Mutex::new(State {
                last_delivered: None,
                trouble: channel.as_ref().err().cloned().or(trouble),
            }),
            channel,
            queue: Mutex::new(queue),
            open: Mutex::new(open.unwrap_or_default()),
            open_file,
            wake: Notify::new(),
            untold: AtomicUsize::new(0),
            kind: settings.way.name(),
            counts: Counts {
                dropped: AtomicU64::new(lost),
                ..Counts::default()
            },
        }
    }

    /// Sends a test past the queue, and says what came of it.
    pub async fn test(&self) -> TestDocument {
        let (arrived, answer) = match &self.channel {
            Err(why) => (false, why.clone()),
            Ok(channel) => {
                let notice = Notice::test(&self.instance, now());
                match channel.deliver(&notice).await {
                    Delivery::Done(answer) => (true, answer),
                    Delivery::Again { why, .. } | Delivery::Refused(why) => (false, why),
                }
            }
        };
        TestDocument {
            name: self.name.clone(),
            kind: self.kind.to_owned(),
            arrived,
            answer,
        }
    }

    /// Counts what came of telling `number` things, and says so where that is news.
    pub(super) fn note(&self, delivery: &Delivery, number: u64) {
        let mut state = lock(&self.state);
        match delivery {
            Delivery::Done(_) => {
                self.counts.delivered.fetch_add(number, Ordering::Relaxed);
                state.last_delivered = Some(Timestamp::now());
                if state.trouble.take().is_some() {
                    info!(notifier = self.name, "notifications arrive again");
                }
            }
            Delivery::Again { why, .. } => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                if state.trouble.is_none() {
                    warn!(notifier = self.name, "notifications wait: {why}");
                }
                state.trouble = Some(why.clone());
            }
            Delivery::Refused(why) => {
                self.counts.refused.fetch_add(number, Ordering::Relaxed);
                warn!(notifier = self.name, "a notification is given up: {why}");
                state.trouble = Some(why.clone());
            }
        }
    }

    pub(super) fn dropped(&self, number: u64, why: &str) {
        if number > 0 {
            self.counts.dropped.fetch_add(number, Ordering::Relaxed);
            warn!(
                notifier = self.name,
                number, "notifications are lost: {why}"
            );
        }
    }

    /// Keeps on disk which alerts were told to fire. What cannot be kept is not told to be over by the next daemon.
    pub(super) fn keep_open(&self) {
        let text = serde_json::to_vec(&*lock(&self.open)).unwrap_or_default();
        let new = self.open_file.with_extension("json.new");
        let written =
            std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &self.open_file));
        if let Err(error) = written {
            warn!(
                notifier = self.name,
                "{} is not kept: {error}",
                self.open_file.display()
            );
        }
    }

    pub(super) fn document(&self) -> NotifierDocument {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let queued = lock(&self.queue).len() + self.untold.load(Ordering::Relaxed);
        let state = lock(&self.state);
        NotifierDocument {
            name: self.name.clone(),
            kind: self.kind.to_owned(),
            peer: match &self.channel {
                Ok(channel) => channel.peer(),
                Err(_) => "nobody".to_owned(),
            },
            queued,
            delivered: count(&self.counts.delivered),
            failed: count(&self.counts.failed),
            refused: count(&self.counts.refused),
            dropped: count(&self.counts.dropped),
            last_delivered: state.last_delivered,
            trouble: state.trouble.clone(),
        }
    }
}

/// What is under these locks is whole after each statement, so a panic elsewhere spoils nothing.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn now() -> Time {
    Time::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default()
}

fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
