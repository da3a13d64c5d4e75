//! `palisade unban`.

use std::process::ExitCode;

use ipnet::IpNet;

use super::client::Client;
use super::{Global, output};
use crate::policy::address::parse_prefix;

/// Arguments of `palisade unban`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose ban to lift, as `palisade bans` lists it
    #[arg(value_name = "ADDR[/LEN]", value_parser = parse_prefix)]
    pub source: IpNet,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/bans?prefix={}", arguments.source);
    let document = Client::new(&global.socket)?
        .because(arguments.reason)
        .delete(&path)?;
    if global.json {
        output::json(&document)?;
    } else {
        output::line(&format!("the ban of {} is lifted", arguments.source))?;
    }
    Ok(ExitCode::SUCCESS)
}
