//! What the datapath keeps on disk beside the pinned maps: which rule has which counter, the
//! generation's number, the hash seed, how each interface is attached.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::AttachMode;
use crate::policy::Counters;

const FILE: &str = "datapath.json";

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    #[serde(skip)]
    path: PathBuf,
    /// There was no file that could be read.
    #[serde(skip)]
    pub(super) fresh: bool,
    pub(super) version: u32,
    /// The generation in force.
    pub(super) generation: u64,
    /// The highest number ever given to a generation: one that went back keeps its number.
    #[serde(default)]
    pub(super) issued: u64,
    pub(super) source_seed: u32,
    pub(super) counters: BTreeMap<String, u32>,
    /// By interface name.
    pub(super) attached: BTreeMap<String, Attached>,
    #[serde(default)]
    pub(super) trial: Option<Trial>,
}

/// A generation on trial, as far as the kernel does not say it by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Trial {
    pub(super) generation: u64,
    pub(super) previous: u64,
    /// On the packet clock of this boot.
    pub(super) deadline: u64,
    pub(super) boot: String,
    pub(super) layout: u32,
    /// All interfaces of the fence, in the order of their slots.
    pub(super) interfaces: Vec<String>,
    /// Those where no fence stood before.
    pub(super) opened: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Attached {
    pub(super) generic: bool,
    pub(super) fallback: Option<String>,
    /// Priority of the egress filter where the kernel has no tcx; `None` is tcx.
    pub(super) clsact: Option<u16>,
}

impl Attached {
    pub(super) fn mode(&self) -> AttachMode {
        if self.generic {
            AttachMode::Generic
        } else {
            AttachMode::Native
        }
    }
}

impl State {
    /// Reads the state. A file that cannot be read as one is set aside: rule counters then start
    /// anew, and the fence comes up all the same.
    pub(super) fn load(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("state folder {}", folder.display()))?;
        let path = folder.join(FILE);
        let fresh = || Self {
            path: path.clone(),
            fresh: true,
            version: 1,
            source_seed: seed(),
            ..Self::default()
        };
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(fresh()),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(state) if state.version == 1 => Ok(Self {
                path,
                issued: state.issued.max(state.generation),
                ..state
            }),
            read => {
                let why = match read {
                    Ok(state) => format!("version {} is unknown", state.version),
                    Err(error) => error.to_string(),
                };
                let aside = path.with_extension("json.corrupt");
                tracing::error!(
                    file = %path.display(), set_aside = %aside.display(), why,
                    "state file is damaged; rule counters start anew"
                );
                std::fs::rename(&path, &aside)
                    .with_context(|| format!("setting {} aside", path.display()))?;
                Ok(fresh())
            }
        }
    }

    /// The number of a new generation.
    pub(super) fn issue(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    /// Writes the state, whole or not at all.
    pub(super) fn store(&self) -> anyhow::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let write = || -> anyhow::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            // A rule is some dozen words to write, and each would be a system call of its own.
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.flush()?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            Ok(())
        };
        write().with_context(|| format!("writing {}", self.path.display()))
    }

    /// Writes the state after what it tells has happened in the kernel: that stands, whether it could
    /// be written down or not.
    pub(super) fn note(&self) {
        if let Err(error) = self.store() {
            tracing::error!("the next start will not know how the fence stands: {error:#}");
        }
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
            .iter()
            .map(|(name, counter)| (name.clone(), *counter))
            .collect()
    }

    pub(super) fn remember(&mut self, counters: &Counters) {
        self.counters = counters
            .iter()
            .map(|(name, counter)| (name.to_owned(), counter))
            .collect();
    }
}

/// A seed that a sender of packets cannot know.
fn seed() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(super::clock::realtime()) as u32
}
