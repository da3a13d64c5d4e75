//! Looks after the bans: in the kernel at once, in the file soon after. Shared rather than owned by
//! the fence thread, since a ban must not wait for a policy that is being loaded.

mod automatic;

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::documents::{BanCounts, BanDocument, BanRequest, Bans};
use super::failure::Failure;
use crate::datapath::BanTable;
use crate::detect::{SourceSample, Subject};
use crate::policy::address::parse_prefix;
use crate::respond::{
    BanBook, BanDuration, BanFile, BanRecord, Breaker, Change, Loaded, Measure, Origin, PacketRate,
    Past, check_ban,
};

/// Longest reason that is kept, in characters.
const LONGEST_REASON: usize = 500;
/// How long an answer waits for the file: a ban is in force before that.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before a file that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// The bans in force, their book and their file.
#[derive(Debug)]
pub struct Warden {
    state: Mutex<State>,
    file: BanFile,
    folder: PathBuf,
    /// Number of the latest change.
    changed: watch::Sender<u64>,
    /// Number of the change up to which the file is right, or was at least tried.
    saved: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    table: BanTable,
    book: BanBook,
    /// `protect.never_block` of the policy in force.
    protected: Vec<IpNet>,
    /// Changes of the book that are not in the file yet.
    unsaved: Vec<Change>,
    /// What those may send that are held to the automatic limit.
    limit: PacketRate,
    past: Past,
    /// The past is not in its file yet.
    past_changed: bool,
    breaker: Breaker,
}

/// Bans that are listed at a time, so that a new one need not wait for a long list.
const LISTED_AT_ONCE: usize = 1_000;

impl Warden {
    /// Brings the file and the kernel's table together: what the file has is put in force for what is
    /// left of it; what only the kernel has (the file was lost) goes on and is written down.
    pub fn restore(table: BanTable, file: BanFile, protected: Vec<IpNet>) -> anyhow::Result<Self> {
        let mut book = match file.load()? {
            Loaded::Bans(book) => book,
            Loaded::Corrupt { set_aside, error } => {
                error!(
                    file = %file.path().display(),
                    set_aside = %set_aside.display(),
                    "the bans of the last run cannot be read and were set aside: {error}"
                );
                BanBook::default()
            }
        };
        let folder = file.path().parent().unwrap_or(Path::new(".")).to_owned();
        let now = Timestamp::now();
        let over = book.expire(now);
        for record in &over {
            table.unban(record.prefix);
        }
        let mut outdated = file.has_journal() || !over.is_empty();
        for ban in table.bans() {
            if book.get(&ban.prefix).is_some() {
                continue;
            }
            warn!(prefix = %ban.prefix, "a ban in force that is in no file goes on");
            outdated = true;
            book.insert(BanRecord {
                prefix: ban.prefix,
                origin: Origin::Manual,
                measure: if ban.limited {
                    Measure::Limit
                } else {
                    Measure::Ban
                },
                kind: None,
                reason: Some("found in force at start".to_owned()),
                created: now,
                expires: BanDuration(ban.remaining).end(now),
            });
        }
        let warden = Self {
            state: Mutex::new(State {
                table,
                book,
                protected: Vec::new(),
                unsaved: Vec::new(),
                limit: PacketRate::default(),
                past: Past::load(&folder)?,
                past_changed: false,
                breaker: Breaker::default(),
            }),
            folder,
            file,
            changed: watch::Sender::new(0),
            saved: watch::Sender::new(0),
        };
        outdated |= !warden.protect(protected)?.is_empty();
        warden.enforce_all()?;
        if outdated {
            let mut state = warden.lock();
            warden.file.save(&state.book)?;
            state.unsaved.clear();
        }
        Ok(warden)
    }

    /// Puts every ban of the book in force, for what is left of it.
    pub fn enforce_all(&self) -> anyhow::Result<()> {
        let state = self.lock();
        let now = Timestamp::now();
        state.table.set_limit(state.limit.compiled());
        for record in state.book.iter() {
            if let Some(remaining) = record.remaining(now) {
                state.put(record, remaining)?;
            }
        }
        if !state.book.is_empty() {
            info!(bans = state.book.len(), "bans in force again");
        }
        Ok(())
    }

