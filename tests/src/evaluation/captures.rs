//! Labelled captures through `palisade replay`, under a policy that accepts and one that drops.
//!
//! They are looked for in `captures/` under the folder that PALISADE_DATA names, by default
//! `../shared/data` beside the repository: `attack/` must raise what `captures.tsv` says of each,
//! `benign/` nothing, and `edge/` (odd and broken packets) nothing but that they are malformed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::case::{Case, Expectation, Raised};
use crate::daemon::palisade;
use crate::process::finish;

/// What the captures of attacks must raise.
const EXPECTED: &str = include_str!("captures.tsv");

/// What the host lets in by itself.
const ACCEPT: &str = "version = 1\n\n[defaults]\ninbound = \"accept\"\n";

/// A perimeter with a few services.
const DROP: &str = r#"version = 1

[defaults]
inbound = "drop"

[[rule]]
name     = "services"
action   = "accept"
protocol = "tcp"
port     = [21, 22, 25, 53, 80, 443]

[[rule]]
name     = "names"
action   = "accept"
protocol = "udp"
port     = 53

[[rule]]
name     = "ping"
action   = "accept"
protocol = ["icmp", "icmpv6"]
"#;

/// Private networks: with them inside, captures have packets of both directions.
const PRIVATE: [&str; 5] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
    "fe80::/10",
];

/// Kinds that a capture of odd and broken packets may raise.
const ODD: [&str; 2] = ["malformed", "spoofed_source"];

/// What all captures came to.
#[derive(Debug, Default, serde::Serialize)]
pub struct Captures {
    pub attack: Vec<Case>,
    pub benign: Vec<Case>,
    pub edge: Vec<Case>,
    /// Captures that could not be replayed, and why.
    pub not_run: Vec<String>,
}

/// A line of the table of expectations.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub capture: String,
    pub inside: Vec<String>,
    pub kinds: Vec<String>,
    pub also: Vec<String>,
    pub what: String,
}

