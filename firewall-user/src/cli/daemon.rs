//! `palisade daemon`.

use std::process::ExitCode;

use super::Global;

/// Arguments of `palisade daemon`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The host settings
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/palisade/palisade.toml"
    )]
    pub config: std::path::PathBuf,
}

/// Runs the verb.
pub fn run(_global: &Global, _arguments: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`palisade daemon` is not built yet")
}
