//! SYN cookies in service: when alerts or people ask for them, the stack is set, then the ports are
//! armed; when nobody does any more, the ports are disarmed, then the stack is set back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::documents::{ArmedDocument, CookieCommand, CookieReport, CookieRequest};
use super::failure::Failure;
use super::stack::{Kept, Stack};
use crate::datapath::{Datapath, Ports, cookies_unsupported};
use crate::detect::{Alert, AlertKind, Snapshot, Time};
use crate::policy::{Mode, Policy};
use crate::respond::{
    Armed, BanDuration, CookieBook, CookieMode, CookieOrder, RespondSettings, SynTally, ports_of,
    tcp_services,
};
use crate::state::{Kind, Store};

const PART: &str = "cookies";

/// What outlives the daemon.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    #[serde(default)]
    orders: BTreeMap<String, CookieOrder>,
    /// What the stack is to be set back to.
    #[serde(default)]
    stack: Option<Kept>,
}

/// Looks after SYN cookies.
#[derive(Debug)]
pub struct Cookies {
    store: Store,
    mode: CookieMode,
    /// Alerts lead to cookies.
    automatic: bool,
    hold: BanDuration,
    book: CookieBook,
    tally: SynTally,
    stack: Stack,
    /// The stack is set for cookies.
    set: bool,
    /// Why services that should be armed are not.
    problem: Option<String>,
    /// What was sent and lost when it was looked at last.
    seen: Option<Seen>,
    /// Why answers do not reach the wire. As long as they are asked for, the stack sends its own.
    lossy: Option<String>,
}

/// What came of answers up to a moment.
#[derive(Clone, Copy, Debug)]
struct Seen {
    time: Time,
    sent: u64,
    lost: u64,
}

/// How often it is looked at what becomes of answers.
const LOOK: Time = 1_000_000_000;
/// Fewer say nothing.
const FEW: u64 = 50;

impl Cookies {
    /// Reads what an earlier daemon left, and goes on where it was.
    pub fn load(
        store: Store,
        settings: &RespondSettings,
        datapath: &mut Datapath,
        policy: &Policy,
        now: Time,
    ) -> anyhow::Result<Self> {
        let saved: Saved = store.part(PART).unwrap_or_default();
        let hold = settings.syn_cookies_hold;
        let nanoseconds = hold.0.map_or(Time::MAX, |hold| hold.as_nanos() as Time);
        let mut book = CookieBook::new(saved.orders, nanoseconds);
        let armed = datapath.cookies_armed();
        let whole = |ports: &[(u16, u16)]| {
            let mut ports = ports.iter().flat_map(|(from, to)| *from..=*to);
            ports.all(|port| armed.contains(port))
        };
        if !armed.is_empty() {
            let services = tcp_services(policy).filter(|(_, ports)| whole(ports));
            book.inherit(services.map(|(name, _)| name.to_owned()), now);
        }
        Ok(Self {
            store,
            mode: settings.syn_cookies,
            automatic: settings.syn_cookies.answers_alerts(settings.mode),
            hold,
            book,
            tally: SynTally::default(),
            set: saved.stack.is_some(),
            stack: Stack::new(saved.stack),
            problem: None,
            seen: None,
            lossy: None,
        })
    }

    /// One round: sees to it that the kernel does what alerts and people ask for.
    pub fn look_after(&mut self, now: Time, datapath: &mut Datapath, policy: &Policy) {
        self.book.expire(now);
        let mut ports = Ports::default();
        if self.mode != CookieMode::Off && policy.defaults.mode == Mode::Enforce {
            let armed = self.book.armed();
            let ranges = armed.keys().filter_map(|service| ports_of(policy, service));
            for (from, to) in ranges.flatten() {
                (from..=to).for_each(|port| ports.insert(port));
            }
        }
        if let Some(why) = cookies_unsupported().filter(|_| !ports.is_empty()) {
            self.problem = Some(why.to_owned());
            return;
        }
        let before = datapath.cookies_armed();
        if ports.is_empty() {
            (self.problem, self.seen, self.lossy) = (None, None, None);
            if !before.is_empty() {
                datapath.arm_cookies(&ports, false);
                info!("SYN cookies are no longer sent");
            }
            if self.set && self.stack.release(now) {
                self.set = false;
                self.save();
            }
            return;
        }
        match self.ready() {
            Ok(_) if self.are_lost(now, datapath) => {
                datapath.arm_cookies(&Ports::default(), false);
                self.problem = self.lossy.clone();
            }
            Ok(plain) => {
                datapath.arm_cookies(&ports, plain);
                self.problem = None;
                if before.is_empty() {
                    let services: Vec<&str> = self.book.armed().into_keys().collect();
                    warn!(
                        services = services.join(", "),
                        "SYNs are answered with cookies"
                    );
                }
            }
            Err(why) => {
                // A cookie that the stack does not take is worse than none.
                datapath.arm_cookies(&Ports::default(), false);
                if self.problem.as_ref() != Some(&why) {
                    error!("no SYN cookies: {why}");
                }
                self.problem = Some(why);
            }
        }
    }

