//! What comes from everywhere is one incident about the host: a flood of SYNs whose sources are forged over
//! thousands of networks.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use firewall_common::packet::flag;
use firewall_user::packet_build::PacketBuilder;
use palisade_tests::daemon::Mode;
use palisade_tests::frames::FrameSocket;
use palisade_tests::namespace::join;
use palisade_tests::policies::SHOP;
use palisade_tests::process::wait_until;
use palisade_tests::topology::{EDGE, INSIDE_V6, WIRE};
use palisade_tests::{Daemon, Topology, eased, servers, skip_unless_root, stretched};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// SYNs a second, ten times what fires, and for how long.
const RATE: u64 = 2_000;
const TIME: Duration = Duration::from_secs(6);

/// A source in a /48 of its own, of the 65,536 in 2001:db8::/32.
fn forged(number: u64) -> Ipv6Addr {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let network = (mixed >> 48) as u16;
    let subnet = (mixed >> 32) as u16;
    Ipv6Addr::new(0x2001, 0xdb8, network, subnet, 0, 0, 0, mixed as u16)
}

fn syn(number: u64, to: [u8; 6]) -> Result<Vec<u8>> {
    let builder = PacketBuilder::new(forged(number).into(), INSIDE_V6.into());
    let builder = builder.context("addresses of two families")?;
    let port = 1_024 + (number.wrapping_mul(40_503) % 60_000) as u16;
    let mut frame = builder.tcp(port, 80, flag::SYN).build();
    frame[..6].copy_from_slice(&to);
    Ok(frame)
}

fn hardware_address(world: &Topology) -> Result<[u8; 6]> {
    let link = world.inside.run(&format!("ip -json link show {EDGE}"))?;
    let link: Value = serde_json::from_str(&link)?;
    let text = link[0]["address"].as_str().context("no address")?;
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("{text}"))
}

#[test]
fn a_flood_forged_over_thousands_of_networks_is_one_incident_about_the_host() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let mut daemon = Daemon::prepare(&world.inside, SHOP, EDGE, Mode::Auto)?;
    daemon.write_settings(
        &format!("interfaces = [\"{EDGE}\"]"),
        "[detect]\nquiet = \"1s\"\n\n[respond]\nmode = \"ban\"\n",
    )?;
    daemon.launch()?;
    let to = hardware_address(&world)?;
    let flood = world.outside.thread(move || {
        let socket = FrameSocket::open(WIRE)?;
        let started = Instant::now();
        let mut sent = 0;
        while started.elapsed() < stretched(TIME) {
            let due = started.elapsed().as_millis() as u64 * eased(RATE) / 1_000;
            while sent < due {
                socket.send(&syn(sent, to)?)?;
                sent += 1;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(sent)
    })?;
    let incidents = || -> Result<Vec<Value>> {
        let document = daemon.palisade(&["incidents"])?;
        Ok(document["incidents"]
            .as_array()
            .context("no incidents")?
            .clone())
    };
    wait_until("an incident", SOON, || Ok(!incidents()?.is_empty()))?;
    assert!(join(flood)? > 0);
    wait_until("its end", SOON, || {
        Ok(incidents()?.iter().all(|it| it["state"] == "resolved"))
    })?;
    let incidents = incidents()?;
    let [incident] = &incidents[..] else {
        panic!("{incidents:#?}");
    };
    let kinds = incident["kinds"].as_array().context("no kinds")?;
    assert!(kinds.contains(&"syn_flood".into()), "{incident:#}");
    // One subject, however many sources there were.
    assert_eq!(incident["subject_count"], 1, "{incident:#}");
    assert_eq!(incident["subjects"][0]["subject"], "host", "{incident:#}");
    let bans = daemon.palisade(&["bans"])?;
    assert_eq!(bans["bans"], Value::Array(vec![]), "{bans:#}");
    Ok(())
}
