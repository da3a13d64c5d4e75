//! Builds the test programs once and runs them.
//!
//! `cargo test` is called per stage by most projects; here the programs that one build made are
//! run directly, because each selection of packages can have cargo resolve other features and
//! compile the dependencies anew.

use std::{
    env,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{counts::Counts, stage::HOST_PACKAGES};
use crate::shell;

/// The package of the whole-system tests.
const SYSTEM_PACKAGE: &str = "tests";
/// The program under test, and the variable that tells tests where it is.
const PROGRAM: &str = "palisade";
const PROGRAM_VARIABLE: &str = "PALISADE_BIN";
/// The variable that tells tests where this program is: some make packages with it.
const XTASK_VARIABLE: &str = "PALISADE_XTASK";
/// How many whole-system tests run at once, unless this variable says otherwise.
const THREADS_VARIABLE: &str = "PALISADE_TEST_THREADS";
/// No test program may take longer; one that hangs shall not hang everything.
const LIMIT: Duration = Duration::from_secs(20 * 60);

#[derive(Default)]
pub struct Executables {
    program: Option<PathBuf>,
    tests: Vec<TestProgram>,
}

struct TestProgram {
    file: PathBuf,
    /// The package's folder; its name tells the package, and tests run in it.
    folder: PathBuf,
    target: String,
}

impl Executables {
    pub fn build(&mut self) -> Result<()> {
        let mut cargo = shell::cargo();
        cargo
            .arg("build")
            .args(HOST_PACKAGES)
            .args(["--lib", "--bins", "--tests", "--examples"]);
        self.build_by(cargo)
    }

    /// Only the program and the whole-system tests, optimised: for machines that are slow themselves.
    pub fn build_optimised(&mut self) -> Result<()> {
        let mut cargo = shell::cargo();
        cargo
            .args(["build", "--release"])
            .args(["--package", "firewall-user", "--package", "palisade-tests"])
            .args(["--bin", PROGRAM, "--test", "*"]);
        self.build_by(cargo)
    }

    fn build_by(&mut self, mut cargo: Command) -> Result<()> {
        cargo
            .arg("--message-format=json-render-diagnostics")
            .stdout(Stdio::piped());
        let child = cargo
            .spawn()
            .with_context(|| format!("cannot start `{}`", shell::line(&cargo)))?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("`{}` failed ({})", shell::line(&cargo), output.status);
        }
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            self.take_note(line);
        }
        Ok(())
    }

    /// Reads one of cargo's messages about what it has built.
    fn take_note(&mut self, message: &str) {
        let Ok(message) = serde_json::from_str::<Value>(message) else {
            return;
        };
        let (Some(file), Some(folder), Some(target)) = (
            message["executable"].as_str(),
            message["manifest_path"]
                .as_str()
                .and_then(|manifest| Path::new(manifest).parent()),
            message["target"]["name"].as_str(),
        ) else {
            return;
        };
        if message["profile"]["test"] == true {
            self.tests.push(TestProgram {
                file: file.into(),
                folder: folder.to_owned(),
                target: target.to_owned(),
            });
        } else if target == PROGRAM {
            self.program = Some(file.into());
        }
    }

    /// The program under test.
    pub fn program(&self) -> Result<&Path> {
        self.program
            .as_deref()
            .with_context(|| format!("cargo has not built `{PROGRAM}`"))
    }

    /// Name, file and folder of each program with whole-system tests.
    pub fn system_tests(&self) -> impl Iterator<Item = (&str, &Path, &Path)> {
        self.tests
            .iter()
            .filter(|test| test.is_system())
            .map(|test| {
                (
                    test.target.as_str(),
                    test.file.as_path(),
                    test.folder.as_path(),
                )
            })
    }

    pub fn run_unit(&self, filter: &[String], counts: &mut Counts) -> Result<()> {
        self.run(|test| !test.is_system(), filter, &[], counts)
    }

    pub fn run_system(&self, filter: &[String], counts: &mut Counts) -> Result<()> {
        let threads = match env::var(THREADS_VARIABLE) {
            Ok(number) => number,
            Err(_) => default_threads().to_string(),
        };
        self.run(
            TestProgram::is_system,
            filter,
            &["--test-threads", &threads],
            counts,
        )
    }

    /// All programs are run even if one fails, so that the count is complete.
    fn run(
        &self,
        chosen: impl Fn(&TestProgram) -> bool,
        filter: &[String],
        options: &[&str],
        counts: &mut Counts,
    ) -> Result<()> {
        let program = self.program()?;
        let mut failed = Vec::new();
        for test in self.tests.iter().filter(|test| chosen(test)) {
            println!("--- {}", test.name());
            let mut command = Command::new(&test.file);
            command
                .args(options)
                .args(filter)
                .current_dir(&test.folder)
                .stdin(Stdio::null())
                .env("CARGO_MANIFEST_DIR", &test.folder)
                .env(PROGRAM_VARIABLE, program)
                // Not the program that runs: building the workspace may have put another in its place.
                .env(XTASK_VARIABLE, shell::target().join("debug/xtask"));
            if let Err(error) = run_counted(&mut command, counts) {
                println!("--- {}: {error:#}", test.name());
                failed.push(test.name());
            }
        }
        if !failed.is_empty() {
            bail!("tests failed in {}", failed.join(", "));
        }
        Ok(())
    }
}

impl TestProgram {
    fn is_system(&self) -> bool {
        self.package() == SYSTEM_PACKAGE
    }

    fn package(&self) -> String {
        self.folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    fn name(&self) -> String {
        format!("{}: {}", self.package(), self.target)
    }
}

/// The tests wait more than they compute, but some measure times: one for every two processors.
fn default_threads() -> usize {
    thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2))
}

/// Runs a test runner, showing its output as it comes, and adds what it counted.
pub fn run_counted(command: &mut Command, counts: &mut Counts) -> Result<()> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", shell::line(command)))?;
    let stdout = child.stdout.take().context("the runner has no output")?;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let reader = thread::spawn(move || show_and_keep(stdout, &keep));

    let end = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            counts.failed += 1;
            bail!("was ended after {} minutes", LIMIT.as_secs() / 60);
        }
        thread::sleep(Duration::from_millis(50));
    };
    // A process that a test left behind can keep the pipe open: the rest is not waited for long.
    let rest = Instant::now() + Duration::from_secs(2);
    while !reader.is_finished() && Instant::now() < rest {
        thread::sleep(Duration::from_millis(10));
    }
    let output = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match Counts::read(&String::from_utf8_lossy(&output)) {
        Some(read) => counts.add(read),
        // A runner that crashed has said nothing about the tests it did not come to.
        None if !status.success() => counts.failed += 1,
        None => {}
    }
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}

/// Ends with the output; what cannot be shown is kept all the same.
fn show_and_keep(mut from: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..length];
        kept.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
    }
}
