//! A policy that is offered to the fence, from a file or from a request, read and checked before
//! anything in force is touched.

use std::path::{Path, PathBuf};

use crate::policy::Policy;

/// Where an offered policy comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    File(PathBuf),
    /// A text whose files are relative to `base`.
    Text {
        text: String,
        base: PathBuf,
    },
}

/// A policy that was read and found right.
#[derive(Debug)]
pub struct Offer {
    pub policy: Policy,
    /// For people: the file, or "a request".
    pub source: String,
    pub warnings: Vec<String>,
}

impl Offer {
    /// Reads and checks. Blocks: lists of sets may be long.
    pub fn read(origin: &Origin) -> Result<Self, String> {
        let (read, source) = match origin {
            Origin::File(path) => (Policy::load(path), path.display().to_string()),
            Origin::Text { text, base } => {
                let name = "the policy sent".to_owned();
                (Policy::parse(text, &name, base), name)
            }
        };
        let (policy, findings) = read.map_err(|errors| errors.to_string())?;
        Ok(Self {
            policy,
            source,
            warnings: findings.iter().map(ToString::to_string).collect(),
        })
    }
}

/// The folder against which a sent text names its files.
pub fn base_of(policy_file: &Path) -> PathBuf {
    match policy_file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}
