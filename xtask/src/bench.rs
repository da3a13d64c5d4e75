//! `cargo xtask bench`: what a packet costs, beside what people would use instead.
//!
//! xtask cannot load kernel programs itself (see its Cargo.toml): the measurement is a benchmark
//! of the tests' crate.

use anyhow::{Result, bail};

use crate::{
    build,
    setup::{self, Need},
    shell,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Passed on to the measurement: --quick, --only PART, --output FOLDER
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub fn main(arguments: Arguments) -> Result<()> {
    if !shell::is_root() {
        bail!(
            "measuring loads kernel programs: run it as root: `sudo -E env \"PATH=$PATH\" cargo xtask bench`"
        );
    }
    setup::ensure(Need::Bench)?;
    // One part watches the daemon at work.
    build::build(true)?;
    let mut cargo = shell::cargo();
    cargo
        .args([
            "bench",
            "--package",
            "palisade-tests",
            "--bench",
            "cost",
            "--",
        ])
        .args(arguments.arguments)
        .env("PALISADE_BIN", shell::target().join("release/palisade"));
    shell::run(&mut cargo)
}
