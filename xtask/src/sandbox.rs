//! `cargo xtask run`: without arguments, Palisade at work on real traffic in network namespaces;
//! with an interface, Palisade on guard there, only watching unless told otherwise.

mod acts;
mod checks;
mod guard;
pub mod interrupt;
mod report;
mod screen;
mod stage;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Parser;

use crate::shell;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask run --", bin_name = "cargo xtask run --")]
#[command(about = "Show Palisade at work in network namespaces, or guard a real interface")]
struct Arguments {
    /// Leave the sandbox up at the end, until Ctrl-C
    #[arg(long, conflicts_with = "interface")]
    keep: bool,
    /// Guard this interface of this machine instead
    #[arg(long, value_name = "NAME", requires = "policy")]
    interface: Option<String>,
    /// The policy for --interface
    #[arg(long, value_name = "FILE", requires = "interface")]
    policy: Option<PathBuf>,
    /// Drop what the policy drops, instead of only counting it
    #[arg(long, requires = "interface")]
    enforce: bool,
}

pub fn main(arguments: Vec<String>) -> Result<()> {
    let words = ["cargo xtask run --".to_owned()]
        .into_iter()
        .chain(arguments);
    let arguments = Arguments::parse_from(words);
    if !shell::is_root() {
        bail!(
            "network namespaces and packet programs need root: \
             `sudo -E env \"PATH=$PATH\" cargo xtask run`"
        );
    }
    let program = program();
    if !program.is_file() {
        bail!(
            "{} is not built; `cargo xtask build --release` builds it",
            program.display()
        );
    }
    interrupt::listen()?;
    match (arguments.interface, arguments.policy) {
        (Some(interface), Some(policy)) => {
            guard::guard(&program, &interface, &policy, arguments.enforce)
        }
        _ => show(program, arguments.keep),
    }
}

/// The optimised program, where cargo puts it.
fn program() -> PathBuf {
    shell::target().join("release/palisade")
}

/// The whole show: the stage, each act, the counts, and whether the fence did its job.
fn show(program: PathBuf, keep: bool) -> Result<()> {
    palisade_tests::daemon::use_program(program);
    let screen = screen::Screen::new();
    let mut checks = checks::Checks::default();
    let mut stage = stage::Stage::build(&screen)?;
    for act in acts::ALL {
        interrupt::check()?;
        act(&mut stage, &screen, &mut checks)?;
    }
    report::print(&stage, &screen, &mut checks)?;
    checks.print(&screen);
    if keep {
        stage.hints(&screen);
        interrupt::wait();
    }
    drop(stage);
    screen.step("taken down: namespaces, servers, daemon and fence are gone");
    checks.verdict()
}
