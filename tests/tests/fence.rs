//! The fence on real traffic: what is allowed answers, and nothing else does, whichever family,
//! tag or mode.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::clients::{CURL_TIMED_OUT, Connect, connect, curl, ping, udp_exchange};
use palisade_tests::daemon::{Mode, metric};
use palisade_tests::frames::{FrameSocket, Ipv4Packet, ethernet};
use palisade_tests::policies::{PING, SHOP};
use palisade_tests::topology::{CLIENT, CLIENT_V4, EDGE, INSIDE, INSIDE_V4, LISTED, OTHER, WIRE};
use palisade_tests::{Daemon, Topology, need_tools, servers, skip_unless_root, stretched};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(5);
/// Long enough for an answer on this machine, short enough to wait for silence often.
const SILENCE: Duration = Duration::from_millis(300);

#[test]
fn the_shop_alone_answers_on_a_plain_wire_in_native_mode() -> Result<()> {
    the_shop_alone_answers(Topology::untagged, Mode::Native)
}

#[test]
fn the_shop_alone_answers_on_a_plain_wire_in_generic_mode() -> Result<()> {
    the_shop_alone_answers(Topology::untagged, Mode::Generic)
}

#[test]
fn the_shop_alone_answers_under_a_tag_in_native_mode() -> Result<()> {
    the_shop_alone_answers(|| Topology::tagged(51), Mode::Native)
}

#[test]
fn the_shop_alone_answers_under_a_tag_in_generic_mode() -> Result<()> {
    the_shop_alone_answers(|| Topology::tagged(51), Mode::Generic)
}

fn the_shop_alone_answers(world: impl Fn() -> Result<Topology>, mode: Mode) -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl", "ping", "ethtool"])?;
    let world = world()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let _back_office = servers::http(&world.inside, 8080, "back office")?;
    let _echo = servers::udp_echo(&world.inside, 7)?;
    let daemon = Daemon::start_in(&world.inside, SHOP, mode)?;
    let status = daemon.palisade(&["status"])?;
    assert_eq!(status["interfaces"][0]["name"], EDGE);
    assert_eq!(status["interfaces"][0]["mode"], mode.name(), "{status:#}");

    for (index, to) in INSIDE.into_iter().enumerate() {
        for from in [CLIENT[index], OTHER[index]] {
            let answer = curl(&world.outside, from, to, 80, PATIENCE)?;
            assert_eq!(answer.stdout, "shop", "{from} to {to}: {answer}");
        }
        let listed = curl(&world.outside, LISTED[index], to, 80, SILENCE)?;
        assert_eq!(listed.code(), CURL_TIMED_OUT, "{to}: {listed}");
        let hidden = SocketAddr::new(to, 8080);
        assert_eq!(connect(&world.outside, hidden, SILENCE)?, Connect::Silent);
        let nobody = SocketAddr::new(to, 81);
        assert_eq!(connect(&world.outside, nobody, SILENCE)?, Connect::Silent);
        let echo = SocketAddr::new(to, 7);
        assert!(!udp_exchange(&world.outside, echo, 100, SILENCE)?, "{to}");
        let pings = ping(
            &world.outside,
            CLIENT[index],
            to,
            3,
            Duration::from_millis(5),
        )?;
        assert_eq!((pings.sent, pings.answered), (3, 0), "{to}");
    }

    assert!(daemon.rule_packets("shop")? >= 4 * 2, "four visits");
    assert!(daemon.rule_packets("hostile")? >= 2, "two listed sources");
    Ok(())
}

