//! Whether this host can carry the fence, and what stands in its way: each check says what was found and
//! what to do about it.

mod daemon;
mod files;
mod interfaces;
mod kernel;
mod machine;

use std::path::PathBuf;

use serde::Serialize;

use crate::daemon::documents::Status;
use crate::host::Host;
use crate::settings::{Settings, SettingsError};

/// What is examined.
#[derive(Debug)]
pub struct Patient {
    pub host: Host,
    /// The file of the host settings, and what it says; `None` where there is no such file.
    pub settings_file: PathBuf,
    pub settings: Option<Result<Settings, SettingsError>>,
    /// Interfaces to look at.
    pub interfaces: Vec<String>,
    /// What a daemon says, if one answers.
    pub status: Option<Status>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What scripts know it by, such as `kernel.version` or `interface.driver`.
    pub id: &'static str,
    /// The interface, file or map that it is about.
    pub subject: Option<String>,
    pub status: Level,
    pub found: String,
    /// What would mend it; null where nothing needs to be done.
    pub advice: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// Worth knowing.
    Note,
    /// It works, and not as well as it could, or not for long.
    Warning,
    /// Palisade cannot do its work.
    Error,
}

impl Level {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Check {
    fn ok(id: &'static str, found: impl Into<String>) -> Self {
        Self {
            id,
            subject: None,
            status: Level::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn is(
        status: Level,
        id: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            status,
            advice: Some(advice.into()),
            ..Self::ok(id, found)
        }
    }

    fn note(id: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::is(Level::Note, id, found, advice)
    }

    fn warning(id: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::is(Level::Warning, id, found, advice)
    }

    fn error(id: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::is(Level::Error, id, found, advice)
    }

    fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }
}

impl Patient {
    /// Settings that can be used.
    fn usable(&self) -> Option<&Settings> {
        self.settings.as_ref()?.as_ref().ok()
    }
}

/// Makes every check.
pub fn examine(patient: &Patient) -> Vec<Check> {
    let mut checks = kernel::examine(patient);
    checks.extend(interfaces::examine(patient));
    checks.extend(machine::examine(patient));
    checks.extend(files::examine(patient));
    checks.extend(daemon::examine(patient));
    checks
}
