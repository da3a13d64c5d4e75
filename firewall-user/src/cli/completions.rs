//! `palisade completions`.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;

use super::{Cli, Global};

/// Arguments of `palisade completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell to complete for
    pub shell: clap_complete::Shell,
}

/// Runs the verb.
pub fn run(_global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Cli::command(),
        "palisade",
        &mut script,
    );
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_s_script_knows_the_verbs() {
        for shell in [
            clap_complete::Shell::Bash,
            clap_complete::Shell::Fish,
            clap_complete::Shell::Zsh,
        ] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "palisade", &mut script);
            let script = String::from_utf8(script).unwrap();
            for verb in Cli::command().get_subcommands() {
                assert!(
                    script.contains(verb.get_name()),
                    "{shell}: {}",
                    verb.get_name()
                );
            }
        }
    }
}