#[test]
fn a_rule_for_openings_alone_admits_whole_connections_and_nothing_that_was_never_opened()
-> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl", "hping3"])?;
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let policy = "version = 1\n[[rule]]\nname = \"shop\"\naction = \"accept\"\nprotocol = \"tcp\"\n\
                  port = 80\ntcp_flags = \"syn,!ack\"\n";
    let daemon = Daemon::start_in(&world.inside, policy, Mode::Native)?;
    for (from, to) in CLIENT.into_iter().zip(INSIDE) {
        let answer = curl(&world.outside, from, to, 80, PATIENCE)?;
        assert_eq!(answer.stdout, "shop", "{from} to {to}: {answer}");
    }
    let before = daemon.inbound("drop", "default")?;
    world
        .outside
        .try_run(&format!("hping3 -q -A -p 80 -c 5 -i u10000 {INSIDE_V4}"))?;
    assert_eq!(
        daemon.inbound("drop", "default")? - before,
        5,
        "ACKs of no connection"
    );
    Ok(())
}

#[test]
fn nmap_finds_the_shop_open_and_everything_else_filtered() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nmap"])?;
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let _back_office = servers::http(&world.inside, 8080, "back office")?;
    let _daemon = Daemon::start(&world.inside, SHOP)?;
    for (family, to) in ["-4", "-6"].into_iter().zip(INSIDE) {
        for scan in ["-sS", "-sT"] {
            let report = nmap(&world, &format!("{family} {scan} -p 22,80,443,8080 {to}"))?;
            assert!(report.contains("80/tcp   open "), "{scan} {to}: {report}");
            for port in [
                "22/tcp   filtered",
                "443/tcp  filtered",
                "8080/tcp filtered",
            ] {
                assert!(report.contains(port), "{scan} {to}: no {port} in {report}");
            }
        }
        // Stealth scans meet silence as well: no reset tells that nobody listens.
        for scan in ["-sF", "-sX", "-sN"] {
            let report = nmap(&world, &format!("{family} {scan} -p 22 {to}"))?;
            assert!(
                report.contains("22/tcp open|filtered"),
                "{scan} {to}: {report}"
            );
        }
        let report = nmap(&world, &format!("{family} -sA -p 22 {to}"))?;
        assert!(report.contains("22/tcp filtered"), "-sA {to}: {report}");
        let report = nmap(&world, &format!("{family} -sU -p 53 {to}"))?;
        assert!(
            report.contains("53/udp open|filtered"),
            "-sU {to}: {report}"
        );
    }
    Ok(())
}

fn nmap(world: &Topology, arguments: &str) -> Result<String> {
    world.outside.run(&format!(
        "nmap -n -Pn --max-retries 1 --host-timeout {}s {arguments}",
        stretched(Duration::from_secs(20)).as_secs()
    ))
}

#[test]
fn a_spoofed_flood_is_dropped_and_counted_to_the_packet_while_the_shop_answers() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["hping3", "curl"])?;
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let daemon = Daemon::start(&world.inside, SHOP)?;
    let before = daemon.inbound("drop", "default")?;
    let to = INSIDE[0];
    // Addresses for documentation, all routed to the outside: nothing can leave these namespaces.
    let mut floods = Vec::new();
    for last in [10, 20, 30] {
        floods.push(world.outside.spawn(&format!(
            "hping3 -q -S -p 8080 -i u500 -c 1000 -a 203.0.113.{last} {to}"
        ))?);
    }
    let answer = curl(&world.outside, CLIENT[0], to, 80, PATIENCE)?;
    assert_eq!(answer.stdout, "shop", "{answer}");
    for mut flood in floods {
        // hping3 calls it a failure that nobody answered.
        flood.wait(Duration::from_secs(20))?;
    }
    assert_eq!(daemon.inbound("drop", "default")? - before, 3000);
    Ok(())
}

#[test]
fn hping3_s_packets_with_odd_flags_to_the_shop_draw_no_answer_unless_they_open() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["hping3"])?;
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let _daemon = Daemon::start(&world.inside, SHOP)?;
    let to = INSIDE[0];
    let send = |flags: &str, port: u16| {
        world
            .outside
            .try_run(&format!("hping3 {flags} -p {port} -c 2 -i u20000 {to}"))
    };
    let open = send("-S", 80)?;
    assert_eq!(open.stdout.matches("flags=SA").count(), 2, "{open}");
    for flags in ["-S", "-A", "-R", "-F", "-SA", "-FPU"] {
        let closed = send(flags, 8080)?;
        assert!(!closed.stdout.contains("flags="), "{flags}: {closed}");
    }
    Ok(())
}

