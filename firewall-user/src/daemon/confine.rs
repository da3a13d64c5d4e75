//! What this daemon, with these settings, needs of the host once it runs: the rest is taken from it.

use std::path::{Path, PathBuf};

use rustix::fs::statfs;

use super::control;
use super::offer::Offer;
use crate::sandbox::{Confinement, Files, Folder, Sandbox};
use crate::settings::{RESOLV_CONF, Settings};

/// Confines the process, unless the settings say otherwise. Folders are made first: a folder that is not
/// there cannot be named to the kernel.
pub fn confine(
    settings: &Settings,
    offered: &Result<Offer, String>,
) -> anyhow::Result<(Confinement, Option<Sandbox>)> {
    control::make_folder(&settings.socket)?;
    if !settings.hardening.sandbox {
        tracing::warn!(
            "the daemon is not confined: `sandbox = false` under [hardening] of {}",
            settings.file.display()
        );
        return Ok((Confinement::off(), None));
    }
    let sandbox = Sandbox::enter(&files(settings, offered))?;
    Ok((sandbox.confinement.clone(), Some(sandbox)))
}

/// All that this daemon opens.
fn files(settings: &Settings, offered: &Result<Offer, String>) -> Files {
    let mut files = Files::common();
    files.add(&settings.state_dir, Folder::Own);
    files.add(pins(&settings.pin_dir), Folder::Own);
    if let Some(folder) = settings.socket.parent() {
        files.add(folder, Folder::Sockets);
    }
    files.add_beside(&settings.file);
    files.add_beside(&settings.policy);
    let sets = offered.iter().flat_map(|offer| &offer.policy.sets);
    for file in sets.filter_map(|set| set.file.as_ref()) {
        files.add_beside(file);
    }
    let tls = settings.metrics.iter().filter_map(|web| web.tls.as_ref());
    for file in tls.flat_map(|tls| tls.files()) {
        files.add_beside(file);
    }
    // Those of the guard are read by another process; these are for finding out the addresses of peers.
    files.add_beside(Path::new(RESOLV_CONF));
    for path in &settings.hardening.read {
        files.add(path, Folder::Read);
    }
    files
}

/// The pin folder goes with the last interface and is made anew with the next: so it is the folder around
/// it, if that is for pins, too.
fn pins(pin_dir: &Path) -> PathBuf {
    const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
    let is_for_pins = |folder: &&Path| {
        statfs(*folder).is_ok_and(|about| about.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC)
    };
    pin_dir
        .parent()
        .filter(is_for_pins)
        .unwrap_or(pin_dir)
        .to_owned()
}
