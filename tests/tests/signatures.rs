//! The signature of a flood: found, told, and in force while the flood lasts and visitors go on.

#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use firewall_common::decide::signature::FIRST_COUNTER;
use firewall_common::signature::{SLOTS, SignatureTable};
use firewall_common::{Direction, Reason};
use firewall_user::datapath::TestRun;
use firewall_user::detect::signature::Condition;
use firewall_user::engine::HostEngine;
use firewall_user::packet_build::PacketBuilder;
use firewall_user::policy::{Environment, Policy};
use palisade_tests::daemon::Mode;
use palisade_tests::policies::SHOP;
use palisade_tests::process::wait_until;
use palisade_tests::reaction::{
    Flood, SHOP_PORT, STREAM_PORT, Visitors, first_drop, served, tables,
};
use palisade_tests::topology::{EDGE, INSIDE};
use palisade_tests::{
    Daemon, Topology, eased, namespace, note, servers, skip_unless_root, stretched,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
/// Packets of a flood a second.
const RATE: u64 = 5_000;

/// The shop, and a stream of datagrams.
fn policy() -> String {
    format!(
        "{SHOP}\n[[rule]]\nname = \"stream\"\naction = \"accept\"\nprotocol = \"udp\"\nport = {STREAM_PORT}\n"
    )
}

fn guarded(world: &Topology, signature: &str) -> Result<Daemon> {
    let mut daemon = Daemon::prepare(&world.inside, &policy(), EDGE, Mode::Auto)?;
    daemon.write_settings(&format!("interfaces = [\"{EDGE}\"]"), &tables(signature))?;
    daemon.launch()?;
    Ok(daemon)
}

fn signatures(daemon: &Daemon) -> Result<Vec<Value>> {
    let status = daemon.palisade(&["status"])?;
    Ok(status["signatures"]
        .as_array()
        .context("none told")?
        .clone())
}

fn flood_alert(daemon: &Daemon, kind: &str) -> Result<Option<Value>> {
    let document = daemon.palisade(&["alerts"])?;
    let alerts = document["alerts"].as_array().context("no alerts")?;
    let mut floods = alerts.iter().filter(|alert| alert["kind"] == kind);
    // Several alerts may tell of parts of a flood; the first is answered first.
    let told = floods.find(|alert| !alert["evidence"]["signatures"].is_null());
    Ok(told.cloned())
}

/// Floods the host while visitors go on, and says how long it took until a packet was dropped.
fn react(flood: Flood, rate: u64, kind: &str) -> Result<()> {
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, SHOP_PORT, "shop")?;
    let daemon = guarded(&world, "enforce")?;
    let visitors = Visitors::of_ordinary_days(&world)?;
    let dropped = first_drop(daemon.socket(), stretched(Duration::from_secs(10)));
    let sender = flood.start(&world, eased(rate), stretched(Duration::from_secs(6)))?;
    let dropped = namespace::join(dropped).with_context(|| daemon.log())?;

    let listed = daemon.palisade(&["rule", "list"])?;
    let rules = listed["rules"].as_array().context("no rules")?;
    let temporary = rules.iter().filter(|rule| rule["temporary"] == true);
    ensure!(temporary.count() > 0, "{listed:#}");

    let (began, sent) = namespace::join(sender)?;
    let ended = Instant::now();
    let by_signature = daemon.inbound("drop", "signature")?;
    let visits = visitors.end()?;
    let reaction = dropped - began;
    let alert = flood_alert(&daemon, kind)?.context("no alert")?;
    note(&format!(
        "reaction: {}: first packet dropped {} ms after the first packet of the flood; {by_signature} of {sent} dropped",
        flood.name(),
        reaction.as_millis()
    ));
    let told = alert["response"].to_string();
    ensure!(told.contains("in force as signature-"), "{told}");
    ensure!(
        reaction <= stretched(Duration::from_secs(1)),
        "{reaction:?}"
    );
    // What came in the first second at most was let through.
    ensure!(by_signature > sent / 2, "{by_signature} of {sent}");
    let served = served(&visits, dropped, ended);
    ensure!(
        served >= 0.95,
        "{served} of the visits were served: {visits:?}"
    );
    let rule = alert["evidence"]["signatures"][0]["rule"].as_str();
    let rule = rule.context("no rule is told")?;
    let kept = daemon.folder().join("kept.toml");
    std::fs::write(&kept, format!("{SHOP}\n{rule}"))?;
    daemon.palisade(&["check", kept.to_str().context("a name")?])?;
    wait_until("the signature ends with the flood", SOON, || {
        Ok(signatures(&daemon)?.is_empty())
    })?;
    Ok(())
}

#[test]
fn a_forged_flood_is_dropped_within_a_second_and_visitors_go_on() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    react(Flood::Syns, RATE, "syn_flood")
}

#[test]
fn a_flood_of_datagrams_is_dropped_within_a_second_and_visitors_go_on() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    react(Flood::Datagrams, 4 * RATE, "udp_flood")
}

