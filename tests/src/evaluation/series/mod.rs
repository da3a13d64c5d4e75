//! What the learned baseline is worth: labelled series through `palisade score`, judged by the published rules of the
//! benchmark that they come from ([`nab`]).

pub mod nab;

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use self::nab::{Point, Tally};
use super::report::table;
use crate::daemon::palisade;

const LABELS: &str = "anomaly-windows.json";
/// What the publications say of detectors on the whole benchmark, standard profile.
const PUBLISHED: [(&str, f64); 5] = [
    ("ARTime", 74.9),
    ("Numenta HTM", 70.1),
    ("contextOSE", 69.9),
    ("random cut forest", 51.7),
    ("windowed Gaussian", 39.6),
];

/// What came of all series.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// The one threshold for all of them.
    pub threshold: f64,
    /// 0 to 100.
    pub score: f64,
    /// The same, each series by the threshold that is best for all the others.
    pub left_out: f64,
    pub files: Vec<File>,
}

/// What came of one series.
#[derive(Clone, Debug, Serialize)]
pub struct File {
    pub name: String,
    pub rows: usize,
    pub windows: usize,
    pub found: usize,
    pub false_alarms: usize,
    /// What its windows and false alarms earned; at most one for each window.
    pub earned: f64,
}

/// The folder of labelled series: `PALISADE_DATA`/series, or beside the project.
pub fn folder() -> Option<PathBuf> {
    let data = std::env::var_os("PALISADE_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let series = data.join("series");
    series.join(LABELS).is_file().then_some(series)
}

/// Scores every labelled series whose name holds `name`; nothing if there is none.
pub fn run(folder: &Path, name: &str) -> Result<Option<Series>> {
    let labels = folder.join(LABELS);
    let text = fs::read_to_string(&labels).with_context(|| labels.display().to_string())?;
    let labels: BTreeMap<String, Vec<(String, String)>> =
        serde_json::from_str(&text).with_context(|| labels.display().to_string())?;
    let mut names = Vec::new();
    let mut scored: Vec<Vec<Point>> = Vec::new();
    let mut rows = Vec::new();
    for (file, windows) in labels.iter().filter(|(file, _)| file.contains(name)) {
        let (times, scores) = score(&folder.join(file)).with_context(|| file.clone())?;
        let windows = places(&times, windows).with_context(|| file.clone())?;
        scored.push(nab::points(scored.len(), &scores, &windows));
        names.push(file.clone());
        rows.push(scores.len());
    }
    if names.is_empty() {
        return Ok(None);
    }
    let all: Vec<Point> = scored.iter().flatten().cloned().collect();
    let threshold = nab::best_threshold(&all);
    let files = names
        .into_iter()
        .zip(&scored)
        .zip(rows)
        .map(|((name, points), rows)| {
            let tally = nab::tally(points, threshold);
            File {
                name,
                rows,
                windows: tally.windows,
                found: tally.found,
                false_alarms: tally.false_alarms,
                earned: tally.raw,
            }
        });
    Ok(Some(Series {
        threshold,
        score: nab::tally(&all, threshold).normalised(),
        left_out: left_out(&scored).normalised(),
        files: files.collect(),
    }))
}

/// Each series by a threshold that knows only the others.
fn left_out(scored: &[Vec<Point>]) -> Tally {
    let mut sum = Tally::default();
    for (index, points) in scored.iter().enumerate() {
        let others = scored
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        let others: Vec<Point> = others.flat_map(|(_, points)| points).cloned().collect();
        let tally = nab::tally(points, nab::best_threshold(&others));
        sum.raw += tally.raw;
        sum.windows += tally.windows;
        sum.found += tally.found;
        sum.false_alarms += tally.false_alarms;
    }
    sum
}

/// The times and scores of a series, as anybody gets them.
fn score(file: &Path) -> Result<(Vec<String>, Vec<f64>)> {
    let output = Command::new(palisade()?).arg("score").arg(file).output()?;
    ensure!(
        output.status.success(),
        "palisade score: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8(output.stdout)?;
    let (mut times, mut scores) = (Vec::new(), Vec::new());
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [time, _, score, ..] = fields[..] else {
            bail!("palisade score wrote {line:?}");
        };
        times.push(time.to_owned());
        scores.push(
            score
                .parse()
                .with_context(|| format!("palisade score wrote {line:?}"))?,
        );
    }
    Ok((times, scores))
}

/// The rows at which windows begin and end.
fn places(times: &[String], windows: &[(String, String)]) -> Result<Vec<RangeInclusive<usize>>> {
    // Labels have fractions of seconds, rows have not.
    let row = |label: &str| {
        let place = times
            .iter()
            .position(|time| label.starts_with(time.as_str()));
        place.with_context(|| format!("no row is of {label}, where a window begins or ends"))
    };
    windows
        .iter()
        .map(|(begin, end)| Ok(row(begin)?..=row(end)?))
        .collect()
}

impl Series {
    /// In Markdown.
    pub fn text(&self) -> String {
        let mut table = table(
            &[
                "series",
                "rows",
                "anomalies",
                "found",
                "false alarms",
                "earned",
            ],
            1,
        );
        for file in &self.files {
            table.add_row([
                format!("`{}`", file.name),
                file.rows.to_string(),
                file.windows.to_string(),
                file.found.to_string(),
                file.false_alarms.to_string(),
                format!("{:.2}", file.earned),
            ]);
        }
        let published: Vec<String> = PUBLISHED
            .iter()
            .map(|(name, score)| format!("{name} {score}"))
            .collect();
        format!(
            "NAB score, standard profile, on these {} series: **{:.1}** at one threshold of {:.3}; {:.1} when each series is \
             judged by the threshold that is best for all the others. On the benchmark's full set of 58 series the \
             publications say: {}.\n\n{table}\n",
            self.files.len(),
            self.score,
            self.threshold,
            self.left_out,
            published.join(", "),
        )
    }
}
