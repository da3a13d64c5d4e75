//! What cookies are for.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use firewall_common::packet::flag;
use palisade_tests::daemon::{Mode, metric};
use palisade_tests::policies::SHOP;
use palisade_tests::process::wait_until;
use palisade_tests::topology::{EDGE, INSIDE, WIRE};
use palisade_tests::xdp::Passing;
use palisade_tests::{Daemon, Topology, eased, need_tools, note, servers, skip_unless_root};
use serde_json::Value;

use crate::flood::Flood;
use crate::visitors::{fetch, visit};
use crate::{SHOP_PORT, SOON, available, cookies, count, guarded, stack};

/// A world whose host waits for the end of few handshakes, as a busy shop does when thousands of times
/// as many come.
fn world() -> Result<Topology> {
    let world = Topology::untagged()?;
    world.inside.sysctl("ipv4/tcp_max_syn_backlog", "128")?;
    Ok(world)
}

/// Handshakes that the host's stack waits for the end of.
fn half_open(world: &Topology) -> Result<usize> {
    let list = world.inside.run("ss -Htn state syn-recv")?;
    Ok(list.lines().filter(|line| !line.trim().is_empty()).count())
}

/// Bytes that the edge has sent, as the kernel counts them.
fn bytes_out(world: &Topology) -> Result<u64> {
    let link = world
        .inside
        .run(&format!("ip -json -statistics link show {EDGE}"))?;
    let link: Value = serde_json::from_str(&link)?;
    let bytes = link[0]["stats64"]["tx"]["bytes"].as_u64();
    bytes.context("no statistics")
}

/// Bytes of the frames that came in, as the fence counts them.
fn bytes_in(daemon: &Daemon) -> Result<f64> {
    let scrape = daemon.scrape()?;
    Ok(metric(
        &scrape,
        "palisade_bytes_total",
        &["direction=\"inbound\""],
    ))
}

fn alert(daemon: &Daemon) -> Result<Value> {
    let document = daemon.palisade(&["alerts"])?;
    let alerts = document["alerts"].as_array().context("no alerts")?;
    let flood = alerts.iter().find(|alert| alert["kind"] == "syn_flood");
    flood.cloned().with_context(|| format!("{document:#}"))
}

fn share((got, knocked): (u32, u32)) -> f64 {
    f64::from(got) / f64::from(knocked.max(1))
}

#[test]
fn visitors_get_in_as_ever_while_a_forged_flood_of_syns_comes_and_all_is_as_before_when_it_ends()
-> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["ss", "sysctl", "curl"])?;
    let world = world()?;
    let _peer = Passing::on(&world.outside, WIRE)?;
    let _shop = servers::http(&world.inside, SHOP_PORT, "shop")?;
    let daemon = guarded(&world, SHOP, Mode::Native, "syn_cookies = \"alert\"")?;
    if !available(&daemon)? {
        return Ok(());
    }
    let usual = visit(&world, Duration::from_secs(4))?;
    let flood = Flood::start(&world, SHOP_PORT, flag::SYN)?;
    let started = Instant::now();
    wait_until("cookies for the shop", SOON, || {
        Ok(cookies(&daemon)?["armed"][0]["service"] == "shop")
    })?;
    let armed = started.elapsed();
    wait_until("the alert says so", SOON, || {
        let response = alert(&daemon)?["response"].to_string();
        Ok(response.contains("SYN cookies for shop"))
    })?;
    let scrape = daemon.scrape()?;
    let gauge = metric(&scrape, "palisade_syn_cookies_armed", &["service=\"shop\""]);
    ensure!(gauge == 1.0, "{scrape}");

    // Without visitors, what goes out are answers to the flood alone.
    let (came, went) = (bytes_in(&daemon)?, bytes_out(&world)?);
    std::thread::sleep(Duration::from_secs(2));
    let (went, came) = (bytes_out(&world)? - went, bytes_in(&daemon)? - came);

    let before = (count(&daemon, "sent")?, half_open(&world)?);
    let during = visit(&world, Duration::from_secs(6))?;
    let after = (count(&daemon, "sent")?, half_open(&world)?);
    let sent = flood.stop()?;
    note(&format!(
        "visitors usually {usual:?}, in the flood {during:?}; armed after {armed:.2?}; {} cookies in 6 s, of {sent} \
         SYNs in all; in two seconds {came} bytes in, {went} out; half open {} before, {} after",
        after.0 - before.0,
        before.1,
        after.1,
    ));
    ensure!(sent > eased(20_000), "{sent} SYNs are no flood");
    ensure!(after.0 > before.0 + eased(3_000), "hardly any cookies");
    for (usual, during) in usual.into_iter().zip(during) {
        ensure!(share(usual) > 0.95, "{usual:?} without a flood");
        ensure!(
            share(during) >= 0.95 * share(usual),
            "usually {usual:?}, in the flood {during:?}"
        );
    }
    ensure!(
        went as f64 <= came,
        "{came} bytes came in and {went} went out"
    );
    // What the backlog holds came before cookies were sent, and only times out.
    ensure!(
        after.1 <= before.1,
        "{} half open, then {}",
        before.1,
        after.1
    );
    let bans = daemon.palisade(&["bans"])?;
    ensure!(
        bans["bans"].as_array().is_some_and(Vec::is_empty),
        "forged sources are nobody's: {bans}"
    );

    wait_until("no cookies any more", SOON, || {
        let report = cookies(&daemon)?;
        let none = report["armed"].as_array().is_some_and(Vec::is_empty);
        Ok(none && stack(&world)? == ["1", "1"])
    })
    .with_context(|| format!("{:#}", cookies(&daemon).unwrap_or_default()))?;
    let sent = count(&daemon, "sent")?;
    for to in INSIDE {
        ensure!(world.outside.inside(move || Ok(fetch(to)))?, "{to}");
    }
    assert_eq!(count(&daemon, "sent")?, sent);
    Ok(())
}

