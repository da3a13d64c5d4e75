//! What is done while no daemon runs: looking whether one would start, and taking down what the last
//! one left. Packages and people ask for it around installations.

use std::path::Path;

use anyhow::anyhow;
use serde_json::Value;

use super::documents::DetachReport;
use super::lock::Locks;
use super::offer::{Offer, Origin};
use crate::audit::{AuditLog, Author, Channel, Entry, Outcome};
use crate::datapath::{Datapath, others};
use crate::settings::Settings;

/// Reads what a start would read, and compiles the policy. Nothing is touched, and a daemon may run.
/// What is odd but no obstacle.
pub fn check(config: &Path) -> anyhow::Result<Vec<String>> {
    let settings = Settings::load(config)?;
    let offer =
        Offer::read(&Origin::Own(settings.policy.clone())).map_err(|error| anyhow!("{error}"))?;
    Datapath::rehearse(&settings.datapath(), &offer.policy)?;
    let mut warnings = offer.warnings;
    warnings.extend(Datapath::missing(&settings.datapath())?.iter().map(|name| {
        format!(
            "there is no interface {name} now: it would be fenced as soon as it comes (there are {})",
            others()
        )
    }));
    Ok(warnings)
}

/// Takes the fence down that a daemon with these settings left. Refused while one runs.
pub fn take_down(config: &Path, reason: Option<String>) -> anyhow::Result<DetachReport> {
    let settings = Settings::load(config)?;
    let _locks = Locks::take(&settings.state_dir, &settings.pin_dir)?;
    let result = Datapath::take_down(&settings.pin_dir, &settings.state_dir);
    let outcome = result.as_ref().map_or_else(
        |error| Outcome::Refused(format!("{error:#}")),
        |_| Outcome::Done,
    );
    let target = result.as_ref().ok().map(|open| open.join(", "));
    // A record that cannot be kept does not keep anybody from opening the host.
    match AuditLog::open(&settings.state_dir) {
        Ok(log) => log.append(Entry {
            who: Author {
                uid: Some(rustix::process::geteuid().as_raw()),
                pid: Some(rustix::process::getpid().as_raw_nonzero().get()),
                program: Some("palisade".to_owned()),
                role: None,
            },
            from: Channel::Command,
            action: "fence.detach".to_owned(),
            target,
            reason,
            outcome,
            detail: Value::Null,
        }),
        Err(error) => eprintln!("palisade: not on record: {error:#}"),
    }
    Ok(DetachReport {
        detached: result?,
        attached: Vec::new(),
    })
}
