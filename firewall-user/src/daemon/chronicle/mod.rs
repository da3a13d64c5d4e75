//! What outlives the daemon of alerts and incidents: their journal, and slices of their traffic. Written
//! by a thread of its own, as a disk may stall and the round that looks for attacks must not.

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
use journal::Journal;
use slices::Slices;

/// Notes that may wait for a slow disk; what comes on top is left out and counted.
const WAITING: usize = 4096;

/// Hands notes to the thread that writes them.
#[derive(Debug)]
pub struct Chronicle {
    notes: Option<SyncSender<Note>>,
    thread: Option<JoinHandle<()>>,
    folder: PathBuf,
    left_out: u64,
}

/// Something to be written.
#[derive(Debug)]
enum Note {
    Alert(Box<Alert>),
    Incident(Box<Incident>),
    /// Packets of an incident.
    Frames(u64, Vec<Frame>),
}

impl Chronicle {
    /// Reads what an earlier daemon told, and starts the thread.
    pub fn open(state_dir: &Path, settings: EvidenceSettings) -> anyhow::Result<(Self, Told)> {
        let (journal, told) = Journal::open(state_dir)?;
        let folder = state_dir.join(slices::FOLDER);
        let slices = Slices::open(&folder, settings)?;
        let (notes, waiting) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("chronicle".to_owned())
            .spawn(move || write_all(&waiting, journal, slices))
            .context("the thread that writes the chronicle cannot be started")?;
        let chronicle = Self {
            notes: Some(notes),
            thread: Some(thread),
            folder,
            left_out: 0,
        };
        Ok((chronicle, told))
    }

    /// Keeps an alert as it is now.
    pub fn note_alert(&mut self, alert: &Alert) {
        self.send(Note::Alert(Box::new(alert.clone())));
    }

    /// Keeps an incident as it is now.
    pub fn note_incident(&mut self, incident: &Incident) {
        self.send(Note::Incident(Box::new(incident.clone())));
    }

    /// Adds packets to the slice of an incident.
    pub fn note_frames(&mut self, incident: u64, frames: Vec<Frame>) {
        if !frames.is_empty() {
            self.send(Note::Frames(incident, frames));
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
                    warn!("the disk is too slow: alerts and their packets are not kept meanwhile");
                }
            }
            Err(TrySendError::Disconnected(_)) => {
                error!("the thread that keeps alerts has ended; they are kept in memory only");
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

/// Writes notes until nobody sends any more. What fails is said once, until it goes well again.
fn write_all(notes: &Receiver<Note>, mut journal: Journal, mut slices: Slices) {
    let mut failing = false;
    while let Ok(note) = notes.recv() {
        let wrote = match note {
            Note::Alert(alert) => journal.alert(&alert),
            Note::Incident(incident) => journal.incident(&incident),
            Note::Frames(incident, frames) => slices.add(incident, &frames),
        };
        match wrote {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                error!("what is known of alerts is not kept: {error:#}");
            }
            Err(_) => {}
        }
    }
}
