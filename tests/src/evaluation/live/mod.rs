//! Attacks on a live host, real kernel programs and the real daemon, among ordinary visitors; and
//! fastnetmon on the same wire.
//!
//! Each attack has a world of its own. Visitors come first; after some seconds of quiet the attack
//! begins, and what the daemon says about it until shortly after its end counts. Alerts from
//! before the attack, or about a visitor, are false alarms.

mod attacks;
mod cookies;
mod errand;
mod first_packet;
mod forge;
mod host;
mod rival;
mod stage;
mod visitors;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use serde::Serialize;

pub use attacks::Attack;
pub use rival::THRESHOLD;

use super::case::{Case, Expectation, Raised};
use crate::need_tools;
use crate::topology::WIRE;
use cookies::{CookieWatch, Cookies};
use first_packet::FirstPacket;
use rival::Rival;
use stage::Stage;
use visitors::{Tally, Visitors};

/// Visitors alone, before the attack.
const QUIET: Duration = Duration::from_secs(6);
/// After the attack: what was under way is judged.
const SETTLE: Duration = Duration::from_secs(3);
/// The same for the evaluation of ordinary traffic alone.
const ORDINARY: Duration = Duration::from_secs(60);

/// How the daemon answers alerts: at its sharpest (bans, signatures put in force, SYN cookies), to
/// see whom it hits.
const ANSWER: &str = "[respond]\nmode = \"ban\"\nban_for = \"1m\"\nsignature = \"enforce\"\nsyn_cookies_hold = \"2s\"\n";
/// Without signatures, which drop a flood before a cookie answers it.
const COOKIES_ALONE: &str =
    "[respond]\nmode = \"ban\"\nban_for = \"1m\"\nsyn_cookies_hold = \"2s\"\n";

/// All live attacks, and a time without one.
#[derive(Debug, Default, Serialize)]
pub struct Live {
    pub ordinary: Option<Scene>,
    pub attacks: Vec<Scene>,
}

/// An attack among visitors, and what came of it.
#[derive(Debug, Serialize)]
pub struct Scene {
    pub case: Case,
    /// About a visitor, or before the attack began.
    pub false_alarms: Vec<Raised>,
    /// Seconds until fastnetmon noticed; none if it did not, or was not there.
    pub rival_seconds: Option<f64>,
    /// What visitors were served before the attack, and during it.
    pub before: Vec<Tally>,
    pub during: Vec<Tally>,
    /// Packets of visitors, and how many of them were dropped.
    pub visitors_packets: u64,
    pub visitors_dropped: u64,
    /// Of floods of SYNs.
    pub cookies: Option<Cookies>,
}

impl Scene {
    pub fn served_before(&self) -> Option<f64> {
        visitors::served(&self.before)
    }

    pub fn served_during(&self) -> Option<f64> {
        visitors::served(&self.during)
    }
}

/// Runs the attacks whose name holds `only` (all, if it is empty), `jobs` of them at a time, and says
/// what could not be run. `stop` says that somebody wants an end.
pub fn run(
    only: &str,
    quick: bool,
    jobs: usize,
    stop: &(dyn Fn() -> bool + Sync),
    not_run: &mut Vec<String>,
) -> Result<Live> {
    let mut live = Live::default();
    let with_rival = need_tools(&["fastnetmon"]);
    if let Err(error) = &with_rival {
        not_run.push(format!("fastnetmon: {error:#}"));
    }
    if "ordinary".contains(only) {
        eprintln!("visitors alone ...");
        let time = if quick { ORDINARY / 4 } else { ORDINARY };
        live.ordinary = Some(ordinary(time)?);
    }
    let attacks = chosen(only, quick);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(attack) = attacks.get(number).filter(|_| !stop()) else {
                        break;
                    };
                    let result =
                        need_tools(attack.needs).and_then(|()| assail(attack, with_rival.is_ok()));
                    let said = match &result {
                        Ok(scene) => scene.line(),
                        Err(error) => format!("not run: {error:#}"),
                    };
                    eprintln!("{}: {}\n  {said}", attack.name, attack.what);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push((number, attack.name, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, ..)| *number);
    for (_, name, result) in results {
        match result {
            Ok(scene) => live.attacks.push(scene),
            Err(error) => not_run.push(format!("{name}: {error:#}")),
        }
    }
    Ok(live)
}

/// An attack by its whole name.
pub fn named(name: &str) -> Option<&'static Attack> {
    attacks::all()
        .into_iter()
        .find(|attack| attack.name == name)
}

/// The attacks of a run.
fn chosen(only: &str, quick: bool) -> Vec<&'static Attack> {
    let mut attacks = attacks::all();
    attacks.retain(|attack| attack.name.contains(only) && (attack.quick || !quick));
    attacks
}

/// Visitors alone.
fn ordinary(time: Duration) -> Result<Scene> {
    let stage = Stage::build(ANSWER)?;
    let visitors = Visitors::start(&stage)?;
    std::thread::sleep(time);
    let tally = visitors.tally();
    drop(visitors);
    let raised = alerts(&stage)?;
    let (packets, dropped) = packets_of_visitors(&stage)?;
    let name = ("ordinary", "live", "visitors alone");
    Ok(Scene {
        case: Case::judge(name, Expectation::default(), None, Vec::new()),
        false_alarms: raised,
        rival_seconds: None,
        before: tally.clone(),
        during: tally,
        visitors_packets: packets,
        visitors_dropped: dropped,
        cookies: None,
    })
}

