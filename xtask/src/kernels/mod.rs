//! `cargo xtask kernels`: the programs and the whole-system tests on Debian's stock kernels, each in
//! a virtual machine of its own.

mod catalogue;
mod guest;
mod initramfs;
mod machine;
mod outcome;
mod packages;
mod report;
mod results;
mod selection;
mod tree;
mod version;

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    setup::{self, Need},
    shell,
    test::Executables,
};
use catalogue::Kernel;
use guest::{Job, Test};
use machine::{Files, Machine};
use outcome::Outcome;
use tree::Tree;

pub use machine::file_server;

/// No machine may take longer.
const LIMIT: Duration = Duration::from_secs(6 * 3600);

#[derive(clap::Args)]
pub struct Arguments {
    /// Only these kernels: 6.1, 6.12, 6.18, 7.3
    #[arg(long, value_name = "VERSION")]
    only: Vec<String>,
    /// Only these test programs (the names of the files in tests/tests/); otherwise all that say
    /// something about a kernel
    #[arg(long, value_name = "NAME")]
    test: Vec<String>,
    /// How many machines run at once
    #[arg(long, default_value_t = 2)]
    machines: usize,
    /// Only tests whose name contains this; other arguments of the test runner go here, too
    #[arg(last = true)]
    filter: Vec<String>,
}

/// What became of one kernel.
pub enum Fate {
    Ran {
        outcome: Outcome,
        wall: Duration,
    },
    /// It could not be had, or not be started.
    Skipped(String),
}

pub fn main(arguments: &Arguments) -> Result<()> {
    let kernels = catalogue::selected(&arguments.only).map_err(|why| anyhow!(why))?;
    if env::consts::ARCH != "x86_64" {
        bail!(
            "the kernels are Debian's for x86-64, and the tests are compiled for {}",
            env::consts::ARCH
        );
    }
    if !shell::is_root() {
        bail!(
            "the guests read the machine's whole root: run it as root: `sudo -E env \"PATH=$PATH\" cargo xtask kernels`"
        );
    }
    setup::ensure_all(&[Need::Test, Need::Kernels])?;
    let mut executables = Executables::default();
    executables.build_optimised()?;
    let folder = folder();
    let job = job(&executables, arguments, &folder.join("programs"))?;
    let fates = run_all(&kernels, &job, &folder, arguments.machines.max(1));
    // Of a part of a file's tests nothing is kept.
    if arguments.filter.is_empty() {
        results::keep(&kernels, &fates, &folder)?;
    }
    report::print(&kernels, &fates, &folder)
}

/// The programs get another name in `kept`, so that those who build meanwhile take nothing away.
fn job(executables: &Executables, arguments: &Arguments, kept: &Path) -> Result<Job> {
    fs::create_dir_all(kept)?;
    let mut tests: Vec<Test> = executables
        .system_tests()
        .filter(|(name, ..)| is_wanted(name, &arguments.test))
        .map(|(name, file, folder)| {
            Ok(Test {
                name: name.to_owned(),
                file: keep(file, &kept.join(name))?,
                folder: folder.to_owned(),
            })
        })
        .collect::<Result<_>>()?;
    if tests.is_empty() {
        bail!("no test program is named {}", arguments.test.join(" or "));
    }
    tests.sort_by_key(|test| selection::place(&test.name));
    Ok(Job {
        program: keep(executables.program()?, &kept.join("palisade"))?,
        tests,
        filter: arguments.filter.clone(),
    })
}

/// Without names, what is left out is said.
fn is_wanted(name: &str, names: &[String]) -> bool {
    if !names.is_empty() {
        return names.iter().any(|wanted| wanted == name);
    }
    match selection::left_out(name) {
        Some(why) => {
            println!("kernels: leaving out {name}: {why}");
            false
        }
        None => true,
    }
}

fn keep(file: &Path, name: &Path) -> Result<PathBuf> {
    // The linker makes a new file each time, so a second name is enough.
    let _ = fs::remove_file(name);
    fs::hard_link(file, name).with_context(|| format!("cannot keep {}", file.display()))?;
    Ok(name.to_owned())
}

/// Where packages, kernels and results are kept.
fn folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| shell::root().join("target"), PathBuf::from)
        .join("kernels")
}

fn run_all(kernels: &[Kernel], job: &Job, folder: &Path, machines: usize) -> Vec<Fate> {
    let next = Mutex::new(kernels.iter().enumerate());
    let fates = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..machines.min(kernels.len()) {
            scope.spawn(|| {
                loop {
                    let taken = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((index, kernel)) = taken else { break };
                    let fate = run(kernel, job, folder)
                        .unwrap_or_else(|error| Fate::Skipped(format!("{error:#}")));
                    let mut fates = fates.lock().unwrap_or_else(PoisonError::into_inner);
                    fates.push((index, fate));
                }
            });
        }
    });
    let mut fates = fates.into_inner().unwrap_or_else(PoisonError::into_inner);
    fates.sort_by_key(|(index, _)| *index);
    fates.into_iter().map(|(_, fate)| fate).collect()
}

/// An error is that there is nothing to try: no such kernel, or no machine to run it in.
fn run(kernel: &Kernel, job: &Job, folder: &Path) -> Result<Fate> {
    let tree = Tree::prepare(kernel, folder)?;
    let place = folder.join("runs").join(kernel.version);
    fs::create_dir_all(&place)?;
    let files = Files::new(place);
    for old in [files.console(), files.results()] {
        let _ = fs::remove_file(old);
    }
    fs::write(files.script(), guest::script(&tree, job))?;
    initramfs::write(&tree, &files.script(), &files.initramfs())?;
    println!("kernels: {kernel}: starting {}", tree.release);
    let started = Instant::now();
    let mut machine = Machine::start(&tree, &files)?;
    let mut told = 0;
    loop {
        let runs = machine.runs()?;
        let outcome = Outcome::read(&read(&files.results()));
        for program in &outcome.programs[told..] {
            println!(
                "kernels: {kernel}: {}: {} in {:.0} s",
                program.name, program.counts, program.seconds
            );
        }
        told = outcome.programs.len();
        let wall = started.elapsed();
        if !runs || outcome.finished || wall > LIMIT {
            return Ok(Fate::Ran { outcome, wall });
        }
        thread::sleep(Duration::from_millis(500));
    }
}

fn read(file: &Path) -> String {
    fs::read(file).map_or_else(
        |_| String::new(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}
