//! The stream of sampled packets that detection and people are shown, from real traffic.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use palisade_tests::clients::{Connect, connect};
use palisade_tests::topology::INSIDE;
use palisade_tests::{Daemon, Topology, servers, skip_unless_root, stretched};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

const POLICY: &str = r#"version = 1

[defaults]
inbound = "drop"

[[rule]]
name   = "echo"
action = "accept"
protocol = "tcp"
port = 7000
"#;

fn events(daemon: &Daemon) -> Result<Vec<Value>> {
    let answer = daemon.ask("/v1/events?limit=1000")?;
    Ok(answer["events"].as_array().context("no events")?.clone())
}

#[test]
fn what_opens_answers_and_is_refused_is_shown_of_both_families_and_directions() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _echo = servers::tcp_echo(&world.inside, 7000)?;
    let daemon = Daemon::start(&world.inside, POLICY)?;
    for to in INSIDE {
        let open = connect(&world.outside, SocketAddr::new(to, 7000), PATIENCE)?;
        assert_eq!(open, Connect::Accepted);
        connect(&world.outside, SocketAddr::new(to, 7001), SILENCE)?;
    }
    let shown = |address: &str, direction: &str, verdict: &str, class: &str| -> Result<bool> {
        Ok(events(&daemon)?.iter().any(|event| {
            [("source", address), ("destination", address)]
                .iter()
                .any(|(key, value)| event[*key] == *value)
                && event["direction"] == direction
                && event["verdict"] == verdict
                && event["class"] == class
                && event["packets"].as_u64().is_some_and(|packets| packets > 0)
        }))
    };
    for to in INSIDE {
        let to = to.to_string();
        for (direction, verdict, class) in [
            ("inbound", "pass", "contact"),
            ("outbound", "pass", "control"),
            ("inbound", "drop", "contact"),
        ] {
            let end = Instant::now() + stretched(PATIENCE);
            while !shown(&to, direction, verdict, class)? {
                assert!(
                    Instant::now() < end,
                    "{to}: no {direction} {verdict} {class} in {:#?}",
                    events(&daemon)?
                );
                thread::sleep(Duration::from_millis(50));
            }
        }
    }
    Ok(())
}
