//! The alerting rules that are shipped: promtool parses them and runs their own tests.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell;

const FOLDER: &str = "packaging/prometheus";
/// How the files with tests of rules end; promtool finds the rules through them.
const TEST_SUFFIX: &str = ".test.yml";

pub fn check() -> Result<()> {
    let (tests, rules) = files()?;
    if rules.is_empty() {
        println!("no rules in {FOLDER}");
        return Ok(());
    }
    let Some(promtool) = shell::program("promtool") else {
        bail!("promtool is missing; run `cargo xtask setup --for test`");
    };
    shell::run(
        shell::command(&promtool)
            .args(["check", "rules"])
            .args(rules),
    )?;
    if tests.is_empty() {
        bail!("the rules in {FOLDER} have no tests (*{TEST_SUFFIX})");
    }
    shell::run(
        shell::command(&promtool)
            .args(["test", "rules"])
            .args(tests),
    )
}

/// Files with tests, and files with rules.
fn files() -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let folder = shell::root().join(FOLDER);
    if !folder.is_dir() {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {FOLDER}"))? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "yml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files
        .into_iter()
        .partition(|file| file.to_string_lossy().ends_with(TEST_SUFFIX)))
}
