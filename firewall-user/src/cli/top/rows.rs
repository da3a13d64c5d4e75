//! What each tab shows: a snapshot as rows of cells.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use super::numbers::{count, short};
use super::plain::source_name;
use super::snapshot::Snapshot;
use super::tabs::Tab;
use crate::cli::output::{counted, moment, whole_seconds};
use crate::daemon::documents::{
    BanDocument, RangeDocument, RuleDocument, SourceDocument, WHOLE_HOST,
};
use crate::detect::{AlertState, Incident, Severity, Subject, Time};

/// How a row looks at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Plain,
    Faint,
    Notable,
    Bad,
}

/// One line of a table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Tells it from the others, from one snapshot to the next.
    pub key: String,
    /// As many as the tab has columns.
    pub cells: Vec<Cell>,
    pub mood: Mood,
    /// Whom a ban from here would block.
    pub subject: Option<IpNet>,
    /// The ban in force that covers it.
    pub banned_by: Option<IpNet>,
    /// What is told besides the cells when it is looked at alone.
    pub more: Vec<String>,
}

/// A text, and the number it is sorted by if it is one.
#[derive(Clone, Debug)]
pub struct Cell {
    pub text: String,
    pub number: Option<f64>,
}

impl Cell {
    fn text(text: impl Into<String>) -> Self {
        // Names come from policies and other hosts: none may move the cursor.
        let text: String = text.into();
        let visible = |character: char| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        };
        Self {
            text: text.chars().map(visible).collect(),
            number: None,
        }
    }

    fn rate(number: f64) -> Self {
        Self {
            text: short(number),
            number: Some(number),
        }
    }

    fn count(number: u64) -> Self {
        Self {
            text: count(number),
            number: Some(number as f64),
        }
    }

    /// A number that may be missing.
    fn maybe(number: Option<f64>) -> Self {
        Self {
            text: number.map_or_else(|| "-".to_owned(), short),
            number: Some(number.unwrap_or(-1.0)),
        }
    }
}

/// The rows of a tab, in the daemon's order.
pub fn rows(tab: Tab, snapshot: &Snapshot) -> Vec<Row> {
    let documents = &snapshot.documents;
    match tab {
        Tab::Sources => documents
            .sources
            .iter()
            .map(|source| of_source(source, snapshot))
            .collect(),
        Tab::Services => of_services(snapshot),
        Tab::Rules => documents
            .rules
            .iter()
            .map(|rule| of_rule(rule, snapshot))
            .collect(),
        Tab::Incidents => documents
            .incidents
            .iter()
            .map(|incident| of_incident(incident, &documents.bans))
            .collect(),
        Tab::Bans => documents.bans.iter().map(of_ban).collect(),
    }
}

fn of_source(source: &SourceDocument, snapshot: &Snapshot) -> Row {
    let prefix = accounted(source.source);
    let ban = source.ban.as_deref();
    let incident = snapshot.documents.incidents.iter().find(|incident| {
        incident.state == AlertState::Firing
            && incident.subjects.iter().any(
                |known| matches!(known.subject, Subject::Source(other) if other.contains(&prefix)),
            )
    });
    let (state, mood) = match (ban, incident) {
        (Some(ban), _) => (format!("{} {}", ban.measure, left(ban)), Mood::Notable),
        (None, Some(incident)) => (kind(incident), Mood::Bad),
        (None, None) => (String::new(), Mood::Plain),
    };
    let mut more = vec![
        format!("failed first contacts: {}", source.failed),
        format!("last seen: {}", whole_seconds(source.last_seen)),
    ];
    more.extend(
        ban.and_then(|ban| ban.reason.as_ref())
            .map(|reason| format!("banned for: {reason}")),
    );
    more.extend(incident.map(|incident| format!("incident {}: {}", incident.id, incident.why)));
    more.push(format!(
        "palisade why {} tells all that is known",
        source.source
    ));
    Row {
        key: source.source.to_string(),
        cells: vec![
            Cell::text(source_name(source.source)),
            Cell::rate(source.packets_per_second),
            Cell::rate(source.bytes_per_second),
            Cell::rate(source.syns_per_second),
            Cell::rate(source.requests_per_second),
            Cell::count(source.drops),
            Cell::count(source.packets),
            Cell::count(source.bytes),
            Cell::text(state),
        ],
        mood,
        subject: Some(prefix),
        banned_by: ban.map(|ban| ban.prefix),
        more,
    }
}

