//! Where links and maps are pinned, and whether what is pinned there fits.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use aya::maps::MapData;
use firewall_common::layout::LAYOUT_VERSION;

/// The pin folder of one daemon.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
}

/// A side of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    In,
    Out,
}

impl Pins {
    /// Opens the folder, making it where it is missing.
    pub(super) fn open(root: &Path) -> anyhow::Result<Self> {
        let pins = Self {
            root: root.to_owned(),
        };
        for folder in [pins.maps(), pins.links()] {
            fs::create_dir_all(&folder).with_context(|| {
                format!("pin folder {}: is a BPF file system mounted there? `mount -t bpf bpf /sys/fs/bpf`", folder.display())
            })?;
        }
        if !is_bpf_filesystem(root)? {
            bail!(
                "pin folder {} is not on a BPF file system; mount one (`mount -t bpf bpf /sys/fs/bpf`) \
                 or set pin_dir to a folder on it",
                root.display()
            );
        }
        // An image that an interrupted load left behind.
        remove(&pins.image())?;
        Ok(pins)
    }

    /// Maps that outlive generations; the folder names their layout.
    fn maps(&self) -> PathBuf {
        self.root.join(format!("maps-{LAYOUT_VERSION}"))
    }

    fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Where a generation's image is pinned while its programs are loaded.
    pub(super) fn image(&self) -> PathBuf {
        self.maps().join("IMAGE")
    }

    /// The pin of a link. A BPF file system reserves names with dots.
    pub(super) fn link(&self, interface: &str, side: Side) -> PathBuf {
        let side = match side {
            Side::In => "in",
            Side::Out => "out",
        };
        self.links()
            .join(format!("{}-{side}", interface.replace('.', "%")))
    }

    /// Whether a link is pinned in this folder; looks without making anything.
    pub(super) fn any_link(root: &Path) -> bool {
        let pins = Self {
            root: root.to_owned(),
        };
        fs::read_dir(pins.links()).is_ok_and(|mut links| links.next().is_some())
    }

    /// Names of the interfaces that have a pinned link.
    pub(super) fn linked(&self) -> anyhow::Result<Vec<String>> {
        let mut names: Vec<String> = fs::read_dir(self.links())?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| {
                let (interface, _) = name.rsplit_once('-')?;
                Some(interface.replace('%', "."))
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Removes a pinned map that has not the wanted shape (a machine with more CPUs, say), so that
    /// a fitting one is made. aya reuses what is pinned without a look.
    pub(super) fn keep_if_fits(&self, name: &str, shape: Shape) -> anyhow::Result<()> {
        let path = self.map(name);
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
        let data = MapData::from_pin(&path).with_context(|| path.display().to_string())?;
        let info = data.info()?;
        let found = Shape {
            key: info.key_size(),
            value: info.value_size(),
            entries: info.max_entries(),
        };
        if found != shape {
            tracing::warn!(map = name, ?found, wanted = ?shape, "pinned map does not fit; it starts anew");
            remove(&path)?;
        }
        Ok(())
    }

    /// Lets the counts start anew whose meaning was kept in a state file that is lost: rule numbers
    /// and the seed by which sources and limits are placed.
    pub(super) fn forget_counts(&self) -> anyhow::Result<()> {
        for name in ["RULE_HITS", "LIMITED", "LIMIT_TABLE", "SOURCES"] {
            remove(&self.map(name))?;
        }
        Ok(())
    }

    /// Removes what a fence without any link leaves behind.
    pub(super) fn remove_if_unused(&self) -> anyhow::Result<()> {
        if self.linked()?.is_empty() {
            for folder in [self.maps(), self.links()] {
                match fs::remove_dir_all(&folder) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error).with_context(|| folder.display().to_string()),
                }
            }
            // Only when it is empty: it may hold pins of others, or be a mount point.
            let _ = fs::remove_dir(&self.root);
        }
        Ok(())
    }
}

/// Sizes in bytes, and entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) key: u32,
    pub(super) value: u32,
    pub(super) entries: u32,
}

/// Removes a pin, if it is there.
pub(super) fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("removing {}", path.display())),
    }
}

fn is_bpf_filesystem(path: &Path) -> anyhow::Result<bool> {
    const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
    let statistics = rustix::fs::statfs(path).with_context(|| path.display().to_string())?;
    Ok(statistics.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC)
}
