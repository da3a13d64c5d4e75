//! rustfmt and clippy, which the tests' first stages run.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{doing, done, there};
use crate::shell;

const TIME: Duration = Duration::from_secs(120);

pub fn ensure() -> Result<()> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if let Some(version) = version(subcommand) {
            there(&version);
            continue;
        }
        let mut rustup = shell::command("rustup");
        rustup.args(["component", "add", component]);
        doing(&format!(
            "installing {component} (`{}`)",
            shell::line(&rustup)
        ));
        shell::run_within(&mut rustup, TIME).with_context(|| {
            format!("`cargo {subcommand}` is missing; install the {component} of this toolchain")
        })?;
        done(component);
    }
    Ok(())
}

fn version(subcommand: &str) -> Option<String> {
    shell::output_of(shell::cargo().args([subcommand, "--version"]))
}
