//! Rules and sets changed from the command line while the fence stands: in force at once, kept in
//! the file with its comments, and taken back when the daemon will not have them.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use palisade_tests::clients::{CURL_TIMED_OUT, Connect, connect, curl};
use palisade_tests::daemon::copy_palisade;
use palisade_tests::process::{finish, succeed};
use palisade_tests::topology::{CLIENT, INSIDE, OTHER};
use palisade_tests::{Daemon, Topology, need_tools, servers, skip_unless_root};

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

const COMMENTED: &str = r#"version = 1

[defaults]
inbound = "drop"   # all else

[sets]
# Asked for by the abuse desk.
hostile = [
    "203.0.113.9",  # since spring
]
listed = { file = "listed.netset" }

[[rule]]
name   = "hostile"
action = "drop"
from   = ["hostile", "listed"]

# The shop itself.
[[rule]]
name     = "shop"
action   = "accept"
protocol = "tcp"
port     = 80
"#;

const LISTED: &str = "# from the feed\n203.0.113.66\n";

/// A daemon with a policy whose layout is worth keeping.
fn start(world: &Topology) -> Result<Daemon> {
    let mut daemon = Daemon::prepare(
        &world.inside,
        COMMENTED,
        palisade_tests::topology::EDGE,
        palisade_tests::daemon::Mode::Auto,
    )?;
    fs::write(daemon.folder().join("listed.netset"), LISTED)?;
    daemon.launch()?;
    Ok(daemon)
}

#[test]
fn a_rule_is_added_and_removed_in_the_file_and_in_the_kernel() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _admin = servers::tcp_echo(&world.inside, 7000)?;
    let daemon = start(&world)?;
    let knock = |patience| -> Result<Vec<Connect>> {
        INSIDE
            .iter()
            .map(|to| connect(&world.outside, SocketAddr::new(*to, 7000), patience))
            .collect()
    };
    assert_eq!(knock(SILENCE)?, [Connect::Silent; 2]);

    let added = daemon.palisade(&[
        "rule",
        "add",
        "--name",
        "admin",
        "--action",
        "accept",
        "--protocol",
        "tcp",
        "--port",
        "7000",
        "--before",
        "shop",
    ])?;
    assert_eq!(added["applied"], true, "{added:#}");
    assert_eq!(knock(PATIENCE)?, [Connect::Accepted; 2]);
    let text = fs::read_to_string(daemon.policy())?;
    for kept in [
        "# all else",
        "# Asked for by",
        "# since spring",
        "# The shop itself.\n[[rule]]\nname     = \"shop\"",
    ] {
        assert!(text.contains(kept), "`{kept}` is lost:\n{text}");
    }
    let rules = daemon.palisade(&["rule", "list"])?;
    let names: Vec<_> = rules["rules"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|rule| rule["name"].as_str())
        .filter(|name| ["hostile", "admin", "shop"].contains(name))
        .collect();
    assert_eq!(names, ["hostile", "admin", "shop"], "{rules:#}");
    assert_eq!(
        daemon.palisade(&["rule", "show", "admin"])?["name"],
        "admin"
    );

    let removed = daemon.palisade(&["rule", "remove", "admin"])?;
    assert_eq!(removed["applied"], true, "{removed:#}");
    assert_eq!(knock(SILENCE)?, [Connect::Silent; 2]);
    assert_eq!(fs::read_to_string(daemon.policy())?, COMMENTED);

    let twice = daemon.try_palisade(&["rule", "remove", "admin"])?;
    assert_eq!(twice.code(), 1, "{twice}");
    assert!(twice.stderr.contains("admin"), "{twice}");
    Ok(())
}

