//! A kernel taken out of its packages: the bootable image, and its modules in a folder that modprobe
//! can use.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{catalogue::Kernel, packages};
use crate::shell;

/// A kernel ready to be started.
#[derive(Debug)]
pub struct Tree {
    /// What `uname -r` will say.
    pub release: String,
    pub image: PathBuf,
    /// The folder of its modules.
    pub modules: PathBuf,
}

impl Tree {
    /// Fetches the kernel where it is not there, and takes it apart.
    pub fn prepare(kernel: &Kernel, folder: &Path) -> Result<Self> {
        let packages = packages::packages(kernel, folder)?;
        let name = packages
            .first()
            .and_then(|package| package.file_stem())
            .context("a kernel without packages")?;
        let root = folder.join("trees").join(name);
        if !root.join("complete").exists() {
            unpack(&packages, &root)?;
        }
        Self::find(&root)
    }

    fn find(root: &Path) -> Result<Self> {
        let parent = modules_of(root)?;
        let modules = only_entry(&parent)?;
        let release = modules
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .context("a folder of modules without a name")?;
        let places = [
            root.join(format!("boot/vmlinuz-{release}")),
            modules.join("vmlinuz"),
        ];
        let image = places
            .into_iter()
            .find(|image| image.is_file())
            .with_context(|| format!("no vmlinuz in {}", root.display()))?;
        Ok(Self {
            release,
            image,
            modules,
        })
    }

    /// The files of these modules and of all that they stand on, in the order in which they load.
    /// What is built in has none.
    pub fn files_of(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let list = self.modules.join("modules.dep");
        let list =
            fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        let files = in_order(&list, wanted);
        Ok(files
            .into_iter()
            .map(|file| self.modules.join(file))
            .collect())
    }
}

fn unpack(packages: &[PathBuf], root: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    fs::create_dir_all(root)?;
    for package in packages {
        shell::run(
            shell::command("dpkg")
                .arg("--extract")
                .arg(package)
                .arg(root),
        )?;
    }
    let parent = modules_of(root)?;
    let release = only_entry(&parent)?;
    let base = parent.parent().and_then(Path::parent).unwrap_or(root);
    // It warns of lists that some kernels' packages leave out and that only initramfs tools need.
    let mut depmod = shell::command(shell::program("depmod").context("depmod is missing")?);
    depmod.arg("-b").arg(base);
    depmod.arg(release.file_name().unwrap_or(OsStr::new("")));
    shell::run(depmod.stderr(std::process::Stdio::null()))?;
    Ok(fs::write(root.join("complete"), "")?)
}

/// Where the packages have them: with usr in front since trixie.
fn modules_of(root: &Path) -> Result<PathBuf> {
    ["lib/modules", "usr/lib/modules"]
        .map(|place| root.join(place))
        .into_iter()
        .find(|place| place.is_dir())
        .with_context(|| format!("no modules in {}", root.display()))
}

fn only_entry(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder)?;
    let entry = entries
        .next()
        .with_context(|| format!("{} is empty", folder.display()))?;
    Ok(entry?.path())
}

/// Reads depmod's list: "path: what it needs, the innermost last".
fn in_order<'a>(list: &'a str, wanted: &[&str]) -> Vec<&'a str> {
    let mut files: Vec<&str> = Vec::new();
    for name in wanted {
        let line = list
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(file, _)| is_module(file, name));
        let Some((file, needs)) = line else { continue };
        for file in needs.split_whitespace().rev().chain([file]) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    files
}

fn is_module(file: &str, name: &str) -> bool {
    let file = file.rsplit('/').next().unwrap_or(file);
    file.strip_prefix(name)
        .is_some_and(|rest| rest == ".ko" || rest.starts_with(".ko."))
}

#[cfg(test)]
mod tests {
    use super::in_order;

    #[test]
    fn a_module_comes_after_what_it_needs_and_once() {
        let list = "kernel/a/virtio.ko: kernel/a/virtio_ring.ko\n\
                    kernel/a/virtio_ring.ko:\n\
                    kernel/fs/fuse.ko.xz:\n\
                    kernel/fs/virtiofs.ko.xz: kernel/fs/fuse.ko.xz kernel/a/virtio.ko kernel/a/virtio_ring.ko\n";
        assert_eq!(
            in_order(list, &["virtio", "virtiofs", "builtin"]),
            [
                "kernel/a/virtio_ring.ko",
                "kernel/a/virtio.ko",
                "kernel/fs/fuse.ko.xz",
                "kernel/fs/virtiofs.ko.xz"
            ]
        );
    }
}
