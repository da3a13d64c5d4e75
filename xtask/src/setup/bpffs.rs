//! The BPF file system, in which the fence's links and maps are pinned.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use super::{done, there};
use crate::shell;

const FOLDER: &str = "/sys/fs/bpf";

pub fn ensure() -> Result<()> {
    let mounts =
        fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    if is_mounted(&mounts) {
        there(&format!("BPF file system at {FOLDER}"));
        return Ok(());
    }
    if !Path::new(FOLDER).is_dir() {
        bail!("{FOLDER} does not exist: this kernel has no BPF, or /sys is not mounted");
    }
    if !shell::is_root() {
        bail!("no BPF file system at {FOLDER}; run `sudo mount -t bpf bpf {FOLDER}`");
    }
    shell::run(shell::command("mount").args(["-t", "bpf", "bpf", FOLDER]))?;
    done(&format!("mounted the BPF file system at {FOLDER}"));
    Ok(())
}

fn is_mounted(mounts: &str) -> bool {
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(FOLDER) && fields.next() == Some("bpf")
    })
}

#[cfg(test)]
mod tests {
    use super::is_mounted;

    #[test]
    fn only_a_bpf_file_system_at_its_place_counts_as_mounted() {
        assert!(is_mounted(
            "sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n"
        ));
        assert!(!is_mounted("sysfs /sys/fs/bpf sysfs rw 0 0\n"));
        assert!(!is_mounted("bpf /mnt bpf rw 0 0\n"));
    }
}
