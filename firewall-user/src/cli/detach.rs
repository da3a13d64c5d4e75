//! `palisade detach`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use super::client::{Client, read};
use super::{Global, output};
use crate::daemon;
use crate::daemon::documents::{DetachReport, DetachRequest};

/// Arguments of `palisade detach`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this interface
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Take down what a daemon left that does not run any more
    #[arg(long, conflicts_with = "interface")]
    pub stopped: bool,
    /// The host settings of the daemon that was stopped
    #[arg(
        long,
        value_name = "FILE",
        requires = "stopped",
        default_value = "/etc/palisade/palisade.toml"
    )]
    pub config: PathBuf,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    if arguments.stopped {
        let report = daemon::take_down(&arguments.config, arguments.reason)?;
        return show(global, &serde_json::to_value(&report)?, &report);
    }
    let request = DetachRequest {
        interface: arguments.interface,
    };
    let document = Client::new(&global.socket)?
        .because(arguments.reason)
        .post("/v1/detach", &request)?;
    let report: DetachReport = read(document.clone())?;
    show(global, &document, &report)
}

fn show(global: &Global, document: &Value, report: &DetachReport) -> anyhow::Result<ExitCode> {
    if global.json {
        output::json(document)?;
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
