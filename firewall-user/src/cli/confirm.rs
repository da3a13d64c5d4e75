//! `palisade confirm`.

use std::process::ExitCode;

use super::client::{Client, read};
use super::{Global, output};
use crate::daemon::documents::ConfirmReport;

/// Arguments of `palisade confirm`.
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
        .post("/v1/confirm", &serde_json::json!({}))?;
    let report: ConfirmReport = read(document.clone())?;
    if global.json {
        output::json(&document)?;
    } else {
        output::line(&format!(
            "confirmed: generation {} stays, from {}",
            report.generation, report.source
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
