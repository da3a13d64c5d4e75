//! Debian's packages. Every message about what cannot be done here names the command that can.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};

use super::{doing, done, services};
use crate::shell;

/// How old the package lists may be before they are fetched anew.
const LISTS_AGE: Duration = Duration::from_secs(24 * 3600);
const LISTS: &str = "/var/lib/apt/lists";

/// Installs packages without their recommendations and without starting a service.
pub fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if shell::program("apt-get").is_none() {
        bail!(
            "missing: {names}; there is no apt-get here to install them: install what your \
             distribution calls these Debian packages"
        );
    }
    if !shell::is_root() {
        bail!("missing: {names}; run `sudo apt-get install --no-install-recommends {names}`");
    }
    let fresh = lists_are_fresh();
    if !fresh {
        update();
    }
    doing(&format!("installing Debian's {names}"));
    let held = services::hold()?;
    let mut result = shell::run(&mut install_command(packages));
    if result.is_err() && fresh {
        // The lists may name versions that the mirror has replaced since.
        update();
        result = shell::run(&mut install_command(packages));
    }
    held.release()?;
    result.with_context(|| {
        format!("cannot install {names}; try `apt-get update && apt-get install {names}`")
    })?;
    services::disable(packages)?;
    done(&format!("installed {names}"));
    Ok(())
}

/// Whether the package lists have a version of this package to install.
pub fn offers(package: &str) -> bool {
    shell::output_of(shell::command("apt-cache").args(["policy", package]))
        .is_some_and(|answer| has_candidate(&answer))
}

fn has_candidate(policy: &str) -> bool {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate:"))
        .any(|version| version.trim() != "(none)")
}

fn install_command(packages: &[&str]) -> Command {
    let mut command = apt_get();
    command
        .args(["install", "--yes", "--no-install-recommends", "-qq"])
        .args(["-o", "Dpkg::Options::=--force-confold"])
        .args(["-o", "Dpkg::Use-Pty=0"])
        .args(packages);
    command
}

/// A failure is only told: the lists that are there may do.
fn update() {
    doing("fetching the package lists (apt-get update)");
    if let Err(error) = shell::run(apt_get().args(["update", "--quiet"])) {
        println!("setup: {error:#}; going on with the lists there are");
    }
}

/// Waits for other package managers and asks nothing.
fn apt_get() -> Command {
    let mut command = shell::command("apt-get");
    command
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("NEEDRESTART_SUSPEND", "1");
    command
}

/// The lists themselves carry the mirror's dates; the folder of half-fetched ones is touched by
/// every update.
fn lists_are_fresh() -> bool {
    let touched = Path::new(LISTS)
        .join("partial")
        .metadata()
        .and_then(|data| data.modified());
    has_lists(Path::new(LISTS))
        && touched
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok())
            .is_some_and(|age| age < LISTS_AGE)
}

fn has_lists(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::has_candidate;

    #[test]
    fn a_package_without_candidate_is_not_offered() {
        assert!(has_candidate(
            "nmap:\n  Installed: (none)\n  Candidate: 7.93\n"
        ));
        assert!(!has_candidate(
            "llvm-23-dev:\n  Installed: (none)\n  Candidate: (none)\n"
        ));
        assert!(!has_candidate(""));
    }
}
