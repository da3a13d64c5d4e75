//! `palisade status`.

use std::process::ExitCode;

use super::client::{Client, read};
use super::cookies;
use super::output::{self, Table};
use super::{EXIT_FAILED, Global};
use crate::daemon::documents::{InterfaceStatus, Status, WaitingStatus};
use crate::sandbox::Confinement;

/// Arguments of `palisade status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also show how full each kernel map is
    #[arg(long)]
    pub maps: bool,
}

/// Runs the verb. An open host is a failure, so that scripts notice.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let document = Client::new(&global.socket)?.get("/v1/status")?;
    let status: Status = read(document.clone())?;
    if global.json {
        output::json(&document)?;
    } else {
        show(&status, arguments.maps)?;
    }
    if status.interfaces.is_empty() {
        eprintln!("palisade: no interface is protected");
        return Ok(ExitCode::from(EXIT_FAILED));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(status: &Status, maps: bool) -> anyhow::Result<()> {
    let policy = &status.policy;
    output::line(&format!(
        "palisade {} ({}), process {}, since {}",
        status.version,
        status.revision,
        status.pid,
        output::whole_seconds(status.started)
    ))?;
    output::line(&format!(
        "policy: {}, generation {}, {}, {}, mode {}, applied {}",
        policy.source,
        policy.generation,
        output::counted(policy.rules, "rule"),
        output::counted(policy.sets, "set"),
        policy.mode,
        output::whole_seconds(policy.applied)
    ))?;
    if !policy.observed.is_empty() {
        output::line(&format!(
            "observed only: {}; `palisade rule list` shows what they would have done",
            listed(&policy.observed)
        ))?;
    }
    if let Some(trial) = &policy.trial {
        output::line(&format!(
            "on trial for another {}, until {}: `palisade confirm` keeps it, otherwise generation {} is back",
            output::seconds(trial.remaining_seconds),
            output::whole_seconds(trial.deadline),
            trial.previous_generation
        ))?;
    }
    if let Some(given) = &policy.given_back {
        output::line(&format!(
            "given back: generation {} of {}, {}: {}; its text is in {}",
            given.generation,
            given.source,
            output::whole_seconds(given.time),
            given.reason,
            given.text.display()
        ))?;
    }
    for threat in &policy.cuts {
        output::line(&format!("put in force although {threat}"))?;
    }
    if let Some(error) = &policy.error {
        output::line(&format!(
            "{} is not in force as it stands: {error}",
            policy.file.display()
        ))?;
    }
    for interface in &status.interfaces {
        output::line(&interface_line(interface))?;
    }
    for waiting in &status.waiting {
        output::line(&waiting_line(waiting))?;
    }
    output::line(&format!(
        "bans: {} manual, {} automatic; alerts: {} active; sources: {} tracked; events: {} lost, {} throttled",
        status.bans.manual,
        status.bans.automatic,
        status.alerts_active,
        status.sources_tracked,
        status.health.events_lost,
        status.health.events_throttled,
    ))?;
    let state = &status.state;
    for fault in state.faults.iter().chain(&state.set_aside) {
        output::line(&format!("state: {fault}"))?;
    }
    output::line(&cookies::summary(&status.syn_cookies))?;
    output::line(&confinement(&status.confinement))?;
    for signature in &status.signatures {
        output::line(&format!(
            "temporary rule: {}, alert {}, since {}: drops {}; {} so far",
            signature.name,
            signature.alert,
            output::whole_seconds(signature.since),
            signature.words,
            output::counted(
                usize::try_from(signature.packets).unwrap_or(usize::MAX),
                "packet"
            )
        ))?;
    }
    output::line("")?;
    let mut totals = Table::new(&[
        "INTERFACE",
        "DIRECTION",
        "VERDICT",
        "REASON",
        "PACKETS",
        "BYTES",
    ]);
    for total in &status.totals {
        totals.row(vec![
            total.interface.clone(),
            total.direction.clone(),
            total.verdict.clone(),
            total.reason.clone(),
            total.packets.to_string(),
            total.bytes.to_string(),
        ]);
    }
    totals.print()?;
    if maps {
        output::line("")?;
        let mut table = Table::new(&["MAP", "ENTRIES", "CAPACITY"]);
        for map in &status.maps {
            table.row(vec![
                map.map.clone(),
                map.entries.to_string(),
                map.capacity.to_string(),
            ]);
        }
        table.print()?;
    }
    Ok(())
}

/// Names, the first of many.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

fn confinement(confinement: &Confinement) -> String {
    if !confinement.enabled {
        return "daemon: not confined (`sandbox` under [hardening] is off)".to_owned();
    }
    let mut parts = vec![format!(
        "capabilities {}",
        confinement.capabilities.join(" ")
    )];
    if confinement.system_calls {
        parts.push("system calls filtered".to_owned());
    }
    parts.push(format!(
        "file system restricted: {}",
        confinement.file_system
    ));
    for missing in &confinement.missing {
        parts.push(format!("MISSING: {missing}"));
    }
    format!("daemon: confined: {}", parts.join("; "))
}

fn waiting_line(waiting: &WaitingStatus) -> String {
    let why = match &waiting.why {
        Some(why) => format!("NOT PROTECTED: {why}"),
        None => "waiting for the device".to_owned(),
    };
    format!("interface: {}, {why}", waiting.name)
}

fn interface_line(interface: &InterfaceStatus) -> String {
    let mut text = format!(
        "interface: {}, ingress xdp {}, egress {}",
        interface.name, interface.mode, interface.egress
    );
    if let Some(fallback) = &interface.fallback {
        text.push_str(&format!(" (native mode was refused: {fallback})"));
    }
    if interface.taken_over {
        text.push_str(", taken over from an earlier daemon");
    }
    text
}
