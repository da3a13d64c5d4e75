//! `cargo xtask fuzz`: the property tests of the code that kernel and user space share, with as
//! many cases as one has time for.
//!
//! Optimised, but with overflow checks and debug assertions on, and in a target folder of its
//! own so that it does not push the ordinary release build out.

use anyhow::Result;

use crate::shell;

#[derive(clap::Args)]
pub struct Arguments {
    /// Cases per property
    #[arg(long, default_value_t = 1_000_000)]
    cases: u32,
    /// Only properties whose name contains this
    #[arg(last = true)]
    filter: Vec<String>,
}

pub fn main(arguments: &Arguments) -> Result<()> {
    let mut cargo = shell::cargo();
    cargo
        .args(["test", "--release", "--package", "firewall-common"])
        .args(["--config", "profile.release.overflow-checks=true"])
        .args(["--config", "profile.release.debug-assertions=true"])
        .args(["--target-dir", "target/fuzz", "--"])
        .args(&arguments.filter)
        .env("PROPTEST_CASES", arguments.cases.to_string());
    shell::run(&mut cargo)
}
