//! Structured logs on standard error, for people or for machines.

use std::io;

use anyhow::{Context, anyhow};
use tracing_subscriber::EnvFilter;

use crate::terminal::takes_colour;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Environment variable with a filter such as `debug` or `firewall_user::daemon=trace`.
const FILTER: &str = "PALISADE_LOG";

/// Starts logging; once per process.
pub fn start(format: LogFormat) -> anyhow::Result<()> {
    let filter = match std::env::var(FILTER) {
        Ok(filter) => EnvFilter::try_new(&filter)
            .with_context(|| format!("{FILTER}={filter} is no log filter: write e.g. debug"))?,
        Err(_) => EnvFilter::new("info"),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(io::stderr);
    let started = match format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.with_ansi(takes_colour(&io::stderr())).try_init(),
    };
    started.map_err(|error| anyhow!("logging cannot be started: {error}"))
}
