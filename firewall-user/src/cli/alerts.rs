//! `palisade alerts`.

mod show;

use std::process::ExitCode;

use serde_json::Value;

use super::Global;
use super::client::{Client, read};
use super::output::{self, Table};
use crate::daemon::documents::Alerts;
use crate::detect::Alert;

/// Arguments of `palisade alerts`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Stay and print each change: first the alerts that fire now
    #[arg(long)]
    pub follow: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show all that is known about one alert, or an incident: evidence, answers, packets
    Show {
        /// Its number
        id: u64,
    },
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    if let Some(Verb::Show { id }) = arguments.verb {
        return show::run(global, id);
    }
    let client = Client::new(&global.socket)?;
    if arguments.follow {
        client.follow("/v1/alerts?follow=1", |line| {
            let document: Value = serde_json::from_slice(line)?;
            if global.json {
                output::json(&document)
            } else {
                output::line(&sentence(&read(document)?))
            }
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let document = client.get("/v1/alerts")?;
    if global.json {
        output::json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Alerts { alerts } = read(document)?;
    let mut table = Table::new(&[
        "STATE", "SEVERITY", "KIND", "SUBJECT", "SINCE", "ENDED", "WHY", "RESPONSE", "ID",
    ]);
    for alert in alerts {
        table.row(vec![
            alert.state.to_string(),
            alert.severity.to_string(),
            alert.kind.to_string(),
            alert.subject.to_string(),
            output::moment(alert.started),
            alert.ended.map_or_else(|| "-".to_owned(), output::moment),
            alert.why,
            output::optional(alert.response.last().map(String::as_str)),
            alert.id.to_string(),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

fn sentence(alert: &Alert) -> String {
    let response = match alert.response.last() {
        Some(response) => format!(" [{response}]"),
        None => String::new(),
    };
    format!(
        "{} {} {} {} {}: {}{response}",
        output::moment(alert.ended.unwrap_or(alert.detected)),
        alert.state,
        alert.severity,
        alert.kind,
        alert.subject,
        alert.why
    )
}
