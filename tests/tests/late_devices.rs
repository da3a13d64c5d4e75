//! An interface of the settings whose device is not there: the others are fenced at once, and this one
//! as soon as it comes, by the policy that is in force then.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use palisade_tests::clients::{UdpStream, settle};
use palisade_tests::daemon::{Mode, metric};
use palisade_tests::process::{succeed, wait_until};
use palisade_tests::servers::UdpSink;
use palisade_tests::topology::{CLIENT_V4, EDGE, INSIDE_V4, join};
use palisade_tests::{Daemon, Topology, need_tools, skip_unless_root, stretched};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
const LATER: &str = "later";
const LATER_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const BEYOND_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

/// A policy that lets one UDP port in.
fn udp(port: u16) -> String {
    format!(
        "version = 1\n[defaults]\ninbound = \"drop\"\n\
         [[rule]]\nname = \"port-{port}\"\naction = \"accept\"\nprotocol = \"udp\"\nport = {port}\n"
    )
}

/// A host with `edge`, with settings that also name `later`, and with listeners at two UDP ports.
struct Host {
    world: Topology,
    daemon: Daemon,
    sinks: [UdpSink; 2],
}

impl Host {
    /// Started without `later`; port 5000 is let in.
    fn start() -> Result<Self> {
        need_tools(&["curl"])?;
        let world = Topology::untagged()?;
        let sinks = [
            UdpSink::start(&world.inside, 5000)?,
            UdpSink::start(&world.inside, 5001)?,
        ];
        let mut daemon = Daemon::prepare(&world.inside, &udp(5000), EDGE, Mode::Auto)?;
        daemon.write_settings("interfaces = [\"edge\", \"later\"]", "")?;
        daemon.launch()?;
        Ok(Self {
            world,
            daemon,
            sinks,
        })
    }

    fn plug_in(&self) -> Result<()> {
        join((&self.world.inside, LATER), (&self.world.outside, "beyond"))?;
        let inside = format!("ip addr add {LATER_V4}/24 dev {LATER}");
        self.world.inside.run(&inside)?;
        let outside = format!("ip addr add {BEYOND_V4}/24 dev beyond");
        self.world.outside.run(&outside)?;
        Ok(())
    }

    fn unplug(&self) -> Result<()> {
        self.world.inside.run("ip link delete later")?;
        Ok(())
    }