/// The prefix under which an address is accounted.
fn accounted(address: IpAddr) -> IpNet {
    match Subject::source(address) {
        Subject::Source(prefix) => prefix,
        _ => IpNet::from(address),
    }
}

/// The narrowest ban that covers a prefix.
fn covering<'b>(bans: &'b [BanDocument], prefix: &IpNet) -> Option<&'b BanDocument> {
    let covering = bans.iter().filter(|ban| ban.prefix.contains(prefix));
    covering.max_by_key(|ban| ban.prefix.prefix_len())
}

/// What is left of a ban, in its largest unit.
fn left(ban: &BanDocument) -> String {
    match ban.remaining_seconds {
        None => "forever".to_owned(),
        Some(seconds @ ..60) => format!("{seconds}s"),
        Some(seconds @ ..3_600) => format!("{}m", seconds / 60),
        Some(seconds @ ..86_400) => format!("{}h", seconds / 3_600),
        Some(seconds) => format!("{}d", seconds / 86_400),
    }
}

fn of_services(snapshot: &Snapshot) -> Vec<Row> {
    let services = &snapshot.documents.services;
    let range = |service: &str, measure: &str| {
        let mut ranges = services.ranges.iter();
        ranges.find(|range| range.service == service && range.measure == measure)
    };
    let mut rows = Vec::new();
    for service in &services.services {
        let name = &service.service;
        for (measure, count) in [
            ("packets", service.packets),
            ("bytes", service.bytes),
            ("connections", service.connections),
            ("requests", service.requests),
        ] {
            let range = range(name, measure);
            if count == 0 && range.is_none() && measure != "packets" {
                continue;
            }
            let rate = snapshot.service_rates.get(&(name.clone(), measure));
            rows.push(of_measure(name, measure, rate.copied(), range));
        }
        if let Some(range) = range(name, "new_sources") {
            rows.push(of_measure(name, "new_sources", None, Some(range)));
        }
    }
    let of_host = services.ranges.iter();
    let of_host = of_host.filter(|range| range.service == WHOLE_HOST);
    rows.extend(of_host.map(|range| of_measure("(host)", &range.measure, None, Some(range))));
    rows
}

fn of_measure(
    service: &str,
    measure: &str,
    now: Option<f64>,
    range: Option<&RangeDocument>,
) -> Row {
    let (state, mood) = match range {
        None => ("learning", Mood::Faint),
        Some(range) if range.observed > range.expected_high => ("above", Mood::Bad),
        Some(range) if range.observed < range.expected_low => ("below", Mood::Notable),
        Some(_) => ("expected", Mood::Plain),
    };
    let expected = range.map_or_else(
        || "-".to_owned(),
        |range| {
            format!(
                "{} - {}",
                short(range.expected_low),
                short(range.expected_high)
            )
        },
    );
    Row {
        key: format!("{service} {measure}"),
        cells: vec![
            Cell::text(service),
            Cell::text(measure),
            Cell::maybe(now),
            Cell::maybe(range.map(|range| range.observed)),
            Cell {
                text: expected,
                number: Some(range.map_or(-1.0, |range| range.expected_high)),
            },
            Cell::text(state),
        ],
        mood,
        subject: None,
        banned_by: None,
        more: Vec::new(),
    }
}

