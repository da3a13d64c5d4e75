//! A machine of one's own: systemd as process 1 over a clean root, in the network namespace of a test,
//! with the kernel of this host. Whatever is changed in it is gone with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::disk::Disk;
use crate::process::{Background, Finished, finish, succeed, wait_until};
use crate::{Namespace, need_tools, stretched};

/// How long it may take to boot, and a command in it to end.
const BOOT: Duration = Duration::from_secs(90);
/// What loading programs and attaching them needs, besides what containers are given anyway.
const CAPABILITIES: &str =
    "CAP_BPF,CAP_NET_ADMIN,CAP_PERFMON,CAP_SYS_ADMIN,CAP_SYS_PTRACE,CAP_IPC_LOCK,CAP_SYS_RESOURCE";
/// Gives the container control groups of its own, where machines that run beside it cannot take its
/// processes for theirs; shows it the namespace's own interfaces in /sys; and becomes systemd-nspawn,
/// which hands on the /sys that it sees.
const ENTER: &str = "name=$1 aside=$2; shift 2
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ ! -e $hierarchy/cgroup.procs ] || { mkdir $hierarchy/$name && echo $$ >$hierarchy/$name/cgroup.procs; } || exit
done
mount --rbind /sys/fs/cgroup $aside && mount -t sysfs sysfs /sys && mount --rbind $aside /sys/fs/cgroup || exit
exec systemd-nspawn --machine=$name \"$@\"";
const CONTROL_GROUPS: [&str; 3] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/systemd",
    "/sys/fs/cgroup/unified",
];

/// A booted machine. Dropping it turns it off.
#[derive(Debug)]
pub struct Machine {
    name: String,
    container: Option<Background>,
    /// Its process 1, as this host numbers it.
    leader: String,
    pins: PathBuf,
    console: PathBuf,
    _folder: TempDir,
}

impl Machine {
    /// Boots over `root`, which is not written to; what is changed is gone when it is turned off.
    pub fn boot(root: &Path, network: &Namespace, shared: &Path) -> Result<Result<Self, String>> {
        Self::start(root, &["--volatile=overlay"], network, shared)
    }

    /// Boots from a disk, which keeps what is changed.
    pub fn boot_from(
        disk: &Disk,
        network: &Namespace,
        shared: &Path,
    ) -> Result<Result<Self, String>> {
        Self::start(&disk.mounted, &[], network, shared)
    }

