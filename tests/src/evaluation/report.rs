//! The evaluation's tables, in Markdown, and all of it as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::captures::Captures;
use super::case::{Case, Outcome, Raised};
use super::live::{Live, Scene, THRESHOLD};
use super::series::Series;
use crate::document::Section;

/// All that was evaluated; what was not asked for is absent.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Where it was measured.
    pub machine: String,
    pub quick: bool,
    pub captures: Option<Captures>,
    pub series: Option<Series>,
    pub live: Option<Live>,
    /// What could not be run, and why.
    pub not_run: Vec<String>,
}

impl Report {
    /// What there is to say, in the order in which it is read.
    pub fn sections(&self) -> Vec<Section> {
        let section = |id, title, text: String| Section { id, title, text };
        let mut sections = Vec::new();
        if let Some(captures) = self.captures.as_ref().filter(|found| !found.is_empty()) {
            let replays = captures.benign.iter().chain(&captures.edge);
            sections.push(section(
                "captures",
                "Labelled captures",
                by_kind(
                    captures.attack.iter(),
                    replays.flat_map(|case| &case.wrong),
                    "captures x policies",
                ),
            ));
            sections.push(section(
                "captures-attacks",
                "Each capture of an attack",
                each_capture(&captures.attack),
            ));
            sections.push(section(
                "captures-not-asked",
                "Captures of which nothing is asked",
                not_asked(&captures.attack),
            ));
            sections.push(section(
                "captures-ordinary",
                "Ordinary captures",
                ordinary(captures),
            ));
        }
        if let Some(series) = &self.series {
            sections.push(section("series", "Labelled series", series.text()));
        }
        if let Some(live) = &self.live {
            if !live.attacks.is_empty() {
                let cases = live.attacks.iter().map(|scene| &scene.case);
                let alarms = live.ordinary.iter().chain(&live.attacks);
                let alarms = alarms.flat_map(|scene| &scene.false_alarms);
                let text = by_kind(cases, alarms, "attacks");
                let text = format!("{text}\n\nMeasured on {}.\n", self.machine);
                sections.push(section("live", "Live attacks", text));
                sections.push(section("live-attacks", "Each live attack", attacks(live)));
                sections.extend(
                    cookies(live).map(|text| {
                        section("live-cookies", "SYN cookies in the live attacks", text)
                    }),
                );
            }
            if let Some(scene) = &live.ordinary {
                sections.push(section("live-ordinary", "Visitors alone", alone(scene)));
            }
        }
        if !self.not_run.is_empty() {
            let lines = self.not_run.iter().map(|line| format!("- {line}\n"));
            sections.push(section("not-run", "Not run", lines.collect()));
        }
        sections
    }

    pub fn print(&self) {
        for section in self.sections() {
            println!("\n{}\n\n{}", section.title, section.text);
        }
    }

    /// Each part as a file of its own, for programs.
    pub fn write_json(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let write = |name: &str, text: String| {
            let file = folder.join(name);
            fs::write(&file, text + "\n").with_context(|| file.display().to_string())
        };
        if let Some(captures) = &self.captures {
            write("captures.json", serde_json::to_string_pretty(captures)?)?;
        }
        if let Some(series) = &self.series {
            write("series.json", serde_json::to_string_pretty(series)?)?;
        }
        if let Some(live) = &self.live {
            write("live.json", serde_json::to_string_pretty(live)?)?;
        }
        Ok(())
    }
}

/// What there is to say of a kind of alert.
#[derive(Debug, Default)]
struct Kind<'a> {
    cases: Vec<&'a Case>,
    /// Alerts of this kind about attacks that were something else.
    wrong: usize,
    /// Alerts of this kind about ordinary traffic.
    false_alarms: usize,
}

