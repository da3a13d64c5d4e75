//! A boot, with packets under way to the machine before it has a network.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::clients::UdpStream;
use palisade_tests::disk::Disk;
use palisade_tests::process::wait_until;
use palisade_tests::servers::UdpSink;
use palisade_tests::topology::{EDGE, INSIDE, OTHER};
use palisade_tests::{Machine, Namespace, Topology};

use super::scene::{Scene, up};
use super::traffic::{CLOSED, OPEN, PACE, POLICY};

/// Addresses that systemd-networkd gives the interface, once it may: after network-pre.target.
const NETWORK: &str = "[Match]\nName=edge\n\n[Network]\nIPv6AcceptRA=no\nAddress=198.51.100.1/24\n\
    Address=2001:db8:51::1/64\nGateway=198.51.100.2\n";

#[test]
fn a_machine_that_boots_again_is_fenced_before_the_first_packet_comes_in() -> Result<()> {
    let Some((root, packages)) = Scene::parts()? else {
        return Ok(());
    };
    let world = Topology::untagged()?;
    let disk = Disk::over(&root)?;
    let first = Machine::boot_from(&disk, &world.inside, packages.folder())?;
    let Some(machine) = up(first) else {
        return Ok(());
    };
    let package = packages.file("+1", ".deb")?;
    machine.run(&format!("dpkg --install {package}"))?;
    machine.write("/etc/palisade/policy.toml", POLICY)?;
    machine.run("palisade apply")?;
    machine.write("/etc/systemd/network/edge.network", NETWORK)?;
    machine.run("systemctl enable systemd-networkd")?;
    // Power off: with the machine goes all that it had pinned, and its network.
    drop(machine);
    world.inside.run("ip link set edge down")?;
    world.inside.run("ip addr flush dev edge")?;
    let link = world.inside.run("ip link show edge")?;
    assert!(!link.contains("xdp"), "{link}");

    let open = UdpSink::start(&world.inside, OPEN)?;
    let closed = UdpSink::start(&world.inside, CLOSED)?;
    let received_before = received(&world.inside)?;
    let streams = streams(&world)?;
    let machine = up(Machine::boot_from(&disk, &world.inside, packages.folder())?);
    let machine = machine.context("it has booted before")?;
    wait_until("packets get in", Duration::from_secs(30), || {
        Ok(open.total() > 500)
    })?;
    for stream in streams {
        stream.stop()?;
    }
    // All that the interface ever received since it is up, the fence has judged.
    let mut counts = (0, 0);
    let compared = wait_until(
        "every packet that came in was judged",
        Duration::from_secs(10),
        || {
            counts = (
                received(&world.inside)? - received_before,
                judged(&machine)?,
            );
            Ok(counts.0 == counts.1)
        },
    );
    compared.with_context(|| format!("received and judged: {counts:?}\n{}", machine.journal()))?;
    assert!(counts.1 > 1000, "{counts:?}");
    assert_eq!(closed.total(), 0, "of {counts:?}");
    Ok(())
}

/// Streams that go out whether the other end is up or not.
fn streams(world: &Topology) -> Result<Vec<UdpStream>> {
    let link = world.inside.run("ip -oneline link show edge")?;
    let mut words = link
        .split_whitespace()
        .skip_while(|word| *word != "link/ether");
    let hardware = words.nth(1).context("edge has no hardware address")?;
    let mut streams = Vec::new();
    for (from, to) in OTHER.into_iter().zip(INSIDE) {
        let neighbour = format!("ip neigh replace {to} lladdr {hardware} dev wire nud permanent");
        world.outside.run(&neighbour)?;
        for port in [OPEN, CLOSED] {
            let (from, to) = (SocketAddr::new(from, 0), SocketAddr::new(to, port));
            streams.push(UdpStream::start(&world.outside, from, to, PACE)?);
        }
    }
    Ok(streams)
}

/// Packets that the interface has received, by its own count.
fn received(inside: &Namespace) -> Result<u64> {
    let link = inside.run(&format!("ip -json -statistics link show {EDGE}"))?;
    let link: serde_json::Value = serde_json::from_str(&link)?;
    let packets = link[0]["stats64"]["rx"]["packets"].as_u64();
    packets.with_context(|| format!("no packets in {link:#}"))
}

/// Packets that the fence has judged on their way in.
fn judged(machine: &Machine) -> Result<u64> {
    let status = machine.palisade("status")?;
    let totals = status["totals"].as_array().context("no totals")?;
    let inbound = totals
        .iter()
        .filter(|total| total["direction"] == "inbound");
    Ok(inbound.filter_map(|total| total["packets"].as_u64()).sum())
}
