//! What `palisade doctor` finds on hosts with something wrong, and that it finds nothing on a healthy one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result};
use palisade_tests::daemon::{Mode, palisade};
use palisade_tests::kernel::{Missing, without};
use palisade_tests::policies::CLOSED;
use palisade_tests::process::{Finished, finish};
use palisade_tests::topology::EDGE;
use palisade_tests::xdp::Passing;
use palisade_tests::{Daemon, Topology, need_tools, skip_unless_root};
use serde_json::Value;

/// What it says, whatever the exit code.
struct Findings {
    finished: Finished,
    document: Value,
}

impl Findings {
    fn of(finished: Finished) -> Result<Self> {
        let document =
            serde_json::from_str(&finished.stdout).with_context(|| finished.to_string())?;
        Ok(Self { finished, document })
    }

    /// The checks of one kind.
    fn checks(&self, id: &str) -> Vec<&Value> {
        let checks = self.document["checks"].as_array().into_iter().flatten();
        checks.filter(|check| check["id"] == id).collect()
    }

    /// Asserts that a check has this outcome, and says these words.
    fn assert(&self, id: &str, status: &str, words: &[&str]) {
        let checks = self.checks(id);
        let found = checks.iter().any(|check| {
            let text = check.to_string();
            check["status"] == status && words.iter().all(|word| text.contains(word))
        });
        assert!(found, "{id} is not {status} with {words:?}: {checks:#?}");
        // Who is told that something is wrong is told what to do.
        for check in checks {
            assert_eq!(
                check["status"] == "ok",
                check["advice"].is_null(),
                "{check:#}"
            );
        }
    }
}

/// The verb in the namespace of a daemon's home, whether the daemon runs or not.
fn doctor(world: &Topology, daemon: &Daemon) -> Command {
    let mut command = world.inside.command(palisade().unwrap_or_default());
    command
        .args(["doctor", "--json", "--config"])
        .arg(daemon.settings())
        .env("PALISADE_SOCKET", daemon.socket());
    command
}

#[test]
fn a_healthy_host_and_its_daemon_have_no_errors() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = Daemon::prepare(&world.inside, CLOSED, EDGE, Mode::Auto)?;
    fs::set_permissions(daemon.state_dir(), Permissions::from_mode(0o700))?;
    for egress in ["auto", "clsact"] {
        let interface = format!("interfaces = [{{ name = \"{EDGE}\", egress = \"{egress}\" }}]");
        daemon.write_settings(&interface, "")?;
        daemon.launch()?;
        let found = Findings::of(finish(&mut doctor(&world, &daemon))?)?;
        assert_eq!(found.finished.code(), 0, "{}", found.finished);
        assert_eq!(found.document["errors"], 0, "{:#}", found.document);
        found.assert("kernel.version", "ok", &["Linux"]);
        found.assert("interface.driver", "note", &["veth", EDGE]);
        found.assert("interface.programs", "ok", &["palisade_in", "xdp native"]);
        let way = if egress == "clsact" {
            "tc egress"
        } else {
            "palisade_out"
        };
        found.assert("interface.programs", "ok", &["palisade_out", way]);
        found.assert("daemon.attached", "ok", &["native", EDGE]);
        found.assert("daemon.policy", "ok", &["generation"]);
        found.assert("policy.valid", "ok", &["no warnings"]);
        found.assert("state.space", "ok", &["MiB"]);
        daemon.stop()?;
    }
    // For people: a table of what is not as it should be, and a sum.
    let told = finish(
        world
            .inside
            .command(palisade()?)
            .args(["doctor", "--quiet"])
            .env("PALISADE_SOCKET", daemon.socket()),
    )?;
    assert!(told.stdout.contains("no daemon answers"), "{told}");
    assert!(!told.stdout.contains("kernel.version"), "{told}");
    assert!(told.stderr.contains("0 errors"), "{told}");
    Ok(())
}

