//! `cargo xtask bench`: what a packet costs.
//!
//! xtask cannot load kernel programs itself (see its Cargo.toml): measurements that need them
//! run a program of another crate.

use anyhow::{Result, bail};

use crate::{
    build,
    setup::{self, Need},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Passed on to the measurement
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub fn main(arguments: Arguments) -> Result<()> {
    setup::ensure(Need::Bench)?;
    build::build(true)?;
    bail!(
        "there is no measurement to run yet (asked for: {:?})",
        arguments.arguments
    )
}
