//! `palisade top`.

use std::process::ExitCode;

use super::Global;
use super::client::{Client, read};
use super::output::{self, Table, rate};
use crate::daemon::documents::{PrefixDocument, SourceOrder, Sources};

/// Arguments of `palisade top`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to sort by: the rate over the last ten seconds or so, then the total
    #[arg(long, value_enum, default_value_t)]
    pub by: SourceOrder,
    /// How many sources to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Show IPv4 /24s and IPv6 /48s instead, the sums of their sources
    #[arg(long)]
    pub prefixes: bool,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let path = format!(
        "/v1/sources?by={}&limit={}&prefixes={}",
        arguments.by.name(),
        arguments.limit,
        arguments.prefixes
    );
    let document = Client::new(&global.socket)?.get(&path)?;
    if global.json {
        output::json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Sources {
        sources, prefixes, ..
    } = read(document)?;
    if arguments.prefixes {
        return show_prefixes(prefixes);
    }
    let mut table = Table::new(&[
        "SOURCE",
        "PACKETS/S",
        "BYTES/S",
        "SYNS/S",
        "REQUESTS/S",
        "PACKETS",
        "BYTES",
        "SYNS",
        "REQUESTS",
        "DROPS",
    ]);
    for source in sources {
        table.row(vec![
            source_name(source.source),
            rate(source.packets_per_second),
            rate(source.bytes_per_second),
            rate(source.syns_per_second),
            rate(source.requests_per_second),
            source.packets.to_string(),
            source.bytes.to_string(),
            source.syns.to_string(),
            source.requests.to_string(),
            source.drops.to_string(),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

fn show_prefixes(prefixes: Vec<PrefixDocument>) -> anyhow::Result<ExitCode> {
    let mut table = Table::new(&[
        "PREFIX",
        "SOURCES",
        "PACKETS/S",
        "BYTES/S",
        "SYNS/S",
        "REQUESTS/S",
        "PACKETS",
        "BYTES",
        "SYNS",
        "REQUESTS",
        "DROPS",
    ]);
    for prefix in prefixes {
        table.row(vec![
            prefix.prefix.to_string(),
            prefix.sources.to_string(),
            rate(prefix.packets_per_second),
            rate(prefix.bytes_per_second),
            rate(prefix.syns_per_second),
            rate(prefix.requests_per_second),
            prefix.packets.to_string(),
            prefix.bytes.to_string(),
            prefix.syns.to_string(),
            prefix.requests.to_string(),
            prefix.drops.to_string(),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

/// IPv6 sources are whole /64s.
fn source_name(source: std::net::IpAddr) -> String {
    match source {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("{address}/64"),
    }
}
