//! `palisade alerts`.

use std::process::ExitCode;

use serde_json::Value;

use super::Global;
use super::client::{Client, read};
use super::output::{self, Table};
use crate::daemon::documents::Alerts;
use crate::detect::{Alert, Time};

/// Arguments of `palisade alerts`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stay and print each change: first the alerts that fire now
    #[arg(long)]
    pub follow: bool,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
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
        "STATE", "SEVERITY", "KIND", "SUBJECT", "SINCE", "ENDED", "WHY", "RESPONSE",
    ]);
    for alert in alerts {
        table.row(vec![
            alert.state.to_string(),
            alert.severity.to_string(),
            alert.kind.to_string(),
            alert.subject.to_string(),
            moment(alert.started),
            alert.ended.map_or_else(|| "-".to_owned(), moment),
            alert.why,
            output::optional(alert.response.last().map(String::as_str)),
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
        moment(alert.ended.unwrap_or(alert.detected)),
        alert.state,
        alert.severity,
        alert.kind,
        alert.subject,
        alert.why
    )
}

fn moment(time: Time) -> String {
    match jiff::Timestamp::from_nanosecond(time.into()) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => "-".to_owned(),
    }
}
