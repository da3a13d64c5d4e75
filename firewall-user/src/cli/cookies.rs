//! `palisade cookies`.

use std::process::ExitCode;

use super::client::{Client, read};
use super::output::{self, Table};
use super::{EXIT_FAILED, Global};
use crate::daemon::documents::{CookieCommand, CookieReport, CookieRequest};

/// Arguments of `palisade cookies`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do from now on: send cookies, never send any, or leave it to alerts; without it,
    /// how things stand
    #[arg(value_name = "ORDER")]
    pub order: Option<CookieCommand>,
    /// The rule, or the port where the default accepts; without it, all that let TCP connections in
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
}

/// Runs the verb. An order that cannot be carried out is a failure, so that scripts notice.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&global.socket)?;
    let wanted = arguments.order;
    let document = match wanted {
        None => client.get("/v1/cookies")?,
        Some(order) => client.post(
            "/v1/cookies",
            &CookieRequest {
                order,
                service: arguments.service,
            },
        )?,
    };
    let report: CookieReport = read(document.clone())?;
    if global.json {
        output::json(&document)?;
    } else {
        show(&report)?;
    }
    Ok(match wanted {
        Some(CookieCommand::On) if report.problem.is_some() => ExitCode::from(EXIT_FAILED),
        _ => ExitCode::SUCCESS,
    })
}

fn show(report: &CookieReport) -> anyhow::Result<()> {
    output::line(&summary(report))?;
    output::line(&format!(
        "sent {}, accepted {}, rejected {}; {} bytes came in and {} went out",
        report.sent, report.accepted, report.rejected, report.bytes_received, report.bytes_sent
    ))?;
    if report.armed.is_empty() && report.orders.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["SERVICE", "PORTS", "ARMED", "ORDER"]);
    let order = |service: &str| {
        let order = report.orders.get(service).map(|order| match order {
            crate::respond::CookieOrder::On => "on",
            crate::respond::CookieOrder::Off => "off",
        });
        output::optional(order)
    };
    for armed in &report.armed {
        table.row(vec![
            armed.service.clone(),
            armed.ports.join(", "),
            armed.why.clone(),
            order(&armed.service),
        ]);
    }
    for service in report.orders.keys() {
        if !report.armed.iter().any(|armed| armed.service == *service) {
            table.row(vec![
                service.clone(),
                output::optional(None),
                "no".to_owned(),
                order(service),
            ]);
        }
    }
    table.print()
}

/// One line, for `palisade status` too.
pub fn summary(report: &CookieReport) -> String {
    if let Some(why) = &report.unavailable {
        return format!("SYN cookies: not available: {why}");
    }
    if let Some(why) = &report.problem {
        return format!("SYN cookies: asked for and NOT sent: {why}");
    }
    let armed: Vec<&str> = report
        .armed
        .iter()
        .map(|armed| armed.service.as_str())
        .collect();
    let when = if report.automatic {
        "alerts lead to them"
    } else {
        "only by hand"
    };
    match (report.setting.as_str(), armed.is_empty()) {
        ("off", _) => "SYN cookies: switched off in the settings".to_owned(),
        (_, true) => format!("SYN cookies: none at the moment, {when}"),
        (_, false) => format!("SYN cookies: sent for {}, {when}", armed.join(", ")),
    }
}
