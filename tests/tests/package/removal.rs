//! What is left of an installation.

use std::collections::BTreeSet;

use anyhow::Result;
use palisade_tests::Machine;

use super::scene::Scene;
use super::traffic::POLICY;

#[test]
fn a_removed_package_leaves_nothing_attached_pinned_or_installed_but_what_people_wrote()
-> Result<()> {
    let Some(scene) = Scene::set()? else {
        return Ok(());
    };
    let machine = &scene.machine;
    let before = files(machine)?;
    scene.install("+1")?;
    scene.enforce(POLICY)?;
    machine.run("palisade ban 203.0.113.7 --for 1h")?;
    assert!(machine.pins().join("palisade").is_dir());

    let said = machine.run("dpkg --remove palisade")?;
    assert_nothing_attached(machine)?;
    let left: Vec<String> = files(machine)?.difference(&before).cloned().collect();
    let kept = |path: &String| {
        ["/etc/palisade", "/var/lib/palisade"]
            .iter()
            .any(|folder| path.starts_with(folder))
    };
    assert!(left.iter().all(kept), "{left:#?}\n{said}");
    assert!(
        left.contains(&"/etc/palisade/policy.toml".to_owned()),
        "{left:#?}"
    );

    let said = machine.run("dpkg --purge palisade")?;
    let left: Vec<String> = files(machine)?.difference(&before).cloned().collect();
    assert!(left.is_empty(), "{left:#?}\n{said}");
    Ok(())
}

#[test]
fn a_package_is_removed_with_its_fence_when_its_daemon_is_dead_and_its_settings_are_gone()
-> Result<()> {
    let Some(scene) = Scene::set()? else {
        return Ok(());
    };
    let machine = &scene.machine;
    scene.install("+1")?;
    machine.run("systemctl stop palisade")?;
    machine.run("rm /etc/palisade/palisade.toml")?;
    assert!(machine.pins().join("palisade").is_dir());
    machine.run("dpkg --purge palisade")?;
    assert_nothing_attached(machine)
}

/// No link of a program on the wire, and nothing pinned.
pub fn assert_nothing_attached(machine: &Machine) -> Result<()> {
    let pins: Vec<_> = std::fs::read_dir(machine.pins())?
        .flatten()
        .map(|entry| entry.file_name())
        // The kernel's own, in every BPF file system.
        .filter(|name| name != "maps.debug" && name != "progs.debug")
        .collect();
    assert!(pins.is_empty(), "{pins:?}");
    let link = machine.run("ip -details link show edge")?;
    assert!(!link.contains("xdp"), "{link}");
    let filters = machine.run("tc filter show dev edge egress")?;
    assert!(filters.trim().is_empty(), "{filters}");
    // tcx is not in what `tc` shows.
    let net = palisade_tests::process::succeed(
        std::process::Command::new("nsenter")
            .arg("--net")
            .arg(format!("--target={}", machine.leader()))
            .args(["--", "bpftool", "net", "show", "dev", "edge"]),
    )?;
    assert!(!net.contains("edge"), "{net}");
    Ok(())
}

/// Every file and folder, but for those that a running system writes, and dpkg's own books.
fn files(machine: &Machine) -> Result<BTreeSet<String>> {
    let found = machine.run(
        "find / -xdev ( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp \
         -o -path /var/log -o -path /var/tmp -o -path /var/cache -o -path /shared \
         -o -path /var/lib/dpkg -o -path /var/lib/systemd ) -prune -o -print",
    )?;
    // groupadd keeps the last but one version of its files.
    let passing = |line: &&str| !line.starts_with("/etc/") || !line.ends_with('-');
    Ok(found.lines().filter(passing).map(str::to_owned).collect())
}
