//! Which policy the fence comes up with: the daemon's own file, unless a trial that the daemon
//! before began says otherwise.

use anyhow::{anyhow, bail};
use jiff::Timestamp;
use tracing::{error, warn};

use super::{guard, log_applied};
use crate::daemon::memory::{Memory, Remembered};
use crate::daemon::offer::Offer;
use crate::datapath::{Datapath, Failed, Ground, Prepared, Resumed};
use crate::guard::{Threat, newly};
use crate::settings::Settings;

/// A fence that stands.
pub(super) struct Up {
    pub(super) datapath: Datapath,
    pub(super) offer: Offer,
    pub(super) applied: Timestamp,
    /// The policy before, if the one in force is on trial.
    pub(super) behind: Option<Offer>,
    /// Why the daemon's own policy is not the one in force.
    pub(super) error: Option<String>,
    /// What it cuts of what the host lives by.
    pub(super) cuts: Vec<Threat>,
}

/// Puts the fence up, or takes it over.
pub(super) fn put_up(
    settings: &Settings,
    offered: Result<Offer, String>,
    memory: &mut Memory,
) -> anyhow::Result<Up> {
    match Datapath::resume(&settings.datapath())? {
        Resumed::Nothing => as_asked(settings, offered, memory),
        Resumed::OnTrial(datapath) => go_on(settings, *datapath, offered, memory),
        Resumed::Failed(failed) => after_trial(settings, &failed, offered, memory),
    }
}

/// The daemon's own policy, unless its text was given back and nobody has changed it since.
fn as_asked(
    settings: &Settings,
    offered: Result<Offer, String>,
    memory: &mut Memory,
) -> anyhow::Result<Up> {
    let offer = offered.map_err(|error| refused(settings, &error))?;
    let given_back = memory.given_back.as_ref();
    if let Some(given) = given_back.filter(|given| given.policy.text == offer.text) {
        let error = format!(
            "{} holds the policy that was given back ({}); the one before it is in force",
            offer.source, given.why
        );
        error!("{error}: change it, or put it in force with `palisade apply`");
        return remembered(settings, memory, Some(error));
    }
    let ground = Ground::lay(&settings.datapath())?;
    let prepared = Datapath::prepare_start(&settings.datapath(), &offer.policy)?;
    let (cuts, prepared) = match would_cut(settings, &offer, prepared, memory)? {
        Cuts::None(prepared) => (Some(Vec::new()), prepared),
        Cuts::Known(cuts, prepared) => (Some(cuts), prepared),
        Cuts::NoChoice(prepared) => (None, prepared),
        Cuts::Newly(error) => {
            error!("{error}: the policy that was in force last is in force");
            drop(ground);
            return remembered(settings, memory, Some(error));
        }
    };
    let (started, lifelines) = std::thread::scope(|scope| {
        // It asks another process, which looks through all processes of the host.
        let looking = cuts
            .is_none()
            .then(|| scope.spawn(|| guard::lifelines(settings, None)));
        let started =
            Datapath::start_prepared(settings.datapath(), &offer.policy, prepared, ground);
        (started, looking.and_then(|looking| looking.join().ok()))
    });
    let (datapath, applied, compiled) = started?;
    log_applied(&applied, &offer);
    let cuts = cuts.unwrap_or_else(|| {
        let lifelines = lifelines.unwrap_or_else(|| guard::lifelines(settings, None));
        let cuts = guard::before_a_fence(&lifelines, &offer.policy, compiled).0;
        for threat in &cuts {
            error!("put in force, as no other policy is known: {threat}");
        }
        cuts
    });
    let now = Timestamp::now();
    memory.take(Remembered::new(&offer, now));
    Ok(Up {
        datapath,
        offer,
        applied: now,
        behind: None,
        error: None,
        cuts,
    })
}

/// What the policy that a daemon starts with would cut.
enum Cuts {
    /// Nothing that it did not cut before: it is the policy that was in force last.
    None(Prepared),
    /// Nothing that the policy that was in force last did not.
    Known(Vec<Threat>, Prepared),
    /// It is put in force whatever it cuts, as no other policy is known. So nobody waits for the answer.
    NoChoice(Prepared),
    /// Something that the policy that was in force last does not, and why that one is in force.
    Newly(String),
}

