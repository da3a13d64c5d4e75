//! Limits on real traffic: what is let through is the rate times the time and the burst, on one
//! processor and on all; forged sources take nobody's allowance; real clients meet them.

#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firewall_user::packet_build::PacketBuilder;
use palisade_tests::clients::{Connect, connect, curl};
use palisade_tests::daemon::Mode;
use palisade_tests::storm::{processors, storm};
use palisade_tests::topology::{CLIENT, EDGE, INSIDE, INSIDE_V4, OTHER, WIRE};
use palisade_tests::{
    Daemon, Namespace, Topology, is_slow, need_tools, note, servers, skip_unless_root, stretched,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(3);
/// Long enough for an answer on a local wire, shorter than a repeated SYN takes.
const SILENCE: Duration = Duration::from_millis(600);

/// A rule that lets UDP in up to a limit.
fn stream(limit: &str) -> String {
    format!(
        "version = 1\n[[rule]]\nname = \"stream\"\naction = \"accept\"\nprotocol = \"udp\"\nport = 5000\n\
         limit = {{ {limit} }}\n"
    )
}

/// What a rule has matched, and what of that was over its limit.
fn matched_and_over(daemon: &Daemon, rule: &str) -> Result<[(u64, u64); 2]> {
    let shown = daemon.palisade(&["rule", "show", rule])?;
    let pair = |of: &Value| -> Option<(u64, u64)> {
        Some((of["packets"].as_u64()?, of["bytes"].as_u64()?))
    };
    let pairs = pair(&shown).zip(pair(&shown["limited"]));
    let (matched, over) = pairs.with_context(|| format!("rule show {rule}: {shown}"))?;
    Ok([matched, over])
}

/// A datagram from the outside to the inside's port 5000, behind the right Ethernet header.
fn datagram(world: &Topology, from: IpAddr, payload: usize) -> Result<Vec<u8>> {
    let to = if from.is_ipv4() { INSIDE[0] } else { INSIDE[1] };
    let packet = PacketBuilder::new(from, to).context("two families")?;
    let mut frame = packet.udp(4_000, 5000).payload(&vec![0; payload]).build();
    frame[..6].copy_from_slice(&hardware_address(&world.inside, EDGE)?);
    frame[6..12].copy_from_slice(&hardware_address(&world.outside, WIRE)?);
    Ok(frame)
}

fn hardware_address(namespace: &Namespace, interface: &str) -> Result<[u8; 6]> {
    let link = namespace.run(&format!("ip -json link show {interface}"))?;
    let link: Value = serde_json::from_str(&link)?;
    let text = link[0]["address"].as_str().context("no address")?;
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("{text}"))
}

/// The rate to limit to: this one, or on a slow machine what the senders exceed by far.
fn feasible(rate: u64, processors: &[usize]) -> Result<u64> {
    if !is_slow() {
        return Ok(rate);
    }
    // With a fence that lets nothing in: judging takes time from the senders.
    let world = Topology::untagged()?;
    let _daemon = Daemon::start(
        &world.inside,
        "version = 1\n[defaults]\ninbound = \"drop\"\n",
    )?;
    let frame = datagram(&world, CLIENT[0], 18)?;
    let time = (Duration::from_secs(1), u64::MAX);
    let sent = storm(
        &world.outside,
        WIRE,
        processors,
        time,
        move |_, _, bytes| {
            bytes.clone_from(&frame);
        },
    )?;
    let can = (sent.count() as f64 / sent.seconds() / 3.0) as u64;
    note(&format!(
        "{} packets a second are sent here: the limit is {} instead of {rate}",
        can * 3,
        can.min(rate)
    ));
    Ok(can.min(rate))
}

/// Sends one source's datagrams as fast as these processors can, for `time`, and compares what passes.
fn compare(
    mode: Mode,
    processors: &[usize],
    time: Duration,
    (rate, burst): (u64, u64),
    tolerance: f64,
) -> Result<()> {
    let rate = feasible(rate, processors)?;
    let world = Topology::untagged()?;
    let limit = format!("rate = \"{rate}/s\", burst = {burst}");
    let daemon = Daemon::start_in(&world.inside, &stream(&limit), mode)?;
    let frame = datagram(&world, CLIENT[0], 18)?;
    let sent = storm(
        &world.outside,
        WIRE,
        processors,
        (time, u64::MAX),
        move |_, _, bytes| {
            bytes.clone_from(&frame);
        },
    )?;
    let [(matched, _), (over, _)] = matched_and_over(&daemon, "stream")?;
    let (passed, allowed) = (matched - over, sent.allowed(rate, burst));
    let (rate, seconds) = (rate as f64, sent.seconds());
    println!(
        "{} senders, {} sent in {seconds:.3} s, {matched} arrived, {passed} passed; {allowed} allowed, rate x time + burst = {:.0}",
        processors.len(),
        sent.count(),
        rate * seconds + burst as f64,
    );
    // On a busy machine the senders are interrupted often; what was allowed takes that into account.
    ensure!(
        over * 10 > allowed,
        "the senders were too slow to prove anything: {} sent",
        sent.count()
    );
    let most = (rate * seconds + burst as f64) * (1.0 + tolerance);
    ensure!(
        passed as f64 <= most,
        "{passed} passed, at most {most:.0} may"
    );
    let off = (passed as f64 - allowed as f64).abs() / allowed as f64;
    ensure!(
        off <= tolerance,
        "{passed} passed of {allowed}: off by {:.2}%",
        off * 100.0
    );
    assert_eq!(
        daemon.inbound("drop", "limit")?,
        over,
        "over the limit for that reason"
    );
    Ok(())
}

