//! Looks after the bans: in the kernel at once, in the file soon after. Shared rather than owned by
//! the fence thread, since a ban must not wait for a policy that is being loaded.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::documents::{BanCounts, BanDocument, BanRequest, Bans};
use super::failure::Failure;
use crate::datapath::BanTable;
use crate::detect::{AlertKind, SourceSample, Subject};
use crate::policy::address::parse_prefix;
use crate::respond::{
    BanBook, BanDuration, BanFile, BanRecord, Change, Loaded, Origin, RespondSettings, Response,
    check_ban,
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
                kind: None,
                reason: Some("found in force at start".to_owned()),
                created: now,
                expires: end_of(BanDuration(ban.remaining), now),
            });
        }
        let warden = Self {
            state: Mutex::new(State {
                table,
                book,
                protected: Vec::new(),
                unsaved: Vec::new(),
            }),
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
        for record in state.book.iter() {
            if let Some(remaining) = record.remaining(now) {
                state.table.ban(record.prefix, remaining)?;
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
            kind: None,
            reason: request.reason,
            created: now,
            expires: end_of(request.duration, now),
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
        info!(%prefix, "ban lifted");
        Ok((
            BanDocument::new(&record, Timestamp::now()),
            self.note_change(),
        ))
    }

    /// Answers an alert as the settings ask for; what was done, if anything was to be done.
    pub fn respond(
        &self,
        settings: &RespondSettings,
        kind: AlertKind,
        source: IpNet,
    ) -> Option<String> {
        let mut state = self.lock();
        let now = Timestamp::now();
        let answer = settings.answer(&state.protected, &state.book, source, kind.name(), now);
        let duration = settings.ban_for;
        match answer {
            Response::Nothing => None,
            Response::Spared(why) => Some(format!("not banned: {why}")),
            Response::Ban(record) => {
                let prefix = record.prefix;
                match state.enforce(record, duration) {
                    Ok(()) => {
                        self.note_change();
                        Some(format!("banned {prefix} for {duration}"))
                    }
                    Err(error) => {
                        error!(%prefix, "an automatic ban failed: {error:#}");
                        Some(format!("ban failed: {error:#}"))
                    }
                }
            }
        }
    }

    /// Takes in what the policy protects now, and lifts the bans of those sources.
    pub fn protect(&self, protected: Vec<IpNet>) -> anyhow::Result<Vec<IpNet>> {
        let mut state = self.lock();
        let lifted: Vec<BanRecord> = protected
            .iter()
            .flat_map(|prefix| state.book.remove_within(prefix))
            .collect();
        state.protected = protected;
        state.lifted(&lifted);
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
        state.lifted(&over);
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

    /// Which of these sources are banned.
    pub fn banned_among(&self, sources: &[SourceSample]) -> HashSet<IpAddr> {
        let state = self.lock();
        if state.book.is_empty() {
            return HashSet::new();
        }
        let is_banned = |source: &IpAddr| {
            let subject = Subject::source(*source).prefix();
            subject.is_some_and(|prefix| {
                state.book.get(&prefix).is_some() || state.book.covering(&prefix).is_some()
            })
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
        let (change, unsaved) = {
            let mut state = self.lock();
            let change = *self.changed.borrow();
            if change == *self.saved.borrow() {
                return true;
            }
            (change, std::mem::take(&mut state.unsaved))
        };
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
        self.table.ban(record.prefix, duration.0)?;
        info!(
            prefix = %record.prefix,
            origin = record.origin.name(),
            duration = %duration,
            reason = record.reason,
            "banned"
        );
        self.unsaved.push(Change::Ban(record.clone()));
        self.book.insert(record);
        Ok(())
    }

    /// Notes what left the book.
    fn lifted(&mut self, records: &[BanRecord]) {
        let lifts = records.iter().map(|record| Change::Lift(record.prefix));
        self.unsaved.extend(lifts);
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

fn end_of(duration: BanDuration, now: Timestamp) -> Option<Timestamp> {
    let duration = SignedDuration::try_from(duration.0?).ok()?;
    now.checked_add(duration).ok()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::respond::RespondMode;

    /// A warden over a table that no program reads.
    pub fn warden(folder: &std::path::Path, protected: &[&str]) -> (Warden, BanTable) {
        let table = BanTable::unread();
        (restored(&table, folder, protected), table)
    }

    fn restored(table: &BanTable, folder: &std::path::Path, protected: &[&str]) -> Warden {
        let file = BanFile::in_state_dir(folder);
        let protected = protected
            .iter()
            .map(|text| text.parse().expect("a prefix"))
            .collect();
        Warden::restore(table.clone(), file, protected).expect("restored")
    }

    fn request(prefix: &str, duration: &str) -> BanRequest {
        BanRequest {
            prefix: prefix.to_owned(),
            duration: duration.parse().expect("a length"),
            reason: None,
        }
    }

    fn in_kernel(table: &BanTable) -> Vec<String> {
        let mut bans: Vec<String> = table
            .bans()
            .iter()
            .map(|ban| ban.prefix.to_string())
            .collect();
        bans.sort();
        bans
    }

    #[test]
    fn a_ban_is_in_the_kernel_on_return_and_comes_back_from_the_file_in_an_empty_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let (warden, table) = warden(folder.path(), &[]);
        for prefix in ["203.0.113.7", "2001:db8:bad::/48"] {
            warden.ban(request(prefix, "1h")).expect("banned");
        }
        assert_eq!(in_kernel(&table), ["2001:db8:bad::/48", "203.0.113.7/32"]);
        assert!(warden.save());
        let rebooted = BanTable::unread();
        let warden = restored(&rebooted, folder.path(), &[]);
        assert_eq!(in_kernel(&rebooted), in_kernel(&table));
        warden.unban("203.0.113.7").expect("lifted");
        assert_eq!(in_kernel(&rebooted), ["2001:db8:bad::/48"]);
        assert_eq!(warden.counts().manual, 1);
    }

    #[test]
    fn bans_whose_file_was_lost_go_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let (warden, table) = warden(folder.path(), &[]);
        warden.ban(request("203.0.113.7", "1h")).expect("banned");
        std::fs::write(folder.path().join("bans.json"), "no JSON").expect("written");
        let warden = restored(&table, folder.path(), &[]);
        assert_eq!(in_kernel(&table), ["203.0.113.7/32"]);
        let left = warden.list().bans[0].remaining_seconds.expect("it ends");
        assert!((3500..=3600).contains(&left), "{left}");
        assert!(folder.path().join("bans.json.corrupt-1").exists());
    }

    #[test]
    fn a_source_that_comes_under_protection_is_let_in_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (warden, table) = warden(folder.path(), &["198.51.100.0/24"]);
        let refused = warden.ban(request("198.51.100.7", "1h"));
        assert!(matches!(refused, Err(Failure::Refused(_))), "{refused:?}");
        for prefix in ["203.0.113.7", "203.0.112.0/22", "203.0.100.1"] {
            warden.ban(request(prefix, "1h")).expect("banned");
        }
        let office = "203.0.113.0/24".parse().expect("a prefix");
        let lifted = warden.protect(vec![office]).expect("protected");
        assert_eq!(lifted.len(), 1, "{lifted:?}");
        assert_eq!(in_kernel(&table), ["203.0.100.1/32", "203.0.112.0/22"]);
    }

    #[test]
    fn an_alert_bans_when_the_settings_say_so_and_says_what_was_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let (warden, table) = warden(folder.path(), &["198.51.100.0/24"]);
        let settings = RespondSettings {
            mode: RespondMode::Ban,
            ..RespondSettings::default()
        };
        let scanner = "203.0.113.7/32".parse().expect("a prefix");
        let answer = warden.respond(&settings, AlertKind::PortScan, scanner);
        assert_eq!(answer.as_deref(), Some("banned 203.0.113.7/32 for 10m"));
        let office = "198.51.100.9/32".parse().expect("a prefix");
        let answer = warden.respond(&settings, AlertKind::PortScan, office);
        assert!(answer.is_some_and(|answer| answer.starts_with("not banned")));
        assert_eq!(in_kernel(&table), ["203.0.113.7/32"]);
        assert_eq!(warden.counts().automatic, 1);
    }

    #[tokio::test]
    async fn an_answer_waits_until_the_ban_is_in_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (warden, _) = warden(folder.path(), &[]);
        let warden = Arc::new(warden);
        let saver = tokio::spawn(warden.clone().keep_saved());
        let (_, change) = warden.ban(request("203.0.113.7", "1h")).expect("banned");
        warden.saved(change).await;
        let text = std::fs::read_to_string(folder.path().join("bans.journal")).expect("read");
        assert!(text.contains("203.0.113.7/32"), "{text}");
        saver.abort();
    }

    #[test]
    fn reasons_that_would_drive_a_terminal_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let (warden, table) = warden(folder.path(), &[]);
        for reason in ["\u{1b}[31m", "two\nlines", &"x".repeat(501)] {
            let mut request = request("203.0.113.7", "1h");
            request.reason = Some(reason.to_owned());
            assert!(matches!(warden.ban(request), Err(Failure::Invalid(_))));
        }
        assert!(in_kernel(&table).is_empty());
    }
}
