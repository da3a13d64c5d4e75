//! Whether what should outlive the daemon is on the disk, for `status`, metrics and whoever is told of faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{error, info};

/// Files that were set aside and are named; more are only counted.
const NAMED: usize = 20;

/// What goes well and what does not; shared by all that write to the state folder.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    faults: BTreeMap<&'static str, Fault>,
    errors: u64,
    set_aside: Vec<String>,
    damaged: u64,
}

#[derive(Clone, Debug)]
struct Fault {
    why: String,
    since: Timestamp,
}

/// As it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// Nothing waits for a disk that does not take it.
    pub healthy: bool,
    /// Attempts to write that failed since the daemon started.
    pub errors: u64,
    /// What cannot be written now: what it is, why, and since when.
    pub faults: Vec<String>,
    /// Damaged files that were set aside since the daemon started, and what became of what they held.
    pub set_aside: Vec<String>,
    /// How many there were.
    pub damaged: u64,
}

impl Health {
    /// Something cannot be written. Told once, until it can be again.
    pub fn fails(&self, what: &'static str, why: &str) {
        let mut state = self.lock();
        state.errors += 1;
        let known = state.faults.get(what);
        if known.is_none() {
            error!("{what} cannot be written and will not survive a restart: {why}; trying again");
        }
        let since = known.map_or_else(Timestamp::now, |fault| fault.since);
        let why = why.to_owned();
        state.faults.insert(what, Fault { why, since });
    }

    /// Something was written.
    pub fn works(&self, what: &'static str) {
        if let Some(fault) = self.lock().faults.remove(what) {
            info!("{what} can be written again, after {}", fault.why);
        }
    }

    /// A damaged file was set aside.
    pub fn set_aside(&self, what: String) {
        error!("{what}");
        let mut state = self.lock();
        state.damaged += 1;
        if state.set_aside.len() < NAMED {
            state.set_aside.push(what);
        }
    }

    pub fn report(&self) -> HealthReport {
        let state = self.lock();
        let told = |(what, fault): (&&str, &Fault)| {
            format!("{what}: {} (since {:.0})", fault.why, fault.since)
        };
        HealthReport {
            healthy: state.faults.is_empty(),
            errors: state.errors,
            faults: state.faults.iter().map(told).collect(),
            set_aside: state.set_aside.clone(),
            damaged: state.damaged,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
