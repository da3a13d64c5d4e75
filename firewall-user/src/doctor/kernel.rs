//! What the kernel can do.

use std::fs;
use std::path::Path;

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{is_map_supported, is_program_supported};

use super::{Check, Patient};
use crate::daemon::missing_privileges;
use crate::datapath::{cookies_unsupported, is_bpf_filesystem};
use crate::respond::CookieMode;

/// The oldest kernel whose verifier takes the programs, and the first with tcx.
const OLDEST: (u32, u32) = (6, 1);
const TCX: (u32, u32) = (6, 6);
const PIN_DIR: &str = "/sys/fs/bpf";

const MAPS: [(MapType, &str); 6] = [
    (MapType::Array, "array"),
    (MapType::PerCpuArray, "per-CPU array"),
    (MapType::Hash, "hash"),
    (MapType::LruHash, "LRU hash"),
    (MapType::ProgramArray, "program array"),
    (MapType::RingBuf, "ring buffer"),
];
const PROGRAMS: [(ProgramType, &str); 2] = [
    (ProgramType::Xdp, "XDP"),
    (ProgramType::SchedClassifier, "tc"),
];

pub(super) fn examine(patient: &Patient) -> Vec<Check> {
    let mut checks = vec![version(), jit(), types()];
    checks.push(match missing_privileges() {
        Ok(missing) if missing.is_empty() => Check::ok(
            "permissions.capabilities",
            "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
        ),
        Ok(missing) => Check::error(
            "permissions.capabilities",
            format!("missing: {}", missing.join(", ")),
            "run it as root or from its systemd unit",
        ),
        Err(error) => Check::warning(
            "permissions.capabilities",
            format!("not known: {error:#}"),
            "run it as root",
        ),
    });
    checks.push(if Path::new("/sys/kernel/btf/vmlinux").exists() {
        Check::ok("kernel.btf", "the kernel describes its types (BTF)")
    } else {
        Check::warning(
            "kernel.btf",
            "the kernel does not describe its types (BTF)",
            "a kernel with CONFIG_DEBUG_INFO_BTF lets bpftool show what is loaded",
        )
    });
    checks.push(bpf_filesystem(patient));
    let wanted = patient
        .usable()
        .is_none_or(|settings| settings.respond.syn_cookies != CookieMode::Off);
    checks.push(match cookies_unsupported() {
        None => Check::ok("kernel.syn_cookies", "the helpers for SYN cookies are there"),
        Some(why) if wanted => Check::warning(
            "kernel.syn_cookies",
            why,
            "floods of SYNs are left to the stack; `respond.syn_cookies = \"off\"` says so in the settings",
        ),
        Some(why) => Check::note("kernel.syn_cookies", why, "none are asked for"),
    });
    if wanted {
        checks.push(stack_cookies());
    }
    checks
}

fn version() -> Check {
    const ID: &str = "kernel.version";
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(|digit: char| !digit.is_ascii_digit())
        .map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Check::warning(
            ID,
            format!("Linux {release}"),
            "its version is not understood",
        );
    };
    let version: (u32, u32) = (major, minor);
    if version < OLDEST {
        let (major, minor) = OLDEST;
        return Check::error(
            ID,
            format!("Linux {release}"),
            format!("Palisade needs Linux {major}.{minor} or newer"),
        );
    }
    let way = if version < TCX {
        "clsact (tcx is there from 6.6 on)"
    } else {
        "tcx"
    };
    Check::ok(
        ID,
        format!("Linux {release}; outgoing packets are judged by {way}"),
    )
}

fn jit() -> Check {
    const ID: &str = "kernel.jit";
    match read("/proc/sys/net/core/bpf_jit_enable").as_deref() {
        Some("0") => Check::warning(
            ID,
            "programs are interpreted",
            "`sysctl net.core.bpf_jit_enable=1` makes them several times faster",
        ),
        Some("2") => Check::warning(
            ID,
            "programs are translated and written to the kernel's log",
            "`sysctl net.core.bpf_jit_enable=1` stops the debugging",
        ),
        Some(_) => Check::ok(ID, "programs are translated to machine code"),
        None => Check::note(
            ID,
            "whether programs are translated to machine code is not told here",
            "look at net.core.bpf_jit_enable outside of the namespace",
        ),
    }
}

fn types() -> Check {
    const ID: &str = "kernel.features";
    let maps = MAPS.iter().map(|(kind, name)| {
        (
            is_map_supported(*kind).map_err(|error| error.to_string()),
            format!("{name} maps"),
        )
    });
    let programs = PROGRAMS.iter().map(|(kind, name)| {
        let there = is_program_supported(*kind).map_err(|error| error.to_string());
        (there, format!("{name} programs"))
    });
    let (mut absent, mut unknown) = (Vec::new(), Vec::new());
    for (there, what) in maps.chain(programs) {
        match there {
            Ok(true) => {}
            Ok(false) => absent.push(what),
            Err(error) => unknown.push(format!("{what} ({error})")),
        }
    }
    if !absent.is_empty() {
        return Check::error(
            ID,
            format!("the kernel has no {}", absent.join(", ")),
            "it needs CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_BPF",
        );
    }
    if !unknown.is_empty() {
        return Check::error(
            ID,
            format!(
                "the kernel does not let it be tried: {}",
                unknown.join(", ")
            ),
            "run it as root",
        );
    }
    Check::ok(ID, "XDP and tc programs and all kinds of maps can be made")
}

fn bpf_filesystem(patient: &Patient) -> Check {
    const ID: &str = "kernel.bpf_filesystem";
    let folder = patient
        .usable()
        .map_or(Path::new(PIN_DIR), |settings| &settings.pin_dir);
    // The daemon makes its own folder.
    let there = folder.ancestors().find(|ancestor| ancestor.exists());
    let shown = folder.display();
    match there.map(is_bpf_filesystem) {
        Some(Ok(true)) => Check::ok(ID, format!("{shown} is on a BPF file system")),
        _ => Check::error(
            ID,
            format!("{shown} is not on a BPF file system: nothing can be pinned"),
            "`mount -t bpf bpf /sys/fs/bpf`, or set `pin_dir` to a folder on one",
        ),
    }
    .about(shown.to_string())
}

/// The stack makes the cookies that the programs ask it for, and takes them back.
fn stack_cookies() -> Check {
    const ID: &str = "kernel.tcp_syncookies";
    match read("/proc/sys/net/ipv4/tcp_syncookies").as_deref() {
        Some("0") => Check::warning(
            ID,
            "net.ipv4.tcp_syncookies is 0",
            "`sysctl net.ipv4.tcp_syncookies=1`: without it the stack takes no cookies back",
        ),
        Some(value) => Check::ok(ID, format!("net.ipv4.tcp_syncookies is {value}")),
        None => Check::note(
            ID,
            "the kernel has no SYN cookies",
            "CONFIG_SYN_COOKIES would let it answer floods of SYNs",
        ),
    }
}

pub(super) fn read(file: &str) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.trim().to_owned())
}
