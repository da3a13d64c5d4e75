//! Bans as asked for: in the kernel first, since that is what matters, then in the file.

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use tracing::{error, info, warn};

use super::Keeper;
use crate::daemon::documents::{BanDocument, BanRequest, Bans};
use crate::daemon::failure::Failure;
use crate::datapath::Datapath;
use crate::policy::Policy;
use crate::respond::{
    BanBook, BanDuration, BanFile, BanRecord, Loaded, Origin, check_ban, is_protected, parse_prefix,
};

/// Longest reason that is kept, in characters.
const LONGEST_REASON: usize = 500;

impl Keeper {
    /// Bans a source on request.
    pub fn ban(&mut self, request: BanRequest) -> Result<BanDocument, Failure> {
        let prefix = prefix(&request.prefix)?;
        check_reason(request.reason.as_deref())?;
        check_ban(&self.policy, prefix).map_err(|refusal| Failure::Refused(refusal.to_string()))?;
        let now = Timestamp::now();
        let record = BanRecord {
            prefix,
            origin: Origin::Manual,
            kind: None,
            reason: request.reason,
            created: now,
            expires: end_of(request.duration, now),
        };
        self.enforce(record.clone(), request.duration)?;
        Ok(BanDocument::new(&record, now))
    }

    /// Puts a ban in force and keeps it.
    pub(super) fn enforce(
        &mut self,
        record: BanRecord,
        duration: BanDuration,
    ) -> Result<(), Failure> {
        self.datapath.ban(record.prefix, duration.0)?;
        info!(
            prefix = %record.prefix,
            origin = record.origin.name(),
            duration = %duration,
            reason = record.reason,
            "banned"
        );
        self.bans.insert(record);
        self.save_bans();
        Ok(())
    }

    /// Lifts a ban.
    pub fn unban(&mut self, text: &str) -> Result<BanDocument, Failure> {
        let prefix = prefix(text)?;
        let now = Timestamp::now();
        let Some(record) = self.bans.get(&prefix).cloned() else {
            return Err(Failure::NotFound(match self.bans.covering(&prefix) {
                Some(wider) => format!(
                    "{prefix} is not banned by itself but within {}: `palisade unban {}` lifts that",
                    wider.prefix, wider.prefix
                ),
                None => format!("{prefix} is not banned"),
            }));
        };
        self.datapath.unban(prefix)?;
        self.bans.remove(&prefix);
        self.save_bans();
        info!(%prefix, "ban lifted");
        Ok(BanDocument::new(&record, now))
    }

    /// The bans in force.
    pub fn list_bans(&mut self) -> Bans {
        self.expire_bans();
        let now = Timestamp::now();
        Bans {
            bans: self
                .bans
                .iter()
                .map(|record| BanDocument::new(record, now))
                .collect(),
        }
    }

    /// Strikes out bans that are over; the kernel has ended them by its own clock.
    pub(super) fn expire_bans(&mut self) {
        let over = self.bans.expire(Timestamp::now());
        if over.is_empty() {
            return;
        }
        for record in &over {
            info!(prefix = %record.prefix, origin = record.origin.name(), "ban ended");
            // The wall clock may be ahead of the kernel's: then this ends it.
            if let Err(error) = self.datapath.unban(record.prefix) {
                error!(prefix = %record.prefix, "a ban that is over could not be removed: {error:#}");
            }
        }
        self.save_bans();
    }

    /// Lifts the bans of sources that the policy protects now.
    pub(super) fn lift_protected(&mut self) -> Result<Vec<IpNet>, Failure> {
        let policy = &self.policy;
        let lifted = self
            .bans
            .remove_where(|record| is_protected(policy, record.prefix).is_some());
        for record in &lifted {
            self.datapath.unban(record.prefix)?;
            warn!(prefix = %record.prefix, "ban lifted: the policy protects this source now");
        }
        if !lifted.is_empty() {
            self.save_bans();
        }
        Ok(lifted.into_iter().map(|record| record.prefix).collect())
    }

    /// A full disk must not undo a ban that is in force: it only will not survive a restart.
    fn save_bans(&self) {
        if let Err(error) = self.ban_file.save(&self.bans) {
            error!("bans are in force but will not survive a restart: {error:#}");
        }
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

/// Brings the file and the kernel's table together: what the file has is put in force for what is
/// left of it; what only the kernel has (the file was lost) goes on and is written down.
pub(super) fn restore(
    datapath: &Datapath,
    file: &BanFile,
    policy: &Policy,
) -> anyhow::Result<BanBook> {
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
    let protected = book.remove_where(|record| is_protected(policy, record.prefix).is_some());
    for record in over.iter().chain(&protected) {
        datapath.unban(record.prefix)?;
    }
    let in_kernel = datapath.bans()?;
    for record in book.iter() {
        if let Some(remaining) = record.remaining(now) {
            datapath.ban(record.prefix, remaining)?;
        }
    }
    for ban in in_kernel {
        if book.get(&ban.prefix).is_some() {
            continue;
        }
        if is_protected(policy, ban.prefix).is_some() {
            datapath.unban(ban.prefix)?;
            continue;
        }
        warn!(prefix = %ban.prefix, "a ban in force that is in no file goes on");
        book.insert(BanRecord {
            prefix: ban.prefix,
            origin: Origin::Manual,
            kind: None,
            reason: Some("found in force at start".to_owned()),
            created: now,
            expires: end_of(BanDuration(ban.remaining), now),
        });
    }
    file.save(&book)?;
    if !book.is_empty() {
        info!(bans = book.len(), "bans in force again");
    }
    Ok(book)
}
