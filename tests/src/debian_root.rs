//! A root file system as a fresh Debian has it, of the same release as this machine, with systemd and
//! with nothing of what a developer installs: what is put into it must bring all that it needs.
//!
//! It is made once, from Debian's mirrors, and kept in a folder that the caller names.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::need_tools;
use crate::process::{finish, succeed};

/// What a small server has besides the essential packages.
const PACKAGES: &str = "systemd,systemd-sysv,udev,dbus,iproute2,kmod";
/// What makes it boot by itself, and a witness of packets that is not Palisade.
const BOOTABLE: &str = "linux-image-cloud-amd64,nftables";
/// Its initial file system has what the disk takes. The card's driver comes from the disk, so late, while services start.
const SMALL: &str = "--essential-hook=cd \"$1\" && mkdir -p etc/initramfs-tools/conf.d usr/share/initramfs-tools/modules.d \
    && echo MODULES=list >etc/initramfs-tools/conf.d/small \
    && printf '%s\\n' virtio_pci virtio_blk ext4 >usr/share/initramfs-tools/modules.d/disk";
const MIRROR: &str = "http://deb.debian.org/debian";

/// The folder with the root, or why there is none.
pub fn get(kept: &Path) -> Result<Result<PathBuf, String>> {
    make(kept, "", PACKAGES, &[])
}

/// The same with Debian's own kernel and initial file system, and nftables.
pub fn with_kernel(kept: &Path) -> Result<Result<PathBuf, String>> {
    let packages = format!("{PACKAGES},{BOOTABLE}");
    make(kept, "-kernel", &packages, &[SMALL])
}

fn make(
    kept: &Path,
    suffix: &str,
    packages: &str,
    options: &[&str],
) -> Result<Result<PathBuf, String>> {
    need_tools(&["mmdebstrap"])?;
    let Some(release) = release()? else {
        return Ok(Err("this machine is not Debian".to_owned()));
    };
    fs::create_dir_all(kept)?;
    // Whoever comes second, on another thread or in another process, finds it made.
    let lock = File::create(kept.join(format!("lock{suffix}")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let root = kept.join(format!("{release}{suffix}"));
    if root.exists() {
        return Ok(Ok(root));
    }
    println!(
        "making a clean root of Debian {release} in {}",
        root.display()
    );
    let unfinished = kept.join(format!("{release}{suffix}.unfinished"));
    remove(&unfinished)?;
    let made = finish(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--format=directory"])
            .arg(format!("--include={packages}"))
            .args(options)
            .args([
                "--aptopt=Acquire::Retries \"2\"",
                "--aptopt=Acquire::http::Timeout \"20\"",
            ])
            .arg(&release)
            .arg(&unfinished)
            .arg(mirror()),
    )?;
    if !made.success() {
        remove(&unfinished)?;
        return Ok(Err(format!(
            "no clean root of Debian {release} could be made: {made}"
        )));
    }
    fs::rename(&unfinished, &root)?;
    Ok(Ok(root))
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

/// The code name: `bookworm` and so on; nothing on other distributions.
fn release() -> Result<Option<String>> {
    let text = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
    };
    Ok(value("VERSION_CODENAME").filter(|_| value("ID").as_deref() == Some("debian")))
}

/// The mirror that this machine's own sources name.
fn mirror() -> String {
    let targets = succeed(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(LABEL) $(REPO_URI)",
        "Created-By: Packages",
    ]))
    .unwrap_or_default();
    targets
        .lines()
        .find_map(|line| line.strip_prefix("Debian "))
        .map_or_else(
            || MIRROR.to_owned(),
            |mirror| mirror.trim_end_matches('/').to_owned(),
        )
}
