//! The lockout guard on a host with a real ssh server: a policy that would cut a session, or the name
//! servers, is refused with the rule that would do it.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use palisade_tests::clients::{Connect, connect};
use palisade_tests::daemon::palisade;
use palisade_tests::process::{finish, wait_until};
use palisade_tests::ssh::{Session, Ssh};
use palisade_tests::topology::{CLIENT, INSIDE, OTHER};
use palisade_tests::{Daemon, Topology, need_tools, skip_unless_root};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(300);

/// Ssh is let in, and nothing else.
const OPEN: &str = r#"version = 1

[defaults]
inbound = "drop"

[sets]
hostile = ["203.0.113.9"]

[[rule]]
name = "hostile"
action = "drop"
from = ["hostile"]

[[rule]]
name = "ssh"
action = "accept"
protocol = "tcp"
port = 22
"#;

fn policy(daemon: &Daemon) -> Result<Value> {
    Ok(daemon.palisade(&["status"])?["policy"].clone())
}

/// Offers a policy as a file, and gives its path.
fn offer(daemon: &Daemon, text: &str) -> Result<String> {
    let path = daemon.folder().join("offered.toml");
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}

#[test]
fn a_policy_that_would_cut_a_session_is_refused_with_its_rule_unless_forced() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["ssh", "ssh-keygen", "sshd"])?;
    let world = Topology::untagged()?;
    let ssh = Ssh::start(&world)?;
    let mut daemon = Daemon::start(&world.inside, OPEN)?;
    let mut v4 = Session::open(&ssh, &world, CLIENT[0], INSIDE[0])?;
    let mut v6 = Session::open(&ssh, &world, CLIENT[1], INSIDE[1])?;
    let generation = policy(&daemon)?["generation"].clone();

    // A rule before the one that lets ssh in.
    let cutting = |peer: IpAddr| {
        OPEN.replace(
            "[[rule]]\nname = \"ssh\"",
            &format!("[[rule]]\nname = \"cutting\"\naction = \"drop\"\nfrom = [\"{peer}\"]\n\n[[rule]]\nname = \"ssh\""),
        )
    };
    for peer in CLIENT {
        let file = offer(&daemon, &cutting(peer))?;
        for verb in [&["apply", &file][..], &["apply", &file, "--confirm", "1m"]] {
            let refused = daemon.try_palisade(verb)?;
            assert_eq!(refused.code(), 1, "{refused}");
            let rule = "rule \"cutting\" (line 14)";
            assert!(refused.stderr.contains(rule), "{refused}");
            assert!(refused.stderr.contains(&peer.to_string()), "{refused}");
            assert!(refused.stderr.contains("--force"), "{refused}");
        }
        let dry = daemon.try_palisade(&["apply", &file, "--dry-run", "--json"])?;
        assert_eq!(dry.code(), 1, "{dry}");
        let report: Value = serde_json::from_str(&dry.stdout)?;
        assert_eq!(report["cuts"][0]["rule"], "cutting", "{report:#}");
        assert_eq!(report["cuts"][0]["lifeline"], "ssh", "{report:#}");
    }
    // Others may be dropped, and who only observes drops nobody.
    let file = offer(&daemon, &cutting(OTHER[0]))?;
    daemon.palisade(&["apply", &file, "--dry-run"])?;
    let file = offer(
        &daemon,
        &cutting(CLIENT[0]).replace("= \"drop\"\nfrom", "= \"drop\"\nmode = \"observe\"\nfrom"),
    )?;
    daemon.palisade(&["apply", &file, "--dry-run"])?;

    // Small changes are guarded too, and taken back from the file.
    let before = fs::read_to_string(daemon.policy())?;
    let client = CLIENT[0].to_string();
    for change in [
        &["set", "add", "hostile", &client][..],
        &["rule", "remove", "ssh"],
    ] {
        let refused = daemon.try_palisade(change)?;
        assert_eq!(refused.code(), 1, "{change:?}: {refused}");
        assert!(
            refused.stderr.contains("would be dropped"),
            "{change:?}: {refused}"
        );
        assert_eq!(fs::read_to_string(daemon.policy())?, before, "{change:?}");
    }
    assert_eq!(policy(&daemon)?["generation"], generation);
    assert_eq!(policy(&daemon)?["valid"], true);

    // From within the session itself, which is named as the asker's own.
    let file = offer(&daemon, &cutting(CLIENT[0]))?;
    let within = finish(ssh.client(&world, CLIENT[0], INSIDE[0]).arg(format!(
        "PALISADE_SOCKET={} {} apply {file}",
        daemon.socket().display(),
        palisade()?.display()
    )))?;
    assert_eq!(within.code(), 1, "{within}");
    assert!(within.stderr.contains("your own session"), "{within}");

    // A reload by signal is refused as well, and says so.
    daemon.write_policy(&cutting(CLIENT[1]))?;
    daemon.process()?.signal(rustix::process::Signal::HUP)?;
    wait_until("the reload is refused", PATIENCE, || {
        Ok(policy(&daemon)?["valid"] == false)
    })?;
    assert!(daemon.log().contains("rule \"cutting\" (line 14)"));
    assert!(v4.answers("one")? && v6.answers("one")?);
    drop(Session::open(&ssh, &world, CLIENT[1], INSIDE[1])?);

    // A daemon that starts with it comes up with what was in force last.
    daemon.kill()?;
    daemon.launch()?;
    let status = policy(&daemon)?;
    assert_eq!(status["valid"], false, "{status:#}");
    let error = status["error"].as_str().unwrap_or_default();
    assert!(error.contains("rule \"cutting\""), "{status:#}");
    drop(Session::open(&ssh, &world, CLIENT[1], INSIDE[1])?);

    // Whoever insists gets it: what is established goes on, and nobody comes back.
    daemon.palisade(&["apply", "--force"])?;
    let status = policy(&daemon)?;
    assert_eq!(status["cuts"][0]["rule"], "cutting", "{status:#}");
    assert!(v4.answers("two")? && v6.answers("two")?);
    let back = connect(&world.outside, SocketAddr::new(INSIDE[1], 22), SILENCE)?;
    assert_eq!(back, Connect::Silent);
    // What is cut already does not stand in the way of the next change.
    daemon.palisade(&["set", "add", "hostile", "203.0.113.10"])?;
    Ok(())
}

