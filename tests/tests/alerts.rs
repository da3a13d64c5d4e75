//! What is out of the ordinary is told, by its right name, about the right one; and the ordinary
//! is not.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::clients::curl;
use palisade_tests::daemon::{Mode, metric};
use palisade_tests::policies::SHOP;
use palisade_tests::process::wait_until;
use palisade_tests::topology::{CLIENT, EDGE, INSIDE, OTHER, WIRE};
use palisade_tests::{Daemon, Topology, need_tools, servers, skip_unless_root};
use serde_json::Value;

/// Enough for the windows that rates and scans are counted over.
const SOON: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(3);
/// An address that only the scanner uses.
const SCANNER: &str = "203.0.113.66";

/// A daemon that bans whom an alert names, and whose alerts are over seconds after their cause.
fn vigilant(world: &Topology, policy: &str) -> Result<Daemon> {
    let mut daemon = Daemon::prepare(&world.inside, policy, EDGE, Mode::Auto)?;
    daemon.write_settings(
        &format!("interfaces = [\"{EDGE}\"]"),
        "[detect]\nquiet = \"1s\"\nport_scan = { window = \"3s\" }\n\n[respond]\nmode = \"ban\"\nban_for = \"1m\"\n",
    )?;
    daemon.launch()?;
    Ok(daemon)
}

fn alerts(daemon: &Daemon) -> Result<Vec<Value>> {
    let document = daemon.palisade(&["alerts"])?;
    let alerts = document["alerts"].as_array().context("no alerts")?;
    Ok(alerts.clone())
}

fn wait_for(daemon: &Daemon, kind: &str, subject: &str, state: &str) -> Result<()> {
    let matches = |alert: &Value| {
        alert["kind"] == kind && alert["subject"] == subject && alert["state"] == state
    };
    wait_until(&format!("{kind} about {subject}, {state}"), SOON, || {
        Ok(alerts(daemon)?.iter().any(matches))
    })
    .with_context(|| format!("{:#?}", alerts(daemon)))?;
    Ok(())
}

fn scan(world: &Topology, how: &str, scanner: &str, ports: &str) -> Result<String> {
    world.outside.run(&format!(
        "nmap -n -Pn {how} -p {ports} --min-rate 100 --max-retries 0 -e {WIRE} -S {scanner} {}",
        INSIDE[0]
    ))
}

#[test]
fn nmap_s_scans_are_port_scans_by_the_scanner_and_get_it_banned() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nmap", "curl"])?;
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let daemon = vigilant(&world, SHOP)?;
    for (how, last) in [("-sS", 66), ("-sF", 67), ("-sU", 68)] {
        let scanner = format!("203.0.113.{last}");
        world.add_client(scanner.parse()?)?;
        scan(&world, how, &scanner, "1-100")?;
        wait_for(&daemon, "port_scan", &scanner, "firing")?;
        let bans = daemon.palisade(&["bans"])?;
        let banned = format!("{scanner}/32");
        let ban = bans["bans"]
            .as_array()
            .and_then(|bans| bans.iter().find(|ban| ban["prefix"] == banned))
            .with_context(|| format!("{how}: {banned} is not in {bans:#}"))?;
        assert_eq!(ban["origin"], "automatic", "{how}: {ban:#}");
        let page = curl(
            &world.outside,
            scanner.parse()?,
            INSIDE[0],
            80,
            Duration::from_millis(300),
        )?;
        assert!(!page.success(), "{how}: {page}");
    }
    let visit = curl(&world.outside, CLIENT[0], INSIDE[0], 80, PATIENCE)?;
    assert_eq!(visit.stdout, "shop", "{visit}");
    wait_for(&daemon, "port_scan", SCANNER, "resolved")?;
    Ok(())
}

#[test]
fn a_protected_scanner_is_reported_and_not_banned() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nmap", "curl"])?;
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    world.add_client(SCANNER.parse()?)?;
    let policy = format!("{SHOP}\n[protect]\nnever_block = [\"{SCANNER}\"]\n");
    let daemon = vigilant(&world, &policy)?;
    scan(&world, "-sS", SCANNER, "1-100")?;
    wait_for(&daemon, "port_scan", SCANNER, "firing")?;
    assert_eq!(daemon.palisade(&["bans"])?["bans"], Value::Array(vec![]));
    let scanner: IpAddr = SCANNER.parse()?;
    let page = curl(&world.outside, scanner, INSIDE[0], 80, PATIENCE)?;
    assert_eq!(page.stdout, "shop", "{page}");
    Ok(())
}

#[test]
fn a_flood_forged_in_the_name_of_a_network_is_told_and_bans_nobody() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["hping3"])?;
    let world = Topology::untagged()?;
    let daemon = vigilant(&world, SHOP)?;
    const FORGED: &str = "203.0.113.0/24";
    let mut floods = Vec::new();
    for last in 100..120 {
        floods.push(world.outside.spawn(&format!(
            "hping3 -q -n -S -p 443 -i u10000 -c 300 -a 203.0.113.{last} {}",
            INSIDE[0]
        ))?);
    }
    wait_for(&daemon, "syn_flood", FORGED, "firing")?;
    for mut flood in floods {
        flood.wait(SOON)?;
    }
    wait_for(&daemon, "syn_flood", FORGED, "resolved")?;
    // Forged sources are nobody's: banning them would be a weapon for the flooder.
    assert_eq!(daemon.palisade(&["bans"])?["bans"], Value::Array(vec![]));
    let scrape = daemon.scrape()?;
    let told = metric(&scrape, "palisade_alerts_total", &["kind=\"syn_flood\""]);
    assert!(told > 0.0, "{scrape}");
    Ok(())
}

#[test]
fn ordinary_visits_raise_nothing() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl"])?;
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let daemon = vigilant(&world, SHOP)?;
    for _ in 0..20 {
        for (index, to) in INSIDE.into_iter().enumerate() {
            for from in [CLIENT[index], OTHER[index]] {
                let page = curl(&world.outside, from, to, 80, PATIENCE)?;
                assert_eq!(page.stdout, "shop", "{page}");
            }
        }
    }
    // Two windows of the rate detectors later everything has been looked at.
    std::thread::sleep(Duration::from_secs(4));
    let raised = alerts(&daemon)?;
    assert!(raised.is_empty(), "{raised:#?}");
    Ok(())
}
