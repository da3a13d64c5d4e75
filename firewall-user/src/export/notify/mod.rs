//! Tells other systems of alerts as they come: Alertmanager, webhooks, the journal, programs. Each notifier follows the
//! alerts by itself and at its own pace, so that none holds up another, and none the rounds.

mod alertmanager;
mod backoff;
mod channel;
mod http;
mod journald;
mod notice;
mod notifier;
mod program;
mod queue;
mod secret;
mod settings;
mod tell;
mod template;
mod webhook;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;

pub use notifier::{Notifier, Way};
pub use settings::{NotifyDocument, NotifySettings, check};

use crate::detect::Alert;

/// Where queues are, in the state folder.
const FOLDER: &str = "notify";

/// What came of telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The peer took it; what it said.
    Done(String),
    /// Not now.
    Again {
        why: String,
        /// The peer asked for this wait.
        after: Option<Duration>,
    },
    /// The peer will never take this one.
    Refused(String),
}

impl Delivery {
    fn again(why: String) -> Self {
        Self::Again { why, after: None }
    }
}

/// All notifiers of the settings.
#[derive(Clone, Debug, Default)]
pub struct Notifiers {
    all: Vec<Arc<Notifier>>,
}

impl Notifiers {
    /// Reads secrets, certificates and templates, and starts the processes that run programs: while the daemon
    /// is not confined yet, has no other thread and no file open. A notifier that lacks something is there and
    /// says so: the fence must not stay down for want of a pager.
    pub fn open_ways(settings: &[NotifySettings]) -> Vec<Way> {
        settings.iter().map(Way::open).collect()
    }

    /// Takes up what waits in queues.
    pub fn prepare(settings: &[NotifySettings], ways: Vec<Way>, state_dir: &Path) -> Self {
        let folder = state_dir.join(FOLDER);
        let all = settings.iter().zip(ways);
        Self {
            all: all
                .map(|(settings, way)| Arc::new(Notifier::prepare(settings, way, &folder)))
                .collect(),
        }
    }

    /// Follows the alerts from now on; needs a runtime.
    pub fn start(&self, changes: &Receiver<Alert>) {
        for notifier in &self.all {
            tell::start(notifier, changes.resubscribe());
        }
    }

    /// How each stands.
    pub fn documents(&self) -> Vec<NotifierDocument> {
        self.all
            .iter()
            .map(|notifier| notifier.document())
            .collect()
    }

    /// One by its name, or all.
    pub fn named(&self, name: Option<&str>) -> Vec<Arc<Notifier>> {
        let wanted = |notifier: &&Arc<Notifier>| name.is_none_or(|name| notifier.name == name);
        self.all.iter().filter(wanted).cloned().collect()
    }
}

/// How a notifier stands. No secret is in it: of addresses only scheme, host and port.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NotifierDocument {
    pub name: String,
    pub kind: String,
    /// Whom it tells.
    pub peer: String,
    /// What waits.
    pub queued: usize,
    /// What arrived.
    pub delivered: u64,
    /// Attempts that failed and are made again.
    pub failed: u64,
    /// What the peer would not take.
    pub refused: u64,
    /// What was given up for want of room.
    pub dropped: u64,
    pub last_delivered: Option<Timestamp>,
    /// What is wrong; null if nothing is.
    pub trouble: Option<String>,
}

/// What came of a test.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TestDocument {
    pub name: String,
    pub kind: String,
    pub arrived: bool,
    /// What the peer said, or why nothing arrived.
    pub answer: String,
}