    /// `shared` is seen in there as /shared, read-only.
    /// `Err` inside says why machines do not boot here.
    fn start(
        root: &Path,
        options: &[&str],
        network: &Namespace,
        shared: &Path,
    ) -> Result<Result<Self, String>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        need_tools(&["systemd-nspawn", "nsenter", "unshare", "mount", "umount"])?;
        let folder = tempfile::Builder::new()
            .prefix("palisade-machine-")
            .tempdir()?;
        let part = |name: &str| -> Result<PathBuf> {
            let path = folder.path().join(name);
            fs::create_dir(&path)?;
            Ok(path)
        };
        let (pins, cgroups, scratch) = (part("bpf")?, part("cgroups")?, part("scratch")?);
        let console = folder.path().join("console.log");
        let log = File::create(&console)?;
        succeed(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&pins))?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut machine = Self {
            name: format!("palisade-{}-{number}", std::process::id()),
            container: None,
            leader: String::new(),
            pins,
            console,
            _folder: folder,
        };
        let mut command = network.command("unshare");
        command
            .args(["--mount", "--", "sh", "-c", ENTER, "sh", &machine.name])
            .arg(&cgroups)
            .args(["--quiet", "--boot", "--register=no", "--keep-unit"])
            .args(options)
            .arg(format!(
                "--machine=palisade-{}-{number}",
                std::process::id()
            ))
            .arg(format!("--capability={CAPABILITIES}"))
            .arg("--system-call-filter=bpf")
            .arg(format!("--bind={}:/sys/fs/bpf", machine.pins.display()))
            .arg(format!("--bind-ro={}:/shared", shared.display()))
            .arg("--directory")
            .arg(root)
            .env("TMPDIR", &scratch)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        machine.container = Some(Background::spawn(&mut command)?);
        Ok(machine.booted()?.map(|()| machine))
    }

    /// Waits until systemd has nothing left to start.
    fn booted(&mut self) -> Result<Result<(), String>> {
        let started = Instant::now();
        loop {
            let container = self.container.as_mut().context("it was not started")?;
            if !container.runs()? {
                return Ok(Err(format!("systemd-nspawn ended: {}", self.console())));
            }
            let id = container.id();
            if let Some(leader) = init_below(id) {
                self.leader = leader;
            }
            if !self.leader.is_empty()
                && let Ok(state) = self.try_run("systemctl is-system-running")
                && ["running", "degraded"].contains(&state.stdout.trim())
            {
                return Ok(Ok(()));
            }
            if started.elapsed() > stretched(BOOT) {
                return Ok(Err(format!("it does not boot: {}", self.console())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The BPF file system that is its /sys/fs/bpf.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Its process 1, as this host numbers it.
    pub fn leader(&self) -> &str {
        &self.leader
    }

    /// Where a path of its own is found from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.leader))
    }

    pub fn console(&self) -> String {
        fs::read_to_string(&self.console).unwrap_or_default()
    }

    /// A command that will run in it, as root.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.leader, "--all", "--"])
            .arg(program)
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Runs a line of words, split at spaces, to success; what it said, errors last.
    pub fn run(&self, line: &str) -> Result<String> {
        let finished = self.try_run(line)?;
        if !finished.success() {
            bail!("`{line}`: {finished}\n{}", self.journal());
        }
        Ok(finished.stdout + &finished.stderr)
    }

    /// Runs a line of words, split at spaces, to its end, whatever that is.
    pub fn try_run(&self, line: &str) -> Result<Finished> {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().context("an empty command line")?);
        finish(command.args(words))
    }

    /// Runs a verb of the installed program and reads its JSON.
    pub fn palisade(&self, line: &str) -> Result<Value> {
        let text = self.try_run(&format!("palisade {line} --json"))?;
        if !text.success() {
            bail!("`palisade {line}`: {text}\n{}", self.journal());
        }
        serde_json::from_str(&text.stdout).with_context(|| text.to_string())
    }

    /// Writes a file in it, with its folders.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        fs::write(self.path(path), text).with_context(|| path.to_owned())
    }

    /// The process of a service, when systemd calls it active.
    pub fn process_of(&self, service: &str) -> Result<Option<u32>> {
        let shown = self.run(&format!(
            "systemctl show -p ActiveState -p MainPID {service}"
        ))?;
        let value = |key: &str| shown.lines().find_map(|line| line.strip_prefix(key));
        Ok(value("MainPID=")
            .and_then(|pid| pid.parse().ok())
            .filter(|&pid| pid != 0 && value("ActiveState=") == Some("active")))
    }

    /// Waits until a service runs as another process than `before`.
    pub fn wait_for_another(&self, service: &str, before: u32) -> Result<u32> {
        let mut now = before;
        wait_until(&format!("{service} runs again"), BOOT, || {
            now = self.process_of(service)?.unwrap_or(before);
            Ok(now != before)
        })
        .with_context(|| self.journal())?;
        Ok(now)
    }

    /// What the service manager and the services said last.
    pub fn journal(&self) -> String {
        self.try_run("journalctl --no-pager --lines=60")
            .map_or_else(|error| format!("{error:#}"), |finished| finished.stdout)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the machine's journal:\n{}", self.journal());
        }
        if let Some(mut container) = self.container.take() {
            // Asked, it clears its folders away.
            let asked = container.signal(Signal::TERM);
            if asked.is_err() || container.wait(Duration::from_secs(20)).is_err() {
                let _ = container.kill();
                // It does not take its process 1 along, which takes all others.
                let leader = self.leader.parse().ok().and_then(Pid::from_raw);
                if let Some(leader) = leader {
                    let _ = kill_process(leader, Signal::KILL);
                }
            }
        }
        for hierarchy in CONTROL_GROUPS {
            remove_groups(&Path::new(hierarchy).join(&self.name));
        }
        if let Err(error) = succeed(Command::new("umount").arg(&self.pins)) {
            eprintln!("a BPF file system stays behind: {error:#}");
        }
    }
}

/// The process 1 of a container among the children of systemd-nspawn: others come and go while it sets
/// the container up.
fn init_below(id: u32) -> Option<String> {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    let is_init = |child: &&str| {
        fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name.trim() == "systemd")
    };
    children.split_whitespace().find(is_init).map(str::to_owned)
}

/// Removes a control group with those in it, which cannot be done as with other folders: their files
/// cannot be removed. One that is not there, or is still in use, is left.
fn remove_groups(group: &Path) {
    let Ok(entries) = fs::read_dir(group) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
