//! `palisade set`.

use std::process::ExitCode;

use super::Global;

/// Arguments of `palisade set`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_global: &Global, _arguments: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`palisade set` is not built yet")
}