#[test]
fn without_leave_a_signature_is_told_and_nothing_dropped() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let daemon = guarded(&world, "suggest")?;
    let visitors = Visitors::of_ordinary_days(&world)?;
    let sender = Flood::Syns.start(&world, eased(RATE), stretched(Duration::from_secs(4)))?;
    wait_until("a signature is told", SOON, || {
        let alert = flood_alert(&daemon, "syn_flood")?;
        Ok(alert.is_some_and(|alert| alert["evidence"]["signatures"][0]["harmless"] == true))
    })
    .with_context(|| format!("{:#?}", flood_alert(&daemon, "syn_flood")))?;
    namespace::join(sender)?;
    visitors.end()?;
    assert_eq!(daemon.inbound("drop", "signature")?, 0);
    assert!(signatures(&daemon)?.is_empty());
    Ok(())
}

#[test]
fn a_signature_outlives_the_daemon_and_goes_when_a_person_removes_it() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let mut daemon = guarded(&world, "enforce")?;
    let visitors = Visitors::of_ordinary_days(&world)?;
    let sender = Flood::Syns.start(&world, eased(RATE), stretched(Duration::from_secs(12)))?;
    wait_until("a signature is in force", SOON, || {
        Ok(!signatures(&daemon)?.is_empty())
    })?;
    let name = signatures(&daemon)?[0]["name"].clone();
    daemon.kill()?;
    std::thread::sleep(Duration::from_secs(1));
    daemon.launch()?;
    let after = signatures(&daemon)?;
    ensure!(after.len() == 1 && after[0]["name"] == name, "{after:#?}");
    let before = daemon.inbound("drop", "signature")?;
    wait_until("it drops as before", SOON, || {
        Ok(daemon.inbound("drop", "signature")? > before)
    })?;
    let name = name.as_str().context("a name")?;
    daemon.palisade(&["rule", "remove", name])?;
    let left = signatures(&daemon)?;
    ensure!(
        left.iter().all(|signature| signature["name"] != name),
        "{left:#?}"
    );
    drop(sender);
    visitors.end()?;
    Ok(())
}

/// A table with every kind of condition.
fn every_condition() -> SignatureTable {
    let mut table = SignatureTable::EMPTY;
    let all = [
        vec![
            Condition::Protocol(17),
            Condition::Port(53, 54),
            Condition::Payload(vec![Some(0x41), None, Some(0x42)]),
        ],
        vec![
            Condition::Protocol(6),
            Condition::TcpFlags { set: 2, clear: 16 },
            Condition::TcpWindow(500, 600),
            Condition::Length(40, 60),
        ],
        vec![
            Condition::Protocol(58),
            Condition::IcmpType(128),
            Condition::Ttl(60, 64),
        ],
        vec![
            Condition::Protocol(17),
            Condition::From("203.0.113.64/26".parse().expect("a prefix")),
            Condition::FromPort(100, 200),
            Condition::Fragment(false),
        ],
    ];
    for (slot, conditions) in table.slots.iter_mut().zip(all) {
        slot.until = u64::MAX;
        slot.conditions = firewall_user::detect::signature::conditions(&conditions);
    }
    table
}

#[test]
fn both_engines_find_the_same_signatures() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let text = "version = 1\n[defaults]\ninbound = \"accept\"\n[protect]\nnever_block = [\"203.0.113.70\"]\n";
    let compile = || -> Result<_> {
        let (policy, _) = Policy::parse(text, "policy.toml", std::path::Path::new("/"))
            .context("the policy is valid")?;
        Ok(policy.compile(&Environment::default())?)
    };
    let table = every_condition();
    let mut kernel = TestRun::with_signatures(compile()?, &table)?;
    let mut host = HostEngine::new(compile()?);
    host.set_signatures(table);
    let mut hits = [0; SLOTS];
    for number in 0..20_000_u64 {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let of = |shift: u32, bound: u64| (mixed >> shift) % bound;
        let v6 = of(0, 3) == 0;
        let (from, to): (IpAddr, IpAddr) = if v6 {
            (format!("2001:db8::{}", of(1, 90)).parse()?, INSIDE[1])
        } else {
            (format!("203.0.113.{}", 60 + of(1, 20)).parse()?, INSIDE[0])
        };
        let payload: Vec<u8> = (0..of(5, 20))
            .map(|at| 0x41 + ((mixed >> at) & 1) as u8)
            .collect();
        let ports = (95 + of(7, 110) as u16, 52 + of(9, 4) as u16);
        let mut packet = PacketBuilder::new(from, to)
            .context("one family")?
            .ttl(59 + of(11, 7) as u8)
            .payload(&payload);
        packet = match of(13, 3) {
            0 => packet.udp(ports.0, ports.1),
            1 => packet
                .tcp(ports.0, 80, [2, 18, 16, 0][of(15, 4) as usize])
                .tcp_window(495 + of(17, 110) as u16),
            _ => packet.icmp([8, 128][of(15, 2) as usize], 0, [0, 1, 0, 1]),
        };
        if of(19, 10) == 0 {
            packet = packet.fragment(0, false);
        }
        let frame = packet.build();
        let by_host = host.judge(&frame, Direction::Inbound, number).judgement;
        let Ok(by_kernel) = kernel.judge(&frame, Direction::Inbound, number)? else {
            continue;
        };
        assert_eq!(by_kernel, by_host, "frame {number}: {frame:02x?}");
        if by_host.reason == Reason::Signature {
            hits[(by_host.rule - FIRST_COUNTER) as usize] += 1;
        }
    }
    println!("hits of the four signatures: {hits:?}");
    ensure!(hits.iter().all(|hits| *hits > 20), "{hits:?}");
    Ok(())
}
