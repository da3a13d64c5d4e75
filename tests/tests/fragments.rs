//! Datagrams larger than a frame: their later fragments carry no ports, and come and go with the
//! first. Fragments that no sender cuts so are dropped.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use palisade_tests::clients::{settle, udp_exchange};
use palisade_tests::policies::{CLOSED, PING};
use palisade_tests::servers::UdpSink;
use palisade_tests::topology::{CLIENT, CLIENT_V4, CLIENT_V6, INSIDE, INSIDE_V4, INSIDE_V6};
use palisade_tests::{Daemon, Topology, need_tools, servers, skip_unless_root};

const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(400);
/// Six fragments over Ethernet.
const LARGE: usize = 8_000;

/// Port 5000 alone gets in; nothing leaves by itself.
const ONE_PORT: &str = r#"
version = 1

[defaults]
inbound  = "drop"
outbound = "drop"

[[rule]]
name     = "stream"
action   = "accept"
protocol = "udp"
port     = 5000
"#;

#[test]
fn large_datagrams_pass_a_rule_with_a_port_and_their_answers_leave() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _open = servers::udp_echo(&world.inside, 5000)?;
    let _closed = servers::udp_echo(&world.inside, 5001)?;
    let daemon = Daemon::start(&world.inside, ONE_PORT)?;
    for to in INSIDE {
        let open = SocketAddr::new(to, 5000);
        assert!(udp_exchange(&world.outside, open, LARGE, PATIENCE)?, "{to}");
        let closed = SocketAddr::new(to, 5001);
        assert!(!udp_exchange(&world.outside, closed, LARGE, SILENCE)?);
    }
    // The first fragment of each by the rule, all others by it as well.
    assert!(daemon.rule_packets("stream")? >= 2 * 6);
    assert!(daemon.inbound("pass", "established")? >= 2 * 5);
    Ok(())
}

#[test]
fn large_answers_to_the_host_s_own_queries_and_pings_come_in() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["ping"])?;
    let world = Topology::untagged()?;
    let _echo = servers::udp_echo(&world.outside, 53)?;
    let _daemon = Daemon::start(&world.inside, CLOSED)?;
    for to in CLIENT {
        let query = SocketAddr::new(to, 53);
        assert!(udp_exchange(&world.inside, query, LARGE, PATIENCE)?, "{to}");
        let ping = world
            .inside
            .run(&format!("ping -c 3 -i 0.05 -s 4000 -W 5 {to}"))?;
        assert!(ping.contains(" 3 received"), "{ping}");
        // The way out is not a way in.
        let from = if to.is_ipv4() { INSIDE[0] } else { INSIDE[1] };
        let inward = world
            .outside
            .try_run(&format!("ping -c 2 -i 0.05 -s 4000 -W 1 {from}"))?;
        assert!(inward.stdout.contains(" 0 received"), "{inward}");
    }
    Ok(())
}

/// Sends fragments made by hand to UDP port 5000; `FIRST`, `LATER` and the like are lists of frames.
const FRAGMENTS: &str = r#"
import sys
from scapy.all import *
conf.verb = 0
kind, family = sys.argv[1:3]
# Nothing before has used these: fragments would be taken for those of earlier datagrams.
number = int(sys.argv[3])
data = UDP(sport=4000, dport=5000, len=8 + 1600, chksum=0) / (b"x" * 1600)
udp = bytes(data)
def v4(offset, part, more, number, proto=17):
    return IP(src="198.51.100.2", dst="198.51.100.1", id=number, proto=proto, frag=offset // 8,
              flags="MF" if more else 0) / Raw(part)
def v6(offset, part, more, number, proto=17):
    return IPv6(src="2001:db8:51::2", dst="2001:db8:51::1") / IPv6ExtHdrFragment(
        nh=proto, offset=offset // 8, m=int(more), id=number) / Raw(part)
make = v4 if family == "4" else v6
if family == "6":
    # A checksum of 0 is none in IPv4 only.
    whole = IPv6(src="2001:db8:51::2", dst="2001:db8:51::1") / UDP(sport=4000, dport=5000) / (b"x" * 1600)
    udp = bytes(whole)[40:]
first, rest = udp[:800], udp[800:]
tcp = bytes(TCP(sport=4000, dport=5000, flags="S"))
frames = []
def say(*pieces):
    global number
    number += 1
    frames.extend(make(*piece[:3], number, *piece[3:]) for piece in pieces)
for _ in range(10):
    if kind == "whole":
        say((0, first, True), (800, rest, False))
    elif kind == "stray":
        say((800, rest, False))
    elif kind == "late":
        say((800, rest, False), (0, first, True))
    elif kind == "overlapping":
        say((0, first, True), (792, rest, False))
    elif kind == "uneven":
        say((0, udp[:803], True))
    elif kind == "tiny":
        say((0, tcp[:8], True, 6))
    elif kind == "flags":
        say((8, tcp[8:], False, 6))
send(frames)
"#;

#[test]
fn fragments_follow_the_first_and_what_no_sender_cuts_so_is_malformed() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let sink = UdpSink::start(&world.inside, 5000)?;
    let daemon = Daemon::start(&world.inside, PING)?;
    // Neighbours are known before anything is counted.
    for (from, to) in [
        (CLIENT_V4.to_string(), INSIDE_V4.to_string()),
        (CLIENT_V6.to_string(), INSIDE_V6.to_string()),
    ] {
        world
            .outside
            .run(&format!("ping -c 1 -W 5 -I {from} {to}"))?;
    }
    let script = daemon.folder().join("fragments.py");
    std::fs::write(&script, FRAGMENTS)?;
    let counts = || -> Result<[u64; 3]> {
        Ok([
            sink.total(),
            daemon.inbound("drop", "malformed")?,
            daemon.inbound("drop", "default")?,
        ])
    };
    for family in ["4", "6"] {
        let kinds = [
            ("whole", [10, 0, 0]),
            ("stray", [0, 0, 10]),
            // The later one came too early to be known; the first alone completes nothing.
            ("late", [0, 0, 10]),
            ("overlapping", [0, 10, 0]),
            ("uneven", [0, 10, 0]),
            ("tiny", [0, 10, 0]),
            ("flags", [0, 10, 0]),
        ];
        for (number, (kind, expected)) in (1_u32..).zip(kinds) {
            let before = counts()?;
            world.outside.run(&format!(
                "/usr/bin/python3 {} {kind} {family} {}",
                script.display(),
                number * 100
            ))?;
            settle(|| sink.total())?;
            let after = counts()?;
            let change = [0, 1, 2].map(|index| after[index] - before[index]);
            assert_eq!(change, expected, "{kind} fragments of IPv{family}");
        }
    }
    Ok(())
}

#[test]
fn a_scan_in_tiny_fragments_meets_nothing() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["hping3"])?;
    let world = Topology::untagged()?;
    let _open = servers::http(&world.inside, 80, "here")?;
    let policy = format!(
        "{CLOSED}\n[[rule]]\nname = \"web\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 80\n"
    );
    let daemon = Daemon::start(&world.inside, &policy)?;
    // 16 bytes of each segment at a time: the first fragment lacks the flags.
    let scan = world
        .outside
        .try_run(&format!("hping3 -S -p 80 -c 3 -i u20000 -f {INSIDE_V4}"))?;
    assert!(scan.stderr.contains(" 0 packets received"), "{scan}");
    assert!(daemon.inbound("drop", "malformed")? >= 3);
    Ok(())
}
