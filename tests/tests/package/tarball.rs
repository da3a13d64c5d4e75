//! The tarball's script, as people run it.

use anyhow::Result;

use super::removal::assert_nothing_attached;
use super::scene::Scene;
use super::traffic::{POLICY, Traffic};

#[test]
fn the_tarball_installs_upgrades_under_traffic_and_goes_without_a_trace() -> Result<()> {
    let Some(scene) = Scene::set()? else {
        return Ok(());
    };
    let machine = &scene.machine;
    let unpack = |suffix: &str| -> Result<String> {
        let folder = format!("/root/palisade{suffix}");
        std::fs::create_dir(machine.path(&folder))?;
        let archive = scene.packages.file(suffix, ".tar.gz")?;
        machine.run(&format!(
            "tar --extract --strip-components=1 --directory {folder} --file {archive}"
        ))?;
        Ok(format!("{folder}/install.sh"))
    };
    let (first, second) = (unpack("+1")?, unpack("+2")?);
    machine.run(&first)?;
    let status = machine.palisade("status")?;
    assert_eq!(status["interfaces"][0]["name"], "edge", "{status:#}");
    scene.enforce(POLICY)?;
    let running = machine.process_of("palisade.service")?.unwrap_or_default();
    let traffic = Traffic::start(&scene.world, machine)?;
    // Run twice, it does the same again.
    machine.run(&second)?;
    machine.run(&second)?;
    let now = machine.process_of("palisade.service")?.unwrap_or_default();
    assert_ne!(now, running);
    traffic.all_was_judged(machine)?;
    // What people wrote stays, and the new default is beside it.
    let policy = std::fs::read_to_string(machine.path("/etc/palisade/policy.toml"))?;
    assert_eq!(policy, POLICY);
    assert!(machine.path("/etc/palisade/policy.toml.dist").is_file());
    let page = machine.path("/usr/local/share/man/man1/palisade-rule-add.1.gz");
    assert!(page.is_file());

    let wrong = machine.try_run(&format!("{second} --purge"))?;
    assert_eq!(wrong.code(), 1, "{wrong}");
    let wrong = machine.try_run(&format!("{second} --prefix relative"))?;
    assert!(wrong.stderr.contains("absolute"), "{wrong}");
    let wrong = machine.try_run(&format!("{second} --frobnicate"))?;
    assert!(wrong.stderr.contains("--frobnicate"), "{wrong}");

    machine.run(&format!("{second} --uninstall"))?;
    assert_nothing_attached(machine)?;
    let left = machine.run("find /usr/local /etc/systemd/system -name *palisade*")?;
    assert_eq!(left.trim(), "");
    assert!(machine.path("/etc/palisade/policy.toml").is_file());
    machine.run(&format!("{second} --uninstall --purge"))?;
    assert!(!machine.path("/etc/palisade").exists());
    assert!(!machine.path("/var/lib/palisade").exists());
    Ok(())
}
