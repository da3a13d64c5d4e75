//! The settings of it, and kernels that lack something.

use anyhow::{Result, ensure};
use palisade_tests::daemon::Mode;
use palisade_tests::kernel::{LANDLOCK, without};
use palisade_tests::policies::PING;
use palisade_tests::process::{Background, succeed, wait_until};
use palisade_tests::topology::EDGE;
use palisade_tests::{Daemon, Topology, skip_unless_root, stretched};
use std::process::Command;
use std::time::Duration;

const TOP: &str = "interfaces = [\"edge\"]";
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_status_says_how_the_daemon_is_confined_and_that_it_is_not_where_it_is_switched_off()
-> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = Daemon::start(&world.inside, PING)?;
    let confined = daemon.palisade(&["status"])?["confinement"].clone();
    assert_eq!(confined["enabled"], true);
    assert_eq!(confined["system_calls"], true);
    assert_eq!(confined["no_new_privileges"], true);
    assert_eq!(
        confined["capabilities"],
        serde_json::json!(["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"])
    );
    daemon.stop()?;

    daemon.write_settings(TOP, "[hardening]\nsandbox = false\n")?;
    daemon.launch()?;
    let status = daemon.palisade(&["status"])?;
    assert_eq!(status["confinement"]["enabled"], false, "{status:#}");
    let shown = daemon.try_palisade(&["status"])?;
    ensure!(shown.stdout.contains("not confined"), "{shown}");
    Ok(())
}

#[test]
fn a_policy_from_elsewhere_is_sent_to_the_daemon_and_read_by_it_once_the_settings_name_its_folder()
-> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = Daemon::start(&world.inside, PING)?;
    let elsewhere = tempfile::tempdir()?;
    std::fs::write(elsewhere.path().join("few.netset"), "203.0.113.7\n")?;
    let policy = elsewhere.path().join("other.toml");
    let lists = "\n[sets]\nfew = { file = \"few.netset\" }\n";
    std::fs::write(&policy, format!("{PING}{lists}"))?;
    let file = policy.display().to_string();

    let refused = apply_by_path(&daemon, &file)?;
    for word in ["[hardening]", "read", &file] {
        ensure!(refused.contains(word), "{word}: {refused}");
    }
    let sent = daemon.palisade(&["apply", &file])?;
    assert_eq!(sent["sets"], 1, "{sent:#}");

    daemon.stop()?;
    let folder = elsewhere.path().display();
    daemon.write_settings(TOP, &format!("[hardening]\nread = [\"{folder}\"]\n"))?;
    daemon.launch()?;
    let applied = apply_by_path(&daemon, &file)?;
    ensure!(applied.contains("\"sets\":1"), "{applied}");
    Ok(())
}

/// Has the daemon read a policy by itself, as a request that names a file does.
fn apply_by_path(daemon: &Daemon, file: &str) -> Result<String> {
    succeed(
        Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "30"])
            .arg("--unix-socket")
            .arg(daemon.socket())
            .args(["--header", "content-type: application/json"])
            .args(["--data", &serde_json::json!({ "path": file }).to_string()])
            .arg("http://palisade/v1/apply"),
    )
}

#[test]
fn a_kernel_without_landlock_gets_the_fence_and_the_status_says_what_is_missing() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = Daemon::prepare(&world.inside, PING, EDGE, Mode::Auto)?;
    let _running = Background::spawn(without(&mut daemon.command()?, LANDLOCK))?;
    wait_until("the daemon answers", stretched(PATIENCE), || {
        Ok(daemon.try_palisade(&["status"])?.success())
    })?;
    let confined = daemon.palisade(&["status"])?["confinement"].clone();
    assert_eq!(confined["file_system"], "none", "{confined:#}");
    assert_eq!(confined["system_calls"], true, "{confined:#}");
    let missing = confined["missing"].to_string();
    ensure!(missing.contains("Landlock"), "{missing}");
    Ok(())
}