#[test]
fn one_processor_lets_rate_times_time_plus_burst_through_within_two_percent() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let one = &processors()?[..1];
    compare(
        Mode::Native,
        one,
        Duration::from_secs(10),
        (20_000, 5_000),
        0.02,
    )
}

#[test]
fn a_burst_of_five_at_a_hundred_thousand_a_second_is_no_smaller_rate() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let one = &processors()?[..1];
    compare(
        Mode::Native,
        one,
        Duration::from_secs(5),
        (100_000, 5),
        0.02,
    )
}

#[test]
fn all_processors_together_let_one_source_s_rate_through_within_five_percent() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    // In generic mode each processor judges the frames that its own sender sent.
    let all = processors()?;
    compare(
        Mode::Generic,
        &all,
        Duration::from_secs(10),
        (50_000, 5_000),
        0.05,
    )
}

#[test]
fn bytes_are_let_through_at_their_rate() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let one = &processors()?[..1];
    // In bytes: a packet has 200 for each that a limit of packets would let through.
    let rate = 200 * feasible(50_000, one)?;
    let world = Topology::untagged()?;
    let limit = format!("rate = \"{rate}B/s\", burst = \"{}B\"", rate / 10);
    let daemon = Daemon::start_in(&world.inside, &stream(&limit), Mode::Native)?;
    let (small, large) = (
        datagram(&world, CLIENT[1], 8)?,
        datagram(&world, CLIENT[1], 1_400)?,
    );
    let time = (Duration::from_secs(3), u64::MAX);
    let sent = storm(&world.outside, WIRE, one, time, move |_, number, bytes| {
        bytes.clone_from(if number % 3 == 0 { &large } else { &small });
    })?;
    let [(_, matched), (_, over)] = matched_and_over(&daemon, "stream")?;
    let allowed = rate as f64 * (sent.seconds() + 0.1);
    let passed = (matched - over) as f64;
    println!("{matched} bytes arrived, {passed} passed, {allowed:.0} allowed");
    ensure!(matched as f64 > 1.5 * allowed, "the sender was too slow");
    ensure!(
        (passed / allowed - 1.0).abs() < 0.02,
        "{passed} of {allowed}"
    );
    Ok(())
}

#[test]
fn a_million_forged_sources_take_no_allowance_and_a_heavy_source_stays_limited() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    // Each forged source holds on to its bucket for an hour, which is longer than this lasts; four
    // times as many come as there is room for.
    let limit = "rate = \"1/h\", burst = 4";
    let policy = stream(limit).replace(
        "[[rule]]",
        "[[rule]]\nname = \"innocents\"\naction = \"count\"\nfrom = \"2001:db8:1::/48\"\n\
         [[rule]]\nname = \"heavy\"\naction = \"count\"\nfrom = \"2001:db8:2::/48\"\n[[rule]]",
    );
    let daemon = Daemon::start_in(&world.inside, &policy, Mode::Native)?;
    let template = datagram(&world, CLIENT[1], 18)?;
    // A million are forged; of 253 innocents each sends four; one heavy source sends the rest.
    let (innocent_every, heavy_every) = (1_000, 100);
    let frames = 1_012_000;
    let time = (stretched(Duration::from_secs(80)), frames);
    let sent = storm(
        &world.outside,
        WIRE,
        &processors()?[..1],
        time,
        move |_, number, bytes| {
            bytes.clone_from(&template);
            // The queue of the wire is short: who takes frames in on this processor gets its turn.
            if number % 64 == 0 {
                std::thread::yield_now();
            }
            let network: u64 = if number % innocent_every == 7 {
                0x2001_0db8_0001_0000 | (number / innocent_every % 253)
            } else if number % heavy_every == 9 {
                0x2001_0db8_0002_0000
            } else {
                // A bijection: no two are alike. Networks from 2001:db8:4000:: on are forged.
                0x2001_0db8_4000_0000 | (number.wrapping_mul(0x9e37_79b1) & 0x3fff_ffff)
            };
            bytes[22..30].copy_from_slice(&network.to_be_bytes());
        },
    )?;
    assert_eq!(sent.count(), frames, "the sender was too slow");
    let innocents = daemon.rule_packets("innocents")?;
    let heavy = daemon.rule_packets("heavy")?;
    let [(matched, _), (over, _)] = matched_and_over(&daemon, "stream")?;
    println!(
        "{matched} arrived, {innocents} of innocents, {heavy} of a heavy source; {over} over the limit"
    );
    // What is lost on a busy machine's wire is lost by all alike, and enough has come that all buckets are taken twice.
    ensure!(matched >= 600_000, "{matched} of {frames} arrived");
    let share = |of: u64| of as f64 / matched as f64;
    ensure!(
        share(innocents) >= 0.0009 && share(heavy) >= 0.009,
        "{innocents}, {heavy}"
    );
    // Who sent no more than its burst was never over it. All that was over is the heavy source's.
    let heavy_passed = heavy
        .checked_sub(over)
        .context("others were over the limit")?;
    let allowed = 4 + 1;
    ensure!(
        heavy_passed <= allowed,
        "{heavy_passed} of the heavy source passed"
    );
    Ok(())
}

