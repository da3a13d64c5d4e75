//! A host for the commands of one page: interfaces and files by the names that the docs use, the
//! daemon's own default paths, a visitor and a scanner outside. Nothing of it is the machine's own: network and mounts
//! are namespaces of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use palisade_tests::Namespace;
use palisade_tests::daemon::palisade;
use palisade_tests::process::{Background, Finished, finish, succeed, wait_until};
use tempfile::TempDir;

/// What the namespaces of mounts begin with.
const MOUNTS: &str = "
set -e
mount -t bpf bpf /sys/fs/bpf
cp -r /etc/. \"$1/etc\"
mkdir -p \"$1/etc/palisade\" \"$1/lib/palisade\" \"$1/run/palisade\" \"$1/etc/systemd/system\"
mount --bind \"$1/etc\" /etc
mount --bind \"$1/lib\" /var/lib
mount --bind \"$1/run\" /run
mount --bind \"$1/sbin\" /usr/local/sbin
echo ready
exec sleep 600
";

pub struct Stage {
    holder: Background,
    work: PathBuf,
    daemon: Option<Background>,
    /// The alert's number.
    alert: Option<u64>,
    wants_alert: bool,
    _drops: Background,
    inside: Namespace,
    outside: Namespace,
    _folder: TempDir,
}