#[test]
fn what_is_wrong_with_host_and_files_is_found_without_a_daemon() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::prepare(&world.inside, CLOSED, EDGE, Mode::Auto)?;
    let _other = Passing::on(&world.inside, EDGE)?;
    world.inside.sysctl("ipv4/tcp_syncookies", "0")?;
    fs::set_permissions(daemon.policy(), Permissions::from_mode(0o666))?;
    fs::set_permissions(daemon.state_dir(), Permissions::from_mode(0o777))?;
    let found = Findings::of(finish(&mut doctor(&world, &daemon))?)?;
    assert_eq!(found.finished.code(), 1, "{}", found.finished);
    found.assert(
        "interface.programs",
        "error",
        &["another XDP program", "xdp off"],
    );
    found.assert("kernel.tcp_syncookies", "warning", &["sysctl"]);
    found.assert("policy.permissions", "error", &["666", "chmod"]);
    found.assert("state.permissions", "error", &["777", "chmod"]);
    found.assert("daemon.answers", "note", &["no daemon answers"]);
    assert_eq!(found.document["errors"], 3, "{:#}", found.document);

    // The daemon agrees.
    let refusal = daemon.run_to_end()?;
    assert!(refusal.stderr.contains("another XDP program"), "{refusal}");

    daemon.write_policy("version = 1\nrulez = 1\n")?;
    daemon.write_settings("interfaces = [\"gone0\", \"lo\"]", "")?;
    let found = Findings::of(finish(&mut doctor(&world, &daemon))?)?;
    found.assert("policy.valid", "error", &["rulez", "palisade check"]);
    found.assert("interface.found", "error", &["gone0", "does not exist"]);
    found.assert("interface.found", "error", &["lo", "not Ethernet"]);

    let elsewhere = fs::read_to_string(daemon.settings())?
        .replace("pin_dir = \"/sys/fs/bpf", "pin_dir = \"/tmp");
    fs::write(daemon.settings(), elsewhere)?;
    let found = Findings::of(finish(&mut doctor(&world, &daemon))?)?;
    found.assert("kernel.bpf_filesystem", "error", &["mount -t bpf"]);

    fs::write(daemon.settings(), "interfaces = []\n")?;
    let found = Findings::of(finish(&mut doctor(&world, &daemon))?)?;
    assert_eq!(found.finished.code(), 1, "{}", found.finished);
    found.assert("settings.valid", "error", &["at least one interface"]);
    fs::remove_file(daemon.settings())?;
    let gone = finish(&mut doctor(&world, &daemon))?;
    assert_eq!(gone.code(), 1, "{gone}");
    assert!(
        gone.stderr.contains("palisade.toml cannot be read"),
        "{gone}"
    );
    Ok(())
}

#[test]
fn a_kernel_or_a_user_that_cannot_carry_the_fence_is_told_so() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["setpriv"])?;
    let world = Topology::untagged()?;
    let daemon = Daemon::prepare(&world.inside, CLOSED, EDGE, Mode::Auto)?;
    let mut command = doctor(&world, &daemon);
    let found = Findings::of(finish(without(&mut command, Missing::Bpf))?)?;
    assert_eq!(found.finished.code(), 1, "{}", found.finished);
    assert_eq!(
        found.checks("kernel.features")[0]["status"],
        "error",
        "{:#}",
        found.document
    );

    let mut command = world.inside.command("setpriv");
    command
        .args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"])
        .arg(palisade()?)
        .args(["doctor", "--json", "--config"])
        .arg(daemon.settings())
        .env("PALISADE_SOCKET", daemon.socket());
    let found = Findings::of(finish(&mut command)?)?;
    assert_eq!(found.finished.code(), 1, "{}", found.finished);
    found.assert("permissions.capabilities", "error", &["CAP_BPF", "root"]);
    Ok(())
}

#[test]
fn a_daemon_in_trouble_is_told_as_such() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::start_in(&world.inside, CLOSED, Mode::Generic)?;
    let candidate = daemon.folder().join("next.toml");
    fs::write(&candidate, CLOSED)?;
    let candidate = candidate.display().to_string();
    daemon.palisade(&["apply", &candidate, "--confirm", "10m"])?;
    let found = Findings::of(finish(&mut doctor(&world, &daemon))?)?;
    found.assert("daemon.trial", "note", &["palisade confirm"]);
    found.assert("interface.programs", "ok", &["xdp generic"]);
    daemon.palisade(&["confirm"])?;
    daemon.palisade(&["detach"])?;
    let found = Findings::of(finish(&mut doctor(&world, &daemon))?)?;
    assert_eq!(found.finished.code(), 1, "{}", found.finished);
    found.assert(
        "daemon.attached",
        "error",
        &["not protected", "palisade apply", EDGE],
    );
    found.assert("interface.programs", "ok", &["no BPF program"]);
    Ok(())
}
