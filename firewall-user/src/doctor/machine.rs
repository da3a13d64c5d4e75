//! Memory, clock, and what else filters packets here.
#![expect(
    unsafe_code,
    reason = "the state of the kernel's clock is asked of it directly"
)]

use std::path::Path;

use super::kernel::read;
use super::{Check, Level, Patient};

const MIB: u64 = 1 << 20;
/// What tables and daemon take on a host with few processors.
const NEEDED: u64 = 256 * MIB;
/// Clock sources that are read without leaving the processor.
const FAST_CLOCKS: &[&str] = &[
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
    "timebase",
    "tod",
    "riscv_clocksource",
];

pub(super) fn examine(patient: &Patient) -> Vec<Check> {
    let mut checks = vec![
        memory(),
        locked(),
        clock_source(),
        synchronised(),
        time_zone(),
    ];
    checks.extend(went_back(patient));
    checks.push(other_filters());
    checks.extend(conntrack());
    checks
}

fn memory() -> Check {
    const ID: &str = "memory.available";
    let text = read("/proc/meminfo").unwrap_or_default();
    let kibibytes = text.lines().find_map(|line| {
        let rest = line.strip_prefix("MemAvailable:")?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    });
    let Some(available) = kibibytes.map(|kibibytes| kibibytes * 1024) else {
        return Check::note(
            ID,
            "how much memory is free is not known",
            "`free` may tell",
        );
    };
    let group = group_limit();
    let smallest = group.map_or(available, |limit| limit.min(available));
    let mut found = format!("{} MiB available", available / MIB);
    if let Some(limit) = group {
        found.push_str(&format!(
            ", {} MiB allowed by the control group",
            limit / MIB
        ));
    }
    let mib = NEEDED / MIB;
    if smallest < NEEDED {
        Check::warning(
            ID,
            found,
            format!(
                "tables and daemon take some {mib} MiB, and 10 MiB for each processor: `[detect] kernel_sources` makes the latter smaller"
            ),
        )
    } else {
        Check::ok(ID, found)
    }
}

/// The limit of the memory control group that this process is in: the daemon's is set by its unit.
fn group_limit() -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
    let limits = folder
        .ancestors()
        .take_while(|folder| folder.starts_with("/sys/fs/cgroup"));
    limits
        .filter_map(|folder| read(folder.join("memory.max").to_str()?)?.parse().ok())
        .min()
}

fn locked() -> Check {
    const ID: &str = "memory.locked";
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let found = match limit {
        None => "unlimited".to_owned(),
        Some(bytes) => format!("{} KiB", bytes / 1024),
    };
    // Since Linux 5.11 tables count for the control group.
    Check::ok(
        ID,
        format!("{found}; tables do not count for it on this kernel"),
    )
}

fn clock_source() -> Check {
    const ID: &str = "clock.source";
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    match read(source).as_deref() {
        Some(name) if FAST_CLOCKS.contains(&name) => Check::ok(ID, name.to_owned()),
        Some(name) => Check::warning(
            ID,
            format!("{name}: reading the time takes microseconds"),
            "limits read it for each packet: look in the kernel's log why a faster source was given up",
        ),
        None => Check::note(ID, "not known", format!("{source} names it")),
    }
}

fn synchronised() -> Check {
    const ID: &str = "clock.synchronised";
    const UNSYNCHRONISED: libc::c_int = 0x40;
    const ERROR: libc::c_int = 5;
    // SAFETY: all zero is a valid timex that changes nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is whole and outlives the call.
    let clock = unsafe { libc::adjtimex(&raw mut state) };
    if clock < 0 {
        return Check::note(ID, "not known", "`timedatectl` may tell");
    }
    if clock == ERROR || state.status & UNSYNCHRONISED != 0 {
        return Check::warning(
            ID,
            "nothing keeps the clock",
            "run chrony or systemd-timesyncd: `expires`, the ends of bans and every log go by the clock",
        );
    }
    Check::ok(ID, format!("within {} ms", state.maxerror / 1_000))
}

fn time_zone() -> Check {
    let zone = std::env::var("TZ").ok().filter(|zone| !zone.is_empty());
    let zone = zone.or_else(|| {
        let link = std::fs::read_link("/etc/localtime").ok()?;
        let link = link.to_string_lossy().into_owned();
        let (_, zone) = link.split_once("zoneinfo/")?;
        Some(zone.to_owned())
    });
    let zone = zone.unwrap_or_else(|| "UTC, or none that is named".to_owned());
    Check::ok(
        "clock.zone",
        format!("{zone}; Palisade reads and shows times in UTC"),
    )
}

/// A file of the daemon's that is younger than now.
fn went_back(patient: &Patient) -> Option<Check> {
    const SLACK: std::time::Duration = std::time::Duration::from_secs(60);
    let folder = &patient.usable()?.state_dir;
    let now = std::time::SystemTime::now();
    let ahead = std::fs::read_dir(folder).ok()?.flatten().find(|entry| {
        let written = entry.metadata().and_then(|about| about.modified());
        written.is_ok_and(|written| written > now + SLACK)
    })?;
    Some(
        Check::warning(
            "clock.went_back",
            format!(
                "{} was written later than now: the clock was set back",
                ahead.path().display()
            ),
            "set the clock right: bans last as much longer, and rules with `expires` stay",
        )
        .about(folder.display().to_string()),
    )
}

fn other_filters() -> Check {
    const ID: &str = "network.other_filters";
    let names = |file: &str| -> Vec<String> {
        let text = read(file).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let mut found = Vec::new();
    for (file, what) in [
        ("/proc/net/ip_tables_names", "iptables"),
        ("/proc/net/ip6_tables_names", "ip6tables"),
    ] {
        let tables = names(file);
        if !tables.is_empty() {
            found.push(format!("{what} ({})", tables.join(", ")));
        }
    }
    let modules = read("/proc/modules").unwrap_or_default();
    if modules.lines().any(|line| line.starts_with("nf_tables ")) {
        found.push("nftables (the module is loaded)".to_owned());
    }
    if found.is_empty() {
        return Check::ok(ID, "no netfilter tables");
    }
    Check::note(
        ID,
        found.join(", "),
        "Palisade judges before them on the way in and after them on the way out: a packet needs both, and what \
         Palisade drops they never see",
    )
}

fn conntrack() -> Option<Check> {
    const ID: &str = "network.conntrack";
    let number = |file: &str| -> Option<u64> {
        read(&format!("/proc/sys/net/netfilter/{file}"))?
            .parse()
            .ok()
    };
    let (count, most) = (number("nf_conntrack_count")?, number("nf_conntrack_max")?);
    let found = format!("{count} of {most} entries of netfilter's connection table are taken");
    let full = most > 0 && count * 5 >= most * 4;
    Some(Check {
        status: if full { Level::Warning } else { Level::Ok },
        advice: full.then(|| {
            "raise net.netfilter.nf_conntrack_max: a full table drops new connections that Palisade let in".to_owned()
        }),
        ..Check::ok(ID, found)
    })
}