fn of_rule(rule: &RuleDocument, snapshot: &Snapshot) -> Row {
    let rate = snapshot.rule_rates.get(&rule.rule).copied();
    let observed = rule.observed.map(|observed| observed.count.packets as f64);
    let limited = rule.limited.map(|limited| limited.packets as f64);
    let mood = match rule.mode.as_str() {
        _ if rule.built_in => Mood::Faint,
        "observe" => Mood::Notable,
        _ => Mood::Plain,
    };
    let mut more = Vec::new();
    if let Some(observed) = rule.observed {
        let latest = observed
            .latest
            .map_or_else(|| "never".to_owned(), whole_seconds);
        more.push(format!(
            "while it was observed it matched {} packets, the latest {latest}",
            observed.count.packets
        ));
    }
    Row {
        key: rule.rule.clone(),
        cells: vec![
            Cell::text(&rule.rule),
            Cell::text(&rule.mode),
            Cell::rate(rate.unwrap_or(0.0)),
            Cell::count(rule.packets),
            Cell::count(rule.bytes),
            Cell::maybe(observed),
            Cell::maybe(limited),
        ],
        mood,
        subject: None,
        banned_by: None,
        more,
    }
}

fn of_incident(incident: &Incident, bans: &[BanDocument]) -> Row {
    let subject = incident
        .subjects
        .iter()
        .find_map(|known| match known.subject {
            Subject::Source(prefix) => Some(prefix),
            _ => None,
        });
    let firing = incident.state == AlertState::Firing;
    let mood = match incident.severity {
        _ if !firing => Mood::Faint,
        Severity::Critical => Mood::Bad,
        Severity::Warning | Severity::Info => Mood::Notable,
    };
    let subjects = match incident.subjects.as_slice() {
        [] => "-".to_owned(),
        [first, ..] if incident.subject_count > 1 => {
            format!("{} +{}", first.subject, incident.subject_count - 1)
        }
        [first, ..] => first.subject.to_string(),
    };
    let mut more = vec![
        format!("since {}", moment(incident.started)),
        counted(
            usize::try_from(incident.alert_count).unwrap_or(usize::MAX),
            "alert",
        ),
    ];
    for known in &incident.subjects {
        more.push(format!(
            "subject: {} ({:.1} times what is expected)",
            known.subject, known.times_expected
        ));
    }
    more.extend(incident.response.iter().map(|what| format!("done: {what}")));
    more.push(format!(
        "palisade alerts show {} tells all that is known",
        incident.id
    ));
    Row {
        key: incident.id.to_string(),
        cells: vec![
            Cell::text(incident.state.to_string()),
            Cell::text(incident.severity.to_string()),
            Cell::text(day_and_time(incident.started)),
            Cell::text(kind(incident)),
            Cell::text(subjects),
            Cell::text(&incident.why),
        ],
        mood,
        subject,
        banned_by: subject.and_then(|prefix| Some(covering(bans, &prefix)?.prefix)),
        more,
    }
}

/// A moment of this year, in UTC.
fn day_and_time(time: Time) -> String {
    match Timestamp::from_nanosecond(time.into()) {
        Ok(time) => time.strftime("%m-%d %H:%M").to_string(),
        Err(_) => "-".to_owned(),
    }
}

/// What an incident is called by: its first alert's kind.
fn kind(incident: &Incident) -> String {
    incident
        .kinds
        .first()
        .map_or_else(|| "incident".to_owned(), ToString::to_string)
}

fn of_ban(ban: &BanDocument) -> Row {
    Row {
        key: ban.prefix.to_string(),
        cells: vec![
            Cell::text(ban.prefix.to_string()),
            Cell {
                text: left(ban),
                number: Some(ban.remaining_seconds.map_or(f64::MAX, |left| left as f64)),
            },
            Cell::text(&ban.measure),
            Cell::text(&ban.origin),
            Cell::text(ban.kind.as_deref().unwrap_or("-")),
            Cell::text(ban.reason.as_deref().unwrap_or("-")),
        ],
        mood: Mood::Plain,
        subject: None,
        banned_by: Some(ban.prefix),
        more: vec![format!("since: {}", whole_seconds(ban.created))],
    }
}
