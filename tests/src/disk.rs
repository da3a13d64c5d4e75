//! A disk of a machine: a root file system that is not written to, under a layer that keeps what is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::process::succeed;

/// Gone, with all that was written, when this goes.
#[derive(Debug)]
pub struct Disk {
    pub(crate) mounted: PathBuf,
    _folder: TempDir,
}

impl Disk {
    pub fn over(root: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("palisade-disk-")
            .tempdir()?;
        let part = |name: &str| folder.path().join(name);
        for name in ["written", "work", "mounted"] {
            fs::create_dir(part(name))?;
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            root.display(),
            part("written").display(),
            part("work").display()
        );
        let mounted = part("mounted");
        succeed(
            Command::new("mount")
                .args(["-t", "overlay", "overlay", "-o", &layers])
                .arg(&mounted),
        )?;
        Ok(Self {
            mounted,
            _folder: folder,
        })
    }

    /// Where it is seen from outside.
    pub fn path(&self) -> &Path {
        &self.mounted
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = succeed(Command::new("umount").arg(&self.mounted)) {
            eprintln!("a disk stays mounted: {error:#}");
        }
    }
}