    /// Bans a source on request; it is in force on return, and the number is for [`Self::saved`].
    pub fn ban(&self, request: BanRequest) -> Result<(BanDocument, u64), Failure> {
        let prefix = prefix(&request.prefix)?;
        check_reason(request.reason.as_deref())?;
        let mut state = self.lock();
        check_ban(&state.protected, prefix)
            .map_err(|refusal| Failure::Refused(refusal.to_string()))?;
        let now = Timestamp::now();
        let record = BanRecord {
            prefix,
            origin: Origin::Manual,
            measure: Measure::Ban,
            kind: None,
            reason: request.reason,
            created: now,
            expires: request.duration.end(now),
        };
        let document = BanDocument::new(&record, now);
        state.enforce(record, request.duration)?;
        Ok((document, self.note_change()))
    }

    /// Lifts a ban.
    pub fn unban(&self, text: &str) -> Result<(BanDocument, u64), Failure> {
        let prefix = prefix(text)?;
        let mut state = self.lock();
        let Some(record) = state.book.get(&prefix).cloned() else {
            return Err(Failure::NotFound(match state.book.covering(&prefix) {
                Some(wider) => format!(
                    "{prefix} is not banned by itself but within {}: `palisade unban {}` lifts that",
                    wider.prefix, wider.prefix
                ),
                None => format!("{prefix} is not banned"),
            }));
        };
        state.table.unban(prefix);
        state.book.remove(&prefix);
        state.unsaved.push(Change::Lift(prefix));
        state.remember(&record, true);
        info!(%prefix, "ban lifted");
        Ok((
            BanDocument::new(&record, Timestamp::now()),
            self.note_change(),
        ))
    }

    /// Takes in what the policy protects now, and lifts the bans of those sources.
    pub fn protect(&self, protected: Vec<IpNet>) -> anyhow::Result<Vec<IpNet>> {
        let mut state = self.lock();
        let lifted: Vec<BanRecord> = protected
            .iter()
            .flat_map(|prefix| state.book.remove_within(prefix))
            .collect();
        state.protected = protected;
        state.lifted(&lifted, true);
        if !lifted.is_empty() {
            self.note_change();
        }
        for record in &lifted {
            warn!(prefix = %record.prefix, "ban lifted: the policy protects this source now");
            state.table.unban(record.prefix);
        }
        Ok(lifted.into_iter().map(|record| record.prefix).collect())
    }

    /// Strikes out bans that are over; the kernel has ended them by its own clock.
    pub fn expire(&self) {
        let mut state = self.lock();
        let over = state.book.expire(Timestamp::now());
        state.lifted(&over, false);
        for record in &over {
            info!(prefix = %record.prefix, origin = record.origin.name(), "ban ended");
            // The wall clock may be ahead of the kernel's: then this ends it.
            state.table.unban(record.prefix);
        }
        if !over.is_empty() {
            self.note_change();
        }
    }

    /// The bans in force.
    pub fn list(&self) -> Bans {
        self.expire();
        let now = Timestamp::now();
        let mut bans: Vec<BanDocument> = Vec::new();
        let mut last = None;
        loop {
            let state = self.lock();
            let from = bans.len();
            for record in state.book.after(last).take(LISTED_AT_ONCE) {
                bans.push(BanDocument::new(record, now));
                last = Some(record.prefix);
            }
            if bans.len() - from < LISTED_AT_ONCE {
                return Bans { bans };
            }
        }
    }

    /// Which of these sources are banned; not those that are only limited.
    pub fn banned_among(&self, sources: &[SourceSample]) -> HashSet<IpAddr> {
        let state = self.lock();
        if state.book.is_empty() {
            return HashSet::new();
        }
        let is_banned = |source: &IpAddr| {
            let subject = Subject::source(*source).prefix();
            let in_force = |prefix: &IpNet| {
                let own = state.book.get(prefix);
                own.filter(|own| own.measure == Measure::Ban)
                    .or_else(|| state.book.covering(prefix))
                    .is_some_and(|record| record.measure == Measure::Ban)
            };
            subject.is_some_and(|prefix| in_force(&prefix))
        };
        let addresses = sources.iter().map(|sample| sample.source);
        addresses.filter(is_banned).collect()
    }

