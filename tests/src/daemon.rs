//! The real daemon in a namespace, with folders, socket and pins of its own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::leftovers::{BPF_FOLDER, PIN_PREFIX, remove_pins};
use crate::namespace::Namespace;
use crate::patience::stretched;
use crate::process::{Background, Finished, finish, succeed};
use crate::topology::EDGE;

/// How long the daemon may take until its socket answers. Loading takes tens of milliseconds;
/// the rest is for a machine that is busy building.
const START: Duration = Duration::from_secs(20);

/// Where the metrics are, inside the daemon's namespace.
pub const METRICS: &str = "http://127.0.0.1:9477/metrics";

/// A daemon's home: its settings, policy, state, socket and pins; and the daemon while it runs.
/// Dropping it ends the daemon and takes the fence down by removing the pins.
#[derive(Debug)]
pub struct Daemon {
    inside: PathBuf,
    folder: TempDir,
    pins: PathBuf,
    running: Option<Background>,
}

/// How the daemon should attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Auto,
    Native,
    Generic,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

impl Daemon {
    /// Starts the daemon on the edge of `inside` with this policy, and waits until it is up.
    pub fn start(inside: &Namespace, policy: &str) -> Result<Self> {
        Self::start_in(inside, policy, Mode::Auto)
    }

    /// The same in a chosen mode.
    pub fn start_in(inside: &Namespace, policy: &str, mode: Mode) -> Result<Self> {
        let mut daemon = Self::prepare(inside, policy, EDGE, mode)?;
        daemon.launch()?;
        Ok(daemon)
    }

    /// Writes settings and policy, and starts nothing.
    pub fn prepare(inside: &Namespace, policy: &str, interface: &str, mode: Mode) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::Builder::new().prefix("palisade-").tempdir()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let pins =
            Path::new(BPF_FOLDER).join(format!("{PIN_PREFIX}{}-{count}", std::process::id()));
        let daemon = Self {
            inside: inside.path(),
            folder,
            pins,
            running: None,
        };
        fs::create_dir(daemon.state_dir())?;
        daemon.write_policy(policy)?;
        daemon.write_settings(
            &format!(
                "interfaces = [{{ name = \"{interface}\", mode = \"{}\" }}]",
                mode.name()
            ),
            "",
        )?;
        Ok(daemon)
    }

    /// Writes the settings: `top` (the interfaces, at least), every path of this home, and
    /// `tables` behind them.
    pub fn write_settings(&self, top: &str, tables: &str) -> Result<()> {
        let settings = format!(
            "{top}\npolicy = \"policy.toml\"\nstate_dir = \"{}\"\nsocket = \"{}\"\npin_dir = \"{}\"\n\n[metrics]\nlisten = \"127.0.0.1:9477\"\n\n{tables}",
            self.state_dir().display(),
            self.socket().display(),
            self.pins.display(),
        );
        fs::write(self.settings(), settings)?;
        Ok(())
    }

    /// Replaces the policy file; the daemon looks at it when told to.
    pub fn write_policy(&self, policy: &str) -> Result<()> {
        Ok(fs::write(self.policy(), policy)?)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn settings(&self) -> PathBuf {
        self.folder.path().join("palisade.toml")
    }

    pub fn policy(&self) -> PathBuf {
        self.folder.path().join("policy.toml")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// What the daemon has logged, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("daemon.log")
    }

    /// Starts the daemon of this home, again or for the first time, and waits until it is up.
    pub fn launch(&mut self) -> Result<()> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        let mut running = Background::spawn(
            self.command()?
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log),
        )?;
        let socket = self.socket();
        let started = std::time::Instant::now();
        while UnixStream::connect(&socket).is_err() {
            if !running.runs()? {
                bail!("the daemon ended at once: {}", self.log());
            }
            if started.elapsed() > stretched(START) {
                bail!(
                    "the daemon's socket does not answer within {START:?}: {}",
                    self.log()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.running = Some(running);
        self.palisade(&["status"])?;
        Ok(())
    }

    /// Runs the daemon to its end: for homes in which it must refuse to start.
    pub fn run_to_end(&self) -> Result<Finished> {
        finish(&mut self.command()?)
    }

    /// The command that starts the daemon of this home, to be changed and run.
    pub fn command(&self) -> Result<Command> {
        let mut command = self.in_namespace(&palisade()?);
        command.args(["daemon", "--config"]).arg(self.settings());
        Ok(command)
    }

    /// The daemon's process.
    pub fn process(&mut self) -> Result<&mut Background> {
        self.running.as_mut().context("the daemon does not run")
    }

    /// Ends the daemon with SIGKILL. The fence stays up.
    pub fn kill(&mut self) -> Result<()> {
        let mut running = self.running.take().context("the daemon does not run")?;
        running.kill()
    }

    /// Ends the daemon with SIGTERM, as systemd does. The fence stays up.
    pub fn stop(&mut self) -> Result<std::process::ExitStatus> {
        let mut running = self.running.take().context("the daemon does not run")?;
        running.signal(rustix::process::Signal::TERM)?;
        running.wait(Duration::from_secs(10))
    }

    /// Runs a verb to success and reads its JSON.
    pub fn palisade(&self, arguments: &[&str]) -> Result<Value> {
        let finished = self.try_palisade(&[arguments, &["--json"]].concat())?;
        if !finished.success() {
            bail!(
                "`palisade {}`: {finished}\nthe daemon's log: {}",
                arguments.join(" "),
                self.log()
            );
        }
        if finished.stdout.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&finished.stdout)
            .with_context(|| format!("`palisade {}`: {finished}", arguments.join(" ")))
    }

    /// Runs a verb to its end, whatever that is, without adding anything to its arguments.
    pub fn try_palisade(&self, arguments: &[&str]) -> Result<Finished> {
        finish(
            self.in_namespace(&palisade()?)
                .args(arguments)
                .env("PALISADE_SOCKET", self.socket()),
        )
    }

    /// Asks the control socket for a document.
    pub fn ask(&self, path: &str) -> Result<Value> {
        let answer = succeed(
            Command::new("curl")
                .args(["--silent", "--show-error", "--fail", "--max-time"])
                .arg(stretched(Duration::from_secs(10)).as_secs().to_string())
                .arg("--unix-socket")
                .arg(self.socket())
                .arg(format!("http://palisade{path}")),
        )?;
        serde_json::from_str(&answer).with_context(|| format!("{path}: {answer}"))
    }

    /// Scrapes the metrics as Prometheus does: over HTTP, from within the namespace.
    pub fn scrape(&self) -> Result<String> {
        succeed(self.in_namespace(Path::new("curl")).args([
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "--max-time",
            &stretched(Duration::from_secs(5)).as_secs().to_string(),
            METRICS,
        ]))
    }

    /// Packets that a rule has matched.
    pub fn rule_packets(&self, rule: &str) -> Result<u64> {
        let label = format!("rule=\"{rule}\"");
        Ok(metric(&self.scrape()?, "palisade_rule_packets_total", &[&label]) as u64)
    }

    /// Inbound packets with this verdict for this reason.
    pub fn inbound(&self, verdict: &str, reason: &str) -> Result<u64> {
        let status = self.palisade(&["status"])?;
        let totals = status["totals"]
            .as_array()
            .context("the status has no totals")?;
        Ok(totals
            .iter()
            .filter(|total| {
                total["direction"] == "inbound"
                    && total["verdict"] == verdict
                    && total["reason"] == reason
            })
            .filter_map(|total| total["packets"].as_u64())
            .sum())
    }

    fn in_namespace(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.inside.display()))
            .arg("--")
            .arg(program);
        command
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The daemon goes first, or it would see its pins vanish.
        self.running = None;
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        remove_pins(&self.pins);
    }
}

