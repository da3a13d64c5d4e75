//! `palisade check`.

use std::process::ExitCode;

use super::Global;

/// Arguments of `palisade check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy file
    #[arg(default_value = "/etc/palisade/policy.toml")]
    pub file: std::path::PathBuf,
}

/// Runs the verb.
pub fn run(_global: &Global, _arguments: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`palisade check` is not built yet")
}
