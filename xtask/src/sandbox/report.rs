//! What was counted, who sent it, what was said about it, and what Prometheus would see.

use std::{
    fs::{self, File},
    process::Command,
};

use anyhow::{Context, Result};
use palisade_tests::{daemon::metric, tools};
use serde_json::Value;

use super::{
    checks::Checks,
    screen::Screen,
    stage::{Stage, text},
};

pub fn print(stage: &Stage, screen: &Screen, checks: &mut Checks) -> Result<()> {
    let daemon = &stage.daemon;
    let status = daemon.palisade(&["status"])?;
    screen.heading("What was judged (palisade status)");
    table(
        screen,
        &["direction", "verdict", "reason", "packets", "bytes"],
        &status["totals"],
    );
    screen.heading("By rule (palisade rule list)");
    let rules = daemon.palisade(&["rule", "list"])?;
    let seen: Value = rules["rules"]
        .as_array()
        .context("rule list has no rules")?
        .iter()
        .filter(|rule| rule["packets"].as_u64() > Some(0))
        .cloned()
        .collect();
    table(screen, &["name", "mode", "packets", "bytes"], &seen);
    screen.heading("Who sent most (palisade top)");
    let top = daemon.palisade(&["top", "--limit", "6"])?;
    table(
        screen,
        &["source", "packets", "bytes", "syns", "requests", "drops"],
        &top["sources"],
    );
    screen.heading("Alerts (palisade alerts)");
    let alerts = daemon.palisade(&["alerts"])?;
    let first: Value = alerts["alerts"]
        .as_array()
        .context("alerts has no alerts")?
        .iter()
        .take(8)
        .cloned()
        .collect();
    table(
        screen,
        &["state", "severity", "kind", "subject", "why"],
        &first,
    );
    screen.heading("Bans in force (palisade bans)");
    let bans = daemon.palisade(&["bans"])?;
    let count = bans["bans"].as_array().map_or(0, Vec::len);
    let first: Value = bans["bans"]
        .as_array()
        .context("bans has no bans")?
        .iter()
        .take(6)
        .cloned()
        .collect();
    table(
        screen,
        &["prefix", "origin", "reason", "remaining_seconds"],
        &first,
    );
    if count > 6 {
        println!("  and {} more", count - 6);
    }
    metrics(stage, screen, checks)
}

fn table(screen: &Screen, columns: &[&str], rows: &Value) {
    let rows: Vec<Vec<String>> = rows
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| columns.iter().map(|column| text(&row[column])).collect())
        .collect();
    screen.table(columns, &rows);
}

/// Scrapes as Prometheus would, shows the lines that matter, and compares them with the status.
fn metrics(stage: &Stage, screen: &Screen, checks: &mut Checks) -> Result<()> {
    screen.heading("Scraped (curl http://127.0.0.1:9477/metrics, inside)");
    let scrape = stage.daemon.scrape()?;
    let shown = [
        "palisade_packets_total{direction=\"inbound\"",
        "palisade_rule_packets_total{mode=\"enforce\",rule=\"shop\"",
        "palisade_rule_packets_total{mode=\"enforce\",rule=\"hostile\"",
        "palisade_alerts_total",
        "palisade_bans",
        "palisade_policy_valid",
    ];
    for line in scrape.lines() {
        let counted = !line.ends_with(" 0");
        if counted && shown.iter().any(|start| line.starts_with(start)) {
            println!("  {line}");
        }
    }
    let dropped = stage.inbound("drop")? as f64;
    let scraped = metric(
        &stage.daemon.scrape()?,
        "palisade_packets_total",
        &["direction=\"inbound\"", "verdict=\"drop\""],
    );
    checks.note(
        scraped >= dropped && dropped > 0.0,
        format!("the scrape counts what the status counts: {scraped} packets dropped"),
    );
    if tools::find("promtool").is_none() {
        println!("  (promtool is not installed: the scrape's form is not checked)");
        return Ok(());
    }
    let file = stage.daemon.folder().join("scrape.prom");
    fs::write(&file, &scrape)?;
    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(File::open(&file)?)
        .output()?;
    checks.note(
        checked.status.success() && checked.stderr.is_empty(),
        "promtool finds nothing to complain about in the scrape",
    );
    Ok(())
}
