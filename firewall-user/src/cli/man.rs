//! `palisade man`.

use std::process::ExitCode;

use super::Global;

/// Arguments of `palisade man`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_global: &Global, _arguments: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`palisade man` is not built yet")
}
