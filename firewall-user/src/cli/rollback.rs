//! `palisade rollback`.

use std::process::ExitCode;

use super::apply::{how_to_keep, trial_length};
use super::client::{Client, read};
use super::history::{entry_number, summary};
use super::session::own_session;
use super::{Global, output};
use crate::daemon::documents::{RollbackReport, RollbackRequest};

/// Arguments of `palisade rollback`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of the entry of the history whose policy is put in force; the policy before without it
    #[arg(value_name = "ENTRY", value_parser = entry_number)]
    pub entry: Option<u64>,
    /// Put it on trial: unless `palisade confirm` comes within this time (60s, 10m, 1h30m), the kernel
    /// goes back to the policy in force now by itself
    #[arg(long, value_name = "DURATION", value_parser = trial_length, requires = "entry")]
    pub confirm: Option<u64>,
    /// Put it in force even if it cuts an ssh session, the gateway or the name servers
    #[arg(long, requires = "entry")]
    pub force: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let request = RollbackRequest {
        to: arguments.entry,
        confirm_seconds: arguments.confirm,
        force: arguments.force,
        ssh_connection: arguments.entry.and_then(|_| own_session()),
    };
    let document = Client::new(&global.socket)?
        .because(arguments.reason)
        .post("/v1/rollback", &request)?;
    let report: RollbackReport = read(document.clone())?;
    for list in &report.lists_changed {
        eprintln!("note: {list}");
    }
    if global.json {
        output::json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(entry), Some(trial)) = (report.entry, &report.trial) {
        output::line(&format!(
            "the policy of entry {entry} is in force on trial, as generation {}: {}",
            report.generation,
            summary(&report.changes)
        ))?;
        output::line(&how_to_keep(trial))?;
        return Ok(ExitCode::SUCCESS);
    }
    if report.attached.is_empty() {
        output::line("the fence is down again, as it was before")?;
    } else if let Some(entry) = report.entry {
        output::line(&format!(
            "the policy of entry {entry} is in force again, as generation {}: {}",
            report.generation,
            summary(&report.changes)
        ))?;
    } else {
        output::line(&format!(
            "generation {} is in force again, from {}",
            report.generation, report.source
        ))?;
    }
    output::line(&format!(
        "the policy of generation {} is kept in {}",
        report.from_generation,
        report.text.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}
