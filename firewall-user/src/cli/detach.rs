//! `palisade detach`.

use std::process::ExitCode;

use super::Global;

/// Arguments of `palisade detach`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this interface
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
}

/// Runs the verb.
pub fn run(_global: &Global, _arguments: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`palisade detach` is not built yet")
}
