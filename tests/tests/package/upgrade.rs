//! The fence while its keeper is killed, restarted and replaced.

use anyhow::Result;

use super::scene::Scene;
use super::traffic::{POLICY, Traffic};

const SERVICE: &str = "palisade.service";

#[test]
fn no_packet_passes_unjudged_while_the_daemon_is_killed_reloaded_restarted_and_upgraded()
-> Result<()> {
    let Some(scene) = Scene::set()? else {
        return Ok(());
    };
    let machine = &scene.machine;
    scene.install("+1")?;
    let status = machine.palisade("status")?;
    assert_eq!(status["policy"]["mode"], "observe", "{status:#}");
    assert_eq!(status["interfaces"][0]["name"], "edge", "{status:#}");
    scene.enforce(POLICY)?;
    let first = machine.process_of(SERVICE)?.unwrap_or_default();
    let traffic = Traffic::start(&scene.world, machine)?;

    machine.run("systemctl kill --signal=KILL palisade")?;
    let second = machine.wait_for_another(SERVICE, first)?;
    machine.run("systemctl reload palisade")?;
    machine.run("systemctl restart palisade")?;
    let third = machine.wait_for_another(SERVICE, second)?;
    let said = scene.install("+2")?;
    let fourth = machine.wait_for_another(SERVICE, third)?;
    assert_ne!(fourth, third, "the upgraded daemon took over: {said}");

    traffic.all_was_judged(machine)?;
    let version = machine.run("dpkg-query --show palisade")?;
    assert!(version.contains("+2"), "{version}");
    let status = machine.palisade("status")?;
    assert_eq!(status["interfaces"][0]["taken_over"], true, "{status:#}");
    Ok(())
}

#[test]
fn an_upgrade_to_a_version_that_refuses_the_policy_says_so_and_leaves_the_fence() -> Result<()> {
    let Some(scene) = Scene::set()? else {
        return Ok(());
    };
    let machine = &scene.machine;
    scene.install("+1")?;
    scene.enforce(POLICY)?;
    let before = machine.process_of(SERVICE)?;
    assert!(before.is_some(), "{}", machine.journal());
    let traffic = Traffic::start(&scene.world, machine)?;
    let wrong = POLICY.replace("[defaults]", "[defaults]\nfrom_the_future = true");
    machine.write("/etc/palisade/policy.toml", &wrong)?;

    let said = scene.install("+2")?;
    assert!(said.contains("from_the_future"), "{said}");
    assert!(said.contains("the fence stays as it is"), "{said}");
    let installed = machine.run("dpkg-query --show --showformat ${Status} palisade")?;
    assert_eq!(installed, "install ok installed");
    // The daemon of the version before goes on, with the policy that it has.
    assert_eq!(machine.process_of(SERVICE)?, before);
    // What the check could not see stops the new daemon only: the fence goes on without one.
    let stopped = machine.try_run("systemctl restart palisade")?;
    assert!(!stopped.success(), "{stopped}");
    machine.write("/etc/palisade/policy.toml", POLICY)?;
    machine.run("systemctl restart palisade")?;
    traffic.all_was_judged(machine)
}

#[test]
fn an_upgrade_that_lays_the_maps_out_anew_leaves_no_old_ones_behind() -> Result<()> {
    let Some(scene) = Scene::set()? else {
        return Ok(());
    };
    let machine = &scene.machine;
    scene.install("+1")?;
    scene.enforce(POLICY)?;
    machine.run("systemctl stop palisade")?;
    // What a version with another layout has pinned: maps in a folder of another number, used by
    // the programs in the links.
    let pins = machine.pins().join("palisade");
    let ours = folder_of_maps(&pins)?;
    let other = pins.join("maps-1");
    std::fs::create_dir(&other)?;
    for map in std::fs::read_dir(&ours)? {
        let map = map?;
        std::fs::rename(map.path(), other.join(map.file_name()))?;
    }
    machine.run("systemctl start palisade")?;
    assert!(!other.exists());
    assert_eq!(folder_of_maps(&pins)?, ours);
    let status = machine.palisade("status")?;
    assert_eq!(status["interfaces"][0]["taken_over"], true, "{status:#}");
    let link = machine.run("ip link show edge")?;
    assert!(link.contains("xdp"), "{link}");
    Ok(())
}

#[test]
fn pins_that_somebody_removes_come_back_though_the_daemon_may_not_make_their_folder() -> Result<()>
{
    let Some(scene) = Scene::set()? else {
        return Ok(());
    };
    let machine = &scene.machine;
    scene.install("+1")?;
    scene.enforce(POLICY)?;
    let before = machine.process_of(SERVICE)?.unwrap_or_default();
    machine.run("rm -r /sys/fs/bpf/palisade")?;
    machine.wait_for_another(SERVICE, before)?;
    let traffic = Traffic::start(&scene.world, machine)?;
    std::thread::sleep(std::time::Duration::from_millis(1500));
    traffic.all_was_judged(machine)
}

fn folder_of_maps(pins: &std::path::Path) -> Result<std::path::PathBuf> {
    let mut folders = std::fs::read_dir(pins)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains("/maps-"));
    let one = folders.next().ok_or_else(|| anyhow::anyhow!("no maps"))?;
    anyhow::ensure!(folders.next().is_none(), "maps of two layouts");
    Ok(one)
}
