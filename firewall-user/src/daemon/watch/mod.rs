//! Those who watch packets as they are sampled. Each has a filter and a bounded queue: one that reads too
//! slowly loses samples and is told how many, and holds up neither the fence nor the others.

mod filter;
mod queue;
#[cfg(test)]
mod tests;

pub use filter::{Filter, protocol, reason};
pub use queue::Watching;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::documents::EventDocument;
use crate::detect::Sighting;

/// Most that may watch at once.
pub const MOST: usize = 16;
/// Samples that wait for a slow reader, some 500 bytes each.
const WAITING: usize = 4_096;

/// Too many watch already.
#[derive(Debug, thiserror::Error)]
#[error("{MOST} watch already, which is the most: end one of them")]
pub struct TooMany;

/// All who watch, shared between the fence thread that shows and the connections that read.
#[derive(Clone, Debug, Default)]
pub struct Watchers {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    watchers: Vec<Watcher>,
    /// What the kernel had lost in all when it was read last; `None` while nobody watched.
    lost_before: Option<u64>,
}

#[derive(Debug)]
struct Watcher {
    filter: Filter,
    queue: mpsc::Sender<Arc<Watched>>,
    lost: Arc<Lost>,
}

/// A sample with its names, as it is shared among those who watch.
#[derive(Debug)]
struct Watched {
    event: EventDocument,
    sighting: Sighting,
}

/// What did not reach a reader since it was told last.
#[derive(Debug, Default)]
struct Lost {
    samples: AtomicU64,
    packets: AtomicU64,
    in_kernel: AtomicU64,
}

impl Watchers {
    /// Begins to watch; ends when what it gives is dropped.
    pub fn open(&self, filter: Filter, frames: bool) -> Result<Watching, TooMany> {
        let mut inner = self.inner();
        inner.forget_gone();
        if inner.watchers.len() >= MOST {
            return Err(TooMany);
        }
        let (queue, samples) = mpsc::channel(WAITING);
        let lost = Arc::new(Lost::default());
        inner.watchers.push(Watcher {
            filter,
            queue,
            lost: lost.clone(),
        });
        Ok(Watching::new(samples, lost, frames))
    }

    /// Whether nobody watches.
    pub fn is_empty(&self) -> bool {
        let mut inner = self.inner();
        inner.forget_gone();
        if inner.watchers.is_empty() {
            inner.lost_before = None;
        }
        inner.watchers.is_empty()
    }

    /// Hands samples to those who ask for them. `lost` is what the kernel has lost in all, if it is known.
    pub fn show(
        &self,
        sightings: &[Sighting],
        lost: Option<u64>,
        name: impl Fn(&Sighting) -> EventDocument,
    ) {
        let inner = &mut *self.inner();
        if let Some(now) = lost {
            let before = inner.lost_before.replace(now).unwrap_or(now);
            for watcher in &inner.watchers {
                let more = now.saturating_sub(before);
                watcher.lost.in_kernel.fetch_add(more, Ordering::Relaxed);
            }
        }
        for sighting in sightings {
            let mut named: Option<Arc<Watched>> = None;
            for watcher in &inner.watchers {
                if !watcher.filter.wants(sighting) {
                    continue;
                }
                let watched = named.get_or_insert_with(|| {
                    Arc::new(Watched {
                        event: name(sighting),
                        sighting: *sighting,
                    })
                });
                if watcher.filter.wants_named(&watched.event) {
                    watcher.offer(watched.clone());
                }
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves the list as whole as it was.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget_gone(&mut self) {
        self.watchers.retain(|watcher| !watcher.queue.is_closed());
    }
}

impl Watcher {
    fn offer(&self, watched: Arc<Watched>) {
        let packets = watched.sighting.packets;
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(watched) {
            self.lost.samples.fetch_add(1, Ordering::Relaxed);
            self.lost.packets.fetch_add(packets, Ordering::Relaxed);
        }
    }
}
