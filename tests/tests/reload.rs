//! Two hundred reloads under traffic: no packet is judged by half of each policy.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use palisade_tests::clients::{Connect, Pinging, UdpStream, connect, settle};
use palisade_tests::daemon::Mode;
use palisade_tests::namespace::join;
use palisade_tests::process::wait_until;
use palisade_tests::servers::{self, UdpSink};
use palisade_tests::topology::{CLIENT, INSIDE, OTHER};
use palisade_tests::{Daemon, Topology, eased, need_tools, skip_unless_root, stretched};

const RELOADS: u64 = 200;

/// Both policies let in pings and UDP 5000 and drop UDP 5001; all else about them differs: the
/// order and number of rules, sets and their sizes, and which step decides about each packet.
fn policies() -> [String; 2] {
    let prefixes: Vec<String> = (0..200)
        .map(|third| format!("\"203.0.{third}.0/25\""))
        .collect();
    [
        "version = 1\n\
         [defaults]\ninbound = \"drop\"\n\
         [[rule]]\nname = \"ping\"\naction = \"accept\"\nprotocol = [\"icmp\", \"icmpv6\"]\n\
         [[rule]]\nname = \"stream\"\naction = \"accept\"\nprotocol = \"udp\"\nport = 5000\n"
            .to_owned(),
        format!(
            "version = 1\n\
             [defaults]\ninbound = \"accept\"\n\
             [sets]\nmany = [{}]\n\
             [[rule]]\nname = \"many\"\naction = \"drop\"\nfrom = [\"many\"]\n\
             [[rule]]\nname = \"counted\"\naction = \"count\"\nprotocol = \"udp\"\n\
             [[rule]]\nname = \"forbidden\"\naction = \"drop\"\nprotocol = \"udp\"\nport = [\"1-4999\", \"5001-65535\"]\n",
            prefixes.join(", ")
        ),
    ]
}

#[test]
fn two_hundred_reloads_under_traffic_misjudge_no_packet() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["ping"])?;
    // The kernel verifies each policy's programs anew. Hosts of their own do that side by side.
    let hosts: Vec<_> = [Mode::Native, Mode::Generic, Mode::Native, Mode::Generic]
        .into_iter()
        .map(|mode| std::thread::spawn(move || reload_under_traffic(mode, eased(RELOADS / 4))))
        .collect();
    for host in hosts {
        join(host)?;
    }
    Ok(())
}

fn reload_under_traffic(mode: Mode, reloads: u64) -> Result<()> {
    let world = Topology::untagged()?;
    let policies = policies();
    let allowed = UdpSink::start(&world.inside, 5000)?;
    let forbidden = UdpSink::start(&world.inside, 5001)?;
    let daemon = Daemon::start_in(&world.inside, &policies[0], mode)?;
    let mut streams = Vec::new();
    for (index, to) in INSIDE.into_iter().enumerate() {
        for port in [5000, 5001] {
            let from = SocketAddr::new(OTHER[index], 0);
            let to = SocketAddr::new(to, port);
            let every = stretched(Duration::from_micros(1500));
            streams.push((port, UdpStream::start(&world.outside, from, to, every)?));
        }
    }
    let every = Duration::from_millis(5);
    let pings = Pinging::start(&world.outside, CLIENT[0], INSIDE[0], 2000, every)?;

    let first = generation(&daemon)?;
    for reload in 1..=reloads {
        daemon.write_policy(&policies[reload as usize % 2])?;
        daemon.palisade(&["apply"])?;
    }
    assert_eq!(generation(&daemon)? - first, reloads);

    let (mut sent, mut tried) = (0, 0);
    for (port, stream) in streams {
        let count = stream.stop()?;
        if port == 5000 {
            sent += count;
        } else {
            tried += count;
        }
    }
    let per_reload = 20 * reloads;
    assert!(sent > per_reload, "too little traffic: {sent}");
    assert!(tried > per_reload, "too little traffic: {tried}");
    assert_eq!(settle(|| allowed.total())?, sent, "of what is let in");
    assert_eq!(forbidden.total(), 0, "of what is not, with {tried} tried");
    let pings = pings.finish()?;
    assert_eq!((pings.sent, pings.answered), (2000, 2000));
    Ok(())
}

fn generation(daemon: &Daemon) -> Result<u64> {
    let status = daemon.palisade(&["status"])?;
    Ok(status["policy"]["generation"].as_u64().unwrap_or(0))
}

#[test]
fn a_hangup_reads_the_policy_again_and_a_faulty_one_leaves_the_old_in_force() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _echo = servers::tcp_echo(&world.inside, 7000)?;
    let policies = policies();
    let mut daemon = Daemon::start(&world.inside, &policies[0])?;
    let to = SocketAddr::new(INSIDE[0], 7000);
    let silence = Duration::from_millis(200);
    assert_eq!(connect(&world.outside, to, silence)?, Connect::Silent);

    let before = generation(&daemon)?;
    daemon.write_policy(&policies[1])?;
    daemon.process()?.signal(rustix::process::Signal::HUP)?;
    wait_until("the new policy", Duration::from_secs(10), || {
        Ok(generation(&daemon)? > before)
    })?;
    assert_eq!(connect(&world.outside, to, silence)?, Connect::Accepted);

    let generation_before = generation(&daemon)?;
    daemon.write_policy("version = 1\n[[rule]]\nname = \"half\"\n")?;
    daemon.process()?.signal(rustix::process::Signal::HUP)?;
    wait_until("the fault is noticed", Duration::from_secs(10), || {
        Ok(daemon.palisade(&["status"])?["policy"]["valid"] == false)
    })?;
    assert_eq!(generation(&daemon)?, generation_before);
    assert_eq!(connect(&world.outside, to, silence)?, Connect::Accepted);
    let scrape = daemon.scrape()?;
    assert!(scrape.contains("palisade_policy_valid 0"), "{scrape}");

    let refused = daemon.try_palisade(&["apply"])?;
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains("half"), "{refused}");
    Ok(())
}
