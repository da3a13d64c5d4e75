//! `palisade detach`.

use std::process::ExitCode;

use super::client::{Client, read};
use super::{Global, output};
use crate::daemon::documents::{DetachReport, DetachRequest};

/// Arguments of `palisade detach`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this interface
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let request = DetachRequest {
        interface: arguments.interface,
    };
    let document = Client::new(&global.socket)?
        .because(arguments.reason)
        .post("/v1/detach", &request)?;
    let report: DetachReport = read(document.clone())?;
    if global.json {
        output::json(&document)?;
    } else if report.detached.is_empty() {
        output::line("no interface was protected")?;
    } else {
        output::line(&format!("open now: {}", report.detached.join(", ")))?;
        if !report.attached.is_empty() {
            output::line(&format!("still protected: {}", report.attached.join(", ")))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
