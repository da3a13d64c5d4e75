//! Egress by a clsact filter, as on kernels without tcx: the same judgement, swapped without a gap.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use palisade_tests::clients::{Connect, UdpStream, connect, settle};
use palisade_tests::daemon::Mode;
use palisade_tests::servers::{self, UdpSink};
use palisade_tests::topology::{CLIENT, EDGE, INSIDE};
use palisade_tests::{Daemon, Topology, kernel, need_tools, skip_unless_root, stretched};

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);
const CLSACT: &str = "interfaces = [{ name = \"edge\", egress = \"clsact\" }]";

/// The way out is closed but for UDP port 5000; a `padding` rule makes each policy another one.
fn policy(padding: usize) -> String {
    format!(
        "version = 1\n\
         [defaults]\ninbound = \"drop\"\noutbound = \"drop\"\n\
         [[rule]]\nname = \"stream\"\ndirection = \"outbound\"\naction = \"accept\"\nprotocol = \"udp\"\nport = 5000\n\
         [[rule]]\nname = \"padding-{padding}\"\naction = \"count\"\nprotocol = \"tcp\"\nport = {}\n",
        1000 + padding
    )
}

/// The egress filters, with the identifiers of their programs.
fn filters(world: &Topology) -> Result<Vec<String>> {
    let shown = world.inside.run("tc filter show dev edge egress")?;
    Ok(shown
        .lines()
        .filter(|line| line.contains("palisade_out"))
        .map(str::to_owned)
        .collect())
}

#[test]
fn a_clsact_filter_judges_what_goes_out_and_is_swapped_without_a_gap() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["tc"])?;
    let world = Topology::untagged()?;
    let allowed = UdpSink::start(&world.outside, 5000)?;
    let forbidden = UdpSink::start(&world.outside, 5001)?;
    let mut daemon = Daemon::prepare(&world.inside, &policy(0), EDGE, Mode::Auto)?;
    daemon.write_settings(CLSACT, "")?;
    daemon.launch()?;
    let status = daemon.palisade(&["status"])?;
    assert_eq!(status["interfaces"][0]["egress"], "clsact", "{status:#}");
    assert_eq!(filters(&world)?.len(), 1);

    let mut streams = Vec::new();
    for (from, to) in INSIDE.into_iter().zip(CLIENT) {
        for port in [5000, 5001] {
            let from = SocketAddr::new(from, 0);
            let to = SocketAddr::new(to, port);
            let every = stretched(Duration::from_micros(1500));
            streams.push((port, UdpStream::start(&world.inside, from, to, every)?));
        }
    }
    let mut before = filters(&world)?;
    for reload in 1..=10 {
        daemon.write_policy(&policy(reload))?;
        daemon.palisade(&["apply"])?;
        let after = filters(&world)?;
        assert_eq!(after.len(), 1, "after reload {reload}: {after:#?}");
        assert_ne!(after, before, "reload {reload} put no other filter there");
        before = after;
    }
    daemon.kill()?;
    assert_eq!(filters(&world)?, before, "the filter outlives the daemon");
    std::thread::sleep(Duration::from_millis(200));
    daemon.launch()?;
    assert_eq!(filters(&world)?.len(), 1, "after the takeover");

    let mut sent = 0;
    for (port, stream) in streams {
        let count = stream.stop()?;
        assert!(count > 200, "too little traffic: {count}");
        if port == 5000 {
            sent += count;
        }
    }
    assert_eq!(settle(|| allowed.total())?, sent, "of what may go out");
    assert_eq!(forbidden.total(), 0, "of what may not");
    assert_eq!(daemon.rule_packets("stream")?, sent);

    daemon.palisade(&["detach"])?;
    assert_eq!(filters(&world)?, Vec::<String>::new(), "after the detach");
    let free = UdpStream::start(
        &world.inside,
        SocketAddr::new(INSIDE[0], 0),
        SocketAddr::new(CLIENT[0], 5001),
        Duration::from_millis(1),
    )?;
    std::thread::sleep(Duration::from_millis(50));
    let count = free.stop()?;
    assert_eq!(settle(|| forbidden.total())?, count, "with the fence down");
    Ok(())
}

#[test]
fn egress_moves_between_clsact_and_tcx_when_the_settings_say_so() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["tc"])?;
    let world = Topology::untagged()?;
    let _outside = servers::tcp_echo(&world.outside, 7000)?;
    let to = SocketAddr::new(CLIENT[0], 7000);
    let mut daemon = Daemon::prepare(&world.inside, &policy(0), EDGE, Mode::Auto)?;
    let newer = [("clsact", 1), ("tcx", 0), ("clsact", 1), ("auto", 0)];
    let older = [("clsact", 1), ("auto", 1)];
    let has_tcx = kernel::is_at_least(kernel::TCX);
    let moves = if has_tcx { &newer[..] } else { &older[..] };
    for &(egress, expected) in moves {
        daemon.write_settings(
            &format!("interfaces = [{{ name = \"edge\", egress = \"{egress}\" }}]"),
            "",
        )?;
        daemon.launch()?;
        assert_eq!(filters(&world)?.len(), expected, "by {egress}");
        assert_eq!(connect(&world.inside, to, SILENCE)?, Connect::Silent);
        daemon.kill()?;
    }
    if !has_tcx {
        daemon.write_settings("interfaces = [{ name = \"edge\", egress = \"tcx\" }]", "")?;
        let refused = daemon.run_to_end()?;
        assert!(!refused.success(), "{refused}");
        assert!(refused.to_string().contains("6.6"), "{refused}");
    }
    // A setting that is gone takes its filter along, too.
    daemon.write_settings(CLSACT, "")?;
    daemon.launch()?;
    daemon.palisade(&["detach", "--interface", "edge"])?;
    assert_eq!(filters(&world)?, Vec::<String>::new());
    assert_eq!(connect(&world.inside, to, PATIENCE)?, Connect::Accepted);
    Ok(())
}