/// One attack among visitors.
pub fn assail(attack: &Attack, with_rival: bool) -> Result<Scene> {
    let stage = Stage::build(attack.answer)?;
    let outside = &stage.world.outside;
    let rival = with_rival.then(|| Rival::start(outside)).transpose()?;
    let visitors = Visitors::start(&stage)?;
    std::thread::sleep(QUIET);
    let at_first = visitors.tally();
    let first = FirstPacket::await_on(outside, WIRE, attack.packets)?;
    let before = unix_now();
    let started = Instant::now();
    let mut running = (attack.start)(&stage)?;
    let is_syn_flood = attack.kinds.contains(&"syn_flood");
    let mut cookies = is_syn_flood.then(CookieWatch::default);
    while started.elapsed() < Duration::from_secs(attack.seconds) && !running.is_over()? {
        if let Some(cookies) = &mut cookies {
            cookies.look(&stage.daemon, started)?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let during = visitors::between(&at_first, &visitors.tally());
    if let Some(cookies) = &mut cookies {
        cookies.end(&stage.daemon, &during)?;
    }
    drop(running);
    let ended = Instant::now();
    std::thread::sleep(SETTLE);
    let raised = alerts(&stage)?;
    let (visitors_packets, visitors_dropped) = packets_of_visitors(&stage)?;
    drop(visitors);
    let began = first.time()?;
    let (false_alarms, raised): (Vec<_>, Vec<_>) = raised
        .into_iter()
        .partition(|alert| alert.detected < before || is_visitor(&alert.subject));
    let expected = Expectation::new(attack.kinds, attack.also);
    let rival_time = rival.as_ref().and_then(Rival::noticed);
    let cookies = cookies.map(|watch| watch.await_peace(&stage.daemon, ended));
    Ok(Scene {
        case: Case::judge((attack.name, "live", attack.what), expected, began, raised),
        false_alarms,
        rival_seconds: rival_time
            .zip(began)
            .map(|(noticed, began)| noticed - began),
        during,
        before: at_first,
        visitors_packets,
        visitors_dropped,
        cookies: cookies.transpose()?,
    })
}

impl Scene {
    /// In a line, for somebody who waits.
    pub fn line(&self) -> String {
        let mut kinds: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for alert in &self.case.raised {
            kinds.entry(&alert.kind).or_default().insert(&alert.subject);
        }
        let kinds: Vec<String> = kinds
            .iter()
            .map(|(kind, subjects)| match subjects.first() {
                Some(subject) if subjects.len() == 1 => format!("{kind} {subject}"),
                _ => format!("{kind} of {} subjects", subjects.len()),
            })
            .collect();
        let percent = |share: Option<f64>| share.map_or(0.0, |share| 100.0 * share);
        format!(
            "{:?} after {} s ({}); fastnetmon {} s; served {:.0} % before, {:.0} % during; {} of {} of \
             the visitors' packets dropped; {} false alarms",
            self.case.outcome,
            super::report::seconds(self.case.seconds),
            kinds.join(", "),
            super::report::seconds(self.rival_seconds),
            percent(self.served_before()),
            percent(self.served_during()),
            self.visitors_dropped,
            self.visitors_packets,
            self.false_alarms.len()
        )
    }
}

fn alerts(stage: &Stage) -> Result<Vec<Raised>> {
    let document = stage.daemon.palisade(&["alerts"])?;
    let alerts = document["alerts"].as_array().context("no alerts")?;
    Ok(alerts.iter().filter_map(Raised::read).collect())
}

/// Packets that the host saw of visitors, and how many of them the fence dropped. Visitors use only
/// what the policy lets in, so a drop is an answer to an alert.
fn packets_of_visitors(stage: &Stage) -> Result<(u64, u64)> {
    let document = stage
        .daemon
        .palisade(&["top", "--by", "packets", "--limit", "1000"])?;
    let sources = document["sources"].as_array().context("no sources")?;
    let (mut packets, mut dropped) = (0, 0);
    for source in sources {
        if source["source"].as_str().is_some_and(is_visitor) {
            packets += source["packets"].as_u64().unwrap_or(0);
            dropped += source["drops"].as_u64().unwrap_or(0);
        }
    }
    Ok((packets, dropped))
}

/// Whether a subject is one of the visitors, or a server that the host uses, or holds one.
fn is_visitor(subject: &str) -> bool {
    if subject.starts_with("2001:db8:b:") {
        return true;
    }
    let address = subject.split('/').next().unwrap_or_default();
    address
        .strip_prefix("198.51.100.")
        .and_then(|last| last.parse::<u8>().ok())
        .is_some_and(|last| (10..=61).contains(&last))
}

fn unix_now() -> f64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_are_told_from_attackers() {
        for visitor in ["198.51.100.40", "198.51.100.61", "2001:db8:b:3::/64"] {
            assert!(is_visitor(visitor), "{visitor}");
        }
        for other in [
            "198.51.100.201",
            "203.0.113.40",
            "host",
            "2001:db8:bad::/64",
            "shop",
        ] {
            assert!(!is_visitor(other), "{other}");
        }
    }
}
