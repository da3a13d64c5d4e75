//! `cargo xtask agree`: the kernel programs, the host engine and the naive oracle on as many pairs
//! of policy and packet as one has time for.
//!
//! xtask cannot load kernel programs itself (see its Cargo.toml): the campaign is a test of the
//! tests' crate, optimised.

use anyhow::{Result, bail};

use crate::{
    setup::{self, Need},
    shell,
};

const CAMPAIGN: &str = "millions_of_pairs_are_judged_alike";

#[derive(clap::Args)]
pub struct Arguments {
    /// How many pairs of policy and packet
    #[arg(long, default_value_t = 10_000_000)]
    pairs: u64,
    /// The first random policy's seed; a failure names the one that repeats it
    #[arg(long, default_value_t = 20_260_501)]
    seed: u64,
}

pub fn main(arguments: &Arguments) -> Result<()> {
    if !shell::is_root() {
        bail!(
            "the campaign loads kernel programs: run it as root: `sudo -E env \"PATH=$PATH\" cargo xtask agree`"
        );
    }
    setup::ensure(Need::Build)?;
    let mut cargo = shell::cargo();
    cargo
        .args(["test", "--release", "--package", "palisade-tests"])
        .args(["--test", "agreement", "--"])
        .args(["--ignored", "--exact", "--nocapture", CAMPAIGN])
        .env("PALISADE_AGREEMENT_PAIRS", arguments.pairs.to_string())
        .env("PALISADE_AGREEMENT_SEED", arguments.seed.to_string());
    shell::run(&mut cargo)
}
