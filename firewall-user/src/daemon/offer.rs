//! A policy that is offered to the fence, from a file or from a request, read and checked before
//! anything in force is touched.

use std::path::{Path, PathBuf};

use crate::policy::Policy;

/// Where an offered policy comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// The daemon's own policy file.
    Own(PathBuf),
    File(PathBuf),
    /// A text whose files are relative to `base`; where it was read, if whoever sends it says.
    Text {
        text: String,
        base: PathBuf,
        name: Option<PathBuf>,
    },
}

/// A policy that was read and found right.
#[derive(Debug)]
pub struct Offer {
    pub policy: Policy,
    /// For people: the file, or "the policy sent", and from where.
    pub source: String,
    pub warnings: Vec<String>,
    pub text: String,
    /// The folder against which it names its files.
    pub base: PathBuf,
    /// Whether it is the daemon's own policy file.
    pub own: bool,
}

impl Origin {
    /// Whether it is the daemon's own policy file.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }
}

impl Offer {
    /// Reads and checks. Blocks: lists of sets may be long.
    pub fn read(origin: &Origin) -> Result<Self, String> {
        let (text, source, base) = match origin {
            Origin::Own(path) | Origin::File(path) => (
                Policy::text_of(path).map_err(|errors| errors.to_string())?,
                path.display().to_string(),
                // Remembered beyond this process, which may have another working directory then.
                std::path::absolute(base_of(path)).map_err(|error| error.to_string())?,
            ),
            Origin::Text { text, base, name } => {
                // Only the sender vouches for the name.
                let source = name.as_ref().map_or("the policy sent".to_owned(), |name| {
                    let name = name.display().to_string();
                    format!("the policy sent from {}", name.escape_debug())
                });
                (text.clone(), source, base.clone())
            }
        };
        let (policy, findings) =
            Policy::parse(&text, &source, &base).map_err(|errors| errors.to_string())?;
        Ok(Self {
            policy,
            source,
            warnings: findings.iter().map(ToString::to_string).collect(),
            text,
            base,
            own: origin.is_own(),
        })
    }
}

/// The folder against which a policy names its files.
pub fn base_of(policy_file: &Path) -> PathBuf {
    match policy_file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}
