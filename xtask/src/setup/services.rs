//! Keeps packages from starting services: of what tests start themselves, none shall run, and a
//! firewall's tests have no business leaving a listener behind.
//!
//! Debian asks /usr/sbin/policy-rc.d before a package starts anything. It is written for the
//! time of the installation and what was there before is put back, in the next run if this one
//! is killed.

use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use anyhow::{Context, Result};

use crate::shell;

const POLICY: &str = "/usr/sbin/policy-rc.d";
const SAVED: &str = "/usr/sbin/policy-rc.d.before-palisade";
const MARK: &str = "# Written by Palisade's setup, removed when it ends.";
/// "action forbidden by policy"
const FORBIDDEN: i32 = 101;

/// Packages whose service would be enabled, and the service.
const SERVICES: [(&str, &str); 5] = [
    ("openssh-server", "ssh.service"),
    ("prometheus", "prometheus.service"),
    ("prometheus-alertmanager", "prometheus-alertmanager.service"),
    ("nginx-light", "nginx.service"),
    ("fastnetmon", "fastnetmon.service"),
];

/// The policy is in place until this is released or dropped.
pub struct Held {
    ours: bool,
}

pub fn hold() -> Result<Held> {
    if forbids_already() {
        return Ok(Held { ours: false });
    }
    if Path::new(POLICY).exists() {
        fs::rename(POLICY, SAVED).with_context(|| format!("cannot set {POLICY} aside"))?;
    }
    let held = Held { ours: true };
    fs::write(POLICY, format!("#!/bin/sh\n{MARK}\nexit {FORBIDDEN}\n"))
        .and_then(|()| fs::set_permissions(POLICY, Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {POLICY}"))?;
    Ok(held)
}

impl Held {
    pub fn release(mut self) -> Result<()> {
        self.put_back()
    }

    fn put_back(&mut self) -> Result<()> {
        if std::mem::take(&mut self.ours) {
            restore_leftovers()?;
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            eprintln!("warning: {error:#}");
        }
    }
}

/// Undoes what a run that was killed left behind.
pub fn restore_leftovers() -> Result<()> {
    if !shell::is_root() {
        return Ok(());
    }
    let ours = fs::read_to_string(POLICY).is_ok_and(|text| text.contains(MARK));
    if ours {
        fs::remove_file(POLICY).with_context(|| format!("cannot remove {POLICY}"))?;
    }
    match fs::rename(SAVED, POLICY) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot put {SAVED} back as {POLICY}")),
    }
}

/// Takes the services of packages that were just installed out of the next start, too.
pub fn disable(packages: &[&str]) -> Result<()> {
    if shell::program("systemctl").is_none() {
        return Ok(());
    }
    for (package, service) in SERVICES {
        if packages.contains(&package) {
            shell::run(shell::command("systemctl").args(["--quiet", "disable", service]))?;
        }
    }
    Ok(())
}

fn forbids_already() -> bool {
    shell::command(POLICY)
        .args(["prometheus", "start"])
        .output()
        .is_ok_and(|output| output.status.code() == Some(FORBIDDEN))
}
