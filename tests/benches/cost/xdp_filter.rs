//! xdp-filter as its package ships it, loaded on an interface of a namespace of its own, with a
//! BPF file system of its own: an xdp-filter in use on this machine is neither seen nor touched.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use palisade_tests::{Namespace, need_tools};

use super::contender::{Answer, Contender, Heat, Label};
use super::kernel::{self, Hook};
use super::policies::{DROPPED_PORT, FIVE, LISTED, OPEN_PORT, STRANGER, syn};
use super::prologue::{XDP_DROP, XDP_PASS};
use super::subject::{Group, Program};

/// A loaded xdp-filter; dropping it unloads it.
pub struct XdpFilter {
    program: OwnedFd,
    /// The name that the kernel shows.
    name: String,
    _shell: Shell,
}

/// A shell that undoes what it did when its standard input ends, even if that is because this
/// process was killed.
struct Shell(Child);

pub const SUBJECT: &str = "xdp-filter";
pub const PASS: &str = "pass, nothing matches";
const INTERFACE: &str = "bench0";
const READY: &str = "ready";

impl XdpFilter {
    /// Loads it with the five addresses and the port on an interface of a namespace.
    pub fn load_on(namespace: &Namespace, interface: &str) -> Result<Self> {
        let addresses: String = FIVE
            .iter()
            .map(|address| format!("xdp-filter ip {address} -m src\n"))
            .collect();
        // Standard output is for the word that says that all is in place.
        let script = format!(
            "set -e\nexec 3>&1 >&2\nmount -t bpf bpf /sys/fs/bpf\nxdp-filter load -m native {interface}\n\
             {addresses}xdp-filter port {DROPPED_PORT} -m dst -p tcp\necho {READY} >&3\nread -r _ || true\n\
             xdp-filter unload {interface}\n"
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
            serde_json::from_str(&namespace.run(&format!("ip -j -d link show dev {interface}"))?)?;
        let program = &links[0]["xdp"]["prog"];
        let id = program["id"]
            .as_u64()
            .with_context(|| format!("no XDP program on {interface}: {links}"))?;
        Ok(Self {
            program: kernel::open(id as u32)?,
            name: program["name"].as_str().unwrap_or("unnamed").to_owned(),
            _shell: shell,
        })
    }
}

/// Adds xdp-filter's cases, if it is installed and loads.
pub fn add(group: &mut Group) -> Result<Option<(XdpFilter, Namespace)>> {
    if need_tools(&["xdp-filter", "unshare"]).is_err() {
        group.missing.push(
            "xdp-filter is not installed; `cargo xtask setup --for bench` does it".to_owned(),
        );
        return Ok(None);
    }
    let namespace = Namespace::create("bench")?;
    namespace.run(&format!(
        "ip link add {INTERFACE} type veth peer name bench1"
    ))?;
    for interface in [INTERFACE, "bench1"] {
        namespace.run(&format!("ip link set {interface} up"))?;
    }
    let filter = XdpFilter::load_on(&namespace, INTERFACE)?;
    let program = filter.program.as_fd();
    for family in [0, 1] {
        let (listed, stranger) = (LISTED[family], STRANGER[family]);
        let cases = [
            ("drop by address", syn(listed, OPEN_PORT)?, XDP_DROP),
            ("drop by port", syn(stranger, DROPPED_PORT)?, XDP_DROP),
            (PASS, syn(stranger, OPEN_PORT)?, XDP_PASS),
        ];
        for (case, frame, verdict) in cases {
            let label = |heat| Label {
                subject: SUBJECT.to_owned(),
                case: case.to_owned(),
                v6: family == 1,
                egress: false,
                heat,
            };
            let hot = Contender::hot(label(Heat::Hot), program, frame.clone(), verdict)?;
            group.contenders.push(hot);
            let answer = Answer::OrDrop(verdict);
            // With a source at random the address matches no more.
            if frame != syn(listed, OPEN_PORT)? {
                let cold = Contender::cold(label(Heat::Cold), program, frame, answer, Hook::Xdp)?;
                group.contenders.push(cold);
            }
        }
    }
    let size = kernel::size(program)?;
    let name = format!("{SUBJECT} ({})", filter.name);
    group.programs.push(Program::new(&name, "ingress", size, 0));
    Ok(Some((filter, namespace)))
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
