//! A rule that is observed first, watched while the daemon comes and goes, and then promoted.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::clients::{Connect, connect};
use palisade_tests::daemon::metric;
use palisade_tests::topology::INSIDE;
use palisade_tests::{Daemon, Topology, servers, skip_unless_root};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

const POLICY: &str = r#"version = 1

[[rule]]
name   = "closed"    # from next week on
mode   = "observe"   # until then
action = "drop"
protocol = "tcp"
port = 7000

[[rule]]
name   = "all"
action = "accept"
"#;

fn observed(daemon: &Daemon) -> Result<Value> {
    Ok(daemon.palisade(&["rule", "show", "closed"])?["observed"].clone())
}

fn packets(value: &Value) -> Result<u64> {
    value["packets"].as_u64().context("no count of packets")
}

#[test]
fn what_a_rule_would_have_dropped_is_counted_kept_and_told_before_it_is_promoted() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _echo = servers::tcp_echo(&world.inside, 7000)?;
    let mut daemon = Daemon::start(&world.inside, POLICY)?;
    let knock = |patience| -> Result<Vec<Connect>> {
        INSIDE
            .iter()
            .map(|to| connect(&world.outside, SocketAddr::new(*to, 7000), patience))
            .collect()
    };
    assert_eq!(observed(&daemon)?, Value::Null);
    assert_eq!(knock(PATIENCE)?, [Connect::Accepted; 2]);
    let first = observed(&daemon)?;
    let before = packets(&first)?;
    assert!(before >= 2, "{first:#}");
    assert!(
        first["first"].is_string() && first["latest"].is_string(),
        "{first:#}"
    );

    // The daemon is killed, and the fence goes on counting without it.
    daemon.kill()?;
    assert_eq!(knock(PATIENCE)?, [Connect::Accepted; 2]);
    daemon.launch()?;
    let second = packets(&observed(&daemon)?)?;
    assert!(second >= before + 2, "{before} packets, then {second}");
    // Taken down and put up again, it counts anew; what was counted stays known.
    daemon.palisade(&["detach"])?;
    daemon.stop()?;
    daemon.launch()?;
    assert!(packets(&observed(&daemon)?)? >= second);
    let status = daemon.palisade(&["status"])?;
    assert_eq!(status["policy"]["observed"][0], "closed", "{status:#}");

    let promoted = daemon.palisade(&["rule", "promote", "closed"])?;
    assert_eq!(promoted["applied"], true, "{promoted:#}");
    assert_eq!(promoted["mode"], "enforce");
    assert!(packets(&promoted["observed"])? >= second, "{promoted:#}");
    let text = fs::read_to_string(daemon.policy())?;
    assert_eq!(text, POLICY.replace("\"observe\"", "\"enforce\""));
    assert_eq!(knock(SILENCE)?, [Connect::Silent; 2]);
    let scrape = daemon.scrape()?;
    let count = |mode| {
        metric(
            &scrape,
            "palisade_rule_packets_total",
            &["rule=\"closed\"", mode],
        )
    };
    assert!(count("mode=\"observe\"") >= second as f64, "{scrape}");
    assert!(count("mode=\"enforce\"") >= 2.0, "{scrape}");

    let again = daemon.try_palisade(&["rule", "promote", "closed"])?;
    assert_eq!(again.code(), 1);
    assert!(again.stderr.contains("is in force already"), "{again}");
    daemon.palisade(&["rule", "demote", "closed"])?;
    assert_eq!(fs::read_to_string(daemon.policy())?, POLICY);
    assert_eq!(knock(PATIENCE)?, [Connect::Accepted; 2]);
    Ok(())
}