#[test]
fn a_later_fragment_is_not_taken_to_have_ports() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let sink = servers::UdpSink::start(&world.inside, 5000)?;
    let daemon = Daemon::start(&world.inside, PING)?;
    // A later fragment whose bytes look like a datagram to the port that is let in.
    let imposter = [0x13, 0x88, 0x13, 0x88, 0, 24, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let inner = hardware_address(&world.inside, EDGE)?;
    let outer = hardware_address(&world.outside, WIRE)?;
    let frames: Vec<Vec<u8>> = (0..10)
        .map(|identification| {
            let packet = Ipv4Packet {
                source: CLIENT_V4,
                destination: INSIDE_V4,
                protocol: 17,
                identification,
                fragment: 2,
                payload: &imposter,
            };
            ethernet(inner, outer, 0x0800, &packet.bytes())
        })
        .collect();
    let before = daemon.inbound("drop", "default")?;
    world.outside.inside(move || {
        let socket = FrameSocket::open(WIRE)?;
        frames.iter().try_for_each(|frame| socket.send(frame))
    })?;
    assert_eq!(daemon.inbound("drop", "default")? - before, 10);
    assert_eq!(daemon.rule_packets("stream")?, 0);
    assert_eq!(sink.total(), 0);
    Ok(())
}

#[test]
fn large_datagrams_arrive_whole_by_the_rule_for_their_port() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _echo = servers::udp_echo(&world.inside, 5000)?;
    let mut daemon = Daemon::start(&world.inside, PING)?;
    for to in INSIDE {
        let open = SocketAddr::new(to, 5000);
        let shut = SocketAddr::new(to, 5001);
        assert!(udp_exchange(&world.outside, open, 1000, PATIENCE)?, "{to}");
        assert!(udp_exchange(&world.outside, open, 4000, PATIENCE)?, "{to}");
        assert!(!udp_exchange(&world.outside, shut, 4000, SILENCE)?, "{to}");
    }
    daemon.stop()?;
    Ok(())
}

#[test]
fn a_scrape_is_clean_and_counts_what_happened() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl", "promtool", "ping"])?;
    let world = Topology::untagged()?;
    let daemon = Daemon::start(&world.inside, SHOP)?;
    let dropped = |scrape: &str| {
        metric(
            scrape,
            "palisade_packets_total",
            &[
                "interface=\"edge\"",
                "direction=\"inbound\"",
                "verdict=\"drop\"",
                "reason=\"default\"",
            ],
        )
    };
    let before = dropped(&daemon.scrape()?);
    for (from, to) in CLIENT.into_iter().zip(INSIDE) {
        ping(&world.outside, from, to, 25, Duration::from_millis(4))?;
    }
    let scrape = daemon.scrape()?;
    assert_eq!(dropped(&scrape) - before, 50.0, "{scrape}");
    assert_eq!(metric(&scrape, "palisade_policy_valid", &[]), 1.0);
    assert!(metric(&scrape, "palisade_policy_generation", &[]) >= 1.0);

    let file = daemon.folder().join("scrape.prom");
    std::fs::write(&file, &scrape)?;
    let checked = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(&file)?)
        .output()?;
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.is_empty(), "{said}");
    Ok(())
}

fn hardware_address(namespace: &palisade_tests::Namespace, interface: &str) -> Result<[u8; 6]> {
    let link = namespace.run(&format!("ip -json link show {interface}"))?;
    let link: Value = serde_json::from_str(&link)?;
    let text = link[0]["address"].as_str().context("no address")?;
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("{text}"))
}
