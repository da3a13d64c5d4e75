//! `palisade report`.

mod markdown;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};

use super::client::{Client, read};
use super::history::moment;
use super::{EXIT_FAILED, Global, output};
use crate::daemon::documents::Report;
use crate::respond::BanDuration;

/// Arguments of `palisade report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How far back: a length (90d, 26w) or the day or time of the last review
    #[arg(long, value_name = "TIME", default_value = "180d", value_parser = since)]
    pub since: Timestamp,
    /// How it is written; --json is the same as json
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    pub format: Format,
    /// Write it to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Markdown,
    Json,
}

/// Runs the verb. It fails where the audit log does not hold: the report then says so, and is not to be trusted.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/report?since={}", arguments.since);
    let document = Client::new(&global.socket)?.get(&path)?;
    let report: Report = read(document.clone())?;
    let text = if global.json || arguments.format == Format::Json {
        let mut text = serde_json::to_string_pretty(&document)?;
        text.push('\n');
        text
    } else {
        markdown::write(&report)
    };
    match &arguments.output {
        Some(path) => {
            write(path, &text).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        None => output::line(text.trim_end())?,
    }
    if report.audit.whole {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "palisade: the audit log does not hold: see the end of the report, and `palisade audit --verify`"
    );
    Ok(ExitCode::from(EXIT_FAILED))
}

/// Writes a file, whole or not at all.
fn write(path: &std::path::Path, text: &str) -> anyhow::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => std::path::Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(file.path(), mode)?;
    file.persist(path)?;
    Ok(())
}

/// Reads a length that ends now, or a moment.
fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(BanDuration(Some(length))) = text.parse::<BanDuration>() {
        let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
        let begun = Timestamp::now().checked_sub(length);
        return Ok(begun
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .max(Timestamp::UNIX_EPOCH));
    }
    let begun = moment(text).map_err(|_| {
        format!("`{text}` is no length or time: write 90d, 26w, 2026-06-30 or 2026-06-30T14:00:00Z")
    })?;
    if begun > Timestamp::now() {
        return Err(format!("{text} is in the future"));
    }
    Ok(begun)
}
