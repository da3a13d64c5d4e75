//! Who may do what, by the kernel's word about them, and that everything they did or tried is written down.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::Result;
use palisade_tests::daemon::{Mode, copy_palisade};
use palisade_tests::process::{Finished, finish};
use palisade_tests::topology::EDGE;
use palisade_tests::{Daemon, Topology, skip_unless_root};
use serde_json::Value;

const POLICY: &str =
    "version = 1\n[[rule]]\nname = \"shop\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 443\n";

/// `nobody`, and the group `daemon`: every Debian has both.
const NOBODY: &str = "65534";
const DAEMON_GROUP: &str = "1";

const ROLES: &str = "\n[roles]\nviewer = [\"nobody\"]\noperator = [\"@daemon\"]\n";

/// Runs a verb as `nobody`, with supplementary groups.
fn as_nobody(daemon: &Daemon, groups: &str, arguments: &[&str]) -> Result<Finished> {
    // Where the program was built, others than root may not look.
    let copy = std::env::temp_dir().join(format!("palisade-audit-{}", std::process::id()));
    if !copy.exists() {
        copy_palisade(&copy)?;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY]);
    match groups {
        "" => command.arg("--clear-groups"),
        groups => command.args(["--groups", groups]),
    };
    let finished = finish(
        command
            .arg(&copy)
            .args(arguments)
            .env("PALISADE_SOCKET", daemon.socket()),
    );
    fs::remove_file(&copy)?;
    finished
}

fn records(daemon: &Daemon) -> Result<Vec<Value>> {
    let document = daemon.palisade(&["audit"])?;
    assert_eq!(document["faults"], Value::Array(Vec::new()));
    Ok(document["records"].as_array().cloned().unwrap_or_default())
}

#[test]
fn a_viewer_looks_an_operator_bans_and_all_of_it_is_on_record() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = Daemon::prepare(&world.inside, POLICY, EDGE, Mode::Auto)?;
    daemon.write_settings(&format!("interfaces = [\"{EDGE}\"]"), ROLES)?;
    // Others than root have to find the socket.
    fs::set_permissions(daemon.folder(), Permissions::from_mode(0o755))?;
    daemon.launch()?;
    let ban = ["ban", "203.0.113.7", "--reason", "credential stuffing"];

    let looked = as_nobody(&daemon, "", &["status"])?;
    assert!(looked.success(), "{looked}");
    let refused = as_nobody(&daemon, "", &ban)?;
    assert!(!refused.success());
    assert!(
        refused.stderr.contains("viewer") && refused.stderr.contains("operator"),
        "{refused}"
    );
    let banned = as_nobody(&daemon, DAEMON_GROUP, &ban)?;
    assert!(banned.success(), "{banned}");
    let refused = as_nobody(&daemon, DAEMON_GROUP, &["detach"])?;
    assert!(refused.stderr.contains("admin"), "{refused}");

    daemon.write_policy(&POLICY.replace("443", "[80, 443]"))?;
    daemon.palisade(&[
        "apply",
        "--reason",
        "plain HTTP for the redirect, ticket 12",
    ])?;
    daemon.palisade(&["apply", "--dry-run"])?;
    daemon.palisade(&["unban", "203.0.113.7"])?;

    let records = records(&daemon)?;
    let told: Vec<(&str, Option<u64>, &str)> = records
        .iter()
        .map(|record| {
            (
                record["action"].as_str().unwrap_or_default(),
                record["who"]["uid"].as_u64(),
                record["outcome"]["result"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("policy.apply", None, "done"),
            ("ban", Some(65_534), "refused"),
            ("ban.add", Some(65_534), "done"),
            ("fence.detach", Some(65_534), "refused"),
            ("policy.apply", Some(0), "done"),
            ("ban.remove", Some(0), "done"),
        ],
        "{records:#?}"
    );
    assert_eq!(records[2]["reason"], "credential stuffing");
    assert_eq!(records[2]["target"], "203.0.113.7/32");
    assert_eq!(
        records[4]["reason"],
        "plain HTTP for the redirect, ticket 12"
    );
    assert_eq!(records[4]["detail"]["rules_changed"][0], "shop");
    Ok(())
}

#[test]
fn a_line_that_somebody_changed_shows_also_to_the_next_daemon() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = Daemon::start(&world.inside, POLICY)?;
    for last in 1..=3 {
        daemon.palisade(&["ban", &format!("203.0.113.{last}")])?;
    }
    // And the start itself.
    assert_eq!(records(&daemon)?.len(), 4);
    daemon.kill()?;
    let log = daemon.state_dir().join("audit.log");
    let text = fs::read_to_string(&log)?;
    fs::write(&log, text.replace("203.0.113.2/32", "203.0.113.9/32"))?;
    daemon.launch()?;
    for arguments in [
        vec!["audit", "--verify"],
        vec!["audit", log.to_str().unwrap_or_default()],
    ] {
        let found = daemon.try_palisade(&arguments)?;
        assert!(!found.success(), "{found}");
        assert!(
            found.stderr.contains("line 3 of the audit log was changed"),
            "{found}"
        );
    }
    Ok(())
}
