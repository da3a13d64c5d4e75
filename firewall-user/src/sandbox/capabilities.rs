//! Capabilities: what is not kept is dropped from every set, the bounding set included.

use anyhow::Context;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
};

/// Keeps these, as far as they are there, and drops all others for good.
pub(super) fn keep(wanted: CapabilitySet) -> anyhow::Result<()> {
    // While what allows it (CAP_SETPCAP) is still there.
    let bounding = limit_bounding_set(wanted);
    let kept = capabilities(None)?.permitted & wanted;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).context("capabilities cannot be dropped")?;
    bounding
}

fn limit_bounding_set(wanted: CapabilitySet) -> anyhow::Result<()> {
    // Kernels without ambient capabilities have none to clear.
    let _ = clear_ambient_capability_set();
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if wanted.contains(capability) {
            continue;
        }
        match capability_is_in_bounding_set(capability) {
            Ok(true) => {}
            Ok(false) => continue,
            // Past the last one that the kernel knows.
            Err(_) => break,
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // A service manager has set the limit. Without new privileges and without a program to
            // start, what is left in it cannot be had.
            Err(Errno::PERM) => return Ok(()),
            Err(error) => return Err(error).context("the bounding set cannot be limited"),
        }
    }
    Ok(())
}

/// What the calling thread may do.
pub(super) fn effective() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

/// For people; one that has no name here is told by its number.
pub(super) fn names(set: CapabilitySet) -> Vec<String> {
    set.iter_names()
        .map(|(name, _)| format!("CAP_{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named_as_the_manual_does() {
        assert_eq!(
            names(super::super::DAEMON),
            ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]
        );
    }
}