/// Per kind: how many cases, what came of them, how long it took, and how often it was said where it
/// was not so.
fn by_kind<'a>(
    cases: impl Iterator<Item = &'a Case>,
    false_alarms: impl Iterator<Item = &'a Raised>,
    counted: &str,
) -> String {
    let mut kinds: BTreeMap<&str, Kind<'_>> = BTreeMap::new();
    for case in cases {
        if let Some(kind) = case.expected.kind() {
            kinds.entry(kind).or_default().cases.push(case);
        }
        for alert in &case.wrong {
            kinds.entry(&alert.kind).or_default().wrong += 1;
        }
    }
    for alert in false_alarms {
        kinds.entry(&alert.kind).or_default().false_alarms += 1;
    }
    let mut table = table(
        &[
            "kind",
            counted,
            "detected",
            "missed",
            "median s",
            "slowest s",
            "said of other attacks",
            "false alarms",
        ],
        1,
    );
    for (name, kind) in kinds {
        let cases = &kind.cases;
        let outcome = |outcome| cases.iter().filter(|case| case.outcome == outcome).count();
        let mut times: Vec<f64> = cases.iter().filter_map(|case| case.seconds).collect();
        times.sort_by(f64::total_cmp);
        let middle = times.get(times.len() / 2);
        table.add_row([
            name.to_owned(),
            cases.len().to_string(),
            outcome(Outcome::Detected).to_string(),
            outcome(Outcome::Missed).to_string(),
            seconds(middle.copied()),
            seconds(times.last().copied()),
            kind.wrong.to_string(),
            kind.false_alarms.to_string(),
        ]);
    }
    table.to_string()
}

/// Captures that must raise something: when they did. Under both policies, where that differs.
fn each_capture(cases: &[Case]) -> String {
    let mut lines: Vec<[String; 5]> = Vec::new();
    for case in cases {
        let detected = match case.outcome {
            Outcome::NotAsked => continue,
            Outcome::Missed => "**missed**".to_owned(),
            Outcome::Detected => seconds(case.seconds),
        };
        let name = format!("`{}`", short(&case.name));
        match lines.last_mut() {
            Some(line) if line[0] == name => {
                if line[3] != detected {
                    line[3] = format!("{}; {detected}", line[3]);
                }
            }
            _ => lines.push([
                name,
                case.what.clone(),
                case.expected.kinds.join(" or "),
                detected,
                wrong_kinds(&[case]),
            ]),
        }
    }
    let header = ["capture", "what", "kind", "detected, s", "wrong kind"];
    let mut table = table(&header, 3);
    table.add_rows(lines);
    table.to_string()
}

/// Captures in which there is nothing that must be found, and why; and what they raised.
fn not_asked(cases: &[Case]) -> String {
    let mut lines: Vec<[String; 3]> = Vec::new();
    let silent = |case: &&Case| case.outcome == Outcome::NotAsked;
    for case in cases.iter().filter(silent) {
        let line = [
            format!("`{}`", short(&case.name)),
            case.what.clone(),
            kinds_of(&case.raised.iter().collect::<Vec<_>>()),
        ];
        match lines.last_mut() {
            Some(last) if last[0] == line[0] => {
                if last[2] != line[2] {
                    last[2] = format!("{}; {}", last[2], line[2]);
                }
            }
            _ => lines.push(line),
        }
    }
    let mut table = table(&["capture", "why", "raised"], 3);
    table.add_rows(lines);
    table.to_string()
}

/// How many ordinary captures there are, and each false alarm.
fn ordinary(captures: &Captures) -> String {
    let mut text = String::new();
    for (name, cases) in [
        ("ordinary", &captures.benign),
        ("odd and broken", &captures.edge),
    ] {
        if cases.is_empty() {
            continue;
        }
        let files: std::collections::BTreeSet<&str> =
            cases.iter().map(|case| case.name.as_str()).collect();
        let alarms: Vec<&Case> = cases.iter().filter(|case| !case.wrong.is_empty()).collect();
        text += &format!(
            "{} {name} captures, each under both policies, with and without private networks inside: \
             {} replays, {} with a false alarm.\n\n",
            files.len(),
            cases.len(),
            alarms.len()
        );
        if alarms.is_empty() {
            continue;
        }
        let mut table = table(&["capture", "setting", "false alarms"], 3);
        for case in alarms {
            table.add_row([
                format!("`{}`", short(&case.name)),
                case.setting.clone(),
                wrong_kinds(&[case]),
            ]);
        }
        text += &format!("{table}\n\n");
    }
    if !captures.not_run.is_empty() {
        text += &format!(
            "{} captures are left out, because Palisade does not judge their link type.\n",
            captures.not_run.len()
        );
    }
    text
}

