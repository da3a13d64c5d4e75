//! `cargo xtask run`: installs what is missing, builds the optimised program and hands over to
//! the sandbox.

use anyhow::Result;

use crate::{
    build, sandbox,
    setup::{self, Need},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Passed on: without any, a show in network namespaces
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub fn main(arguments: Arguments) -> Result<()> {
    setup::ensure(Need::Run)?;
    build::build(true)?;
    sandbox::main(arguments.arguments)
}
