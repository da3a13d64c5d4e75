//! `palisade incidents`.

use std::process::ExitCode;

use super::Global;
use super::client::{Client, read};
use super::output::{self, Table};
use crate::daemon::documents::IncidentList;
use crate::detect::Incident;

/// Arguments of `palisade incidents`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(global: &Global, _arguments: Args) -> anyhow::Result<ExitCode> {
    let document = Client::new(&global.socket)?.get("/v1/incidents")?;
    if global.json {
        output::json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let IncidentList { incidents } = read(document)?;
    let mut table = Table::new(&[
        "ID", "STATE", "SEVERITY", "KINDS", "SUBJECTS", "ALERTS", "SINCE", "ENDED", "WHY",
        "RESPONSE",
    ]);
    for incident in incidents {
        table.row(vec![
            incident.id.to_string(),
            incident.state.to_string(),
            incident.severity.to_string(),
            kinds(&incident),
            subjects(&incident),
            incident.alert_count.to_string(),
            output::moment(incident.started),
            incident
                .ended
                .map_or_else(|| "-".to_owned(), output::moment),
            incident.why,
            output::optional(incident.response.last().map(String::as_str)),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

/// What kinds of alerts it holds.
pub(super) fn kinds(incident: &Incident) -> String {
    let names: Vec<&str> = incident.kinds.iter().map(|kind| kind.name()).collect();
    names.join(", ")
}

/// The first subjects, and how many there are beside them.
fn subjects(incident: &Incident) -> String {
    const SHOWN: usize = 3;
    let named: Vec<String> = incident
        .subjects
        .iter()
        .take(SHOWN)
        .map(|known| known.subject.to_string())
        .collect();
    let others = incident.subject_count.saturating_sub(named.len() as u64);
    match others {
        0 => named.join(", "),
        others => format!("{} and {others} more", named.join(", ")),
    }
}