#[test]
fn connections_over_the_limit_are_not_answered_and_a_64_is_one_source() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let policy = "version = 1\n[[rule]]\nname = \"shop\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 80\n\
                  limit = { rate = \"1/h\", burst = 3, unit = \"connections\" }\n";
    let daemon = Daemon::start(&world.inside, policy)?;
    for family in [0, 1] {
        let (client, other, to) = (CLIENT[family], OTHER[family], INSIDE[family]);
        for _ in 0..3 {
            let answer = curl(&world.outside, client, to, 80, PATIENCE)?;
            assert_eq!(answer.stdout, "shop", "{client}: {answer}");
        }
        let answer = curl(&world.outside, client, to, 80, SILENCE)?;
        assert_eq!(answer.stdout, "", "{client}: {answer}");
        // Another IPv4 address is another source; another address of the same /64 is not.
        let answer = curl(&world.outside, other, to, 80, SILENCE)?;
        assert_eq!(answer.stdout, ["shop", ""][family], "{other}: {answer}");
    }
    assert!(daemon.inbound("drop", "limit")? >= 3);
    Ok(())
}

#[test]
fn a_connection_that_was_let_in_is_slowed_to_the_rate_of_its_rule() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _count = servers::tcp_count(&world.inside, 9000)?;
    let policy = "version = 1\n[[rule]]\nname = \"upload\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 9000\n\
                  limit = { rate = \"2MB/s\", burst = \"200kB\" }\n";
    let daemon = Daemon::start_in(&world.inside, policy, Mode::Native)?;
    let started = std::time::Instant::now();
    let counted = world.outside.inside(|| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect((INSIDE_V4, 9000))?;
        stream.set_write_timeout(Some(stretched(Duration::from_secs(30))))?;
        stream.set_read_timeout(Some(stretched(Duration::from_secs(30))))?;
        stream.write_all(&vec![7; 4_000_000])?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(counted.trim(), "4000000", "all of it arrives");
    let [(_, matched), (_, over)] = matched_and_over(&daemon, "upload")?;
    println!("4 MB in {seconds:.2} s; {over} bytes of {matched} over the limit");
    ensure!(
        seconds > 1.85,
        "4 MB took {seconds} s: 200 kB at once and 2 MB each second would be 1.9"
    );
    ensure!(over > 0, "nothing was over the limit");
    assert_eq!(daemon.inbound("drop", "default")?, 0);
    Ok(())
}

#[test]
fn a_limit_survives_a_reload_and_the_daemon_and_observing_it_drops_nothing() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl"])?;
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let rule = "[[rule]]\nname = \"shop\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 80\n\
                limit = { rate = \"1/h\", burst = 2, unit = \"connections\" }\n";
    let mut daemon = Daemon::start(&world.inside, &format!("version = 1\n{rule}"))?;
    let target = SocketAddr::new(INSIDE[0], 80);
    for _ in 0..2 {
        assert_eq!(
            connect(&world.outside, target, PATIENCE)?,
            Connect::Accepted
        );
    }
    assert_eq!(connect(&world.outside, target, SILENCE)?, Connect::Silent);
    daemon.write_policy(&format!(
        "version = 1\n[[rule]]\nname = \"ping\"\naction = \"accept\"\nprotocol = \"icmp\"\n{rule}"
    ))?;
    daemon.palisade(&["apply"])?;
    assert_eq!(connect(&world.outside, target, SILENCE)?, Connect::Silent);
    daemon.kill()?;
    daemon.launch()?;
    assert_eq!(connect(&world.outside, target, SILENCE)?, Connect::Silent);
    daemon.write_policy(&format!(
        "version = 1\n[defaults]\nmode = \"observe\"\n{rule}"
    ))?;
    daemon.palisade(&["apply"])?;
    let [_, (before, _)] = matched_and_over(&daemon, "shop")?;
    assert_eq!(
        connect(&world.outside, target, PATIENCE)?,
        Connect::Accepted
    );
    let [_, (after, _)] = matched_and_over(&daemon, "shop")?;
    assert_eq!(after - before, 1, "counted as over the limit all the same");
    Ok(())
}
