//! `palisade notify`.

use std::process::ExitCode;

use super::client::{Client, read};
use super::output::{self, Table};
use super::{EXIT_FAILED, Global};
use crate::daemon::documents::{NotifierList, NotifyTest, TestList};

/// Arguments of `palisade notify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List those who are told of alerts, what waits for them and what went wrong (the default)
    List,
    /// Send a test to one or all, and show what they answer
    Test {
        /// Only this one
        name: Option<String>,
    },
}

/// Runs the verb. A test that does not arrive is a failure, so that scripts notice.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&global.socket)?;
    match arguments.verb.unwrap_or(Verb::List) {
        Verb::List => list(global, &client),
        Verb::Test { name } => test(global, &client, name),
    }
}

fn list(global: &Global, client: &Client) -> anyhow::Result<ExitCode> {
    let document = client.get("/v1/notify")?;
    if global.json {
        output::json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let list: NotifierList = read(document)?;
    if list.notifiers.is_empty() {
        output::line("nobody is told of alerts: the host settings have no [[notify]]")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        "NAME",
        "KIND",
        "PEER",
        "QUEUED",
        "DELIVERED",
        "LOST",
        "TROUBLE",
    ]);
    for notifier in list.notifiers {
        table.row(vec![
            notifier.name,
            notifier.kind,
            notifier.peer,
            notifier.queued.to_string(),
            notifier.delivered.to_string(),
            (notifier.refused + notifier.dropped).to_string(),
            output::optional(notifier.trouble.as_deref()),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

fn test(global: &Global, client: &Client, name: Option<String>) -> anyhow::Result<ExitCode> {
    let document = client.post("/v1/notify/test", &NotifyTest { name })?;
    let list: TestList = read(document.clone())?;
    if global.json {
        output::json(&document)?;
    } else {
        for test in &list.tests {
            let what = if test.arrived {
                "arrived"
            } else {
                "did not arrive"
            };
            output::line(&format!(
                "{} ({}): {what}: {}",
                test.name, test.kind, test.answer
            ))?;
        }
    }
    Ok(if list.tests.iter().all(|test| test.arrived) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FAILED)
    })
}
