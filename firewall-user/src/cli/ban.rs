//! `palisade ban`.

use std::process::ExitCode;

use ipnet::IpNet;

use super::client::{Client, read};
use super::{Global, output};
use crate::daemon::documents::{BanDocument, BanRequest};
use crate::policy::address::parse_prefix;
use crate::respond::BanDuration;

/// Arguments of `palisade ban`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whom to block: an address or a prefix
    #[arg(value_name = "ADDR[/LEN]", value_parser = parse_prefix)]
    pub source: IpNet,
    /// For how long: 30s, 10m, 1h, 7d, 1h30m or forever
    #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
    pub duration: BanDuration,
    /// Why, for whoever reads the list later
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let request = BanRequest {
        prefix: arguments.source.to_string(),
        duration: arguments.duration,
        reason: arguments.reason,
    };
    let document = Client::new(&global.socket)?.post("/v1/bans", &request)?;
    let ban: BanDocument = read(document.clone())?;
    if global.json {
        output::json(&document)?;
    } else {
        output::line(&sentence(&ban))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Who is banned, and for how long.
pub fn sentence(ban: &BanDocument) -> String {
    let end = match ban.remaining_seconds {
        None => "until it is lifted".to_owned(),
        Some(seconds) => format!("for {}", output::seconds(seconds)),
    };
    format!("{} is banned {end}", ban.prefix)
}
