//! From an alert to its answer, with real scans: incidents and their evidence, bans that grow, limits that
//! leave a trickle, and what holds answers back.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use palisade_tests::clients::UdpStream;
use palisade_tests::daemon::{Mode, metric};
use palisade_tests::policies::PING;
use palisade_tests::process::{succeed, wait_until};
use palisade_tests::servers::UdpSink;
use palisade_tests::topology::{EDGE, INSIDE, WIRE};
use palisade_tests::{Daemon, Topology, need_tools, skip_unless_root};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// Scanners of either family, each with the prefix under which it is answered: alone, also of an IPv6 /64.
const SCANNERS: [(&str, &str); 2] = [
    ("203.0.113.66", "203.0.113.66/32"),
    ("2001:db8:66::66", "2001:db8:66::66/128"),
];

/// A daemon that answers as `respond` says, and whose alerts are over seconds after their cause.
fn daemon(world: &Topology, policy: &str, respond: &str) -> Result<Daemon> {
    let mut daemon = Daemon::prepare(&world.inside, policy, EDGE, Mode::Auto)?;
    daemon.write_settings(
        &format!("interfaces = [\"{EDGE}\"]"),
        &format!(
            "[detect]\nquiet = \"1s\"\nport_scan = {{ window = \"3s\" }}\n\n[respond]\n{respond}\n"
        ),
    )?;
    daemon.launch()?;
    Ok(daemon)
}

fn scan(world: &Topology, scanner: &str) -> Result<()> {
    let scanner: IpAddr = scanner.parse()?;
    let (family, to) = if scanner.is_ipv6() {
        ("-6 ", INSIDE[1])
    } else {
        ("", INSIDE[0])
    };
    world.outside.run(&format!(
        "nmap {family}-n -Pn -sS -p 1-100 --min-rate 200 --max-retries 0 -e {WIRE} -S {scanner} {to}"
    ))?;
    Ok(())
}

/// Waits for an alert, and gives it.
fn alert(daemon: &Daemon, kind: &str, subject: &str, state: &str) -> Result<Value> {
    let mut found = Value::Null;
    wait_until(&format!("{kind} about {subject}, {state}"), SOON, || {
        let document = daemon.palisade(&["alerts"])?;
        let alerts = document["alerts"].as_array().context("no alerts")?;
        let matches = |alert: &&Value| {
            alert["kind"] == kind && alert["subject"] == subject && alert["state"] == state
        };
        found = alerts.iter().find(matches).cloned().unwrap_or_default();
        Ok(!found.is_null())
    })
    .with_context(|| format!("{:#?}", daemon.palisade(&["alerts"])))?;
    Ok(found)
}

/// That the latest ban of a prefix is in the audit log, by nobody but Palisade, with the alert that it answers.
fn on_record(daemon: &Daemon, prefix: &str) -> Result<()> {
    let audit = daemon.palisade(&["audit"])?;
    let records = audit["records"].as_array().context("no records")?;
    let found = records
        .iter()
        .rfind(|record| record["action"] == "ban.add" && record["target"] == prefix);
    let record = found.with_context(|| format!("no record of {prefix} in {audit:#}"))?;
    ensure!(
        record["who"]["program"] == "palisade" && record["from"] == "daemon",
        "{record:#}"
    );
    let alerts = daemon.palisade(&["alerts"])?;
    let known = alerts["alerts"].as_array().context("no alerts")?;
    let number = &record["detail"]["alert"];
    ensure!(
        known
            .iter()
            .any(|alert| alert["id"] == *number && alert["kind"] == "port_scan"),
        "{record:#}"
    );
    Ok(())
}

/// The ban or limit of a prefix that is in force.
fn ban_of(daemon: &Daemon, prefix: &str) -> Result<Value> {
    let document = daemon.palisade(&["bans"])?;
    let bans = document["bans"].as_array().context("no bans")?;
    let found = bans.iter().find(|ban| ban["prefix"] == prefix).cloned();
    found.with_context(|| format!("{prefix} is not in {document:#}"))
}

