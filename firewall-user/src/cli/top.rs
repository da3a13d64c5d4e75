//! `palisade top`: who sends most, once or as a live view.
//!
//! The view is apart from the world: [`view::View`] takes documents and keys and says what is to be asked
//! of the daemon, [`draw`] turns it into a screen, and [`live`] alone has a terminal, a clock and a socket.

mod draw;
mod feed;
mod history;
mod live;
mod numbers;
mod plain;
mod rows;
mod snapshot;
mod tabs;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use super::Global;
use super::client::{Client, read};
use super::output;
use crate::daemon::documents::SourceOrder;
use crate::terminal::can_be_drawn_on;

/// Arguments of `palisade top`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "On a terminal this is a live view; `?` tells its keys. Anywhere else, and with --once, --prefixes \
                  or --json, the sources are printed once."
)]
pub struct Args {
    /// What to sort by: the rate over the last ten seconds or so, then the total
    #[arg(long, value_enum, default_value_t)]
    pub by: SourceOrder,
    /// How many sources to show when printed once
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Show IPv4 /24s and IPv6 /48s instead, the sums of their sources (printed once)
    #[arg(long)]
    pub prefixes: bool,
    /// Print once, on a terminal too
    #[arg(long)]
    pub once: bool,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&global.socket)?;
    let terminal = can_be_drawn_on(&io::stdout()) && io::stdin().is_terminal();
    if terminal && !arguments.once && !arguments.prefixes && !global.json {
        return live::run(client, arguments.by);
    }
    let path = format!(
        "/v1/sources?by={}&limit={}&prefixes={}",
        arguments.by.name(),
        arguments.limit,
        arguments.prefixes
    );
    let document = client.get(&path)?;
    if global.json {
        output::json(&document)?;
    } else {
        plain::print(read(document)?, arguments.prefixes)?;
    }
    Ok(ExitCode::SUCCESS)
}
