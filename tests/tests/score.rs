//! `palisade score` as a shell sees it, and what the learned baseline is worth on labelled series.

use std::io::{Seek, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use palisade_tests::daemon::palisade;
use palisade_tests::evaluation::series;

/// Runs `palisade score` over a text on standard input; gives whether it went well, and what it said.
fn score(text: &str, options: &[&str]) -> Result<(bool, String, String)> {
    let mut input = tempfile::tempfile()?;
    input.write_all(text.as_bytes())?;
    input.rewind()?;
    let output = Command::new(palisade()?)
        .args(["score", "-"])
        .args(options)
        .stdin(Stdio::from(input))
        .output()?;
    let [out, err] = [output.stdout, output.stderr].map(String::from_utf8);
    Ok((output.status.success(), out?, err?))
}

/// Two weeks of a value every quarter of an hour, with one spike in the second.
fn series() -> String {
    let mut text = "timestamp,value\n".to_owned();
    for row in 0..1_344_u32 {
        let by_day = 100 + (row % 96).abs_diff(48);
        let value = if row == 1_200 {
            5_000
        } else {
            by_day + row % 7
        };
        let second = 1_800_000_000 + u64::from(row) * 900;
        text += &format!("{second},{value}\n");
    }
    text
}

#[test]
fn a_series_from_standard_input_is_scored_row_by_row() -> Result<()> {
    let text = series();
    let (is_well, out, err) = score(&text, &[])?;
    assert!(is_well, "{err}");
    let rows: Vec<&str> = out.lines().collect();
    assert_eq!(rows.len(), text.lines().count());
    assert_eq!(rows[0], "timestamp,value,score,expected_low,expected_high");
    let scored = |row: &str| {
        row.split(',')
            .nth(2)
            .and_then(|score| score.parse::<f64>().ok())
    };
    let remarkable: Vec<&&str> = rows.iter().filter(|row| scored(row) >= Some(0.5)).collect();
    assert!(
        remarkable.iter().any(|row| row.contains(",5000,")),
        "{remarkable:?}"
    );
    assert!(remarkable.len() <= 2, "{remarkable:?}");
    Ok(())
}

#[test]
fn in_json_each_row_is_an_object_with_the_same_names() -> Result<()> {
    let (_, out, _) = score(&series(), &["--json"])?;
    let first = out.lines().next().context("a row")?;
    let row: serde_json::Value = serde_json::from_str(first)?;
    let names: Vec<&str> = row
        .as_object()
        .context("an object")?
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        names,
        [
            "timestamp",
            "value",
            "score",
            "expected_low",
            "expected_high"
        ]
    );
    Ok(())
}

#[test]
fn a_bad_row_is_named_and_refused() -> Result<()> {
    let (is_well, _, err) = score("timestamp,value\n1800000000,1\n1800000900,one\n", &[])?;
    assert!(!is_well);
    assert!(err.contains("line 3: the value \"one\""), "{err}");
    Ok(())
}

#[test]
fn labelled_series_score_above_75_by_the_published_rules() -> Result<()> {
    let Some(folder) = series::folder() else {
        eprintln!("skipped: no labelled series here (PALISADE_DATA names their folder)");
        return Ok(());
    };
    let found = series::run(&folder, "")?.context("labelled series")?;
    println!("{}", found.text());
    assert!(found.score > 75.0, "{}", found.text());
    Ok(())
}
