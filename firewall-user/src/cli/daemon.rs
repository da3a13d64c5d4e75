//! `palisade daemon`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Global;
use crate::daemon::{self, LogFormat};

/// Arguments of `palisade daemon`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The host settings
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/palisade/palisade.toml"
    )]
    pub config: PathBuf,
    /// How log lines are written to standard error; PALISADE_LOG sets what is logged
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub log_format: LogFormat,
    /// Only say whether a start would take the settings and the policy; a daemon may run meanwhile
    #[arg(long)]
    pub check: bool,
}

/// Runs the verb.
pub fn run(_global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    if arguments.check {
        for warning in daemon::check(&arguments.config)? {
            eprintln!("{warning}");
        }
        println!("{}: a daemon would start", arguments.config.display());
        return Ok(ExitCode::SUCCESS);
    }
    daemon::run(&arguments.config, arguments.log_format)?;
    Ok(ExitCode::SUCCESS)
}