/// The folder of captures, if it is there.
pub fn folder() -> Option<PathBuf> {
    let data = std::env::var_os("PALISADE_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    Some(data.join("captures")).filter(|captures| captures.is_dir())
}

/// Replays the captures whose name holds `only` (all, if it is empty). A quick run leaves the edge
/// cases out.
pub fn run(folder: &Path, only: &str, quick: bool) -> Result<Captures> {
    let policies = Policies::write()?;
    let mut found = Captures::default();
    let rows = rows()?;
    for file in files(&folder.join("attack"), only)? {
        let row = rows
            .iter()
            .find(|row| row.capture == name(&file))
            .with_context(|| format!("captures.tsv does not say what {} is", name(&file)))?;
        let inside: Vec<&str> = row.inside.iter().map(String::as_str).collect();
        found.attack.extend(policies.cases(&file, &inside, row)?);
    }
    for file in files(&folder.join("benign"), only)? {
        let row = Row::plain(&file, &[], "ordinary traffic");
        found.replay_both_ways(&policies, &file, &row, |found| &mut found.benign);
    }
    if quick {
        return Ok(found);
    }
    for file in files(&folder.join("edge"), only)? {
        let row = Row::plain(&file, &ODD, "odd or broken packets");
        found.replay_both_ways(&policies, &file, &row, |found| &mut found.edge);
    }
    Ok(found)
}

impl Captures {
    pub fn is_empty(&self) -> bool {
        self.attack.is_empty() && self.benign.is_empty() && self.edge.is_empty()
    }

    /// With everything coming in, and with private networks inside.
    fn replay_both_ways(
        &mut self,
        policies: &Policies,
        file: &Path,
        row: &Row,
        list: impl Fn(&mut Self) -> &mut Vec<Case>,
    ) {
        for inside in [&[][..], &PRIVATE] {
            match policies.cases(file, inside, row) {
                Ok(cases) => list(self).extend(cases),
                Err(error) => {
                    self.not_run.push(format!("{error:#}"));
                    return;
                }
            }
        }
    }
}

/// The table of expectations.
pub fn rows() -> Result<Vec<Row>> {
    let lines = EXPECTED.lines().filter(|line| !line.starts_with('#'));
    lines.map(Row::read).collect()
}

impl Row {
    fn read(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [capture, inside, kinds, also, what] = fields[..] else {
            bail!("captures.tsv: five columns are wanted: {line}");
        };
        let list = |text: &str| match text {
            "-" => Vec::new(),
            _ => text.split(',').map(str::to_owned).collect(),
        };
        Ok(Self {
            capture: capture.to_owned(),
            inside: list(inside),
            kinds: list(kinds),
            also: list(also),
            what: what.to_owned(),
        })
    }

    fn plain(file: &Path, also: &[&str], what: &str) -> Self {
        Self {
            capture: name(file),
            inside: Vec::new(),
            kinds: Vec::new(),
            also: also.iter().map(|&kind| kind.to_owned()).collect(),
            what: what.to_owned(),
        }
    }
}

/// The policies as files, gone afterwards.
struct Policies {
    folder: tempfile::TempDir,
}

impl Policies {
    const ALL: [(&str, &str); 2] = [("accept", ACCEPT), ("drop", DROP)];

    fn write() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("palisade-").tempdir()?;
        for (name, text) in Self::ALL {
            fs::write(folder.path().join(name), text)?;
        }
        Ok(Self { folder })
    }

    /// A capture under each policy.
    fn cases(&self, file: &Path, inside: &[&str], row: &Row) -> Result<Vec<Case>> {
        let mut cases = Vec::new();
        for (policy, _) in Self::ALL {
            let report = replay(file, &self.folder.path().join(policy), inside)?;
            let alerts = report["alerts"].as_array().into_iter().flatten();
            let setting = if inside.is_empty() {
                policy.to_owned()
            } else {
                format!("{policy}, --inside {}", inside.join(" --inside "))
            };
            cases.push(Case::judge(
                (&row.capture, &setting, &row.what),
                Expectation {
                    kinds: row.kinds.clone(),
                    also: row.also.clone(),
                },
                report["started"].as_f64(),
                alerts.filter_map(Raised::read).collect(),
            ));
        }
        Ok(cases)
    }
}

fn replay(file: &Path, policy: &Path, inside: &[&str]) -> Result<Value> {
    let mut command = Command::new(palisade()?);
    command.args(["replay", "--json", "--engine", "host", "--policy"]);
    command.arg(policy).arg(file);
    for prefix in inside {
        command.args(["--inside", prefix]);
    }
    let finished = finish(&mut command)?;
    ensure!(
        !finished.stdout.is_empty(),
        "{}: {}",
        name(file),
        finished.stderr.trim()
    );
    // A damaged capture is replayed as far as it goes, and the exit code says so.
    serde_json::from_str(&finished.stdout)
        .with_context(|| format!("{}: {}", name(file), finished.stderr.trim()))
}

fn files(folder: &Path, only: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        files.push(entry?.path());
    }
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    files.retain(|file| name(file).contains(only));
    files.sort();
    Ok(files)
}

fn name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_of_each_capture_what_is_expected_and_why() -> Result<()> {
        let rows = rows()?;
        assert!(rows.len() > 30, "{}", rows.len());
        for row in &rows {
            assert!(!row.what.is_empty(), "{}", row.capture);
            let twice = rows.iter().filter(|other| other.capture == row.capture);
            assert_eq!(twice.count(), 1, "{}", row.capture);
        }
        Ok(())
    }

    #[test]
    fn a_line_of_the_table_is_read() -> Result<()> {
        let row = Row::read("a.pcap\t10.0.0.0/8,fc00::/7\tport_scan\t-\tnmap")?;
        assert_eq!(row.inside, ["10.0.0.0/8", "fc00::/7"]);
        assert_eq!((row.kinds.len(), row.also.len()), (1, 0));
        assert!(Row::read("a.pcap\tport_scan").is_err());
        Ok(())
    }
}