#[test]
fn a_service_that_is_armed_before_a_flood_waits_for_no_handshake_and_drops_forged_acks()
-> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["ss", "sysctl", "curl"])?;
    let world = world()?;
    let _peer = Passing::on(&world.outside, WIRE)?;
    let _shop = servers::http(&world.inside, SHOP_PORT, "shop")?;
    let daemon = guarded(&world, SHOP, Mode::Native, "")?;
    if !available(&daemon)? {
        return Ok(());
    }
    daemon.palisade(&["cookies", "on", "shop"])?;
    // The stack shows how it answers for both addresses.
    visit(&world, Duration::from_secs(1))?;
    let syns = Flood::start(&world, SHOP_PORT, flag::SYN)?;
    let acks = Flood::start(&world, SHOP_PORT, flag::ACK)?;
    std::thread::sleep(Duration::from_secs(1));
    let during = visit(&world, Duration::from_secs(3))?;
    let waiting = half_open(&world)?;
    let (syns, acks) = (syns.stop()?, acks.stop()?);
    let (rejected, dropped) = (
        count(&daemon, "rejected")?,
        daemon.inbound("drop", "limit")?,
    );
    note(&format!(
        "{syns} SYNs and {acks} ACKs; visitors {during:?}; {waiting} half open; {rejected} ACKs rejected"
    ));
    ensure!(waiting < 20, "{waiting} half open");
    ensure!(rejected > acks / 4, "{rejected} of {acks} rejected");
    assert_eq!(dropped, rejected);
    for during in during {
        ensure!(share(during) >= 0.95, "{during:?}");
    }
    Ok(())
}

#[test]
fn answers_that_do_not_leave_the_interface_are_noticed_and_the_stack_sends_its_own() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["sysctl", "ethtool"])?;
    let world = world()?;
    // A virtual wire with nothing at its other end that would take what XDP sends back.
    world.outside.run(&format!("ethtool -K {WIRE} gro off"))?;
    let _shop = servers::http(&world.inside, SHOP_PORT, "shop")?;
    let daemon = guarded(&world, SHOP, Mode::Native, "")?;
    if !available(&daemon)? {
        return Ok(());
    }
    daemon.palisade(&["cookies", "on", "shop"])?;
    let flood = Flood::start(&world, SHOP_PORT, flag::SYN)?;
    wait_until("it is noticed", SOON, || {
        let report = cookies(&daemon)?;
        let why = report["problem"].as_str().unwrap_or_default();
        Ok(why.contains("did not leave the interface"))
    })?;
    let status = daemon.try_palisade(&["status"])?;
    ensure!(status.stdout.contains("NOT sent"), "{status}");
    assert_eq!(stack(&world)?, ["2", "2"]);
    let during = visit(&world, Duration::from_secs(3))?;
    flood.stop()?;
    note(&format!("visitors by the stack's own cookies {during:?}"));
    for during in during {
        ensure!(share(during) > 0.5, "{during:?}");
    }
    Ok(())
}

#[test]
fn a_host_that_only_observes_says_what_cookies_would_do() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = world()?;
    let daemon = guarded(&world, SHOP, Mode::Native, "")?;
    if !available(&daemon)? {
        return Ok(());
    }
    let flood = Flood::start(&world, SHOP_PORT, flag::SYN)?;
    wait_until("the alert tells", SOON, || {
        let response = alert(&daemon).map(|alert| alert["response"].to_string());
        Ok(response.is_ok_and(|text| text.contains("would send SYN cookies for shop")))
    })?;
    flood.stop()?;
    assert_eq!(count(&daemon, "sent")?, 0);
    Ok(())
}