    pub fn counts(&self) -> BanCounts {
        self.expire();
        let state = self.lock();
        BanCounts {
            manual: state.book.count(Origin::Manual),
            automatic: state.book.count(Origin::Automatic),
        }
    }

    /// Waits until a change is in the file, but not for ever: a full disk must not hold up an answer.
    pub async fn saved(&self, change: u64) {
        let mut saved = self.saved.subscribe();
        // Too late or never: the log says so, and the ban is in force all the same.
        let _ = tokio::time::timeout(PATIENCE, saved.wait_for(|saved| *saved >= change)).await;
    }

    /// Writes the file after each change, several at once if they come fast.
    pub async fn keep_saved(self: Arc<Self>) {
        let mut changed = self.changed.subscribe();
        loop {
            let warden = self.clone();
            let wrote = tokio::task::spawn_blocking(move || warden.save()).await;
            if !matches!(wrote, Ok(true)) {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Writes the file, if there is anything new; whether it is right now.
    pub fn save(&self) -> bool {
        let (change, unsaved, past) = {
            let mut state = self.lock();
            let change = *self.changed.borrow();
            if change == *self.saved.borrow() {
                return true;
            }
            let past = std::mem::take(&mut state.past_changed).then(|| state.past.document());
            (change, std::mem::take(&mut state.unsaved), past)
        };
        if let Some(past) = past {
            let wrote = past.and_then(|document| Past::save(&document, &self.folder));
            if let Err(error) = wrote {
                // The next offence tries again; nobody is let in or kept out by it.
                warn!("who misbehaved is not kept: {error:#}");
            }
        }
        let wrote = self.file.append(&unsaved);
        if let Err(error) = &wrote {
            error!("bans are in force but will not survive a restart: {error:#}");
        }
        self.saved.send_replace(change);
        if wrote.is_err() {
            // Nobody waits for this number: it makes the next attempt write.
            let mut state = self.lock();
            state.unsaved.splice(0..0, unsaved);
            self.note_change();
        }
        wrote.is_ok()
    }

    /// Numbers a change; call with the state locked, so that no save misses it.
    fn note_change(&self) -> u64 {
        self.changed.send_modify(|change| *change += 1);
        *self.changed.borrow()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The kernel's table and the book are each whole at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enforce(&mut self, record: BanRecord, duration: BanDuration) -> anyhow::Result<()> {
        self.put(&record, duration.0)?;
        info!(
            prefix = %record.prefix,
            measure = record.measure.name(),
            origin = record.origin.name(),
            duration = %duration,
            reason = record.reason,
            "banned"
        );
        self.unsaved.push(Change::Ban(record.clone()));
        self.book.insert(record);
        Ok(())
    }

    /// Writes a ban or limit into the kernel's table.
    fn put(&self, record: &BanRecord, remaining: Option<Duration>) -> anyhow::Result<()> {
        match record.measure {
            Measure::Ban => self.table.ban(record.prefix, remaining),
            Measure::Limit => self.table.limit(record.prefix, remaining),
        }
    }

    /// Notes what left the book.
    fn lifted(&mut self, records: &[BanRecord], lifted: bool) {
        let lifts = records.iter().map(|record| Change::Lift(record.prefix));
        self.unsaved.extend(lifts);
        for record in records {
            self.remember(record, lifted);
        }
    }

    fn remember(&mut self, record: &BanRecord, lifted: bool) {
        self.past.note(record.clone(), Timestamp::now(), lifted);
        self.past_changed = true;
    }
}

fn prefix(text: &str) -> Result<IpNet, Failure> {
    parse_prefix(text).map_err(|error| Failure::Invalid(error.to_string()))
}

/// A reason ends up in logs and on terminals.
fn check_reason(reason: Option<&str>) -> Result<(), Failure> {
    match reason {
        Some(reason) if reason.chars().count() > LONGEST_REASON => Err(Failure::Invalid(format!(
            "a reason may have {LONGEST_REASON} characters at most"
        ))),
        Some(reason) if reason.chars().any(char::is_control) => Err(Failure::Invalid(
            "a reason is one line of text without control characters".to_owned(),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub mod tests;