    /// Whether most answers do not reach the wire: then clients would wait in vain, and the stack's own
    /// cookies, sent the usual way, are better.
    fn are_lost(&mut self, now: Time, datapath: &Datapath) -> bool {
        if self.lossy.is_some() {
            return true;
        }
        if self
            .seen
            .is_some_and(|seen| now.saturating_sub(seen.time) < LOOK)
        {
            return false;
        }
        let sent = datapath.cookie_counts().map_or(0, |counts| counts.sent);
        let lost = datapath.cookies_lost();
        let before = self.seen.replace(Seen {
            time: now,
            sent,
            lost,
        });
        let Some(before) = before else {
            return false;
        };
        let sent = sent.saturating_sub(before.sent);
        let lost = lost.saturating_sub(before.lost);
        if sent < FEW || lost < sent / 2 {
            return false;
        }
        let why = format!(
            "{lost} of {sent} answers did not leave the interface in a second, so the stack sends its own \
             (a virtual wire takes what XDP sends back only where its other end runs XDP too)"
        );
        error!("no SYN cookies: {why}");
        self.lossy = Some(why);
        true
    }

    /// Sets the stack; whether a client's options have to be left out.
    fn ready(&mut self) -> Result<bool, String> {
        let before = self.stack.kept().cloned();
        self.stack.note()?;
        if self.stack.kept() != before.as_ref() {
            // First written down, then done: a daemon that is killed in between changes nothing for good. A disk that
            // takes nothing is no reason to leave the services alone.
            self.save();
        }
        self.set = true;
        Ok(self.stack.prepare()?.plain)
    }

    /// Notes which services SYNs come for.
    pub fn watch(&mut self, snapshot: &Snapshot) {
        let counts = snapshot.services.iter();
        let without_rule = snapshot.sightings.iter().filter(|sighting| {
            sighting.rule == firewall_common::layout::NO_RULE
                && sighting.direction == firewall_common::Direction::Inbound
                && sighting.verdict == firewall_common::Verdict::Pass
                && sighting.packet.is_syn()
        });
        self.tally.add(
            snapshot.time,
            counts.map(|service| (service.name.as_str(), service.connections)),
            without_rule.map(|sighting| (sighting.packet.destination_port, sighting.packets)),
        );
    }

    /// Answers an alert; what was done, or would have been.
    pub fn answer(
        &mut self,
        alert: &Alert,
        now: Time,
        datapath: &mut Datapath,
        policy: &Policy,
    ) -> Option<String> {
        // Whatever the alert names: a single source or one prefix can be forged as well.
        if alert.kind != AlertKind::SynFlood {
            return None;
        }
        let mut flooded = self.tally.flooded();
        if flooded.is_empty() {
            flooded = tcp_services(policy)
                .map(|(name, _)| name.to_owned())
                .collect();
        }
        let named = flooded.join(", ");
        if let Some(why) = cookies_unsupported() {
            return Some(format!("no SYN cookies: {why}"));
        }
        if self.mode == CookieMode::Off {
            return Some("no SYN cookies: `respond.syn_cookies` is \"off\"".to_owned());
        }
        if policy.defaults.mode == Mode::Observe {
            return Some(format!(
                "would send SYN cookies for {named}; the policy only observes"
            ));
        }
        if !self.automatic {
            return Some(format!(
                "would send SYN cookies for {named}; `palisade cookies on` does, and \
                 `respond.syn_cookies = \"alert\"` always"
            ));
        }
        self.book.flood(alert.id, flooded);
        self.look_after(now, datapath, policy);
        Some(match &self.problem {
            Some(why) => format!("no SYN cookies: {why}"),
            None => {
                format!(
                    "SYN cookies for {named}, until {} after the flood",
                    self.hold
                )
            }
        })
    }

