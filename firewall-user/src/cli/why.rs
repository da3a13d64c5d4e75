//! `palisade why`.

use std::net::IpAddr;
use std::process::ExitCode;

use serde_json::Value;

use super::Global;
use super::client::{Client, read};
use super::explain::verdict;
use super::output;
use super::policy_file::PolicyFile;
use crate::daemon::documents::{BanDocument, OutcomeDocument, WhyReport};

/// Arguments of `palisade why`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The source
    pub address: IpAddr,
    #[command(flatten)]
    pub policy: PolicyFile,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&global.socket)?;
    let mut document = client.get(&format!("/v1/why?address={}", arguments.address))?;
    let report: WhyReport = read(document.clone())?;
    // Without a packet that came from it, there is none to ask about.
    let judged = match &report.latest {
        Some(latest) => match verdict(global, &arguments.policy, latest, arguments.address) {
            Ok(judged) => judged,
            Err(error) => {
                eprintln!("palisade: the verdict is left out: {error:#}");
                Value::Null
            }
        },
        None => Value::Null,
    };
    if global.json {
        document["explain"] = judged;
        output::json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&report, &judged)?;
    Ok(ExitCode::SUCCESS)
}

fn print(report: &WhyReport, judged: &Value) -> anyhow::Result<()> {
    output::line(&format!(
        "{} (accounted as {})",
        report.address, report.source
    ))?;
    match &report.counts {
        Some(counts) => {
            field(
                "now",
                &format!(
                    "{} packets/s, {} bytes/s, {} SYNs/s, {} requests/s",
                    output::rate(counts.packets_per_second),
                    output::rate(counts.bytes_per_second),
                    output::rate(counts.syns_per_second),
                    output::rate(counts.requests_per_second)
                ),
            )?;
            field(
                "counts",
                &format!(
                    "{} packets, {} bytes, {} SYNs, {} requests, {} dropped, {} failed; last seen {}",
                    counts.packets,
                    counts.bytes,
                    counts.syns,
                    counts.requests,
                    counts.drops,
                    counts.failed,
                    output::whole_seconds(counts.last_seen)
                ),
            )?;
        }
        None => field("counts", "not accounted now")?,
    }
    if let Some(span) = report.connections {
        let (first, latest) = (span.first, span.latest);
        field(
            "connections",
            &format!(
                "since {}, last seen {}",
                output::whole_seconds(first),
                output::whole_seconds(latest)
            ),
        )?;
    }
    field("sets", &listed(&report.sets))?;
    if let Some(by) = report.protected_by {
        field("protected", &format!("never_block covers it with {by}"))?;
    }
    for outcome in &report.outcomes {
        field("packets", &met(outcome))?;
    }
    if let Some(said) = judged["verdict"].as_str() {
        let packet = judged["packet"].as_str().unwrap_or_default();
        let reason = judged["reason"].as_str().unwrap_or_default();
        field("verdict", &format!("{said} ({reason}): {packet}"))?;
    }
    for ban in &report.bans {
        field(&ban.measure, &in_force(ban))?;
    }
    for past in &report.past_bans {
        let how = if past.lifted { "lifted" } else { "ended" };
        field(
            "past",
            &format!(
                "{} of {}, {} to {} ({how}): {}",
                past.ban.measure.name(),
                past.ban.prefix,
                output::whole_seconds(past.ban.created),
                output::whole_seconds(past.ended),
                output::optional(past.ban.reason.as_deref())
            ),
        )?;
    }
    field("offences", &report.offences.to_string())?;
    for alert in &report.alerts {
        field(
            "alert",
            &format!(
                "{} {} {}, {}, {}: {}",
                alert.id,
                alert.severity,
                alert.kind,
                alert.state,
                output::moment(alert.started),
                alert.why
            ),
        )?;
        for response in &alert.response {
            field("", response)?;
        }
    }
    for incident in &report.incidents {
        field(
            "incident",
            &format!("{} {}: {}", incident.id, incident.state, incident.why),
        )?;
    }
    Ok(())
}

fn met(outcome: &OutcomeDocument) -> String {
    let by = match &outcome.rule {
        Some(rule) => format!("{} {rule}", outcome.reason),
        None => outcome.reason.clone(),
    };
    format!(
        "about {} {}: {} by {by}",
        outcome.packets, outcome.direction, outcome.verdict
    )
}

fn in_force(ban: &BanDocument) -> String {
    let left = ban
        .remaining_seconds
        .map_or_else(|| "forever".to_owned(), output::seconds);
    format!(
        "{}, {}, {left} left: {}",
        ban.prefix,
        ban.origin,
        output::optional(ban.reason.as_deref())
    )
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn field(name: &str, value: &str) -> anyhow::Result<()> {
    output::line(&format!("  {name:<11} {value}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_packets_met_is_a_sentence() {
        let outcome = OutcomeDocument {
            direction: "inbound".to_owned(),
            verdict: "drop".to_owned(),
            reason: "rule".to_owned(),
            rule: Some("hostile".to_owned()),
            packets: 40,
        };
        assert_eq!(met(&outcome), "about 40 inbound: drop by rule hostile");
        assert_eq!(json!(outcome)["packets"], 40);
    }
}