#[test]
fn a_policy_that_would_cut_the_name_servers_is_refused_and_the_gateway_needs_no_rule() -> Result<()>
{
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = Daemon::prepare(
        &world.inside,
        "version = 1\n",
        "edge",
        palisade_tests::daemon::Mode::Auto,
    )?;
    let resolv = daemon.folder().join("resolv.conf");
    fs::write(
        &resolv,
        format!("nameserver {}\nnameserver {}\n", OTHER[0], OTHER[1]),
    )?;
    daemon.write_settings(
        &format!(
            "interfaces = [\"edge\"]\nresolv_conf = \"{}\"",
            resolv.display()
        ),
        "",
    )?;
    let closed = "version = 1\n[defaults]\ninbound = \"drop\"\noutbound = \"drop\"\n";
    // With nothing to fall back to, a daemon comes up with what it is given, and says what that cuts.
    daemon.write_policy(closed)?;
    daemon.launch()?;
    let cuts = policy(&daemon)?["cuts"].clone();
    assert_eq!(cuts.as_array().map(Vec::len), Some(2), "{cuts:#}");
    assert_eq!(cuts[0]["lifeline"], "dns", "{cuts:#}");
    assert!(daemon.log().contains("no other policy is known"));
    daemon.write_policy("version = 1\n")?;
    daemon.palisade(&["apply"])?;
    assert_eq!(policy(&daemon)?["cuts"], Value::Array(Vec::new()));

    let file = offer(&daemon, closed)?;
    let refused = daemon.try_palisade(&["apply", &file])?;
    assert_eq!(refused.code(), 1, "{refused}");
    for server in OTHER {
        let query = format!("a DNS query to {server} would be dropped by the outbound default");
        assert!(refused.stderr.contains(&query), "{refused}");
    }
    assert!(!refused.stderr.contains("gateway"), "{refused}");

    let mute = "version = 1\n[[rule]]\nname = \"mute\"\ndirection = \"outbound\"\naction = \"drop\"\nprotocol = \"udp\"\nport = 53\n";
    let file = offer(&daemon, mute)?;
    let refused = daemon.try_palisade(&["apply", &file])?;
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(
        refused.stderr.contains("rule \"mute\" (line 2)"),
        "{refused}"
    );

    let asking = format!(
        "{closed}[[rule]]\nname = \"dns\"\ndirection = \"outbound\"\naction = \"accept\"\nprotocol = \"udp\"\nport = 53\n"
    );
    let file = offer(&daemon, &asking)?;
    daemon.palisade(&["apply", &file])?;
    let file = offer(&daemon, closed)?;
    daemon.palisade(&["apply", &file, "--force"])?;
    Ok(())
}
