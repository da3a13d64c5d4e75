//! Settings, policy, and the folders that the daemon writes to.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Check, Patient};
use crate::policy::{Environment, Policy, Severity};
use crate::settings::Settings;

const MIB: u64 = 1 << 20;
/// Less than this, and bans and alerts will soon not be written down.
const LITTLE: u64 = 64 * MIB;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const OTHERS_READ: u32 = 0o004;

pub(super) fn examine(patient: &Patient) -> Vec<Check> {
    const ID: &str = "settings.valid";
    let file = patient.settings_file.display().to_string();
    let mut checks = Vec::new();
    let settings = match &patient.settings {
        None => {
            let found = "there is no such file";
            let advice = "`palisade init --settings FILE` proposes one";
            return vec![Check::note(ID, found, advice).about(file)];
        }
        Some(Err(error)) => {
            let advice = "mend what is named; the daemon does not start with it";
            return vec![Check::error(ID, error.to_string(), advice).about(file)];
        }
        Some(Ok(settings)) => settings,
    };
    checks.push(Check::ok(ID, "they can be read").about(&file));
    checks.push(writable("settings.permissions", &settings.file));
    checks.push(policy(settings));
    checks.push(writable("policy.permissions", &settings.policy));
    checks.extend(state(settings));
    checks
}

fn policy(settings: &Settings) -> Check {
    const ID: &str = "policy.valid";
    let file = settings.policy.display().to_string();
    let check = match Policy::load(&settings.policy) {
        Err(refused) => Check::error(
            ID,
            refused
                .errors
                .first()
                .map_or_else(String::new, |error| error.message.clone()),
            format!("`palisade check {file}` shows where; the daemon does not take it"),
        ),
        Ok((policy, findings)) => {
            let warnings = findings
                .iter()
                .filter(|finding| finding.severity == Severity::Warning);
            let (rules, warnings) = (policy.rules.len(), warnings.count());
            match policy.compile(&Environment::default()) {
                Err(error) => Check::error(
                    ID,
                    error.to_string(),
                    "make it smaller, as `palisade check` says",
                ),
                Ok(_) if warnings > 0 => Check::warning(
                    ID,
                    format!("{rules} rules, {warnings} warnings"),
                    format!("`palisade check {file}` has them"),
                ),
                Ok(_) => Check::ok(ID, format!("{rules} rules, no warnings")),
            }
        }
    };
    check.about(file)
}

/// Whether others than the owner may write a file that decides what is let in.
fn writable(id: &'static str, file: &Path) -> Check {
    let shown = file.display().to_string();
    let check = match fs::metadata(file) {
        Err(error) => Check::error(
            id,
            format!("it cannot be looked at: {error}"),
            "make it readable for root",
        ),
        Ok(about) if about.mode() & OTHERS_WRITE != 0 => Check::error(
            id,
            format!("everybody may write it (mode {:o})", about.mode() & 0o7777),
            format!("`chmod o-w {shown}`"),
        ),
        Ok(about) if about.mode() & GROUP_WRITES != 0 && about.gid() != 0 => Check::note(
            id,
            format!("group {} may write it", about.gid()),
            "whoever writes it decides what is let in",
        ),
        Ok(about) => Check::ok(
            id,
            format!("mode {:o}, owner {}", about.mode() & 0o7777, about.uid()),
        ),
    };
    check.about(shown)
}

fn state(settings: &Settings) -> Vec<Check> {
    let folder = &settings.state_dir;
    let shown = folder.display().to_string();
    let mut checks = Vec::new();
    checks.push(match fs::metadata(folder) {
        Err(_) => Check::note(
            "state.permissions",
            "there is no such folder yet",
            "systemd makes it; otherwise `install -d -m 700` does",
        ),
        Ok(about) if !about.is_dir() => Check::error(
            "state.permissions",
            "it is no folder",
            "set another `state_dir`",
        ),
        Ok(about) if about.mode() & (GROUP_WRITES | OTHERS_WRITE) != 0 => Check::error(
            "state.permissions",
            format!(
                "others than its owner may write there (mode {:o})",
                about.mode() & 0o7777
            ),
            format!("`chmod 700 {shown}`: bans and the audit log are kept there"),
        ),
        Ok(about) if about.mode() & OTHERS_READ != 0 => Check::note(
            "state.permissions",
            "everybody may read it",
            format!("`chmod 700 {shown}`: captures of visitors' packets are kept there"),
        ),
        Ok(about) => Check::ok(
            "state.permissions",
            format!("mode {:o}", about.mode() & 0o7777),
        ),
    });
    // The folder, or the one that it will be made in.
    let there = folder.ancestors().find(|ancestor| ancestor.exists());
    if let Some(Ok(about)) = there.map(rustix::fs::statvfs) {
        let free = about.f_bavail.saturating_mul(about.f_frsize);
        let found = format!("{} MiB free", free / MIB);
        checks.push(if free < LITTLE {
            Check::warning(
                "state.space",
                found,
                "make room: with a full disk the fence stands, but bans, alerts and the audit log are not kept",
            )
        } else if about.f_favail == 0 && about.f_files > 0 {
            Check::warning("state.space", "no file can be made any more (inodes)", "make room")
        } else {
            Check::ok("state.space", found)
        });
    }
    checks
        .into_iter()
        .map(|check| check.about(&shown))
        .collect()
}
