//! What is done by itself, and what is known of earlier times about a source.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use tracing::{error, info};

use super::{State, Warden};
use crate::daemon::documents::BanDocument;
use crate::detect::{Alert, Withheld};
use crate::respond::{
    Act, BanRecord, Case, Change, Measure, Off, PacketRate, PastBan, Regulars, RespondSettings,
    Response, Wanted, is_protected, keep_bans,
};

/// What was and is done about a source.
#[derive(Clone, Debug)]
pub struct Dealings {
    pub protected_by: Option<IpNet>,
    pub bans: Vec<BanDocument>,
    pub past: Vec<PastBan>,
    /// That are not forgotten.
    pub offences: u32,
}

/// A ban or limit that answered an alert.
#[derive(Clone, Debug)]
pub struct Answered {
    pub record: BanRecord,
    pub alert: u64,
    pub why: String,
    /// The answer that it took the place of.
    pub instead_of: Option<IpNet>,
}

impl Warden {
    /// What was done since this was asked last.
    pub fn take_deeds(&self) -> Vec<Answered> {
        std::mem::take(&mut self.lock().deeds)
    }

    /// What those may send from now on that are held to the automatic limit.
    pub fn set_limit(&self, limit: PacketRate) {
        let mut state = self.lock();
        state.limit = limit;
        state.table.set_limit(limit.compiled());
    }

    /// Answers an alert as the settings ask for; what was done or why nothing was, in words.
    pub fn respond(
        &self,
        settings: &RespondSettings,
        regulars: &Regulars,
        alert: &Alert,
    ) -> Option<String> {
        let source = alert.subject.prefix()?;
        let mut state = self.lock();
        let now = Timestamp::now();
        let case = Case {
            settings,
            protected: &state.protected,
            bans: &state.book,
            offenders: &state.past.offenders,
            regulars,
            kind: alert.kind,
            source: source.trunc(),
            started: alert.started,
            now,
        };
        Some(match case.decide() {
            Response::Nothing => return None,
            Response::Spared(why) => format!("not banned: {why}"),
            Response::Renew(record) => match state.renew(record, now) {
                Ok(()) => return None,
                Err(error) => format!("ban could not be extended: {error:#}"),
            },
            Response::Act(act) => {
                let wanted = Wanted {
                    ordinary: act.ordinary,
                    of: regulars.count(alert.started),
                };
                if let Err(off) = state.breaker.admit(settings, wanted, now) {
                    return Some(format!("not answered: answers are off, {}", off.why));
                }
                match state.act(settings, &act, now) {
                    Ok(()) => {
                        state.deeds.push(Answered {
                            record: act.record.clone(),
                            alert: alert.id,
                            why: alert.why.clone(),
                            instead_of: act.instead_of,
                        });
                        in_words(&act, settings)
                    }
                    Err(error) => {
                        error!(prefix = %act.record.prefix, "an automatic ban failed: {error:#}");
                        format!("ban failed: {error:#}")
                    }
                }
            }
        })
    }

    /// Why answers are off, while they are.
    pub fn withheld(&self) -> Option<Withheld> {
        self.lock().breaker.off(Timestamp::now()).map(withheld)
    }

    /// What was and is done about a source.
    pub fn dealings(&self, address: IpAddr, source: IpNet, settings: &RespondSettings) -> Dealings {
        // Of an IPv6 /64 an address may have been answered alone.
        let single = IpNet::from(address);
        let state = self.lock();
        let now = Timestamp::now();
        let own = state.book.get(&single).into_iter();
        let mut bans: Vec<BanDocument> = own.map(|record| BanDocument::new(record, now)).collect();
        let mut inner = single;
        while let Some(record) = state.book.covering(&inner) {
            bans.push(BanDocument::new(record, now));
            inner = record.prefix;
        }
        let forget_after = settings.forget_after;
        let offenders = &state.past.offenders;
        let offences = [single, source].map(|one| offenders.offences(&one, now, forget_after));
        Dealings {
            protected_by: is_protected(&state.protected, source),
            bans,
            past: state.past.about(&source),
            offences: offences[0].max(offences[1]),
        }
    }
}

impl State {
    /// Puts an automatic ban or limit in force: an offence.
    fn act(&mut self, settings: &RespondSettings, act: &Act, now: Timestamp) -> anyhow::Result<()> {
        let record = act.record.clone();
        let (prefix, until) = (record.prefix, record.expires);
        self.enforce(record, act.duration)?;
        self.past
            .offenders
            .note(prefix, now, until, settings.forget_after);
        self.past_changed = true;
        if let Some(wide) = act.instead_of {
            self.take_back(&wide);
        }
        Ok(())
    }

    /// Lifts an answer that hit more than it should have, and forgets the offence.
    fn take_back(&mut self, prefix: &IpNet) {
        self.table.unban(*prefix);
        if let Some(record) = self.book.remove(prefix) {
            self.lifted(&[record], true);
        }
        self.past.offenders.forgive(prefix);
        info!(%prefix, "ban lifted: one address of it was the one");
    }

    /// Has an automatic ban or limit last longer.
    fn renew(&mut self, record: BanRecord, now: Timestamp) -> anyhow::Result<()> {
        let Some(remaining) = record.remaining(now) else {
            return Ok(());
        };
        self.put(&record, remaining)?;
        self.past.offenders.extend(&record.prefix, record.expires);
        self.past_changed = true;
        keep_bans(&self.store, [Change::Ban(record.clone())]);
        self.book.insert(record);
        Ok(())
    }
}

/// What was done, for people.
fn in_words(act: &Act, settings: &RespondSettings) -> String {
    let (prefix, duration) = (act.record.prefix, act.duration);
    let mut words = match act.record.measure {
        Measure::Ban => format!("banned {prefix} for {duration}"),
        Measure::Limit => format!(
            "limited {prefix} to {} packets for {duration}",
            settings.limit
        ),
    };
    if let Some(note) = &act.note {
        words.push_str(": ");
        words.push_str(note);
    }
    words
}

/// What the alert about answers that are off says.
fn withheld(off: &Off) -> Withheld {
    let mut evidence = serde_json::Map::new();
    evidence.insert("until".into(), off.until.to_string().into());
    Withheld {
        wanted: off.wanted,
        cap: off.cap,
        unit: off.unit,
        why: format!(
            "Automatic answers are off until {}: {}.",
            off.until.strftime("%H:%M:%SZ"),
            off.why
        ),
        evidence,
    }
}
