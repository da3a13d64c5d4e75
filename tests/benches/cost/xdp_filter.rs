//! xdp-filter as its package ships it, loaded on an interface of a namespace of its own, with a
//! BPF file system of its own: an xdp-filter in use on this machine is neither seen nor touched.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use palisade_tests::Namespace;

use super::kernel;
use super::policies::{DROPPED_PORT, FIVE};

/// A loaded xdp-filter; dropping it unloads it.
pub struct XdpFilter {
    pub program: OwnedFd,
    /// The name that the kernel shows.
    pub name: String,
    _shell: Shell,
    _namespace: Namespace,
}

/// A shell that undoes what it did when its standard input ends, even if that is because this
/// process was killed.
struct Shell(Child);

const INTERFACE: &str = "bench0";
const READY: &str = "ready";

impl XdpFilter {
    /// Loads it with the five addresses and the port.
    pub fn load() -> Result<Self> {
        let namespace = Namespace::create("bench")?;
        namespace.run(&format!(
            "ip link add {INTERFACE} type veth peer name bench1"
        ))?;
        for interface in [INTERFACE, "bench1"] {
            namespace.run(&format!("ip link set {interface} up"))?;
        }
        let addresses: String = FIVE
            .iter()
            .map(|address| format!("xdp-filter ip {address} -m src\n"))
            .collect();
        // Standard output is for the word that says that all is in place.
        let script = format!(
            "set -e\nexec 3>&1 >&2\nmount -t bpf bpf /sys/fs/bpf\nxdp-filter load -m native {INTERFACE}\n\
             {addresses}xdp-filter port {DROPPED_PORT} -m dst -p tcp\necho {READY} >&3\nread -r _ || true\n\
             xdp-filter unload {INTERFACE}\n"
        );
        let mut command = namespace.command("unshare");
        command
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot run nsenter")?;
        let stdout = child.stdout.take().context("no pipe to the shell")?;
        let shell = Shell(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() != READY {
            bail!("xdp-filter could not be loaded; its message is above");
        }
        let links: serde_json::Value =
            serde_json::from_str(&namespace.run(&format!("ip -j -d link show dev {INTERFACE}"))?)?;
        let program = &links[0]["xdp"]["prog"];
        let id = program["id"]
            .as_u64()
            .with_context(|| format!("no XDP program on {INTERFACE}: {links}"))?;
        Ok(Self {
            program: kernel::open(id as u32)?,
            name: program["name"].as_str().unwrap_or("unnamed").to_owned(),
            _shell: shell,
            _namespace: namespace,
        })
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let patience = Instant::now() + Duration::from_secs(5);
        while Instant::now() < patience {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        eprintln!("xdp-filter was not unloaded in time; its interface goes all the same");
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