    /// The names in one list of the status.
    fn names(&self, list: &str) -> Result<Vec<String>> {
        let status = self.daemon.palisade(&["status"])?;
        let list = status[list].as_array().context("no such list")?;
        let names = list.iter().filter_map(|one| one["name"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn wait_until_fenced(&self) -> Result<()> {
        wait_until("`later` is fenced", PATIENCE, || {
            Ok(self.names("interfaces")? == [EDGE, LATER])
        })?;
        assert!(self.names("waiting")?.is_empty());
        Ok(())
    }

    fn wait_until_waiting(&self) -> Result<()> {
        wait_until("`later` is waited for", PATIENCE, || {
            Ok(self.names("waiting")? == [LATER])
        })?;
        assert_eq!(self.names("interfaces")?, [EDGE]);
        Ok(())
    }

    /// Which of the two ports can be reached over a wire: all of what is sent, or nothing.
    fn reachable(&self, from: Ipv4Addr, to: Ipv4Addr) -> Result<[bool; 2]> {
        let mut reached = [false; 2];
        for (index, sink) in self.sinks.iter().enumerate() {
            let before = sink.total();
            let to = SocketAddr::new(IpAddr::V4(to), 5000 + index as u16);
            let from = SocketAddr::new(IpAddr::V4(from), 0);
            let every = Duration::from_millis(2);
            let stream = UdpStream::start(&self.world.outside, from, to, every)?;
            std::thread::sleep(stretched(Duration::from_millis(100)));
            let sent = stream.stop()?;
            ensure!(sent > 2, "{sent} datagrams");
            let came = settle(|| sink.total())? - before;
            ensure!(came == 0 || came == sent, "{came} of {sent} came");
            reached[index] = came > 0;
        }
        Ok(reached)
    }

    fn over_edge(&self) -> Result<[bool; 2]> {
        self.reachable(CLIENT_V4, INSIDE_V4)
    }

    fn over_later(&self) -> Result<[bool; 2]> {
        self.reachable(BEYOND_V4, LATER_V4)
    }

    /// What the metrics say of a fence on both hooks: 0 to 2.
    fn attached(&self, interface: &str) -> Result<f64> {
        let label = format!("interface=\"{interface}\"");
        Ok(metric(
            &self.daemon.scrape()?,
            "palisade_attached",
            &[&label],
        ))
    }

    fn apply(&self, policy: &str, more: &[&str]) -> Result<Value> {
        let file = self.daemon.folder().join("offered.toml");
        std::fs::write(&file, policy)?;
        let file = file.to_str().context("a path in UTF-8")?;
        self.daemon.palisade(&[&["apply", file], more].concat())
    }

    fn dropped_on_later(&self) -> Result<u64> {
        let status = self.daemon.palisade(&["status"])?;
        let totals = status["totals"].as_array().context("no totals")?;
        let on_later = totals.iter().filter(|total| {
            total["interface"] == LATER
                && total["direction"] == "inbound"
                && total["verdict"] == "drop"
        });
        Ok(on_later.filter_map(|total| total["packets"].as_u64()).sum())
    }
}

const FIRST: [bool; 2] = [true, false];
const SECOND: [bool; 2] = [false, true];

#[test]
fn one_that_is_missing_leaves_the_others_fenced_and_is_fenced_as_it_comes() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let mut host = Host::start()?;
    assert_eq!(host.over_edge()?, FIRST);
    assert_eq!(host.names("waiting")?, [LATER]);
    assert_eq!(host.attached(EDGE)?, 2.0);
    let scrape = host.daemon.scrape()?;
    let zero = scrape.lines().any(|line| {
        line.starts_with("palisade_attached")
            && line.contains("interface=\"later\"")
            && line.ends_with(" 0")
    });
    assert!(zero, "{scrape}");
    let waited = |scrape: &str, interface: &str| {
        let label = format!("interface=\"{interface}\"");
        metric(scrape, "palisade_waiting", &[&label])
    };
    assert_eq!([waited(&scrape, EDGE), waited(&scrape, LATER)], [0.0, 1.0]);
    let health = [
        "--silent",
        "--noproxy",
        "*",
        "http://127.0.0.1:9477/healthz",
    ];
    let mut curl = host.world.inside.command("curl");
    succeed(curl.arg("--fail").args(health))?;
    let told = host.daemon.try_palisade(&["status"])?;
    assert!(told.success(), "{told}");
    let line = "interface: later, waiting for the device";
    assert!(told.stdout.contains(line), "{told}");
    assert!(host.daemon.log().contains("no such device"), "no warning");

    // Changes go on without it, and it gets the latest.
    host.apply(&udp(5001), &[])?;
    assert_eq!(host.over_edge()?, SECOND);
    host.plug_in()?;
    host.wait_until_fenced()?;
    let before = host.dropped_on_later()?;
    assert_eq!(host.over_later()?, SECOND);
    assert!(host.dropped_on_later()? > before, "what is dropped counts");
    assert_eq!(host.attached(LATER)?, 2.0);
    assert_eq!(waited(&host.daemon.scrape()?, LATER), 0.0);

    // It goes, and a daemon is started without it once more.
    host.daemon.write_policy(&udp(5001))?;
    host.unplug()?;
    host.wait_until_waiting()?;
    assert_eq!(host.over_edge()?, SECOND);
    host.daemon.stop()?;
    host.daemon.launch()?;
    assert_eq!(host.names("waiting")?, [LATER]);
    let status = host.daemon.palisade(&["status"])?;
    assert_eq!(status["interfaces"][0]["taken_over"], true, "{status:#}");
    host.plug_in()?;
    host.wait_until_fenced()?;
    assert_eq!(host.over_later()?, SECOND);
    Ok(())
}

#[test]
fn a_trial_and_a_detached_fence_hold_for_one_that_comes_later() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let mut host = Host::start()?;

    // It comes during a trial, which another daemon goes on with, and is given back with the others.
    host.apply(&udp(5001), &["--confirm", "10m"])?;
    assert_eq!(host.over_edge()?, SECOND);
    host.daemon.kill()?;
    host.daemon.launch()?;
    let status = host.daemon.palisade(&["status"])?;
    assert!(status["policy"]["trial"].is_object(), "{status:#}");
    host.plug_in()?;
    host.wait_until_fenced()?;
    assert_eq!(host.over_later()?, SECOND);
    host.daemon.palisade(&["rollback"])?;
    assert_eq!([host.over_edge()?, host.over_later()?], [FIRST, FIRST]);

    // It comes after a trial that went well.
    host.unplug()?;
    host.wait_until_waiting()?;
    host.apply(&udp(5001), &["--confirm", "10m"])?;
    host.daemon.palisade(&["confirm"])?;
    host.plug_in()?;
    host.wait_until_fenced()?;
    assert_eq!([host.over_edge()?, host.over_later()?], [SECOND, SECOND]);

    // One that was left open stays open, and the other one's fence stays up, until an apply.
    host.unplug()?;
    host.wait_until_waiting()?;
    host.daemon.palisade(&["detach", "--interface", LATER])?;
    assert!(host.names("waiting")?.is_empty());
    host.plug_in()?;
    assert_eq!(host.over_later()?, [true, true]);
    assert_eq!(host.over_edge()?, SECOND);
    host.apply(&udp(5000), &[])?;
    assert_eq!([host.over_edge()?, host.over_later()?], [FIRST, FIRST]);

    // With the last fence gone, what the one to come needs is still pinned.
    host.unplug()?;
    host.wait_until_waiting()?;
    host.daemon.palisade(&["detach", "--interface", EDGE])?;
    host.plug_in()?;
    wait_until("`later` is fenced alone", PATIENCE, || {
        // Until then the host is open, and the status fails.
        Ok(host.names("interfaces").is_ok_and(|names| names == [LATER]))
    })?;
    assert_eq!(host.over_later()?, FIRST);
    Ok(())
}

#[test]
fn one_that_comes_and_cannot_be_fenced_keeps_nobody_from_changes() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let host = Host::start()?;
    let inside = &host.world.inside;
    inside.run("ip tuntap add dev later mode tun")?;
    wait_until("it is said why", PATIENCE, || {
        let told = host.daemon.try_palisade(&["status"])?;
        Ok(told.stdout.contains("interface later is not Ethernet"))
    })?;
    assert!(host.daemon.log().contains("cannot be fenced"));
    host.apply(&udp(5001), &[])?;
    assert_eq!(host.over_edge()?, SECOND);
    assert_eq!(host.names("waiting")?, [LATER]);
    inside.run("ip tuntap del dev later mode tun")?;
    host.plug_in()?;
    host.wait_until_fenced()?;
    assert_eq!(host.over_later()?, SECOND);
    Ok(())
}
