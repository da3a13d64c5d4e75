//! `palisade score`.

mod rows;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use serde_json::json;

use self::rows::Rows;
use super::Global;
use crate::detect::baseline::{Baseline, Judgement};

const HEADER: &str = "timestamp,value,score,expected_low,expected_high";

/// Arguments of `palisade score`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A CSV file with the header `timestamp,value`, in order of time; `-` is standard input.
    /// Times are "2014-02-14 14:30:00" (UTC), RFC 3339 or Unix seconds
    pub series: PathBuf,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let name = arguments.series.display().to_string();
    let source = open(&arguments.series)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let scored = score(source, &mut out, global.json);
    // What was judged before a bad row stands.
    out.flush()?;
    scored.map_err(|error| anyhow!("{name}: {error:#}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Judges row by row. Each is written before the next is read into account, so that a pipe that goes on
/// for ever can be followed.
fn score(source: impl Read, out: &mut impl Write, as_json: bool) -> anyhow::Result<()> {
    let mut rows = Rows::new(source)?;
    let mut baseline = Baseline::default();
    if !as_json {
        writeln!(out, "{HEADER}")?;
    }
    while let Some(row) = rows.next_row()? {
        let Judgement {
            score, expected, ..
        } = baseline.observe(row.time, row.value);
        if as_json {
            let line = json!({
                "timestamp": row.timestamp,
                "value": row.value,
                "score": score,
                "expected_low": expected.low,
                "expected_high": expected.high,
            });
            writeln!(out, "{line}")?;
        } else {
            let (low, high) = (expected.low, expected.high);
            let (timestamp, value) = (row.timestamp, row.text);
            writeln!(out, "{timestamp},{value},{score:.6},{low:.6},{high:.6}")?;
        }
        if rows.waits() {
            out.flush()?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> anyhow::Result<Box<dyn Read>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(Box::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(text: &str) -> anyhow::Result<String> {
        let mut out = Vec::new();
        score(text.as_bytes(), &mut out, false)?;
        Ok(String::from_utf8(out)?)
    }

    /// A series of a value a minute, its rows as given.
    fn series(values: impl IntoIterator<Item = f64>) -> String {
        let mut text = String::from("timestamp,value\n");
        for (minute, value) in values.into_iter().enumerate() {
            text.push_str(&format!("{},{value}\n", 1_800_000_000 + 60 * minute));
        }
        text
    }

    #[test]
    fn every_row_that_is_read_is_answered_in_order() {
        let given = series((0..500).map(|minute| f64::from(minute % 17)));
        let answer = scored(&given).unwrap();
        assert_eq!(answer.lines().next(), Some(HEADER));
        assert_eq!(answer.lines().count(), given.lines().count());
        for (given, answer) in given.lines().zip(answer.lines()).skip(1) {
            let fields: Vec<&str> = answer.split(',').collect();
            assert_eq!(format!("{},{}", fields[0], fields[1]), given);
            let numbers: Vec<f64> = fields[2..].iter().map(|f| f.parse().unwrap()).collect();
            assert!((0.0..=1.0).contains(&numbers[0]), "{answer}");
            assert!(numbers[1] <= numbers[2], "{answer}");
        }
    }

    #[test]
    fn later_rows_do_not_change_what_is_said_of_earlier_ones() {
        let values = |minute: u32| f64::from(minute * 7919 % 101);
        let whole = scored(&series((0..2_000).map(values))).unwrap();
        let part = scored(&series((0..1_500).map(values))).unwrap();
        assert!(whole.starts_with(&part));
    }

    #[test]
    fn a_bad_row_is_named_and_the_rows_before_it_stand() {
        let mut out = Vec::new();
        let text = "timestamp,value\n1800000000,1\n1800000060,many\n";
        let error = score(text.as_bytes(), &mut out, false).unwrap_err();
        assert!(format!("{error:#}").contains("line 3"), "{error:#}");
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 2);
    }
}
