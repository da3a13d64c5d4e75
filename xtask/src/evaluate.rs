//! `cargo xtask evaluate`: what detection is worth, on labelled captures and series and on attacks of a live
//! host among ordinary visitors. The evaluation itself is in the tests' crate.

use std::path::PathBuf;

use anyhow::{Result, bail};
use palisade_tests::{
    daemon, document,
    evaluation::{captures, live, report::Report, series},
    leftovers,
};

use crate::{
    build,
    sandbox::interrupt,
    setup::{self, Need},
    shell,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Only this part: captures, series, live, or whatever has this in its name
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Fewer and shorter: for trying out, not for figures
    #[arg(long)]
    quick: bool,
    /// How many live attacks at a time, each in a world of its own; more disturb each other's times
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// The document that gets the tables; docs/detection.md after a whole run
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
    /// Take the program as it is built, without building it first
    #[arg(long)]
    no_build: bool,
}

const PARTS: [&str; 3] = ["captures", "series", "live"];

impl Arguments {
    /// Whether a part is wanted, and what its names must hold.
    fn wants(&self, part: &str) -> Option<&str> {
        match self.only.as_deref() {
            None => Some(""),
            Some(only) if only == part => Some(""),
            Some(only) if PARTS.contains(&only) => None,
            Some(name) => Some(name),
        }
    }
}

pub fn main(arguments: &Arguments) -> Result<()> {
    if !shell::is_root() {
        bail!(
            "the live attacks need network namespaces: run it as root: \
             `sudo -E env \"PATH=$PATH\" cargo xtask evaluate`"
        );
    }
    if !arguments.no_build {
        setup::ensure(Need::Evaluate)?;
        build::build(true)?;
    }
    daemon::use_program(shell::target().join("release/palisade"));
    let mut report = Report {
        machine: machine(),
        quick: arguments.quick,
        ..Report::default()
    };
    if let Some(name) = arguments.wants("captures") {
        match captures::folder() {
            Some(folder) => report.captures = Some(captures::run(&folder, name, arguments.quick)?),
            None => report
                .not_run
                .push("captures: none here (PALISADE_DATA names their folder)".to_owned()),
        }
    }
    if let Some(name) = arguments.wants("series") {
        match series::folder() {
            Some(folder) => report.series = series::run(&folder, name)?,
            None => report
                .not_run
                .push("series: none here (PALISADE_DATA names their folder)".to_owned()),
        }
    }
    if let Some(name) = arguments.wants("live") {
        // What is under way is taken down.
        interrupt::listen()?;
        let live = live::run(
            name,
            arguments.quick,
            arguments.jobs,
            &interrupt::asked,
            &mut report.not_run,
        )?;
        report.live = Some(live);
    }
    report.print();
    let folder = shell::target().join("evaluate");
    report.write_json(&folder)?;
    // Half a run must not replace the document's tables.
    interrupt::check()?;
    let whole = arguments.only.is_none() && !arguments.quick;
    let document = match &arguments.into {
        Some(file) => file.clone(),
        None if whole => shell::root().join("docs/detection.md"),
        None => folder.join("detection.md"),
    };
    document::write(&document, &report.sections())?;
    let left = leftovers::own();
    if !left.is_empty() {
        bail!(
            "programs of the live attacks still run: {}",
            left.join(", ")
        );
    }
    eprintln!(
        "the tables are in {}, all alerts in {}",
        document.display(),
        folder.display()
    );
    Ok(())
}

/// What the figures depend on.
fn machine() -> String {
    let output = |program: &str, arguments: &[&str]| {
        shell::output_of(shell::command(program).args(arguments)).unwrap_or_default()
    };
    format!(
        "{} processors, Linux {}",
        output("nproc", &[]),
        output("uname", &["-r"])
    )
}
