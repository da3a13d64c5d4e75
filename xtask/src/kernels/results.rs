//! What is known of each test program on each kernel: kept from run to run, as one run of everything
//! takes hours, and written as a table.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Fate, Kernel, outcome::Program, selection};
use crate::shell;

/// Adds what these kernels' runs have shown to what is known, and writes `results.md` anew.
pub fn keep(kernels: &[Kernel], fates: &[Fate], folder: &Path) -> Result<()> {
    let file = folder.join("results.json");
    let mut known: BTreeMap<String, BTreeMap<String, Value>> = match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is no record of results", file.display()))?,
        Err(_) => BTreeMap::new(),
    };
    let build = build();
    for (kernel, fate) in kernels.iter().zip(fates) {
        let Fate::Ran { outcome, .. } = fate else {
            continue;
        };
        let of_kernel = known.entry(kernel.version.to_owned()).or_default();
        for program in &outcome.programs {
            let release = outcome.release.as_deref().unwrap_or("");
            of_kernel.insert(program.name.clone(), entry(program, release, &build));
        }
    }
    fs::write(&file, serde_json::to_vec_pretty(&known)?)?;
    fs::write(folder.join("results.md"), table(&known))?;
    Ok(())
}

fn entry(program: &Program, release: &str, build: &str) -> Value {
    json!({
        "passed": program.counts.passed,
        "failed": program.counts.failed,
        "skipped": program.counts.skipped,
        "reasons": program.reasons().collect::<Vec<_>>(),
        "seconds": program.seconds.round(),
        "release": release,
        "build": build,
    })
}

/// The commit that was built.
fn build() -> String {
    let mut git = shell::command("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=8"])
        .current_dir(shell::root());
    shell::output_of(&mut git).unwrap_or_else(|| "unknown".to_owned())
}

/// In Markdown: a line for each test program, a column for each kernel, what was skipped below.
fn table(known: &BTreeMap<String, BTreeMap<String, Value>>) -> String {
    let kernels: Vec<&Kernel> = super::catalogue::KERNELS
        .iter()
        .filter(|kernel| known.contains_key(kernel.version))
        .collect();
    let mut names: Vec<&String> = known
        .values()
        .flat_map(BTreeMap::keys)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    names.sort_by_key(|name| selection::place(name));
    // A string takes everything.
    let mut text = String::from("| tests |");
    for kernel in &kernels {
        let _ = write!(text, " {kernel} |");
    }
    text += &format!("\n|---|{}\n", "---|".repeat(kernels.len()));
    let mut notes = BTreeSet::new();
    for name in names {
        let _ = write!(text, "| {name} |");
        for kernel in &kernels {
            let result = known[kernel.version].get(name);
            let _ = write!(text, " {} |", result.map_or_else(|| "-".to_owned(), cell));
            let reasons = result.and_then(|result| result["reasons"].as_array());
            for why in reasons.into_iter().flatten().filter_map(Value::as_str) {
                notes.insert(format!("- {name}, {kernel}: {why}"));
            }
        }
        text.push('\n');
    }
    for note in notes {
        let _ = write!(text, "\n{note}");
    }
    text + "\n"
}

/// Such as "11 in 90 s" or "5, 1 failed, 2 skipped in 70 s".
fn cell(result: &Value) -> String {
    let number = |key: &str| result[key].as_f64().unwrap_or_default();
    let mut text = number("passed").to_string();
    for key in ["failed", "skipped"] {
        if number(key) > 0.0 {
            let _ = write!(text, ", {} {key}", number(key));
        }
    }
    let build = result["build"].as_str().unwrap_or_default();
    let _ = write!(text, " in {} s ({build})", number("seconds"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_test_and_a_column_for_each_kernel() {
        let result = |failed: u32, reasons: &[&str]| {
            json!({ "passed": 5, "failed": failed, "skipped": reasons.len(), "reasons": reasons,
                "seconds": 70.0, "release": "r", "build": "b" })
        };
        let of = |name: &str, result: Value| BTreeMap::from([(name.to_owned(), result)]);
        let known = BTreeMap::from([
            ("6.1".to_owned(), of("fence", result(1, &[]))),
            ("7.3".to_owned(), of("verifier", result(0, &["no data"]))),
        ]);
        assert_eq!(
            table(&known),
            "| tests | 6.1 | 7.3 |\n|---|---|---|\n\
             | verifier | - | 5, 1 skipped in 70 s (b) |\n\
             | fence | 5, 1 failed in 70 s (b) | - |\n\
             \n- verifier, 7.3: no data\n"
        );
    }
}
