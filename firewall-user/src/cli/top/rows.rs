//! What each tab shows: a snapshot as rows of cells.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use super::numbers::{count, short};
use super::plain::source_name;
use super::snapshot::Snapshot;
use crate::cli::output::{counted, moment, whole_seconds};
use crate::daemon::documents::{
    BanDocument, RangeDocument, RuleDocument, SourceDocument, SourceOrder, WHOLE_HOST,
};
use crate::detect::{AlertState, Incident, Severity, Subject, Time};

/// The tables that can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    Sources,
    Services,
    Rules,
    Incidents,
    Bans,
}

impl Tab {
    pub const ALL: [Self; 5] = [
        Self::Sources,
        Self::Services,
        Self::Rules,
        Self::Incidents,
        Self::Bans,
    ];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Sources => "Sources",
            Self::Services => "Services",
            Self::Rules => "Rules",
            Self::Incidents => "Incidents",
            Self::Bans => "Bans",
        }
    }

    /// Its columns, and which of them it is sorted by at first.
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Sources => SOURCES,
            Self::Services => SERVICES,
            Self::Rules => RULES,
            Self::Incidents => INCIDENTS,
            Self::Bans => BANS,
        }
    }

    /// The column that it is sorted by at first; `None` leaves the daemon's order.
    pub const fn first_order(self) -> Option<usize> {
        match self {
            Self::Sources | Self::Bans => Some(1),
            Self::Rules => Some(2),
            Self::Services | Self::Incidents => None,
        }
    }
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub title: &'static str,
    /// In characters; the last visible column takes what is left.
    pub width: u16,
    /// Columns of a high rank are the first to go where there is little room.
    pub rank: u8,
    /// Aligned right, and the largest first.
    pub is_number: bool,
}

const fn text(title: &'static str, width: u16, rank: u8) -> Column {
    Column {
        title,
        width,
        rank,
        is_number: false,
    }
}

const fn number(title: &'static str, width: u16, rank: u8) -> Column {
    Column {
        title,
        width,
        rank,
        is_number: true,
    }
}

const SOURCES: &[Column] = &[
    text("SOURCE", 24, 0),
    number("PKT/S", 6, 0),
    number("BYTES/S", 7, 2),
    number("SYN/S", 6, 3),
    number("REQ/S", 6, 3),
    number("DROPS", 6, 1),
    number("PACKETS", 7, 5),
    number("BYTES", 6, 5),
    text("STATE", 12, 0),
];

const SERVICES: &[Column] = &[
    text("SERVICE", 20, 0),
    text("MEASURE", 11, 0),
    number("NOW/S", 6, 0),
    number("MINUTE/S", 8, 1),
    number("EXPECTED/S", 15, 1),
    text("STATE", 8, 0),
];

const RULES: &[Column] = &[
    text("RULE", 24, 0),
    text("MODE", 8, 2),
    number("PKT/S", 6, 0),
    number("PACKETS", 7, 0),
    number("BYTES", 6, 3),
    number("OBSERVED", 8, 1),
    number("LIMITED", 7, 3),
];

const INCIDENTS: &[Column] = &[
    text("STATE", 8, 0),
    text("SEVERITY", 8, 4),
    text("SINCE", 11, 2),
    text("KIND", 16, 1),
    text("SUBJECT", 18, 0),
    text("WHY", 20, 3),
];

const BANS: &[Column] = &[
    text("PREFIX", 24, 0),
    number("LEFT", 7, 0),
    text("MEASURE", 7, 2),
    text("ORIGIN", 9, 1),
    text("KIND", 12, 3),
    text("REASON", 16, 1),
];

/// How the daemon sorts sources where the view sorts by this column of them.
pub const fn source_order(column: Option<usize>) -> SourceOrder {
    match column {
        Some(2 | 7) => SourceOrder::Bytes,
        Some(3) => SourceOrder::Syns,
        Some(4) => SourceOrder::Requests,
        _ => SourceOrder::Packets,
    }
}

/// The column of sources that shows an order of the daemon's.
pub const fn source_column(order: SourceOrder) -> usize {
    match order {
        SourceOrder::Packets => 1,
        SourceOrder::Bytes => 2,
        SourceOrder::Syns => 3,
        SourceOrder::Requests => 4,
    }
}

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
