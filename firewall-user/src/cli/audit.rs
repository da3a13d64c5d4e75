//! `palisade audit`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::client::{Client, read};
use super::output::{self, Table};
use super::{EXIT_FAILED, Global};
use crate::audit::{AuditLog, Outcome, Record, Verified};
use crate::daemon::documents::actor;

/// Arguments of `palisade audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read this file instead of asking the daemon; `audit.head` beside it says where it ends
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How many of the latest changes are listed
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub limit: usize,
    /// Only say whether the log is whole
    #[arg(long)]
    pub verify: bool,
}

/// Faults that are shown to a person.
const SHOWN_FAULTS: usize = 20;

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let mut verified: Verified = match &arguments.file {
        Some(file) => {
            let head = file.with_extension("head");
            AuditLog::verify_files(file, head.exists().then_some(head.as_path()))?
        }
        None => read(Client::new(&global.socket)?.get("/v1/audit")?)?,
    };
    let total = verified.records.len();
    let kept = if arguments.verify { 0 } else { arguments.limit };
    verified.records.drain(..total.saturating_sub(kept));
    let code = if verified.is_whole() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FAILED)
    };
    if global.json {
        output::json(&serde_json::to_value(&verified)?)?;
        return Ok(code);
    }
    if !arguments.verify {
        table(&verified.records).print()?;
    }
    let name = match &arguments.file {
        Some(file) => format!("{}: ", file.display()),
        None => String::new(),
    };
    for fault in verified.faults.iter().take(SHOWN_FAULTS) {
        eprintln!(
            "palisade: {name}line {} of the audit log {}",
            fault.line, fault.what
        );
    }
    if let Some(more @ 1..) = verified.faults.len().checked_sub(SHOWN_FAULTS) {
        eprintln!("palisade: {name}and {more} more");
    }
    if verified.is_whole() {
        eprintln!(
            "the audit log is whole: {}",
            output::counted(total, "change")
        );
    }
    Ok(code)
}

fn table(records: &[Record]) -> Table {
    let mut table = Table::new(&[
        "TIME", "WHO", "ACTION", "TARGET", "RESULT", "REASON", "CHANGED",
    ]);
    for record in records {
        let entry = &record.entry;
        let result = match &entry.outcome {
            Outcome::Done => "done".to_owned(),
            Outcome::Refused(error) => {
                format!("refused: {}", error.lines().next().unwrap_or_default())
            }
        };
        table.row(vec![
            output::whole_seconds(record.time),
            actor(&entry.who, entry.from),
            entry.action.clone(),
            output::optional(entry.target.as_deref()),
            result,
            output::optional(entry.reason.as_deref()),
            if entry.detail.is_null() {
                "-".to_owned()
            } else {
                entry.detail.to_string()
            },
        ]);
    }
    table
}
