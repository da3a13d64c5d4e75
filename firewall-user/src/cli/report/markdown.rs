//! The review as people read and sign it: Markdown with tables.

use std::fmt::Write;

use jiff::Timestamp;

use super::output::{moment, whole_seconds};
use crate::audit::{Outcome, Record};
use crate::cli::history::summary;
use crate::daemon::documents::{Findings, HistoryEntry, Report, ReviewedRule, actor};

/// The whole report.
pub fn write(report: &Report) -> String {
    let mut text = String::new();
    head(&mut text, report);
    findings(&mut text, report);
    rules(&mut text, report);
    changes(&mut text, report);
    records(
        &mut text,
        "Other actions",
        &report.actions,
        report.action_count,
    );
    records(&mut text, "Refused", &report.refused, report.refused_count);
    bans(&mut text, report);
    incidents(&mut text, report);
    audit(&mut text, report);
    text
}

fn head(text: &mut String, report: &Report) {
    let policy = &report.policy;
    let days = report.until.duration_since(report.since).as_hours() / 24;
    let entry = policy.entry.map_or(String::new(), |entry| {
        format!(", entry {entry} of the history")
    });
    line(
        text,
        &format!("# Firewall review of {}", cell(&report.host)),
    );
    line(text, "");
    line(
        text,
        &format!(
            "Period: {} to {} ({days} days). Made by palisade {}.",
            whole_seconds(report.since),
            whole_seconds(report.until),
            report.version
        ),
    );
    line(text, "");
    line(
        text,
        &format!(
            "Policy in force: {} (generation {}{entry}), since {}. Default inbound: {}, outbound: {}. Mode: {}.",
            cell(&policy.source),
            policy.generation,
            whole_seconds(policy.applied),
            policy.inbound,
            policy.outbound,
            policy.mode
        ),
    );
    if let Some(sha256) = &policy.sha256 {
        line(text, &format!("SHA-256 of its text: `{sha256}`."));
    }
    if !policy.valid {
        line(
            text,
            "The daemon's own policy file is **not** what is in force: see `palisade status`.",
        );
    }
}

fn findings(text: &mut String, report: &Report) {
    section(text, "To be looked at");
    let Findings {
        unused,
        no_owner,
        no_reason,
        expired,
        expires_soon,
        observed,
    } = &report.findings;
    let mut nothing = true;
    for (what, names) in [
        ("Not hit in the whole period", unused),
        ("Without an owner", no_owner),
        ("Without a reason", no_reason),
        ("Expired", expired),
        ("Expire within 90 days", expires_soon),
        ("Only observed", observed),
    ] {
        if !names.is_empty() {
            nothing = false;
            let names: Vec<String> = names.iter().map(|name| cell(name)).collect();
            line(text, &format!("- {what}: {}", names.join(", ")));
        }
    }
    if nothing {
        line(text, "Nothing.");
    }
}

fn rules(text: &mut String, report: &Report) {
    section(text, "Rules");
    if report.rules.is_empty() {
        line(text, "None.");
        return;
    }
    header(
        text,
        &[
            "Rule",
            "Action",
            "Direction",
            "Mode",
            "Matches",
            "Owner",
            "Reason",
            "Stands since",
            "Days",
            "Changed",
            "Expires",
            "Packets",
            "Bytes",
            "Last hit",
        ],
    );
    for rule in &report.rules {
        row(text, &rule_cells(rule, report.until));
    }
}

fn rule_cells(rule: &ReviewedRule, until: Timestamp) -> Vec<String> {
    let day = |time: Option<Timestamp>| time.map_or("-".to_owned(), date);
    let age = rule
        .standing
        .since
        .map(|since| until.duration_since(since).as_hours() / 24);
    vec![
        rule.name.clone(),
        rule.action.clone(),
        rule.direction.clone(),
        rule.mode.clone(),
        rule.matches.clone(),
        or_none(rule.owner.as_deref()),
        or_none(rule.reason.as_deref()),
        day(rule.standing.since),
        age.map_or("-".to_owned(), |days| days.to_string()),
        day(rule.standing.changed),
        day(rule.expires),
        rule.packets.to_string(),
        rule.bytes.to_string(),
        rule.standing
            .last_hit
            .map_or("never".to_owned(), whole_seconds),
    ]
}

