//! `cargo xtask build`: the toolchain first, then every crate that runs on the host. The kernel
//! programs are compiled and embedded on the way by firewall-user's build script.

use anyhow::Result;

use crate::{
    setup::{self, Need},
    shell,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Optimised; the program is target/release/palisade
    #[arg(long)]
    release: bool,
}

pub fn main(arguments: &Arguments) -> Result<()> {
    setup::ensure(Need::Build)?;
    build(arguments.release)
}

/// Builds the workspace's default members.
pub fn build(release: bool) -> Result<()> {
    let mut cargo = shell::cargo();
    cargo.arg("build");
    if release {
        cargo.arg("--release");
    }
    shell::run(&mut cargo)
}
