//! What an alert about a source leads to: a pure decision. Never anything against a source that the
//! policy protects, never a ban on forged packets alone.

use std::collections::BTreeSet;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use super::{
    BanBook, BanDuration, BanRecord, Ground, Measure, Offenders, Origin, Regulars, RespondMode,
    RespondSettings, check_ban,
};
use crate::detect::{AlertKind, Subject, Time};

/// Sources of one prefix count together that were answered within this time.
const TOGETHER: SignedDuration = SignedDuration::from_mins(10);
/// The prefixes that are answered when several sources of them misbehave, the narrowest first. Of single IPv6 addresses whoever
/// has one has the whole /64.
const NEIGHBOURS_V4: &[u8] = &[24];
const NEIGHBOURS_V6: &[u8] = &[64, 48];

/// All that a decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub settings: &'a RespondSettings,
    pub protected: &'a [IpNet],
    pub bans: &'a BanBook,
    pub offenders: &'a Offenders,
    pub regulars: &'a Regulars,
    pub kind: AlertKind,
    pub source: IpNet,
    /// When the alert's cause began.
    pub started: Time,
    pub now: Timestamp,
}

/// What came of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// This is to be put in force.
    Act(Act),
    /// This is in force already and lasts longer now: the source goes on.
    Renew(BanRecord),
    /// Something would have followed, but for this.
    Spared(String),
    /// Nothing is asked for.
    Nothing,
}

/// A new ban or limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    pub record: BanRecord,
    pub duration: BanDuration,
    /// Why it is another answer than the settings name.
    pub note: Option<String>,
    /// Ordinary sources that it hits.
    pub ordinary: usize,
    /// The answer to a whole /64 that it takes the place of: it is to be lifted.
    pub instead_of: Option<IpNet>,
}

impl<'a> Case<'a> {
    /// What is to be done.
    pub fn decide(&self) -> Response {
        let asked = self.settings.mode_of(self.kind);
        let ground = Ground::of(self.kind);
        let mode = if self.settings.kinds.contains_key(&self.kind) {
            asked
        } else {
            ground.at_most(asked)
        };
        let (measure, note) = match mode {
            RespondMode::Observe if asked == RespondMode::Observe || ground == Ground::None => {
                return Response::Nothing;
            }
            RespondMode::Observe => {
                return Response::Spared(format!(
                    "whoever sends a {} can forge the source: it is not banned for that",
                    self.kind
                ));
            }
            RespondMode::Limit => (Measure::Limit, None),
            RespondMode::Ban if ground == Ground::Claimed && self.is_visitor() => (
                Measure::Limit,
                Some("it had connections before, and this could be forged in its name".to_owned()),
            ),
            RespondMode::Ban => (Measure::Ban, None),
        };
        if let Err(spared) = self.may_hit(self.source) {
            return Response::Spared(spared);
        }
        if let Some(wide) = self.too_wide() {
            let note = format!("it came from there alone, so {wide} is let in again");
            return Response::Act(Act {
                instead_of: Some(wide),
                ..self.act(self.source, measure, Some(note))
            });
        }
        match self.in_force(measure) {
            Some(InForce::Own(record)) => return self.renew(record),
            Some(InForce::Other(prefix)) => {
                return Response::Spared(format!("{prefix} is banned already"));
            }
            None => {}
        }
        Response::Act(match self.prefix(measure, ground) {
            Some(prefix) => {
                let count = self.misbehaving(prefix, measure);
                let note = format!("{count} sources of it misbehaved within ten minutes");
                self.act(prefix, measure, Some(note))
            }
            None => self.act(self.source, measure, note),
        })
    }

    fn act(&self, prefix: IpNet, measure: Measure, note: Option<String>) -> Act {
        let Self {
            settings,
            offenders,
            now,
            ..
        } = *self;
        let offence = offenders
            .offences(&prefix, now, settings.forget_after)
            .saturating_add(1);
        let duration = settings.duration(offence);
        let reason = match offence {
            1 => format!("alert {}", self.kind),
            offence => format!("alert {}, offence {offence}", self.kind),
        };
        Act {
            record: BanRecord {
                prefix,
                origin: Origin::Automatic,
                measure,
                kind: Some(self.kind.name().to_owned()),
                reason: Some(reason),
                created: now,
                expires: duration.end(now),
            },
            duration,
            note,
            ordinary: self.regulars.within(&prefix, self.started),
            instead_of: None,
        }
    }

