//! `palisade rollback`.

use std::process::ExitCode;

use super::client::{Client, read};
use super::{Global, output};
use crate::daemon::documents::RollbackReport;

/// Arguments of `palisade rollback`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let document = Client::new(&global.socket)?
        .because(arguments.reason)
        .post("/v1/rollback", &serde_json::json!({}))?;
    let report: RollbackReport = read(document.clone())?;
    if global.json {
        output::json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    if report.attached.is_empty() {
        output::line("the fence is down again, as it was before")?;
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