    /// While a flood goes on, it may turn to other services.
    pub fn follow(&mut self, firing: impl Iterator<Item = u64>) {
        if self.book.is_flooded() {
            let flooded = self.tally.flooded();
            for alert in firing {
                self.book.flood(alert, flooded.iter().cloned());
            }
        }
    }

    /// An alert is over; what follows.
    pub fn stand_down(&mut self, alert: &Alert, now: Time) -> Option<String> {
        let held = self.book.over(alert.id, now);
        held.then(|| format!("SYN cookies end in {}", self.hold))
    }

    /// Does what a person asks for.
    pub fn command(&mut self, request: &CookieRequest, policy: &Policy) -> Result<(), Failure> {
        if self.mode == CookieMode::Off {
            return Err(Failure::Refused(
                "SYN cookies are switched off by `respond.syn_cookies = \"off\"` in the settings"
                    .to_owned(),
            ));
        }
        let order = match request.order {
            CookieCommand::On => Some(CookieOrder::On),
            CookieCommand::Off => Some(CookieOrder::Off),
            CookieCommand::Auto => None,
        };
        if order == Some(CookieOrder::On) {
            if let Some(why) = cookies_unsupported() {
                return Err(Failure::Unavailable(why.to_owned()));
            }
            if policy.defaults.mode == Mode::Observe {
                return Err(Failure::Refused(
                    "the policy only observes (defaults.mode), and answers nothing itself"
                        .to_owned(),
                ));
            }
        }
        let known = self.book.orders().keys().cloned();
        let services: Vec<String> = match &request.service {
            Some(service) => vec![service.clone()],
            None if order.is_none() => known.collect(),
            None => tcp_services(policy)
                .map(|(name, _)| name.to_owned())
                .collect(),
        };
        for service in &services {
            if order.is_some() && ports_of(policy, service).is_none() {
                let names: Vec<&str> = tcp_services(policy).map(|(name, _)| name).collect();
                return Err(Failure::NotFound(format!(
                    "`{service}` is no rule that lets TCP connections in (there are: {}); where the default \
                     accepts, a port's number will do",
                    if names.is_empty() {
                        "none".to_owned()
                    } else {
                        names.join(", ")
                    }
                )));
            }
        }
        for service in &services {
            self.book.order(service, order);
        }
        self.save();
        Ok(())
    }

    /// How things stand.
    pub fn report(&self, policy: &Policy, datapath: &Datapath) -> anyhow::Result<CookieReport> {
        let armed = self.book.armed();
        let stands = self.problem.is_none()
            && self.mode != CookieMode::Off
            && policy.defaults.mode == Mode::Enforce;
        let document = |(service, why): (&str, &Armed)| {
            let ports = ports_of(policy, service)?;
            Some(ArmedDocument {
                service: service.to_owned(),
                ports: ports.into_iter().map(range).collect(),
                why: match why {
                    Armed::Ordered => "ordered",
                    Armed::Alert => "alert",
                    Armed::Held(_) => "held",
                }
                .to_owned(),
            })
        };
        let counts = datapath.cookie_counts()?;
        Ok(CookieReport {
            setting: self.mode.name().to_owned(),
            automatic: self.automatic,
            unavailable: cookies_unsupported().map(str::to_owned),
            problem: self.problem.clone(),
            armed: if stands {
                let armed = armed.iter().filter_map(|(name, why)| document((name, why)));
                armed.collect()
            } else {
                Vec::new()
            },
            orders: self.book.orders().clone(),
            sent: counts.sent,
            accepted: counts.accepted,
            rejected: counts.rejected,
            bytes_received: counts.bytes_received,
            bytes_sent: counts.bytes_sent,
        })
    }

    /// Has the orders kept, and the settings of the stack before they are changed.
    fn save(&self) {
        let saved = Saved {
            orders: self.book.orders().clone(),
            stack: self.stack.kept().cloned(),
        };
        self.store.put_json(Kind::Part, PART, &saved);
        self.store.flush();
    }
}

fn range((from, to): (u16, u16)) -> String {
    if from == to {
        from.to_string()
    } else {
        format!("{from}-{to}")
    }
}
