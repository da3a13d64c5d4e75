//! What outlives the daemon of alerts and incidents: themselves, in the state, and slices of their traffic. Those are
//! written by a thread of its own, as a disk may stall and the round that looks for attacks must not.

mod journal;
mod slices;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context;
use tracing::{error, warn};

pub use journal::Told;
pub use slices::EvidenceSettings;

use crate::detect::{Alert, Frame, Incident};
use crate::state::{Health, Store};
use journal::Journal;
use slices::Slices;

/// Packets of so many moments may wait for a slow disk; what comes on top is left out and counted.
const WAITING: usize = 4096;
/// What faults of the slices are told under.
const WHAT: &str = "packets of incidents";

/// Keeps alerts and incidents, and hands their packets to the thread that writes them.
#[derive(Debug)]
pub struct Chronicle {
    journal: Journal,
    notes: Option<SyncSender<Note>>,
    thread: Option<JoinHandle<()>>,
    folder: PathBuf,
    left_out: u64,
}

/// Packets of an incident.
type Note = (u64, Vec<Frame>);

impl Chronicle {
    /// Reads what an earlier daemon told, and starts the thread.
    pub fn open(
        store: Store,
        state_dir: &Path,
        settings: EvidenceSettings,
    ) -> anyhow::Result<(Self, Told)> {
        let health = store.health().clone();
        let (journal, told) = Journal::open(store);
        let folder = state_dir.join(slices::FOLDER);
        let slices = Slices::open(&folder, settings);
        let (notes, waiting) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("chronicle".to_owned())
            .spawn(move || write_all(&waiting, slices, &health))
            .context("the thread that writes the chronicle cannot be started")?;
        let chronicle = Self {
            journal,
            notes: Some(notes),
            thread: Some(thread),
            folder,
            left_out: 0,
        };
        Ok((chronicle, told))
    }

    /// Keeps an alert as it is now.
    pub fn note_alert(&mut self, alert: &Alert) {
        self.journal.alert(alert);
    }

    /// Keeps an incident as it is now.
    pub fn note_incident(&mut self, incident: &Incident) {
        self.journal.incident(incident);
    }

    /// Adds packets to the slice of an incident.
    pub fn note_frames(&mut self, incident: u64, frames: Vec<Frame>) {
        if !frames.is_empty() {
            self.send((incident, frames));
        }
    }

    /// The file with an incident's packets, if there is one.
    pub fn slice(&self, incident: u64) -> Option<PathBuf> {
        let path = slices::path(&self.folder, incident);
        path.exists().then_some(path)
    }

    fn send(&mut self, note: Note) {
        let Some(notes) = &self.notes else { return };
        match notes.try_send(note) {
            Ok(()) => self.left_out = 0,
            Err(TrySendError::Full(_)) => {
                self.left_out += 1;
                if self.left_out == 1 {
                    warn!("the disk is too slow: packets of incidents are not kept meanwhile");
                }
            }
            Err(TrySendError::Disconnected(_)) => {
                error!("the thread that keeps packets of incidents has ended");
                self.notes = None;
            }
        }
    }
}

impl Chronicle {
    /// Waits until all is written; nothing more is.
    pub fn close(&mut self) {
        self.notes = None;
        if let Some(thread) = self.thread.take() {
            // It panicked: what it wrote up to then stands.
            let _ = thread.join();
        }
    }
}

/// Writes packets until nobody sends any more.
fn write_all(notes: &Receiver<Note>, mut slices: Slices, health: &Health) {
    while let Ok((incident, frames)) = notes.recv() {
        match slices.add(incident, &frames) {
            Ok(()) => health.works(WHAT),
            Err(error) => health.fails(WHAT, &format!("{error:#}")),
        }
    }
}