impl Stage {
    /// `proposes` leaves out the policy that a page makes; `wants_alert` has a scanner found once a daemon serves.
    pub fn new(proposes: bool, wants_alert: bool) -> Result<Self> {
        let inside = Namespace::create("host")?;
        let outside = Namespace::create("world")?;
        for (near, far) in [("eth0", "wire0"), ("eth1", "wire1")] {
            succeed(Command::new("ip").args([
                "link",
                "add",
                near,
                "netns",
                inside.name(),
                "type",
                "veth",
                "peer",
                "name",
                far,
                "netns",
                outside.name(),
            ]))?;
            inside.run(&format!("ip link set {near} up"))?;
            outside.run(&format!("ip link set {far} up"))?;
        }
        inside.run("ip address add 198.51.100.1/24 dev eth0")?;
        inside.run("ip address add 2001:db8:51::1/64 dev eth0 nodad")?;
        inside.run("ip route add default via 198.51.100.2")?;
        outside.run("ip address add 198.51.100.2/24 dev wire0")?;
        outside.run("ip address add 203.0.113.7/32 dev wire0")?;
        let folder = TempDir::new()?;
        let root = folder.path();
        let work = root.join("work");
        for name in ["etc", "lib", "run", "sbin", "work"] {
            std::fs::create_dir(root.join(name))?;
        }
        files(&work, proposes)?;
        let mut unshare = inside.command("unshare");
        unshare
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                MOUNTS,
                "stage",
            ])
            .arg(root)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .stdout(std::fs::File::create(root.join("ready"))?);
        let holder = Background::spawn(&mut unshare)?;
        wait_until("the stage", Duration::from_secs(30), || {
            Ok(std::fs::read_to_string(root.join("ready"))? == "ready\n")
        })?;
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        for name in ["palisade.toml", "policy.toml"] {
            let text = std::fs::read_to_string(examples.join(name))?;
            let text = text.replace(
                "interfaces = [\"eth0\"]\n",
                "interfaces = [\"eth0\", \"eth1\"]\n",
            );
            std::fs::write(root.join("etc/palisade").join(name), text)?;
        }
        let drops = "hping3 -q -S -p 9999 -i u200000 -c 1500 198.51.100.1";
        let drops = outside.spawn(drops)?;
        for name in ["capture.pcap", "visit.pcap"] {
            let into = work.join(name);
            let into = into.to_str().context("a path in UTF-8")?;
            outside.run(&format!("timeout 60 tcpdump -i wire0 -c 2 -w {into} tcp"))?;
        }
        Ok(Self {
            holder,
            work,
            daemon: None,
            alert: None,
            wants_alert,
            _drops: drops,
            inside,
            outside,
            _folder: folder,
        })
    }

    /// Has a scanner found, so that there is an alert.
    fn raise_alert(&mut self) -> Result<()> {
        self.outside
            .run("nmap -n -Pn -sS --max-retries 0 -S 203.0.113.7 -e wire0 -p 1-200 198.51.100.1")?;
        let found = wait_until(
            "an alert about the scanner",
            Duration::from_secs(30),
            || {
                let told = self.run("palisade alerts --json")?;
                let told: serde_json::Value =
                    serde_json::from_str(&told.stdout).unwrap_or_default();
                self.alert = told["alerts"][0]["id"].as_u64();
                Ok(self.alert.is_some())
            },
        );
        found.with_context(|| match self.run("palisade alerts; palisade status") {
            Ok(ended) => ended.to_string(),
            Err(error) => error.to_string(),
        })?;
        Ok(())
    }

    /// Runs a command of a page.
    pub fn run(&self, line: &str) -> Result<Finished> {
        finish(&mut self.command(line)?)
    }

    /// Runs a command of a page that does not end by itself: for a while.
    pub fn run_for(&self, line: &str, seconds: u32) -> Result<Finished> {
        finish(&mut self.command(&format!("timeout --signal INT {seconds} {line}"))?)
    }

    /// Whether a daemon was started.
    pub fn serves(&self) -> bool {
        self.daemon.is_some()
    }

    /// Runs a daemon as a page says; the one that runs goes first.
    pub fn start_daemon(&mut self, line: &str) -> Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill()?;
        }
        let mut command = self.command(&format!("exec {line}"))?;
        let log = self.work.join("../daemon.log");
        command
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?);
        self.daemon = Some(Background::spawn(&mut command)?);
        let started = wait_until("an answer of the daemon", Duration::from_secs(30), || {
            Ok(self.run("palisade status")?.success())
        });
        started.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        if self.wants_alert && self.alert.is_none() {
            self.raise_alert()?;
        }
        Ok(())
    }

    /// What stands in a page for what its reader has: `ID` of an alert, `ADDR` of a source.
    fn filled_in(&self, line: &str) -> String {
        let alert = self
            .alert
            .map_or("ID".to_owned(), |alert| alert.to_string());
        line.split(' ')
            .map(|word| match word {
                "ID" => &alert,
                "ADDR" => "203.0.113.7",
                word => word,
            })
            .collect::<Vec<&str>>()
            .join(" ")
    }

    fn command(&self, line: &str) -> Result<Command> {
        let line = self.filled_in(line);
        let holder = self.holder.id();
        let program = palisade()?;
        let beside = program.parent().context("a program in a folder")?;
        let path = std::env::var("PATH")?;
        ensure!(holder > 0, "the stage is gone");
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount=/proc/{holder}/ns/mnt"))
            .arg(format!("--net={}", self.inside.path().display()))
            // The folder as these mounts show it, which `--wd` would not be.
            .args(["--", "bash", "-c", &format!("cd \"$0\" && {line}")])
            .arg(&self.work)
            .env("PATH", format!("{}:{path}", beside.display()))
            .stdin(Stdio::null());
        Ok(command)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The fence must be down before the interfaces go; a daemon that has ended left it to us.
        let _ = self.run("palisade detach");
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
        }
    }
}

/// The files that commands name, in the folder in which they run.
fn files(work: &Path, proposes: bool) -> Result<()> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for name in ["policy.toml", "new.toml", "old.toml"] {
        if !(proposes && name == "policy.toml") {
            std::fs::copy(examples.join("policy.toml"), work.join(name))?;
        }
    }
    let addition =
        "\n[[rule]]\nname = \"mail\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 25\n";
    let new = std::fs::read_to_string(work.join("new.toml"))? + addition;
    std::fs::write(work.join("new.toml"), new)?;
    std::fs::create_dir_all(work.join("target/release"))?;
    let mut series = "timestamp,value\n".to_owned();
    for minute in 0..600 {
        series += &format!("{},{}\n", 1_700_000_000 + minute * 300, 100 + minute % 12);
    }
    std::fs::write(work.join("orders.csv"), series)?;
    let link = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for name in ["packaging", "examples"] {
        std::os::unix::fs::symlink(std::fs::canonicalize(link.join(name))?, work.join(name))?;
    }
    std::os::unix::fs::symlink(palisade()?, work.join("target/release/palisade"))?;
    Ok(())
}