/// What alerts call a source.
fn subject(prefix: &str) -> &str {
    prefix.split('/').next().unwrap_or(prefix)
}

#[test]
fn a_scan_is_an_incident_with_its_evidence_and_a_capture_and_is_known_after_a_restart() -> Result<()>
{
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nmap", "tshark"])?;
    let world = Topology::untagged()?;
    let mut daemon = daemon(&world, PING, "mode = \"observe\"")?;
    let mut shown = Vec::new();
    for (scanner, prefix) in SCANNERS {
        world.add_client(scanner.parse()?)?;
        scan(&world, scanner)?;
        let fired = alert(&daemon, "port_scan", subject(prefix), "firing")?;
        let id = fired["id"].to_string();
        let incident = fired["incident"].clone();
        // The evidence goes on to grow for as long as packets come.
        let over = alert(&daemon, "port_scan", subject(prefix), "resolved")?;
        let traffic = &over["evidence"]["traffic"];
        ensure!(traffic["packets"].as_u64() >= Some(50), "{over:#}");
        assert_eq!(traffic["flags"][0]["flags"], "syn", "{traffic:#}");
        ensure!(
            traffic["ports"].as_array().map(Vec::len) == Some(10),
            "{traffic:#}"
        );
        ensure!(
            traffic["during"]["packets_per_second"].as_f64()
                > traffic["before"]["packets_per_second"].as_f64(),
            "{traffic:#}"
        );
        let report = daemon.palisade(&["alerts", "show", &id])?;
        assert_eq!(report["alert"]["why"], over["why"]);
        assert_eq!(report["incident"]["id"], incident);
        assert_eq!(report["incident"]["state"], "resolved");
        let capture = report["slice"]["path"].as_str().context("no capture")?;
        let seen = succeed(
            Command::new("tshark")
                .args(["-n", "-r", capture, "-T", "fields"])
                .args(["-e", "tcp.dstport", "-Y", "tcp.flags.syn==1"]),
        )?;
        ensure!(seen.lines().count() >= 50, "{seen}");
        let why = daemon.palisade(&["why", scanner])?;
        let source = why["source"].as_str().context("no source")?;
        assert_eq!(source, prefix.replace("66::66/128", "66::/64"), "{why:#}");
        ensure!(why["counts"]["packets"].as_u64() >= Some(50), "{why:#}");
        assert_eq!(why["alerts"][0]["id"].to_string(), id, "{why:#}");
        assert_eq!(why["incidents"][0]["id"], incident, "{why:#}");
        let outcomes = why["outcomes"].as_array().context("no outcomes")?;
        ensure!(
            outcomes.iter().any(|outcome| outcome["verdict"] == "drop"
                && outcome["reason"] == "default"
                && outcome["packets"].as_u64() >= Some(50)),
            "{why:#}"
        );
        assert_eq!(why["explain"]["verdict"], "drop", "{why:#}");
        shown.push((id, incident));
    }
    // One after the other within minutes: a scan of the same kind on the same host.
    assert_eq!(shown[0].1, shown[1].1);
    let scrape = daemon.scrape()?;
    let begun = metric(&scrape, "palisade_incidents_total", &["kind=\"port_scan\""]);
    assert_eq!(begun, 1.0, "{scrape}");
    for crash in [false, true] {
        if crash {
            daemon.kill()?;
        } else {
            daemon.stop()?;
        }
        daemon.launch()?;
        for (id, incident) in &shown {
            let report = daemon.palisade(&["alerts", "show", id])?;
            assert_eq!(report["alert"]["state"], "resolved", "{report:#}");
            assert_eq!(&report["incident"]["id"], incident, "{report:#}");
            ensure!(!report["slice"].is_null(), "{report:#}");
        }
        let incidents = daemon.palisade(&["incidents"])?;
        let listed = incidents["incidents"].as_array().map(Vec::len);
        assert_eq!(listed, Some(1), "{incidents:#}");
    }
    Ok(())
}

