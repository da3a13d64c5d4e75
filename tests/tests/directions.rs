//! Rules that look at where a packet passes: several interfaces, the way out, and the tag.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use palisade_tests::clients::{CURL_TIMED_OUT, Connect, connect, curl};
use palisade_tests::daemon::Mode;
use palisade_tests::policies::CLOSED;
use palisade_tests::topology::{CLIENT, EDGE, INSIDE, join};
use palisade_tests::{Daemon, Namespace, Topology, need_tools, servers, skip_unless_root};

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

#[test]
fn one_daemon_guards_two_interfaces_and_lets_go_of_one() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let second = Namespace::create("second")?;
    join((&world.inside, "edge.2"), (&second, "wire2"))?;
    world.inside.run("ip addr add 203.0.113.1/24 dev edge.2")?;
    second.run("ip addr add 203.0.113.2/24 dev wire2")?;
    let _echo = servers::tcp_echo(&world.inside, 7000)?;
    let mut daemon = Daemon::prepare(&world.inside, CLOSED, EDGE, Mode::Auto)?;
    daemon.write_settings(
        "interfaces = [\"edge\", { name = \"edge.2\", mode = \"generic\" }]",
        "",
    )?;
    daemon.launch()?;
    let first = || connect(&world.outside, SocketAddr::new(INSIDE[0], 7000), SILENCE);
    let other = || connect(&second, "203.0.113.1:7000".parse()?, SILENCE);
    assert_eq!((first()?, other()?), (Connect::Silent, Connect::Silent));
    daemon.palisade(&["detach", "--interface", "edge.2"])?;
    assert_eq!((first()?, other()?), (Connect::Silent, Connect::Accepted));
    let status = daemon.palisade(&["status"])?;
    let left = status["interfaces"].as_array().map_or(0, Vec::len);
    assert_eq!(left, 1, "{status:#}");
    daemon.palisade(&["apply"])?;
    assert_eq!((first()?, other()?), (Connect::Silent, Connect::Silent));
    Ok(())
}

#[test]
fn the_way_out_can_be_closed_but_for_what_a_rule_opens() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl"])?;
    let policy = r#"
version = 1

[defaults]
inbound  = "drop"
outbound = "drop"

[[rule]]
name     = "shop"
action   = "accept"
protocol = "tcp"
port     = 80

[[rule]]
name      = "supplier"
direction = "outbound"
action    = "accept"
protocol  = "tcp"
port      = 443
to        = ["198.51.100.2", "2001:db8:51::2"]
"#;
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let _supplier = servers::http(&world.outside, 443, "supplier")?;
    let _elsewhere = servers::http(&world.outside, 8443, "elsewhere")?;
    let _daemon = Daemon::start(&world.inside, policy)?;
    for (inside, outside) in INSIDE.into_iter().zip(CLIENT) {
        // The answers of the shop go out because the rule lets the questions in.
        let page = curl(&world.outside, outside, inside, 80, PATIENCE)?;
        assert_eq!(page.stdout, "shop", "{inside}: {page}");
        let order = curl(&world.inside, inside, outside, 443, PATIENCE)?;
        assert_eq!(order.stdout, "supplier", "{outside}: {order}");
        let elsewhere = curl(&world.inside, inside, outside, 8443, SILENCE)?;
        assert_eq!(elsewhere.code(), CURL_TIMED_OUT, "{outside}: {elsewhere}");
    }
    Ok(())
}

#[test]
fn a_rule_for_a_tag_lets_in_that_tag_alone() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl", "ethtool"])?;
    let policy = r#"
version = 1

[defaults]
inbound = "drop"

[[rule]]
name     = "shop"
action   = "accept"
protocol = "tcp"
port     = 80
vlan     = 51
"#;
    for mode in [Mode::Native, Mode::Generic] {
        for (world, served) in [
            (Topology::tagged(51)?, true),
            (Topology::tagged(52)?, false),
            (Topology::untagged()?, false),
        ] {
            let _shop = servers::http(&world.inside, 80, "shop")?;
            let daemon = Daemon::start_in(&world.inside, policy, mode)?;
            for (from, to) in CLIENT.into_iter().zip(INSIDE) {
                let patience = if served { PATIENCE } else { SILENCE };
                let page = curl(&world.outside, from, to, 80, patience)?;
                assert_eq!(page.success(), served, "{to}, {mode:?}: {page}");
            }
            // The driver may not take tags off before the fence sees them.
            let features = world.inside.run("ethtool -k edge")?;
            assert!(features.contains("rx-vlan-offload: off"), "{features}");
            drop(daemon);
        }
    }
    Ok(())
}
