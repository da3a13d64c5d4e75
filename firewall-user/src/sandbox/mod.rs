//! What the daemon's process takes from itself before it reads a policy or speaks with anybody: all
//! capabilities but three, new privileges, most system calls, and nearly all of the file system.
//!
//! It is put on in the main thread, before any other thread exists: threads inherit it, so none can be
//! forgotten. Nothing of it can be taken off again. Which side each restriction errs on is in
//! docs/security.md.

mod calls;
mod capabilities;
mod files;
pub mod helper;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::Context;
use rustix::thread::{CapabilitySet, set_no_new_privs};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

pub use files::{Files, Folder};

/// `[hardening]` of the host settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hardening {
    /// Whether the daemon confines itself.
    pub sandbox: bool,
    /// Further folders, or files, that the daemon may read: for policies and lists that are applied from
    /// elsewhere than beside its own.
    pub read: Vec<PathBuf>,
}

impl Default for Hardening {
    fn default() -> Self {
        Self {
            sandbox: true,
            read: Vec::new(),
        }
    }
}

/// How the process is confined, for `palisade status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// False where the settings switch it off.
    pub enabled: bool,
    /// Names of the capabilities that are left.
    pub capabilities: Vec<String>,
    pub no_new_privileges: bool,
    /// Whether system calls are filtered.
    pub system_calls: bool,
    /// How the file system is restricted: `full`, `partial` (an older kernel), or `none`.
    pub file_system: String,
    /// What could not be restricted, and why.
    pub missing: Vec<String>,
}

impl Confinement {
    /// Nothing is restricted.
    pub fn off() -> Self {
        Self {
            file_system: "none".to_owned(),
            capabilities: capabilities::names(capabilities::effective()),
            ..Self::default()
        }
    }
}

/// The restrictions of this process. Some hold only while what they refer to is kept open.
#[derive(Debug)]
pub struct Sandbox {
    pub confinement: Confinement,
    _held: Vec<OwnedFd>,
}

/// What loading, attaching and counting ask for.
pub const DAEMON: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::PERFMON);

impl Sandbox {
    /// Confines the calling thread and all that it starts. What the kernel does not offer is logged and
    /// left out: a host without a fence is worse off than one whose daemon could do more than it needs.
    pub fn enter(files: &Files) -> anyhow::Result<Self> {
        let mut missing = Vec::new();
        if let Err(error) = capabilities::keep(DAEMON) {
            missing.push(format!("capabilities: {error:#}"));
        }
        set_no_new_privs(true).context("new privileges cannot be renounced")?;
        let (file_system, held) = match files::restrict(files) {
            Ok((level, held)) => (level, held),
            Err(error) => {
                missing.push(format!("file system: {error:#}"));
                ("none", Vec::new())
            }
        };
        // Last: what the steps before it call is not in the list.
        let system_calls = match calls::restrict(&calls::DAEMON) {
            Ok(()) => true,
            Err(error) => {
                missing.push(format!("system calls: {error:#}"));
                false
            }
        };
        for what in &missing {
            warn!("the daemon goes on less confined than it could be: {what}");
        }
        let confinement = Confinement {
            enabled: true,
            capabilities: capabilities::names(capabilities::effective()),
            no_new_privileges: true,
            system_calls,
            file_system: file_system.to_owned(),
            missing,
        };
        info!(
            capabilities = confinement.capabilities.join(" "),
            system_calls = confinement.system_calls,
            file_system = confinement.file_system,
            "confined"
        );
        Ok(Self {
            confinement,
            _held: held,
        })
    }
}

/// Confines a process that runs a program for the daemon ([`crate::export::notify`]): what it starts has no
/// capabilities, and no way to get any.
pub fn enter_as_runner() -> anyhow::Result<()> {
    set_no_new_privs(true).context("new privileges cannot be renounced")?;
    capabilities::keep(CapabilitySet::empty())
}

/// Confines the process that looks at others for the daemon ([`crate::guard::lookout`]): it reads, and
/// answers.
pub fn enter_as_lookout() -> anyhow::Result<()> {
    capabilities::keep(CapabilitySet::SYS_PTRACE)?;
    set_no_new_privs(true).context("new privileges cannot be renounced")?;
    calls::restrict(&calls::LOOKOUT)
}
