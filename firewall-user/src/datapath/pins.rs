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

/// How the folder of the maps is called, before the number of their layout.
const MAPS: &str = "maps-";

/// A side of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    In,
    Out,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::In, Self::Out];
}

/// Why a program is pinned. Pins let a generation be put back into its links without being
/// compiled and verified anew, and keep it alive while only a trial's gate refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shelf {
    /// The generation in force; during a trial, the one before it.
    InForce,
    /// A generation about to be put in force; during a trial, the one on trial.
    Next,
    /// The gates of a trial.
    Gate,
}

impl Pins {
    /// Opens the folder, making it where it is missing.
    pub(super) fn open(root: &Path) -> anyhow::Result<Self> {
        let pins = Self {
            root: root.to_owned(),
        };
        for folder in pins.folders() {
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
        self.root.join(format!("{MAPS}{LAYOUT_VERSION}"))
    }

    fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    fn shelf(&self, shelf: Shelf) -> PathBuf {
        self.root.join(match shelf {
            Shelf::InForce => "programs",
            Shelf::Next => "next",
            Shelf::Gate => "gates",
        })
    }

    /// The maps of a trial's gates.
    fn trial(&self) -> PathBuf {
        self.root.join("trial")
    }

    fn folders(&self) -> [PathBuf; 6] {
        [
            self.maps(),
            self.links(),
            self.shelf(Shelf::InForce),
            self.shelf(Shelf::Next),
            self.shelf(Shelf::Gate),
            self.trial(),
        ]
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Where a generation's image is pinned while its programs are loaded.
    pub(super) fn image(&self) -> PathBuf {
        self.maps().join("IMAGE")
    }

    /// The pin of a link.
    pub(super) fn link(&self, interface: &str, side: Side) -> PathBuf {
        self.links().join(hook(interface, side))
    }

    /// The pin of a program.
    pub(super) fn program(&self, shelf: Shelf, interface: &str, side: Side) -> PathBuf {
        self.shelf(shelf).join(hook(interface, side))
    }

    /// The programs between which a trial's gate chooses.
    pub(super) fn choice(&self, interface: &str, side: Side) -> PathBuf {
        self.trial().join(hook(interface, side))
    }

    /// The word of a trial.
    pub(super) fn word(&self) -> PathBuf {
        self.trial().join("WORD")
    }

    /// Whether a trial's gate on this interface has all that it needs.
    pub(super) fn can_choose(&self, interface: &str) -> bool {
        Side::BOTH
            .map(|side| self.choice(interface, side))
            .iter()
            .all(|pin| pin.exists())
            && self.word().exists()
    }

    /// Makes what was next what is in force. What was done before is not done again.
    pub(super) fn promote(&self, interface: &str) -> anyhow::Result<()> {
        for side in Side::BOTH {
            let from = self.program(Shelf::Next, interface, side);
            let to = self.program(Shelf::InForce, interface, side);
            if !from.exists() {
                continue;
            }
            remove(&to)?;
            fs::rename(&from, &to).with_context(|| format!("pinning {}", to.display()))?;
        }
        Ok(())
    }

    /// Lets go of an interface's programs: the kernel frees what no link runs.
    pub(super) fn forget_programs(&self, interface: &str) -> anyhow::Result<()> {
        for side in Side::BOTH {
            remove(&self.program(Shelf::InForce, interface, side))?;
        }
        Ok(())
    }

    /// Makes room for an interface's next programs.
    pub(super) fn forget_next(&self, interface: &str) -> anyhow::Result<()> {
        for side in Side::BOTH {
            remove(&self.program(Shelf::Next, interface, side))?;
        }
        Ok(())
    }

    /// Removes what a trial or an interrupted change left, apart from what is in force.
    pub(super) fn clear_trial(&self) -> anyhow::Result<()> {
        for folder in [
            self.shelf(Shelf::Next),
            self.shelf(Shelf::Gate),
            self.trial(),
        ] {
            for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
                remove(&entry?.path())?;
            }
        }
        Ok(())
    }

    /// Whether a link is pinned in this folder; looks without making anything.
    pub(super) fn any_link(root: &Path) -> bool {
        let pins = Self {
            root: root.to_owned(),
        };
        fs::read_dir(pins.links()).is_ok_and(|mut links| links.next().is_some())
    }

    /// Whether maps of this layout are pinned in this folder; looks without making anything.
    pub(super) fn any_map(root: &Path) -> bool {
        let pins = Self {
            root: root.to_owned(),
        };
        fs::read_dir(pins.maps()).is_ok_and(|mut maps| maps.next().is_some())
    }

    /// As [`Self::remove_if_unused`], of a folder that may not be there.
    pub(super) fn clear_if_unused(root: &Path) -> anyhow::Result<()> {
        let pins = Self {
            root: root.to_owned(),
        };
        if pins.links().exists() {
            pins.remove_if_unused()?;
        }
        Ok(())
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
        for name in [
            "RULE_HITS",
            "RULE_USES",
            "LIMITED",
            "LIMIT_TABLE",
            "SOURCE_FRONTS",
            "SOURCES",
            "SOURCE_COUNTERS",
        ] {
            remove(&self.map(name))?;
        }
        Ok(())
    }

    /// Removes the maps of other versions, once no link runs a program that uses them.
    pub(super) fn forget_other_layouts(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(&self.root).with_context(|| self.root.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let layout = name.and_then(|name| name.strip_prefix(MAPS)?.parse::<u32>().ok());
            if layout.is_some_and(|layout| layout != LAYOUT_VERSION) {
                tracing::info!(folder = %path.display(), "maps of another version are removed");
                remove_folder(&path)?;
            }
        }
        Ok(())
    }

    /// Removes what a fence without any link leaves behind.
    pub(super) fn remove_if_unused(&self) -> anyhow::Result<()> {
        if self.linked()?.is_empty() {
            self.forget_other_layouts()?;
            for folder in self.folders() {
                remove_folder(&folder)?;
            }
            // Only when it is empty: it may hold pins of others, or be a mount point.
            let _ = fs::remove_dir(&self.root);
        }
        Ok(())
    }
}

/// The name of a pin that belongs to a side of an interface. A BPF file system reserves names with
/// dots.
fn hook(interface: &str, side: Side) -> String {
    let side = match side {
        Side::In => "in",
        Side::Out => "out",
    };
    format!("{}-{side}", interface.replace('.', "%"))
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

/// Removes a folder with all in it, if it is there.
fn remove_folder(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Whether a folder is on a BPF file system.
pub(crate) fn is_bpf_filesystem(path: &Path) -> anyhow::Result<bool> {
    const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
    let statistics = rustix::fs::statfs(path).with_context(|| path.display().to_string())?;
    Ok(statistics.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC)
}
