//! `palisade bans`.

use std::process::ExitCode;

use super::Global;
use super::client::{Client, read};
use super::output::{self, Table};
use crate::daemon::documents::Bans;

/// Arguments of `palisade bans`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(global: &Global, _arguments: Args) -> anyhow::Result<ExitCode> {
    let document = Client::new(&global.socket)?.get("/v1/bans")?;
    if global.json {
        output::json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Bans { bans } = read(document)?;
    let mut table = Table::new(&["PREFIX", "ORIGIN", "LEFT", "CREATED", "REASON", "MEASURE"]);
    for ban in bans {
        let origin = match &ban.kind {
            Some(kind) => format!("{} ({kind})", ban.origin),
            None => ban.origin,
        };
        table.row(vec![
            ban.prefix.to_string(),
            origin,
            ban.remaining_seconds
                .map_or_else(|| "forever".to_owned(), output::seconds),
            ban.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            output::optional(ban.reason.as_deref()),
            ban.measure,
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}
