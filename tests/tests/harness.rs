//! The harness proves itself: what the other tests conclude from silence or from an answer holds
//! only if this world answers when nothing stands in the way, and carries what it claims to.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use palisade_tests::clients::{
    CURL_TIMED_OUT, Connect, Pinging, UdpStream, any_address, connect, curl, ping, settle,
    udp_exchange,
};
use palisade_tests::frames::FrameSocket;
use palisade_tests::topology::{CLIENT, EDGE, FAR, INSIDE, OTHER, WIRE};
use palisade_tests::{Namespace, Topology, need_tools, servers, skip_unless_root, stretched};

const PATIENCE: Duration = Duration::from_secs(3);

#[test]
fn an_open_world_answers_http_udp_and_ping_on_both_families_with_and_without_a_tag() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl", "ping", "ethtool"])?;
    for world in [Topology::untagged()?, Topology::tagged(51)?] {
        let _http = servers::http(&world.inside, 80, "open")?;
        let _echo = servers::udp_echo(&world.inside, 7)?;
        for (from, to) in CLIENT.into_iter().zip(INSIDE) {
            let answer = curl(&world.outside, from, to, 80, PATIENCE)?;
            assert_eq!(answer.stdout, "open", "{to}: {answer}");
            let echo = SocketAddr::new(to, 7);
            assert!(udp_exchange(&world.outside, echo, 1400, PATIENCE)?, "{to}");
            let pings = ping(&world.outside, from, to, 20, Duration::from_millis(5))?;
            assert_eq!((pings.sent, pings.answered), (20, 20), "{to}");
        }
    }
    Ok(())
}

#[test]
fn every_frame_on_a_tagged_wire_carries_the_tag() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::tagged(1234)?;
    let watcher = world.inside.inside(|| FrameSocket::open(EDGE))?;
    let (from, to) = (CLIENT[0], INSIDE[0]);
    let pings = ping(&world.outside, from, to, 5, Duration::from_millis(5))?;
    assert_eq!(pings.answered, 5);
    let mut frame = [0; 4096];
    let mut seen = 0;
    while let Some(received) = watcher.receive(&mut frame)? {
        assert_eq!(received.vlan, Some(1234));
        seen += 1;
    }
    assert!(seen >= 5, "{seen} frames");
    Ok(())
}

#[test]
fn the_far_host_is_reached_over_its_narrower_link() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?.with_far(1300)?;
    let _count = servers::tcp_count(world.far.as_ref().expect("made above"), 9000)?;
    for (from, to) in INSIDE.into_iter().zip(FAR) {
        let pings = ping(&world.inside, from, to, 3, Duration::from_millis(5))?;
        assert_eq!(pings.answered, 3, "{to}");
        let target = SocketAddr::new(to, 9000);
        assert_eq!(connect(&world.inside, target, PATIENCE)?, Connect::Accepted);
    }
    Ok(())
}

#[test]
fn silence_refusal_and_answer_are_told_apart() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _http = servers::http(&world.inside, 80, "open")?;
    let nobody: IpAddr = "198.51.100.200".parse()?;
    // Otherwise the stack says that nobody has the address, sooner or later than is waited.
    world.outside.run(&format!(
        "ip neigh add {nobody} lladdr 02:00:00:00:00:99 dev {WIRE} nud permanent"
    ))?;
    let short = Duration::from_millis(300);
    let attempt = |to, port| connect(&world.outside, SocketAddr::new(to, port), short);
    assert_eq!(attempt(INSIDE[0], 80)?, Connect::Accepted);
    assert_eq!(attempt(INSIDE[1], 81)?, Connect::Refused);
    assert_eq!(attempt(nobody, 80)?, Connect::Silent);
    let silence = curl(&world.outside, CLIENT[0], nobody, 80, short)?;
    assert_eq!(silence.code(), CURL_TIMED_OUT, "{silence}");
    Ok(())
}

#[test]
fn no_datagram_of_a_steady_stream_is_lost_or_counted_twice() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    // One for both: a child that another test starts may keep a port of this process for a moment.
    let sink = servers::UdpSink::start(&world.inside, 9)?;
    for to in INSIDE {
        let before = sink.total();
        let stream = UdpStream::start(
            &world.outside,
            any_address(to, 0),
            SocketAddr::new(to, 9),
            Duration::from_micros(500),
        )?;
        std::thread::sleep(stretched(Duration::from_millis(200)));
        let sent = stream.stop()?;
        assert!(sent > 100, "{sent} in 200 ms");
        assert_eq!(settle(|| sink.total())? - before, sent, "{to}");
    }
    Ok(())
}

#[test]
fn pings_that_are_lost_are_missing_from_the_count() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let interval = stretched(Duration::from_millis(4));
    let mut pings = Pinging::start(&world.outside, OTHER[0], INSIDE[0], 100, interval)?;
    std::thread::sleep(stretched(Duration::from_millis(200)));
    world.inside.sysctl("ipv4/icmp_echo_ignore_all", "1")?;
    assert!(pings.runs()?, "they ended too early to lose any");
    let counted = pings.finish()?;
    assert_eq!(counted.sent, 100);
    assert!((10..90).contains(&counted.answered), "{counted:?}");
    Ok(())
}

#[test]
fn a_namespace_is_gone_with_its_guard_and_its_interfaces() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let namespace = Namespace::create("gone")?;
    let path: PathBuf = namespace.path();
    assert!(path.exists());
    let started = Instant::now();
    let mut sleeper = namespace.spawn("sleep 30")?;
    assert!(sleeper.runs()?);
    drop(sleeper);
    drop(namespace);
    assert!(!path.exists());
    assert!(started.elapsed() < Duration::from_secs(10));
    Ok(())
}