/// Each attack: when it was seen, what else was said, and how visitors fared.
fn attacks(live: &Live) -> String {
    let mut table = table(
        &[
            "attack",
            "what",
            "kind",
            "detected, s",
            "fastnetmon, s",
            "wrong kind",
            "false alarms",
            "served before",
            "during",
            "visitors' packets dropped",
        ],
        3,
    );
    for scene in &live.attacks {
        let case = &scene.case;
        table.add_row([
            case.name.clone(),
            case.what.clone(),
            case.expected.kinds.join(" or "),
            match case.outcome {
                Outcome::Missed => "**missed**".to_owned(),
                _ => seconds(case.seconds),
            },
            seconds(scene.rival_seconds),
            wrong_kinds(&[case]),
            kinds_of(&scene.false_alarms.iter().collect::<Vec<_>>()),
            percent(scene.served_before()),
            percent(scene.served_during()),
            percent(Some(
                scene.visitors_dropped as f64 / scene.visitors_packets.max(1) as f64,
            )),
        ]);
    }
    format!("{table}\n\nfastnetmon's threshold here: {THRESHOLD} packets per second.\n")
}

/// What became of SYN cookies in each flood of SYNs; none without one.
fn cookies(live: &Live) -> Option<String> {
    let mut table = table(
        &[
            "attack",
            "armed after, s",
            "until its end",
            "disarmed after it, s",
            "answers sent",
            "connections by them",
            "visitors' connections served",
        ],
        1,
    );
    let scenes = live.attacks.iter();
    let floods = scenes.filter_map(|scene| Some((&scene.case.name, scene.cookies.as_ref()?)));
    for (name, cookies) in floods {
        let has = |time| match &cookies.unavailable {
            Some(_) => "not in this kernel".to_owned(),
            None => seconds(time),
        };
        table.add_row([
            name.clone(),
            has(cookies.armed),
            if cookies.lasted { "yes" } else { "**no**" }.to_owned(),
            has(cookies.disarmed),
            cookies.sent.to_string(),
            cookies.accepted.to_string(),
            percent(cookies.connected),
        ]);
    }
    (!table.is_empty()).then(|| table.to_string())
}

/// Ordinary visitors without an attack.
fn alone(scene: &Scene) -> String {
    let mut table = table(&["visitors", "requests", "served"], 1);
    for tally in &scene.during {
        table.add_row([
            tally.visitors.to_owned(),
            tally.asked.to_string(),
            tally.served.to_string(),
        ]);
    }
    format!(
        "{table}\n\nFalse alarms: {}. {} of {} packets dropped.\n",
        kinds_of(&scene.false_alarms.iter().collect::<Vec<_>>()),
        scene.visitors_dropped,
        scene.visitors_packets
    )
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

fn wrong_kinds(cases: &[&Case]) -> String {
    let wrong: Vec<_> = cases.iter().flat_map(|case| &case.wrong).collect();
    kinds_of(&wrong)
}

/// "2 port_scan, 1 tunnel"
fn kinds_of(alerts: &[&Raised]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for alert in alerts {
        *counts.entry(&alert.kind).or_default() += 1;
    }
    if counts.is_empty() {
        return "-".to_owned();
    }
    let words: Vec<String> = counts
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    words.join(", ")
}

pub fn seconds(time: Option<f64>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.2}"))
}

/// A capture's name without its origin's prefix and its ending.
fn short(name: &str) -> &str {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    stem.rsplit_once("__").map_or(stem, |(_, last)| last)
}

/// A table in Markdown whose columns from the one of this number on are numbers.
pub fn table(header: &[&str], numbers: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::case::Expectation;
    use super::*;

    #[test]
    fn a_kind_has_a_line_with_what_came_of_its_cases() {
        let alert = Raised {
            kind: "port_scan".to_owned(),
            subject: "203.0.113.7".to_owned(),
            detected: 12.0,
            why: String::new(),
            response: Vec::new(),
        };
        let case = |raised: Vec<Raised>| {
            let expected = Expectation::new(&["port_scan"], &[]);
            Case::judge(("x", "accept", ""), expected, Some(10.0), raised)
        };
        let flood = Raised {
            kind: "udp_flood".to_owned(),
            ..alert.clone()
        };
        let cases = [case(vec![alert]), case(vec![flood.clone()])];
        let text = by_kind(cases.iter(), [&flood, &flood].into_iter(), "captures");
        let cells = |kind: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.contains(kind));
            let cells = line.expect("a line").split('|').map(str::trim);
            let cells = cells.filter(|cell| !cell.is_empty());
            cells.map(str::to_owned).collect()
        };
        assert_eq!(
            cells("port_scan"),
            ["port_scan", "2", "1", "1", "2.00", "2.00", "0", "0"]
        );
        assert_eq!(
            cells("udp_flood"),
            ["udp_flood", "0", "0", "0", "-", "-", "1", "2"]
        );
    }
}
