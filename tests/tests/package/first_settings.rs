//! Which interfaces a first installation protects.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use palisade_tests::process::finish;

const V4: &str =
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
const ETHERNET: &str = "1";

/// Runs the script on routes and types of interfaces; its exit code and what stands in the settings.
fn choose(v4: &str, v6: &str, types: &[(&str, &str)]) -> Result<(i32, Option<String>)> {
    let folder = tempfile::tempdir()?;
    let (proc, sys) = (folder.path().join("proc"), folder.path().join("sys"));
    fs::create_dir_all(proc.join("net"))?;
    fs::write(proc.join("net/route"), format!("{V4}{v4}"))?;
    fs::write(proc.join("net/ipv6_route"), v6)?;
    for (interface, kind) in types {
        let class = sys.join("class/net").join(interface);
        fs::create_dir_all(&class)?;
        fs::write(class.join("type"), format!("{kind}\n"))?;
    }
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    let settings = folder.path().join("palisade.toml");
    let finished = finish(
        Command::new("/bin/sh")
            .arg(packaging.join("scripts/first-settings"))
            .arg(packaging.join("etc/palisade.toml"))
            .arg(&settings)
            .args([&proc, &sys]),
    )?;
    let chosen = fs::read_to_string(&settings).ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("interfaces"))?;
        Some(line.to_owned())
    });
    Ok((finished.code(), chosen))
}

const V4_EDGE: &str = "edge\t00000000\t026433C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
const V4_LOCAL: &str = "lan\t006433C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
const V4_TUNNEL: &str = "wg0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n";
const ZEROS: &str = "00000000000000000000000000000000";

#[test]
fn the_interfaces_with_a_default_route_are_protected() -> Result<()> {
    let v6 =
        format!("{ZEROS} 00 {ZEROS} 00 {ZEROS} 00000400 00000001 00000000 00000003     wan6\n");
    let types = [("edge", ETHERNET), ("lan", ETHERNET), ("wan6", ETHERNET)];
    let (code, chosen) = choose(&format!("{V4_EDGE}{V4_LOCAL}"), &v6, &types)?;
    assert_eq!(code, 0);
    assert_eq!(chosen.as_deref(), Some("interfaces = [\"edge\", \"wan6\"]"));
    Ok(())
}

#[test]
fn without_a_default_route_over_ethernet_nothing_is_guessed() -> Result<()> {
    // What the kernel lists where there is no route: a refusal on the loopback device.
    let refusal =
        format!("{ZEROS} 00 {ZEROS} 00 {ZEROS} ffffffff 00000001 00000000 00200200       lo\n");
    let types = [("lan", ETHERNET), ("wg0", "65534"), ("lo", "772")];
    for v4 in [
        String::new(),
        V4_LOCAL.to_owned(),
        format!("{V4_LOCAL}{V4_TUNNEL}"),
    ] {
        assert_eq!(choose(&v4, &refusal, &types)?, (3, None), "{v4}");
    }
    Ok(())
}
