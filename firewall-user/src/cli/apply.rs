//! `palisade apply`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use super::client::{Client, NoDaemon, read};
use super::{Global, output};
use crate::daemon::documents::{ApplyReport, ApplyRequest};
use crate::policy::{Environment, Policy};

/// Arguments of `palisade apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy file; without it, the daemon's own
    pub file: Option<PathBuf>,
    /// Read, check and compile, but change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let path = match &arguments.file {
        Some(file) => Some(
            std::path::absolute(file)
                .with_context(|| format!("{} cannot be made absolute", file.display()))?,
        ),
        None => None,
    };
    let request = ApplyRequest {
        text: None,
        path,
        dry_run: arguments.dry_run,
    };
    let answer = Client::new(&global.socket)?.post("/v1/apply", &request);
    let document = match (answer, &arguments.file) {
        (Err(error), Some(file)) if arguments.dry_run && error.is::<NoDaemon>() => {
            return offline(global, file);
        }
        (answer, _) => answer?,
    };
    let report: ApplyReport = read(document.clone())?;
    for warning in &report.warnings {
        eprintln!("{warning}");
    }
    if global.json {
        output::json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let content = content(report.rules, report.sets);
    if report.dry_run {
        output::line(&format!(
            "{} can be applied: {content}; generation {} stays in force",
            report.source, report.generation
        ))?;
    } else {
        output::line(&format!(
            "generation {} is in force: {content}, from {} (compiled in {:.1} ms, loaded in {:.1} ms, swapped in {:.1} ms)",
            report.generation,
            report.source,
            report.compile_seconds * 1e3,
            report.load_seconds * 1e3,
            report.swap_seconds * 1e3
        ))?;
        for prefix in &report.bans_lifted {
            output::line(&format!("ban of {prefix} lifted: it is protected now"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A dry run needs no daemon.
fn offline(global: &Global, file: &Path) -> anyhow::Result<ExitCode> {
    let (policy, findings) = Policy::load(file)?;
    policy
        .compile(&Environment::default())
        .with_context(|| file.display().to_string())?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    if global.json {
        output::json(&serde_json::json!({
            "dry_run": true,
            "source": file,
            "generation": null,
            "rules": policy.rules.len(),
            "sets": policy.sets.len(),
            "warnings": findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }))?;
    } else {
        output::line(&format!(
            "{} can be applied: {}; no daemon runs here",
            file.display(),
            content(policy.rules.len(), policy.sets.len())
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn content(rules: usize, sets: usize) -> String {
    format!(
        "{}, {}",
        output::counted(rules, "rule"),
        output::counted(sets, "set")
    )
}
