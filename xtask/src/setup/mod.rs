//! `cargo xtask setup`: brings a machine to where Palisade can be built, tested, shown and
//! measured. Every step is said, a step whose result is there already is only reported, and
//! building needs no root once its tools are installed.

mod apt;
mod bpffs;
mod linker;
mod services;
mod style;
mod toolchain;
mod tools;

use anyhow::Result;
use clap::ValueEnum;

/// What the machine shall be ready for; everything includes building.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Need {
    /// Compile all crates
    Build,
    /// Run the tests
    Test,
    /// Run the sandbox
    Run,
    /// Measure
    Bench,
    /// Measure what detection is worth
    Evaluate,
    /// Make packages
    Package,
    /// Run the tests on other kernels in virtual machines
    Kernels,
}

#[derive(clap::Args)]
pub struct Arguments {
    /// Only what this needs; without it, everything
    #[arg(long = "for", value_name = "WHAT")]
    needs: Vec<Need>,
}

pub fn main(arguments: &Arguments) -> Result<()> {
    if arguments.needs.is_empty() {
        ensure_all(&[
            Need::Build,
            Need::Test,
            Need::Run,
            Need::Bench,
            Need::Evaluate,
            Need::Package,
            Need::Kernels,
        ])
    } else {
        ensure_all(&arguments.needs)
    }
}

/// What the other subcommands call before they start.
pub fn ensure(need: Need) -> Result<()> {
    ensure_all(&[need])
}

/// The same for several needs.
pub fn ensure_all(needs: &[Need]) -> Result<()> {
    services::restore_leftovers()?;
    let toolchain = toolchain::ensure()?;
    linker::ensure(&toolchain)?;
    if needs.contains(&Need::Test) {
        style::ensure()?;
    }
    tools::ensure(needs)?;
    let on_this_host = |&need: &Need| !matches!(need, Need::Build | Need::Package);
    if needs.iter().any(on_this_host) {
        bpffs::ensure()?;
    }
    Ok(())
}

/// Reports something that needed no work.
fn there(what: &str) {
    println!("setup: ok: {what}: already there");
}

/// Says what is about to be done.
fn doing(what: &str) {
    println!("setup: {what} ...");
}

/// Reports something that was just done.
fn done(what: &str) {
    println!("setup: ok: {what}");
}
