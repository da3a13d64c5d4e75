//! `palisade apply`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::client::{Client, NoDaemon, Refused, read};
use super::progress::Audience;
use super::session::own_session;
use super::{EXIT_FAILED, Global, lifelines, output};
use crate::daemon::documents::{ApplyReport, ApplyRequest, LONGEST_TRIAL_SECONDS, TrialStatus};
use crate::daemon::{CONFINED, LARGEST_BODY};
use crate::policy::Policy;
use crate::policy::edit::whole;
use crate::respond::BanDuration;
use anyhow::{Context, bail};

/// Arguments of `palisade apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy file; without it, the daemon's own
    pub file: Option<PathBuf>,
    /// Read, check and compile, but change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Put it on trial: unless `palisade confirm` comes within this time (60s, 10m, 1h30m), the kernel
    /// goes back to the policy before by itself
    #[arg(long, value_name = "DURATION", value_parser = trial_length, conflicts_with = "dry_run")]
    pub confirm: Option<u64>,
    /// Put it in force even if it cuts an ssh session, the gateway or the name servers
    #[arg(long)]
    pub force: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
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
    if let Some(path) = path.as_ref().filter(|path| path.to_str().is_none()) {
        bail!(
            "{} is no UTF-8: the daemon cannot be told of a file by such a name",
            path.display()
        );
    }
    let mut request = ApplyRequest {
        path,
        dry_run: arguments.dry_run,
        confirm_seconds: arguments.confirm,
        force: arguments.force,
        ssh_connection: own_session(),
        ..ApplyRequest::default()
    };
    let client = Client::new(&global.socket)?.because(arguments.reason);
    // How far the daemon has come, nobody knows but it.
    let waiting = Audience::new(global).waiting("the daemon reads and compiles");
    let mut answer = client.post("/v1/apply", &request);
    if let Err(error) = &answer
        && is_confined(error)
        && let Some(text) = request.path.as_deref().and_then(text_of)
    {
        request.name = request.path.take();
        request.text = Some(text);
        answer = client.post("/v1/apply", &request);
    }
    drop(waiting);
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
    for note in &report.guard_notes {
        eprintln!("note: {note}");
    }
    for threat in &report.cuts {
        eprintln!("warning: {threat}");
    }
    let refused = report.dry_run && !report.cuts.is_empty() && !arguments.force;
    if global.json {
        output::json(&document)?;
        return Ok(code(refused));
    }
    let content = content(report.rules, report.sets);
    if refused {
        eprintln!(
            "palisade: {} would be refused without --force: it cuts what this host lives by",
            report.source
        );
        return Ok(code(refused));
    }
    if report.dry_run {
        output::line(&format!(
            "{} can be applied: {content}; generation {} stays in force",
            report.source, report.generation
        ))?;
    } else {
        let standing = match report.trial {
            Some(_) => "is in force on trial",
            None => "is in force",
        };
        output::line(&format!(
            "generation {} {standing}: {content}, from {} (compiled in {:.1} ms, loaded in {:.1} ms, swapped in {:.1} ms)",
            report.generation,
            report.source,
            report.compile_seconds * 1e3,
            report.load_seconds * 1e3,
            report.swap_seconds * 1e3
        ))?;
        for prefix in &report.bans_lifted {
            output::line(&format!("ban of {prefix} lifted: it is protected now"))?;
        }
        if let Some(trial) = &report.trial {
            output::line(&how_to_keep(trial))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What people have to do about a trial.
pub(super) fn how_to_keep(trial: &TrialStatus) -> String {
    format!(
        "keep it with `palisade confirm` within {}, before {}; otherwise generation {} is back by \
         itself (`palisade rollback`: at once)",
        output::seconds(trial.remaining_seconds),
        output::whole_seconds(trial.deadline),
        trial.previous_generation
    )
}

/// Whether the daemon said no because it may not read the file.
fn is_confined(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.message.contains(CONFINED))
}

/// The whole of a policy that this user may read, its lists included, to be sent; none if it is wrong, or too
/// long: then what the daemon said stands.
fn text_of(path: &Path) -> Option<String> {
    Policy::load(path).ok()?;
    let text = std::fs::read_to_string(path).ok()?;
    let text = whole(&text, path.parent()?).ok()?;
    // In JSON, line ends and quotes take two bytes.
    (text.len() < LARGEST_BODY / 2).then_some(text)
}

/// A dry run needs no daemon.
fn offline(global: &Global, file: &Path) -> anyhow::Result<ExitCode> {
    let audience = Audience::new(global);
    let (policy, findings) = audience.load(file)?;
    let compiling = audience.waiting("compiling");
    let examined = lifelines::examine(&policy, None).with_context(|| file.display().to_string())?;
    drop(compiling);
    let (threats, notes) = (examined.cuts, examined.notes);
    for finding in &findings {
        eprintln!("{finding}");
    }
    // Which interfaces a daemon would protect is not known: this refuses nothing.
    for threat in &threats {
        eprintln!("warning: if this host were protected by it, {threat}");
    }
    if global.json {
        output::json(&serde_json::json!({
            "dry_run": true,
            "source": file,
            "generation": null,
            "rules": policy.rules.len(),
            "sets": policy.sets.len(),
            "warnings": findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "cuts": threats,
            "guard_notes": notes,
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

fn code(refused: bool) -> ExitCode {
    if refused {
        ExitCode::from(EXIT_FAILED)
    } else {
        ExitCode::SUCCESS
    }
}

/// Reads the length of a trial, in seconds.
pub(super) fn trial_length(text: &str) -> Result<u64, String> {
    let BanDuration(length) = text
        .parse()
        .map_err(|_| format!("`{text}` is no length of time: write e.g. 60s, 10m or 1h30m"))?;
    match length.map(|length| length.as_secs()) {
        Some(seconds) if seconds <= LONGEST_TRIAL_SECONDS => Ok(seconds),
        _ => {
            Err("a trial lasts at most 7d: what is to stay is applied without --confirm".to_owned())
        }
    }
}

fn content(rules: usize, sets: usize) -> String {
    format!(
        "{}, {}",
        output::counted(rules, "rule"),
        output::counted(sets, "set")
    )
}