#[test]
fn a_ban_grows_at_the_second_offence_also_after_a_restart_and_is_known_when_it_is_over()
-> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nmap"])?;
    let world = Topology::untagged()?;
    let mut daemon = daemon(&world, PING, "mode = \"ban\"\nban_for = \"10m\"")?;
    for (scanner, prefix) in SCANNERS {
        world.add_client(scanner.parse()?)?;
        for (left, offences) in [(600, 1), (1_200, 2)] {
            scan(&world, scanner)?;
            alert(&daemon, "port_scan", subject(prefix), "firing")?;
            let ban = ban_of(&daemon, prefix)?;
            assert_eq!(
                (&ban["measure"], &ban["origin"]),
                (&"ban".into(), &"automatic".into())
            );
            let seconds = ban["remaining_seconds"].as_u64().context("no end")?;
            ensure!((left - 30..=left).contains(&seconds), "{ban:#}");
            let why = daemon.palisade(&["why", scanner])?;
            assert_eq!(why["offences"], offences, "{why:#}");
            assert_eq!(why["explain"]["reason"], "ban", "{why:#}");
            on_record(&daemon, prefix)?;
            daemon.palisade(&["unban", subject(prefix)])?;
            alert(&daemon, "port_scan", subject(prefix), "resolved")?;
            daemon.stop()?;
            daemon.launch()?;
        }
        let why = daemon.palisade(&["why", scanner])?;
        assert_eq!(
            why["past_bans"].as_array().map(Vec::len),
            Some(2),
            "{why:#}"
        );
        assert_eq!(why["past_bans"][0]["lifted"], true, "{why:#}");
    }
    Ok(())
}

#[test]
fn a_limit_leaves_a_trickle_and_drops_the_rest() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nmap"])?;
    let world = Topology::untagged()?;
    let sink = UdpSink::start(&world.inside, 5000)?;
    let daemon = daemon(
        &world,
        PING,
        "mode = \"observe\"\nlimit = \"20/s\"\nkinds = { port_scan = \"limit\" }",
    )?;
    for (index, (scanner, prefix)) in SCANNERS.into_iter().enumerate() {
        let scanner: IpAddr = scanner.parse()?;
        let neighbour: IpAddr = ["203.0.113.67", "2001:db8:66::67"][index].parse()?;
        world.add_client(scanner)?;
        world.add_client(neighbour)?;
        scan(&world, &scanner.to_string())?;
        alert(&daemon, "port_scan", subject(prefix), "firing")?;
        assert_eq!(ban_of(&daemon, prefix)?["measure"], "limit");
        let to = SocketAddr::new(INSIDE[index], 5000);
        let interval = Duration::from_millis(2);
        let streams = [scanner, neighbour]
            .map(|from| UdpStream::start(&world.outside, SocketAddr::new(from, 0), to, interval));
        std::thread::sleep(Duration::from_secs(5));
        let mut arrived = Vec::new();
        for stream in streams {
            let stream = stream?;
            let from = stream.from;
            let sent = stream.stop()?;
            arrived.push((sent, sink.arrivals_from(from).len() as u64));
        }
        let [(sent, held), (others, spared)] = arrived[..] else {
            unreachable!("two streams");
        };
        // Twenty a second for five seconds, and what the bucket held at first.
        ensure!((80..=150).contains(&held), "{held} of {sent} arrived");
        ensure!(
            spared >= others * 9 / 10,
            "{spared} of {others} of the neighbour's arrived"
        );
        ensure!(
            daemon.inbound("drop", "limit")? >= sent - held,
            "counted as limited"
        );
        let why = daemon.palisade(&["why", &scanner.to_string()])?;
        assert_eq!(why["bans"][0]["measure"], "limit", "{why:#}");
    }
    Ok(())
}

