//! The thread that owns the file: writes what waits, several changes in one transaction, and tries again
//! what the disk does not take.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tracing::info;

use super::database::{Database, Found, Unusable, set_aside};
use super::migrate;
use super::row::{Key, Kind};
use super::store::Shared;

/// Pause before what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// What the faults of the file are told under.
pub(super) const WHAT: &str = "the state";

/// The thread's own.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    shared: Arc<Shared>,
    database: Option<Database>,
    /// When the disk did not take what was to be written.
    failed: Option<Instant>,
    /// Files of an earlier version that go aside once what they held is written.
    imported: Vec<PathBuf>,
}

impl Writer {
    pub fn new(path: PathBuf, shared: Arc<Shared>, imported: Vec<PathBuf>) -> Self {
        Self {
            path,
            shared,
            database: None,
            failed: None,
            imported,
        }
    }

    /// Works until the store is closed.
    pub fn run(&mut self) {
        loop {
            let mut queue = self.shared.queue();
            let closing = loop {
                let due = queue.due.max(self.failed.map(|when| when + RETRY));
                let waits = due.map(|due| due.saturating_duration_since(Instant::now()));
                if queue.closing || !queue.jobs.is_empty() || waits == Some(Duration::ZERO) {
                    break queue.closing;
                }
                queue = match waits {
                    None => {
                        let waited = self.shared.wake.wait(queue);
                        waited.unwrap_or_else(PoisonError::into_inner)
                    }
                    Some(waits) => {
                        let waited = self.shared.wake.wait_timeout(queue, waits);
                        waited.unwrap_or_else(PoisonError::into_inner).0
                    }
                };
            };
            let jobs = std::mem::take(&mut queue.jobs);
            drop(queue);
            // Whoever waits goes first.
            for job in jobs {
                job(self);
            }
            self.write_if_due(closing);
            if closing {
                return;
            }
        }
    }

    fn write_if_due(&mut self, closing: bool) {
        let due = self.shared.queue().due;
        let due = due.max(self.failed.map(|when| when + RETRY));
        if closing || due.is_some_and(|due| due <= Instant::now()) {
            self.write();
        }
    }

    /// Writes what waits.
    pub fn write(&mut self) {
        let (changes, number) = {
            let mut queue = self.shared.queue();
            queue.due = None;
            (std::mem::take(&mut queue.changes), queue.number)
        };
        if changes.is_empty() {
            self.failed = None;
            return;
        }
        let mut wrote = self.opened().map(|database| database.write(&changes));
        if let Ok(Err(Unusable::Damaged(why))) = &wrote {
            let why = why.clone();
            wrote = self
                .begin_anew(&why)
                .map(|database| database.write(&changes));
        }
        let wrote = match wrote {
            Ok(wrote) => wrote.map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        match wrote {
            Ok(()) => {
                self.failed = None;
                self.shared.health.works(WHAT);
                migrate::put_aside(&std::mem::take(&mut self.imported), &self.shared.health);
            }
            Err(why) => {
                self.failed = Some(Instant::now());
                self.shared.health.fails(WHAT, &why);
                self.put_back(changes);
            }
        }
        self.shared.tried.send_replace(number);
    }

    /// Has changes wait again, unless newer ones of the same key do.
    fn put_back(&self, changes: BTreeMap<Key, Option<Vec<u8>>>) {
        let mut queue = self.shared.queue();
        queue.due = Some(Instant::now());
        for (key, value) in changes {
            queue.changes.entry(key).or_insert(value);
        }
    }

    /// The file, opened if it is not yet.
    fn opened(&mut self) -> Result<&mut Database, String> {
        if self.database.is_none() {
            match Database::open(&self.path) {
                Ok(database) => self.database = Some(database),
                Err(Unusable::Now(why)) => return Err(why),
                Err(Unusable::Newer(version)) => {
                    let aside =
                        set_aside(&self.path, "newer").map_err(|error| error.to_string())?;
                    self.shared.health.set_aside(format!(
                        "{} was written by a later version (format {version}) and was set aside as {}: the state \
                         begins anew; with that version, put it back",
                        self.path.display(),
                        aside.display()
                    ));
                    return self.open_new();
                }
                Err(Unusable::Damaged(why)) => return self.begin_anew(&why),
            }
        }
        self.database
            .as_mut()
            .ok_or_else(|| "it is not open".to_owned())
    }

    fn open_new(&mut self) -> Result<&mut Database, String> {
        let database = Database::open(&self.path).map_err(|error| error.to_string())?;
        Ok(self.database.insert(database))
    }

    /// Sets a damaged file aside; what can still be read of it waits to be written into a new one.
    fn begin_anew(&mut self, why: &str) -> Result<&mut Database, String> {
        self.database = None;
        let aside = set_aside(&self.path, "damaged").map_err(|error| {
            format!(
                "{} is damaged and cannot be set aside: {error}",
                self.path.display()
            )
        })?;
        let Found { rows, damaged } = Database::salvage(&aside);
        let mut left_out = String::new();
        if damaged > 0 {
            left_out = format!(", {damaged} rows are damaged");
        }
        self.shared.health.set_aside(format!(
            "{} is damaged ({why}) and was set aside as {}: {} rows of it go on{left_out}",
            self.path.display(),
            aside.display(),
            rows.len()
        ));
        let rows = rows.into_iter().map(|(key, value)| (key, Some(value)));
        self.put_back(rows.collect());
        // Soon, whatever failed before.
        self.failed = None;
        self.open_new()
    }

    /// All rows of a kind, with what waits to be written.
    pub fn load(&mut self, kind: Kind) -> Vec<(String, Vec<u8>)> {
        let found = self.read(|database| database.load(kind));
        let mut rows: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        rows.extend(found.rows.into_iter().map(|((_, key), value)| (key, value)));
        for ((of, key), value) in &self.shared.queue().changes {
            match value {
                _ if *of != kind => {}
                Some(value) => {
                    rows.insert(key.clone(), value.clone());
                }
                None => {
                    rows.remove(key);
                }
            }
        }
        rows.into_iter().collect()
    }

    /// One row, with what waits to be written.
    pub fn get(&mut self, kind: Kind, key: String) -> Option<Vec<u8>> {
        let of = (kind, key);
        if let Some(waiting) = self.shared.queue().changes.get(&of) {
            return waiting.clone();
        }
        let found = self.read(|database| database.get(kind, &of.1));
        let row = found.rows.into_iter().next();
        row.map(|(_, value)| value)
    }

    /// Reads; a file in which something is damaged is set aside first.
    fn read(&mut self, read: impl Fn(&mut Database) -> Result<Found, Unusable>) -> Found {
        for _ in 0..2 {
            let found = match self.opened().map(&read) {
                Ok(Ok(found)) if found.damaged == 0 => return found,
                Ok(Ok(found)) => Unusable::Damaged(format!("{} rows changed", found.damaged)),
                Ok(Err(error)) => error,
                Err(why) => Unusable::Now(why),
            };
            let why = match found {
                Unusable::Damaged(why) => match self.begin_anew(&why) {
                    // What was saved waits to be written, and is found there.
                    Ok(_) => return Found::default(),
                    Err(why) => why,
                },
                other => other.to_string(),
            };
            self.shared.health.fails(WHAT, &why);
        }
        info!("the state cannot be read: it begins anew in memory");
        Found::default()
    }
}