    /// The answer to the whole /64 around a single address, if it was given for the same kind of alert before it was
    /// known which address it was. Not where others of the /64 were answered about then: it is banned for them, too.
    fn too_wide(&self) -> Option<IpNet> {
        let whole = Subject::source(self.source.addr()).prefix()?;
        if self.source == whole || self.bans.get(&self.source).is_some() {
            return None;
        }
        let wide = self.bans.get(&whole).filter(|wide| {
            wide.origin == Origin::Automatic && wide.kind.as_deref() == Some(self.kind.name())
        })?;
        let mut others = self.offenders.within(&whole);
        let for_others = others.any(|other| {
            other.prefix != self.source
                && other.prefix != whole
                && wide.created.duration_since(other.since) < TOGETHER
        });
        (!for_others).then_some(whole)
    }

    /// Whoever goes on while the answer lasts makes it last: from now on as long as it was meant to.
    fn renew(&self, record: &BanRecord) -> Response {
        let offences =
            self.offenders
                .offences(&record.prefix, self.now, self.settings.forget_after);
        let end = self.settings.duration(offences.max(1)).end(self.now);
        let mut record = record.clone();
        let later = match (record.expires, end) {
            (Some(until), Some(end)) => Some(until.max(end)),
            _ => None,
        };
        record.expires = later;
        Response::Renew(record)
    }

    /// Whether the policy lets a prefix be hit.
    fn may_hit(&self, prefix: IpNet) -> Result<(), String> {
        check_ban(self.protected, prefix).map_err(|refusal| refusal.to_string())?;
        // An IPv6 source is a whole /64: a protected address inside may be the very one meant.
        match self
            .protected
            .iter()
            .find(|protected| prefix.contains(*protected))
        {
            Some(inside) => Err(format!("{prefix} holds the protected {inside}")),
            None => Ok(()),
        }
    }

    /// What is in force against the source that is as strong as `measure` or was set by a person.
    fn in_force(&self, measure: Measure) -> Option<InForce<'a>> {
        if let Some(own) = self.bans.get(&self.source) {
            if own.origin == Origin::Manual {
                return Some(InForce::Other(own.prefix));
            }
            if own.measure >= measure {
                return Some(InForce::Own(own));
            }
        }
        let wider = self.bans.covering(&self.source)?;
        (wider.measure >= measure || wider.origin == Origin::Manual)
            .then_some(InForce::Other(wider.prefix))
    }

    /// Whether the source had connections before the alert's cause began.
    fn is_visitor(&self) -> bool {
        self.regulars.within(&self.source, self.started) > 0
    }

    /// The prefix around the source, if enough of it misbehaves to answer all of it.
    fn prefix(&self, measure: Measure, ground: Ground) -> Option<IpNet> {
        let lengths = match self.source {
            IpNet::V4(_) => NEIGHBOURS_V4,
            IpNet::V6(_) => NEIGHBOURS_V6,
        };
        if self.settings.prefix_after == 0 || ground == Ground::Forgeable {
            return None;
        }
        // The widest that misbehaves as a whole.
        let wider = lengths.iter().rev();
        wider
            .filter(|length| self.source.prefix_len() > **length)
            .find_map(|length| self.prefix_of(*length, measure, ground))
    }

    /// The prefix of this length around the source, if enough of it misbehaves.
    fn prefix_of(&self, length: u8, measure: Measure, ground: Ground) -> Option<IpNet> {
        let after = self.settings.prefix_after as usize;
        let prefix = IpNet::new(self.source.addr(), length).ok()?.trunc();
        let visitors = self.regulars.within(&prefix, self.started);
        let forged = ground != Ground::Proven;
        let fits = self.misbehaving(prefix, measure) >= after
            && self.may_hit(prefix).is_ok()
            && (visitors == 0 || !forged && self.is_few(visitors));
        fits.then_some(prefix)
    }

    /// Sources of a prefix that were answered lately, this one among them: single addresses of a /64, otherwise
    /// IPv4 addresses or /64s.
    fn misbehaving(&self, prefix: IpNet, measure: Measure) -> usize {
        let lately = |record: &&BanRecord| {
            record.origin == Origin::Automatic
                && record.measure >= measure
                && self.now.duration_since(record.created) < TOGETHER
        };
        let accounted = |of: IpNet| match Subject::source(of.addr()).prefix() {
            // A prefix that is wider than a source stands for itself.
            Some(source) if source != prefix && source.contains(&of) => source,
            _ => of,
        };
        let mut sources: BTreeSet<IpNet> = self
            .bans
            .within(&prefix)
            .filter(lately)
            .map(|record| accounted(record.prefix))
            .collect();
        sources.insert(accounted(self.source));
        sources.len()
    }

    /// Whether so many ordinary sources may be hit at once.
    fn is_few(&self, hit: usize) -> bool {
        let all = self.regulars.count(self.started) as f64;
        hit as f64 <= all * self.settings.ordinary_share
    }
}

/// What stands against a source.
enum InForce<'a> {
    /// Its own automatic answer.
    Own(&'a BanRecord),
    /// Another, by its prefix.
    Other(IpNet),
}

#[cfg(test)]
mod tests;