#[test]
fn an_address_is_added_to_a_set_and_removed_in_the_file_and_in_the_kernel() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl"])?;
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let daemon = start(&world)?;
    let list = daemon.folder().join("listed.netset");
    for set in ["hostile", "listed"] {
        for (index, inside) in INSIDE.into_iter().enumerate() {
            let other = OTHER[index].to_string();
            let added = daemon.palisade(&["set", "add", set, &other])?;
            assert_eq!(added["applied"], true, "{added:#}");
            let page = curl(&world.outside, OTHER[index], inside, 80, SILENCE)?;
            assert_eq!(page.code(), CURL_TIMED_OUT, "{set}: {page}");
            let page = curl(&world.outside, CLIENT[index], inside, 80, PATIENCE)?;
            assert_eq!(page.stdout, "shop", "{set}: {page}");
            let shown = daemon.palisade(&["set", "show", set])?;
            let shown = shown["prefixes"].as_array().cloned().unwrap_or_default();
            assert!(shown.contains(&other.as_str().into()), "{shown:?}");

            let removed = daemon.palisade(&["set", "remove", set, &other])?;
            assert_eq!(removed["applied"], true, "{removed:#}");
            let page = curl(&world.outside, OTHER[index], inside, 80, PATIENCE)?;
            assert_eq!(page.stdout, "shop", "{set}: {page}");
        }
    }
    assert_eq!(fs::read_to_string(daemon.policy())?, COMMENTED);
    assert_eq!(fs::read_to_string(list)?, LISTED);
    Ok(())
}

#[test]
fn a_change_that_the_daemon_refuses_is_taken_back_from_the_file() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["setpriv"])?;
    let world = Topology::untagged()?;
    let daemon = start(&world)?;
    // Somebody who may write the policy and talk to the daemon, and yet not give it orders.
    let program = daemon.folder().join("palisade");
    copy_palisade(&program)?;
    succeed(
        Command::new("chown")
            .args(["-R", "65534:65534"])
            .arg(daemon.folder()),
    )?;
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o666))?;
    let before = daemon.palisade(&["status"])?;
    let policy = daemon.policy();
    let orders: [&[&str]; 3] = [
        &["rule", "remove", "hostile"],
        &["set", "add", "hostile", "198.51.100.3"],
        &["set", "add", "listed", "198.51.100.3"],
    ];
    for order in orders {
        let refused = finish(
            Command::new("setpriv")
                .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
                .arg(&program)
                .args(order)
                .arg("--policy")
                .arg(&policy)
                .env("PALISADE_SOCKET", daemon.socket()),
        )?;
        assert_eq!(refused.code(), 1, "{order:?}: {refused}");
        assert!(
            refused.stderr.contains("nothing is changed"),
            "{order:?}: {refused}"
        );
        assert_eq!(fs::read_to_string(&policy)?, COMMENTED, "{order:?}");
        let list = fs::read_to_string(daemon.folder().join("listed.netset"))?;
        assert_eq!(list, LISTED, "{order:?}");
    }
    let after = daemon.palisade(&["status"])?;
    assert_eq!(
        before["policy"]["generation"],
        after["policy"]["generation"]
    );
    Ok(())
}

#[test]
fn a_change_that_makes_the_policy_wrong_reaches_neither_the_file_nor_the_daemon() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let daemon = start(&world)?;
    let before = daemon.palisade(&["status"])?;
    let wrong: [(&[&str], i32, &str); 5] = [
        (
            &["rule", "add", "--name", "shop", "--action", "accept"],
            1,
            "shop",
        ),
        (
            &[
                "rule", "add", "--name", "a", "--action", "drop", "--from", "offce",
            ],
            1,
            "offce",
        ),
        (
            &["set", "remove", "hostile", "203.0.113.10"],
            1,
            "203.0.113.10",
        ),
        (
            &["set", "add", "hostile", "203.0.113.7/24"],
            2,
            "write 203.0.113.0/24 for the network or 203.0.113.7 for the one address",
        ),
        (&["set", "add", "hostlie", "203.0.113.7"], 1, "hostile"),
    ];
    for (order, code, says) in wrong {
        let refused = daemon.try_palisade(order)?;
        assert_eq!(refused.code(), code, "{order:?}: {refused}");
        assert!(refused.stderr.contains(says), "{order:?}: {refused}");
        assert_eq!(fs::read_to_string(daemon.policy())?, COMMENTED, "{order:?}");
    }
    let after = daemon.palisade(&["status"])?;
    assert_eq!(
        before["policy"]["generation"],
        after["policy"]["generation"]
    );
    Ok(())
}
