//! The tools that tests, sandbox and measurements use: real clients, attackers and judges.

use anyhow::{Result, bail};

use super::{Need, apt, there};
use crate::{kernels::file_server, shell};

/// A program and the Debian package that has it.
struct Tool {
    name: &'static str,
    package: &'static str,
    used_by: &'static [Need],
}

const fn tool(name: &'static str, package: &'static str, used_by: &'static [Need]) -> Tool {
    Tool {
        name,
        package,
        used_by,
    }
}

const ALL: &[Need] = &[Need::Test, Need::Run, Need::Bench, Need::Evaluate];
const TRAFFIC: &[Need] = &[Need::Test, Need::Run, Need::Evaluate];
const TEST: &[Need] = &[Need::Test];
/// Whatever compiles the program.
const BUILT: &[Need] = &[
    Need::Build,
    Need::Test,
    Need::Run,
    Need::Bench,
    Need::Evaluate,
    Need::Package,
    Need::Kernels,
];
const MEASURED: &[Need] = &[Need::Test, Need::Bench];
const BENCH: &[Need] = &[Need::Bench];
const ATTACKED: &[Need] = &[Need::Test, Need::Evaluate];
const SERVED: &[Need] = &[Need::Test, Need::Bench, Need::Evaluate];
const EVALUATE: &[Need] = &[Need::Evaluate];
const PACKAGED: &[Need] = &[Need::Test, Need::Package];
const EMULATED: &[Need] = &[Need::Test, Need::Kernels];
const KERNELS: &[Need] = &[Need::Kernels];

const TOOLS: &[Tool] = &[
    tool("npm", "npm", BUILT),
    tool("ip", "iproute2", ALL),
    tool("tc", "iproute2", ALL),
    tool("ethtool", "ethtool", ALL),
    tool("bpftool", "bpftool", ALL),
    tool("sysctl", "procps", ALL),
    tool("ping", "iputils-ping", TRAFFIC),
    tool("curl", "curl", TRAFFIC),
    tool("nmap", "nmap", TRAFFIC),
    tool("python3", "python3", TRAFFIC),
    tool("hping3", "hping3", TRAFFIC),
    tool("tcpreplay", "tcpreplay", TEST),
    tool("tshark", "tshark", TEST),
    tool("sshd", "openssh-server", ATTACKED),
    tool("ssh", "openssh-client", ATTACKED),
    tool("promtool", "prometheus", TEST),
    tool("prometheus-alertmanager", "prometheus-alertmanager", TEST),
    tool("prometheus", "prometheus", TEST),
    tool("systemd-analyze", "systemd", TEST),
    tool("chromium", "chromium", TEST),
    tool("trafgen", "netsniff-ng", MEASURED),
    tool("xdp-filter", "xdp-tools", MEASURED),
    tool("nft", "nftables", BENCH),
    tool("iptables", "iptables", BENCH),
    tool("ipset", "ipset", BENCH),
    tool("nginx", "nginx-light", SERVED),
    tool("wrk", "wrk", SERVED),
    tool("hydra", "hydra", EVALUATE),
    tool("slowhttptest", "slowhttptest", EVALUATE),
    tool("dnsperf", "dnsperf", EVALUATE),
    tool("dnsmasq", "dnsmasq-base", ATTACKED),
    tool("dns2tcpc", "dns2tcp", EVALUATE),
    tool("tcpdump", "tcpdump", ATTACKED),
    tool("fastnetmon", "fastnetmon", EVALUATE),
    tool("dpkg-deb", "dpkg", PACKAGED),
    tool("dpkg-shlibdeps", "dpkg-dev", PACKAGED),
    tool("strip", "binutils", PACKAGED),
    tool("gzip", "gzip", PACKAGED),
    tool("tar", "tar", PACKAGED),
    tool("mmdebstrap", "mmdebstrap", TEST),
    tool("systemd-nspawn", "systemd-container", TEST),
    tool("mke2fs", "e2fsprogs", TEST),
    tool("qemu-system-x86_64", "qemu-system-x86", EMULATED),
    tool("busybox", "busybox-static", KERNELS),
    tool("cpio", "cpio", KERNELS),
    tool("xz", "xz-utils", KERNELS),
    tool("depmod", "kmod", KERNELS),
];

/// Debian 12 has it in a package that qemu needs; later ones have it alone.
const FILE_SERVER: &str = "virtiofsd";
const SCAPY: &str = "python3-scapy";

pub fn ensure(needs: &[Need]) -> Result<()> {
    let wanted: Vec<&Tool> = TOOLS
        .iter()
        .filter(|tool| tool.used_by.iter().any(|need| needs.contains(need)))
        .collect();
    let scapy = needs.contains(&Need::Test);
    let (present, missing): (Vec<&Tool>, Vec<&Tool>) = wanted
        .into_iter()
        .partition(|tool| shell::program(tool.name).is_some());

    let mut packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let mut names: Vec<&str> = present.iter().map(|tool| tool.name).collect();
    if scapy {
        if has_scapy() {
            names.push("scapy");
        } else {
            packages.push(SCAPY);
        }
    }
    let shares = needs.contains(&Need::Kernels);
    if shares && file_server().is_none() && apt::offers(FILE_SERVER) {
        packages.push(FILE_SERVER);
    }
    packages.dedup();
    if !names.is_empty() {
        there(&names.join(" "));
    }
    if packages.is_empty() {
        return Ok(());
    }
    apt::install(&packages)?;
    for tool in missing {
        if shell::program(tool.name).is_none() {
            bail!(
                "`{}` is not in PATH although the package {} is installed",
                tool.name,
                tool.package
            );
        }
    }
    if shares && file_server().is_none() {
        bail!("there is no {FILE_SERVER} although qemu is installed: install what has it");
    }
    if scapy && !has_scapy() {
        bail!("/usr/bin/python3 cannot import scapy although {SCAPY} is installed");
    }
    Ok(())
}

/// Debian's module belongs to Debian's Python, whichever comes first in PATH.
fn has_scapy() -> bool {
    shell::output_of(shell::command("/usr/bin/python3").args(["-c", "import scapy"])).is_some()
}
