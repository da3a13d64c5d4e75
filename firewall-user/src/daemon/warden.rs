//! Looks after the bans: in the kernel at once, in the state soon after. Shared rather than owned by
//! the fence thread, since a ban must not wait for a policy that is being loaded.

mod automatic;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use jiff::Timestamp;
use tracing::{info, warn};

pub use automatic::Answered;

use super::documents::{BanCounts, BanDocument, BanRequest, Bans, SourceDocument};
use super::failure::Failure;
use crate::datapath::BanTable;
use crate::detect::Subject;
use crate::policy::address::parse_prefix;
use crate::respond::{
    BanBook, BanDuration, BanRecord, Breaker, Change, Measure, Origin, PacketRate, Past, check_ban,
    keep_bans, load_bans,
};
use crate::state::Store;

/// Longest reason that is kept, in characters.
const LONGEST_REASON: usize = 500;
/// How often it is kept what was done about sources before.
const SAVE_PAST: Duration = Duration::from_secs(2);

/// The bans in force and their book.
#[derive(Debug)]
pub struct Warden {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    table: BanTable,
    book: BanBook,
    /// `protect.never_block` of the policy in force.
    protected: Vec<IpNet>,
    store: Store,
    /// What those may send that are held to the automatic limit.
    limit: PacketRate,
    past: Past,
    /// The past is not kept yet.
    past_changed: bool,
    past_saved: Instant,
    breaker: Breaker,
    /// What was done by itself and is not in the audit log yet.
    deeds: Vec<Answered>,
}

/// Bans that are listed at a time, so that a new one need not wait for a long list.
const LISTED_AT_ONCE: usize = 1_000;

impl Warden {
    /// Brings the state and the kernel's table together: what the state has is put in force for what is
    /// left of it; what only the kernel has (the state was lost) goes on and is written down.
    pub fn restore(table: BanTable, store: Store, protected: Vec<IpNet>) -> anyhow::Result<Self> {
        let mut book = load_bans(&store);
        let now = Timestamp::now();
        let over = book.expire(now);
        for record in &over {
            table.unban(record.prefix);
        }
        let mut changes: Vec<Change> = over
            .iter()
            .map(|record| Change::Lift(record.prefix))
            .collect();
        for ban in table.bans() {
            if book.get(&ban.prefix).is_some() {
                continue;
            }
            warn!(prefix = %ban.prefix, "a ban in force that is not in the state goes on");
            let record = BanRecord {
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
            };
            changes.push(Change::Ban(record.clone()));
            book.insert(record);
        }
        if !changes.is_empty() {
            keep_bans(&store, changes);
        }
        let warden = Self {
            state: Mutex::new(State {
                table,
                book,
                protected: Vec::new(),
                past: Past::load(&store),
                store,
                limit: PacketRate::default(),
                past_changed: false,
                past_saved: Instant::now(),
                breaker: Breaker::default(),
                deeds: Vec::new(),
            }),
        };
        warden.protect(protected)?;
        warden.enforce_all()?;
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

    /// Bans a source on request; it is in force on return, and on the disk soon after.
    pub fn ban(&self, request: BanRequest) -> Result<BanDocument, Failure> {
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
        Ok(document)
    }

    /// Lifts a ban.
    pub fn unban(&self, text: &str) -> Result<BanDocument, Failure> {
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
        keep_bans(&state.store, [Change::Lift(prefix)]);
        state.remember(&record, true);
        info!(%prefix, "ban lifted");
        Ok(BanDocument::new(&record, Timestamp::now()))
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
        if state.past_changed && state.past_saved.elapsed() >= SAVE_PAST {
            state.save_past();
        }
    }

    /// The bans in force, at most so many.
    pub fn list(&self, most: usize) -> Bans {
        self.expire();
        let now = Timestamp::now();
        let mut bans: Vec<BanDocument> = Vec::new();
        let mut last = None;
        loop {
            let state = self.lock();
            let from = bans.len();
            let listed = LISTED_AT_ONCE.min(most - from);
            for record in state.book.after(last).take(listed) {
                bans.push(BanDocument::new(record, now));
                last = Some(record.prefix);
            }
            if bans.len() - from < LISTED_AT_ONCE {
                return Bans { bans };
            }
        }
    }

    /// Bans that people set and that never end.
    pub fn without_end(&self) -> Vec<BanDocument> {
        let now = Timestamp::now();
        let state = self.lock();
        let endless = state
            .book
            .iter()
            .filter(|record| record.expires.is_none() && record.origin == Origin::Manual);
        endless
            .take(LISTED_AT_ONCE)
            .map(|record| BanDocument::new(record, now))
            .collect()
    }

    /// Puts to each source the ban or limit that covers it.
    pub fn mark(&self, sources: &mut [SourceDocument]) {
        let now = Timestamp::now();
        let state = self.lock();
        if state.book.is_empty() {
            return;
        }
        for source in sources {
            let prefix = Subject::source(source.source).prefix();
            let record = prefix.and_then(|prefix| {
                let own = state.book.get(&prefix);
                own.or_else(|| state.book.covering(&prefix))
            });
            source.ban = record.map(|record| Box::new(BanDocument::new(record, now)));
        }
    }

    /// Which of these sources are banned, not those that are only limited: a /64 that is banned as a whole by its first
    /// address, a single address of one by itself.
    pub fn banned_among(&self, sources: impl Iterator<Item = IpAddr>) -> HashSet<IpAddr> {
        let state = self.lock();
        if state.book.is_empty() {
            return HashSet::new();
        }
        let in_force = |prefix: &IpNet| {
            let own = state.book.get(prefix);
            own.filter(|own| own.measure == Measure::Ban)
                .or_else(|| state.book.covering(prefix))
                .is_some_and(|record| record.measure == Measure::Ban)
        };
        let banned = |address: IpAddr| {
            let source = Subject::source(address).prefix();
            let whole = source.filter(&in_force);
            let single = || {
                let single = IpNet::from(address);
                let is_part = source.is_some_and(|source| source.addr() != address);
                Some(single).filter(|single| is_part && in_force(single))
            };
            whole.or_else(single).map(|prefix| prefix.addr())
        };
        sources.filter_map(banned).collect()
    }

    pub fn counts(&self) -> BanCounts {
        self.expire();
        let state = self.lock();
        BanCounts {
            manual: state.book.count(Origin::Manual),
            automatic: state.book.count(Origin::Automatic),
        }
    }

    /// Has everything kept that is not yet.
    pub fn save(&self) {
        let mut state = self.lock();
        if state.past_changed {
            state.save_past();
        }
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
        keep_bans(&self.store, [Change::Ban(record.clone())]);
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
        if !records.is_empty() {
            let lifts = records.iter().map(|record| Change::Lift(record.prefix));
            keep_bans(&self.store, lifts);
        }
        for record in records {
            self.remember(record, lifted);
        }
    }

    fn save_past(&mut self) {
        self.past.save(&self.store);
        self.past_changed = false;
        self.past_saved = Instant::now();
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
