//! `palisade apply`.

use std::process::ExitCode;

use super::Global;

/// Arguments of `palisade apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy file; without it, the daemon's own
    pub file: Option<std::path::PathBuf>,
    /// Read, check and compile, but change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the verb.
pub fn run(_global: &Global, _arguments: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`palisade apply` is not built yet")
}