/// Nobody can be asked at a start, so the guard chooses: what is known to work, if anything is.
fn would_cut(
    settings: &Settings,
    offer: &Offer,
    prepared: Prepared,
    memory: &Memory,
) -> anyhow::Result<Cuts> {
    let last = memory.in_force.as_ref();
    if last.is_some_and(|last| last.text == offer.text) {
        return Ok(Cuts::None(prepared));
    }
    let Some(last) = last else {
        return Ok(Cuts::NoChoice(prepared));
    };
    let lifelines = guard::lifelines(settings, None);
    let Prepared { compiled, took } = prepared;
    let (threats, compiled) = guard::before_a_fence(&lifelines, &offer.policy, compiled);
    let prepared = Prepared { compiled, took };
    if threats.is_empty() {
        return Ok(Cuts::Known(threats, prepared));
    }
    let Ok(last) = last.offer() else {
        return Ok(Cuts::NoChoice(prepared));
    };
    let compiled = Datapath::rehearse(&settings.datapath(), &last.policy)?;
    let (before, _) = guard::before_a_fence(&lifelines, &last.policy, compiled);
    let (new, known) = newly(threats, &before);
    if new.is_empty() {
        return Ok(Cuts::Known(known, prepared));
    }
    let source = &offer.source;
    Ok(Cuts::Newly(format!(
        "{source} is not put in force: {}",
        guard::refusal(&new)
    )))
}

/// A trial that was begun by the daemon before goes on.
fn go_on(
    settings: &Settings,
    datapath: Datapath,
    offered: Result<Offer, String>,
    memory: &mut Memory,
) -> anyhow::Result<Up> {
    let trial = datapath.trial();
    let generation = trial.as_ref().map_or(0, |trial| trial.generation);
    let on_trial = memory.trial.clone();
    let offer = match on_trial.as_ref().map(Remembered::offer) {
        Some(Ok(offer)) => offer,
        other => {
            let why = match other {
                Some(Err(error)) => format!("its policy cannot be read any more: {error}"),
                _ => "its policy is not remembered".to_owned(),
            };
            drop(datapath);
            return after_trial(settings, &Failed { generation, why }, offered, memory);
        }
    };
    let behind = match memory.in_force.as_ref().map(Remembered::offer) {
        Some(Ok(behind)) => Some(behind),
        Some(Err(error)) => {
            warn!("the policy before the trial cannot be read any more: {error}");
            None
        }
        None => None,
    };
    warn!(
        generation,
        policy = offer.source,
        remaining_seconds = trial.map_or(0, |trial| trial.remaining.as_secs()),
        "a policy is on trial"
    );
    Ok(Up {
        datapath,
        offer,
        applied: on_trial.map_or_else(Timestamp::now, |trial| trial.applied),
        behind,
        error: None,
        cuts: Vec::new(),
    })
}

/// A trial has failed while no daemon looked: what was in force before it is put in force.
fn after_trial(
    settings: &Settings,
    failed: &Failed,
    offered: Result<Offer, String>,
    memory: &mut Memory,
) -> anyhow::Result<Up> {
    let own = memory.trial.as_ref().is_some_and(|trial| trial.own);
    memory.give_back_trial(failed.generation, &failed.why);
    let error = format!(
        "the policy on trial as generation {} was given back: {}",
        failed.generation, failed.why
    );
    error!("{error}");
    if memory.in_force.is_none() {
        return as_asked(settings, offered, memory);
    }
    remembered(settings, memory, own.then_some(error))
}

/// The policy that was in force last.
fn remembered(
    settings: &Settings,
    memory: &mut Memory,
    error: Option<String>,
) -> anyhow::Result<Up> {
    let Some(policy) = &memory.in_force else {
        bail!(
            "{}",
            error.unwrap_or_else(|| "no policy is remembered".to_owned())
        );
    };
    let offer = policy.offer().map_err(|error| refused(settings, &error))?;
    let (datapath, applied) = Datapath::start(settings.datapath(), &offer.policy)?;
    log_applied(&applied, &offer);
    Ok(Up {
        datapath,
        offer,
        applied: policy.applied,
        behind: None,
        error,
        cuts: Vec::new(),
    })
}

fn refused(settings: &Settings, error: &str) -> anyhow::Error {
    let state = if Datapath::stands(&settings.pin_dir) {
        format!(
            "the fence pinned under {} stands as it was",
            settings.pin_dir.display()
        )
    } else {
        "nothing is protected".to_owned()
    };
    anyhow!("{error}\nthe daemon does not start with this policy; {state}")
}