fn changes(text: &mut String, report: &Report) {
    section(text, "Changes of the policy");
    if report.history_since.is_none_or(|kept| kept > report.since) {
        let kept = report.history_since.map_or("now".to_owned(), whole_seconds);
        line(text, &format!("The history is kept since {kept} only."));
        line(text, "");
    }
    if report.changes.is_empty() {
        line(text, "None.");
        return;
    }
    header(text, &["Entry", "Time", "Who", "From", "Changed", "Reason"]);
    for HistoryEntry {
        number,
        time,
        by,
        source,
        changes,
        ..
    } in &report.changes
    {
        row(
            text,
            &[
                number.to_string(),
                whole_seconds(*time),
                actor(&by.who, by.from),
                source.clone(),
                summary(changes),
                or_none(by.reason.as_deref()),
            ],
        );
    }
}

fn records(text: &mut String, title: &str, records: &[Record], count: usize) {
    section(text, title);
    if records.is_empty() {
        line(text, "None.");
        return;
    }
    if count > records.len() {
        line(text, &format!("The latest {} of {count}.", records.len()));
        line(text, "");
    }
    header(text, &["Line", "Time", "Who", "Action", "Target", "Reason"]);
    for record in records {
        let entry = &record.entry;
        let reason = match &entry.outcome {
            Outcome::Done => or_none(entry.reason.as_deref()),
            Outcome::Refused(why) => why.clone(),
        };
        row(
            text,
            &[
                record.sequence.to_string(),
                whole_seconds(record.time),
                actor(&entry.who, entry.from),
                entry.action.clone(),
                or_none(entry.target.as_deref()),
                reason,
            ],
        );
    }
}

fn bans(text: &mut String, report: &Report) {
    let bans = &report.bans;
    section(text, "Bans");
    line(
        text,
        &format!(
            "In force: {} set by people, {} automatic. In the period {} were set and {} lifted.",
            bans.in_force.manual, bans.in_force.automatic, bans.set, bans.lifted
        ),
    );
    if bans.without_end.is_empty() {
        return;
    }
    line(text, "");
    header(text, &["Without end", "Since", "Reason"]);
    for ban in &bans.without_end {
        row(
            text,
            &[
                ban.prefix.to_string(),
                whole_seconds(ban.created),
                or_none(ban.reason.as_deref()),
            ],
        );
    }
}

fn incidents(text: &mut String, report: &Report) {
    section(text, "Incidents");
    if report.incidents.is_empty() {
        line(text, "None.");
        return;
    }
    header(
        text,
        &["Number", "Severity", "Began", "Ended", "What", "Done"],
    );
    for incident in &report.incidents {
        row(
            text,
            &[
                incident.id.to_string(),
                incident.severity.to_string(),
                moment(incident.started),
                incident.ended.map_or("lasts".to_owned(), moment),
                incident.why.clone(),
                or_none(
                    Some(incident.response.join("; "))
                        .as_deref()
                        .filter(|done| !done.is_empty()),
                ),
            ],
        );
    }
}

fn audit(text: &mut String, report: &Report) {
    let audit = &report.audit;
    section(text, "Audit log");
    let since = audit.first.map_or(String::new(), |first| {
        format!(" since {}", whole_seconds(first))
    });
    if audit.whole {
        line(
            text,
            &format!("The hash chain of all {} lines{since} holds.", audit.lines),
        );
        return;
    }
    line(
        text,
        &format!(
            "The hash chain of the {} lines{since} does **not** hold:",
            audit.lines
        ),
    );
    line(text, "");
    for fault in &audit.faults {
        line(
            text,
            &format!("- line {} {}", fault.line, cell(&fault.what)),
        );
    }
}

fn section(text: &mut String, title: &str) {
    line(text, "");
    line(text, &format!("## {title}"));
    line(text, "");
}

fn header(text: &mut String, cells: &[&str]) {
    line(text, &format!("| {} |", cells.join(" | ")));
    line(text, &format!("|{}", " --- |".repeat(cells.len())));
}

fn row(text: &mut String, cells: &[String]) {
    let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
    line(text, &format!("| {} |", cells.join(" | ")));
}

fn line(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

/// A text that cannot break out of its cell, nor become markup: names and reasons are other people's words.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '|' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '\\' | '#' | '!' => {
                safe.push('\\');
                safe.push(character);
            }
            _ if character.is_control() => safe.push(' '),
            _ => safe.push(character),
        }
    }
    safe
}

fn or_none(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

fn date(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_people_s_words_stay_in_their_cell() {
        assert_eq!(
            cell("a | b\n<script> `x` [link](url) 100 %"),
            "a \\| b \\<script\\> \\`x\\` \\[link\\](url) 100 %"
        );
        let mut text = String::new();
        row(&mut text, &["one|two".to_owned(), "three".to_owned()]);
        assert_eq!(text, "| one\\|two | three |\n");
    }
}
