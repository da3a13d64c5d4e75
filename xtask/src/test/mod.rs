//! `cargo xtask test`: everything that must hold, in stages from quick to slow. The first stage
//! that fails ends the run; the last line printed is always the count of tests.

mod counts;
mod executables;
mod prometheus;
mod stage;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use crate::{
    setup::{self, Need},
    shell,
};
pub use counts::{Counts, SKIPPED};
pub use executables::Executables;
use stage::Stage;

#[derive(clap::Args)]
pub struct Arguments {
    /// Only these stages (building first where they need it)
    #[arg(long, value_name = "STAGE")]
    only: Vec<Stage>,
    /// Only tests whose name contains this; other arguments of the test runner go here, too
    #[arg(last = true)]
    filter: Vec<String>,
}

pub fn main(arguments: &Arguments) -> ExitCode {
    let mut counts = Counts::default();
    let result = run(arguments, &mut counts);
    if let Err(error) = &result {
        eprintln!("error: {error:#}");
    }
    println!("{counts}");
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(arguments: &Arguments, counts: &mut Counts) -> Result<()> {
    let stages = stage::selected(&arguments.only);
    let as_root = stages.iter().any(|stage| stage.needs_root());
    if as_root && !shell::is_root() {
        bail!(
            "the tests in network namespaces need root: run `sudo -E env \"PATH=$PATH\" cargo xtask \
             test`, or leave them out with `--only unit`"
        );
    }
    // Formatting, lints and unit tests do without the tools of the whole-system tests.
    setup::ensure(if as_root { Need::Test } else { Need::Build })?;

    let mut executables = Executables::default();
    for (index, stage) in stages.iter().enumerate() {
        let title = format!("[{}/{}] {stage}", index + 1, stages.len());
        println!("{title}: {}", stage.says());
        let start = Instant::now();
        let result = stage.run(&mut executables, &arguments.filter, counts);
        let seconds = start.elapsed().as_secs_f64();
        if let Err(error) = result {
            bail!("stage `{stage}` failed after {seconds:.1} s: {error:#}");
        }
        println!("{title}: ok in {seconds:.1} s");
    }
    Ok(())
}