static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Makes every daemon of this process be this program. The first call decides.
pub fn use_program(path: PathBuf) {
    CHOSEN.get_or_init(|| path);
}

/// The built program: what [`use_program`] or `PALISADE_BIN` named, or what cargo built beside
/// the running test.
pub fn palisade() -> Result<PathBuf> {
    if let Some(path) = CHOSEN.get() {
        return Ok(path.clone());
    }
    if let Some(path) = std::env::var_os("PALISADE_BIN") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe()?;
    // A test runs from target/debug/deps, a program from target/debug.
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("palisade"))
        .find(|candidate| candidate.is_file());
    beside.with_context(|| {
        format!(
            "no palisade beside {}; build it with `cargo xtask build`, or name it in PALISADE_BIN",
            own.display()
        )
    })
}

/// Copies the built program to where others than root can run it. Another process does: what this
/// one has open for writing, a child that another test starts at that moment has open as well, and
/// the kernel runs no file that somebody writes to.
pub fn copy_palisade(to: &Path) -> Result<()> {
    succeed(Command::new("cp").arg(palisade()?).arg(to))?;
    Ok(())
}

/// The counter of one metric: the value of the line that starts with `family` and holds every
/// one of `labels` (as `name="value"`), summed where several do.
pub fn metric(scrape: &str, family: &str, labels: &[&str]) -> f64 {
    scrape
        .lines()
        .filter(|line| {
            line.strip_prefix(family)
                .is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        })
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_over_the_lines_with_its_labels() {
        let scrape = "# TYPE a_total counter\n\
                      a_total{x=\"1\",y=\"2\"} 3\n\
                      a_total{x=\"1\",y=\"3\"} 4\n\
                      a_total_more{x=\"1\"} 100\n\
                      b 1.5\n";
        assert_eq!(metric(scrape, "a_total", &["x=\"1\""]), 7.0);
        assert_eq!(metric(scrape, "a_total", &["y=\"3\""]), 4.0);
        assert_eq!(metric(scrape, "b", &[]), 1.5);
        assert_eq!(metric(scrape, "c", &[]), 0.0);
    }
}
