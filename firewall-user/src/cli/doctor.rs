//! `palisade doctor`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::client::{Client, NoDaemon, Refused, read};
use super::output::{self, Table};
use super::{EXIT_FAILED, Global};
use crate::daemon::documents::Status;
use crate::doctor::{Level, Patient, examine};
use crate::host::Host;
use crate::settings::{RESOLV_CONF, Settings};

/// Arguments of `palisade doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The host settings; without it, the running daemon's, or else /etc/palisade/palisade.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// An interface to look at, several times for several; without it, those of the settings, or else those
    /// of the default routes
    #[arg(long, value_name = "NAME")]
    pub interface: Vec<String>,
    /// Only what is not as it should be
    #[arg(long)]
    pub quiet: bool,
}

const SETTINGS: &str = "/etc/palisade/palisade.toml";

/// Runs the verb. Errors are a failure, so that scripts notice.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let status = status(global)?;
    let settings_file = match (arguments.config, &status) {
        (Some(file), _) => {
            // Asked for by name, it has to be there.
            std::fs::metadata(&file)
                .map_err(|error| anyhow::anyhow!("{} cannot be read: {error}", file.display()))?;
            file
        }
        (None, Some(status)) => status.settings.clone(),
        (None, None) => SETTINGS.into(),
    };
    let settings = settings_file
        .exists()
        .then(|| Settings::load(&settings_file));
    let host = Host::look(Path::new(RESOLV_CONF))?;
    let interfaces = match (&arguments.interface[..], &settings) {
        ([], Some(Ok(settings))) => settings
            .interfaces
            .iter()
            .map(|interface| interface.name.clone())
            .collect(),
        ([], _) => host
            .outward()
            .iter()
            .map(|interface| interface.name.clone())
            .collect(),
        (named, _) => named.to_vec(),
    };
    let checks = examine(&Patient {
        host,
        settings_file,
        settings,
        interfaces,
        status,
    });
    let count = |level: Level| checks.iter().filter(|check| check.status == level).count();
    let (errors, warnings, notes) = (
        count(Level::Error),
        count(Level::Warning),
        count(Level::Note),
    );
    if global.json {
        output::json(&json!({
            "checks": checks,
            "errors": errors,
            "warnings": warnings,
            "notes": notes,
        }))?;
    } else {
        let mut table = Table::new(&["STATUS", "CHECK", "ABOUT", "FOUND", "TO DO"]);
        let shown = |check: &&crate::doctor::Check| !arguments.quiet || check.status != Level::Ok;
        for check in checks.iter().filter(shown) {
            table.row(vec![
                check.status.name().to_owned(),
                check.id.to_owned(),
                output::optional(check.subject.as_deref()),
                check.found.clone(),
                output::optional(check.advice.as_deref()),
            ]);
        }
        table.print()?;
        eprintln!(
            "palisade: {}, {}, {}",
            output::counted(errors, "error"),
            output::counted(warnings, "warning"),
            output::counted(notes, "note")
        );
    }
    Ok(if errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FAILED)
    })
}

/// What the daemon says; `None` if there is none, or none that this user may ask.
fn status(global: &Global) -> anyhow::Result<Option<Status>> {
    match Client::new(&global.socket)?.get("/v1/status") {
        Ok(document) => Ok(Some(read(document)?)),
        Err(error) if error.is::<NoDaemon>() || error.is::<Refused>() => Ok(None),
        Err(error) => Err(error),
    }
}
