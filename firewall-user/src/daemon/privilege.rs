//! What the kernel asks of whoever loads and attaches programs, checked first so that the error
//! names what is missing and not the system call that failed.

use anyhow::bail;
use rustix::thread::{CapabilitySet, capabilities};

/// What is needed, and what for.
const NEEDED: [(CapabilitySet, &str, &str); 3] = [
    (CapabilitySet::BPF, "CAP_BPF", "load programs and make maps"),
    (
        CapabilitySet::NET_ADMIN,
        "CAP_NET_ADMIN",
        "attach programs to interfaces",
    ),
    (
        CapabilitySet::PERFMON,
        "CAP_PERFMON",
        "let programs look at packets of any length",
    ),
];

/// The capabilities that this process lacks, with what for.
pub fn missing() -> anyhow::Result<Vec<String>> {
    let effective = capabilities(None)?.effective;
    // CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
    let covered = |needed: CapabilitySet| {
        effective.contains(needed)
            || (needed != CapabilitySet::NET_ADMIN && effective.contains(CapabilitySet::SYS_ADMIN))
    };
    Ok(NEEDED
        .iter()
        .filter(|(needed, _, _)| !covered(*needed))
        .map(|(_, name, purpose)| format!("{name} (to {purpose})"))
        .collect())
}

/// Fails with the names of the capabilities that are missing.
pub fn check() -> anyhow::Result<()> {
    let missing = missing()?;
    if !missing.is_empty() {
        bail!(
            "the daemon may not do its work; missing: {}: run it as root or from its systemd unit",
            missing.join(", ")
        );
    }
    Ok(())
}
