//! `palisade replay`.

use std::process::ExitCode;

use super::Global;

/// Arguments of `palisade replay`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_global: &Global, _arguments: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`palisade replay` is not built yet")
}