#[test]
fn beyond_the_cap_of_new_bans_answers_are_off_and_a_critical_alert_says_so() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nmap"])?;
    let world = Topology::untagged()?;
    let policy = format!("{PING}\n[protect]\nnever_block = [\"203.0.113.9\"]\n");
    let daemon = daemon(&world, &policy, "mode = \"ban\"\nbans_per_minute = 2")?;
    for last in [9, 1, 2, 3] {
        let scanner = format!("203.0.113.{last}");
        world.add_client(scanner.parse()?)?;
        scan(&world, &scanner)?;
        let fired = alert(&daemon, "port_scan", &scanner, "firing")?;
        let said = fired["response"][0].as_str().context("no response")?;
        let expected = match last {
            9 => "not banned: ",
            3 => "not answered: answers are off",
            _ => "banned 203.0.113.",
        };
        ensure!(said.starts_with(expected), "{last}: {said}");
    }
    let off = alert(&daemon, "response_withheld", "host", "firing")?;
    assert_eq!(off["severity"], "critical", "{off:#}");
    let bans = daemon.palisade(&["bans"])?;
    assert_eq!(bans["bans"].as_array().map(Vec::len), Some(2), "{bans:#}");
    Ok(())
}

#[test]
fn one_bad_host_of_a_64_is_banned_and_its_neighbours_go_on() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nmap"])?;
    let (scanner, prefix) = SCANNERS[1];
    let world = Topology::untagged()?;
    let sink = UdpSink::start(&world.inside, 5000)?;
    let daemon = daemon(&world, PING, "mode = \"ban\"")?;
    world.add_client(scanner.parse()?)?;
    let to = SocketAddr::new(INSIDE[1], 5000);
    let mut neighbours = Vec::new();
    for last in [0x11, 0x12, 0x13] {
        let from: IpAddr = format!("2001:db8:66::{last:x}").parse()?;
        world.add_client(from)?;
        let from = SocketAddr::new(from, 0);
        let interval = Duration::from_millis(5);
        neighbours.push(UdpStream::start(&world.outside, from, to, interval)?);
    }
    for stream in &neighbours {
        wait_until("the neighbours' traffic arrives", SOON, || {
            Ok(sink.arrivals_from(stream.from).len() > 100)
        })?;
    }
    scan(&world, scanner)?;
    let fired = alert(&daemon, "port_scan", scanner, "firing")?;
    assert_eq!(
        fired["evidence"]["network"], "2001:db8:66::/64",
        "{fired:#}"
    );
    let ban = ban_of(&daemon, prefix)?;
    assert_eq!(ban["measure"], "ban", "{ban:#}");
    // It goes on, and so do they.
    let before: Vec<usize> = neighbours
        .iter()
        .map(|stream| sink.arrivals_from(stream.from).len())
        .collect();
    scan(&world, scanner)?;
    wait_until("the scanner meets its ban", SOON, || {
        Ok(daemon.inbound("drop", "ban")? >= 50)
    })?;
    for (stream, before) in neighbours.iter().zip(before) {
        wait_until(
            "the neighbours' traffic arrives under the ban",
            SOON,
            || Ok(sink.arrivals_from(stream.from).len() >= before + 200),
        )?;
    }
    let from: Vec<SocketAddr> = neighbours.iter().map(|stream| stream.from).collect();
    let sent: Vec<u64> = neighbours
        .into_iter()
        .map(UdpStream::stop)
        .collect::<Result<_>>()?;
    for (from, sent) in from.into_iter().zip(sent) {
        wait_until("all of it arrives", SOON, || {
            Ok(sink.arrivals_from(from).len() as u64 >= sent * 98 / 100)
        })
        .with_context(|| format!("{from}: {} of {sent}", sink.arrivals_from(from).len()))?;
    }
    let bans = daemon.palisade(&["bans"])?;
    assert_eq!(bans["bans"].as_array().map(Vec::len), Some(1), "{bans:#}");
    let alerts = daemon.palisade(&["alerts"])?;
    let about = alerts["alerts"].as_array().context("no alerts")?;
    ensure!(
        about.iter().all(|alert| alert["subject"] == scanner),
        "{alerts:#}"
    );
    let why = daemon.palisade(&["why", scanner])?;
    assert_eq!(why["bans"][0]["prefix"], prefix, "{why:#}");
    Ok(())
}
