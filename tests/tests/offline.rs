//! The verbs that work without a daemon, as a shell sees them: `explain` and `replay`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use firewall_common::packet::flag;
use firewall_user::packet_build::PacketBuilder;
use firewall_user::replay::capture::CaptureWriter;
use palisade_tests::daemon::palisade;
use palisade_tests::process::{Finished, finish};
use palisade_tests::{Daemon, Topology, skip_unless_root};
use serde_json::Value;

const POLICY: &str = r#"
version = 1
[defaults]
inbound = "drop"
outbound = "accept"
[sets]
hostile = { file = "hostile.netset" }
[[rule]]
name = "hostile"
action = "drop"
from = ["hostile"]
[[rule]]
name = "web"
action = "accept"
protocol = "tcp"
port = [80, 443]
"#;

/// Addresses of a set file, one in 30,000 of IPv4: as many as the larger public lists have.
const LISTED: u32 = 120_000;

/// A folder with the policy, its set and a capture of three packets.
fn folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("policy.toml"), POLICY)?;
    let set: String = (0..LISTED)
        .map(|index| format!("{}\n", listed(index)))
        .collect();
    fs::write(folder.path().join("hostile.netset"), set)?;
    let mut capture = CaptureWriter::new(Vec::new())?;
    for (index, source) in [listed(7), "203.0.113.9".parse()?, "203.0.113.9".parse()?]
        .into_iter()
        .enumerate()
    {
        let packet = PacketBuilder::new(source.into(), "198.51.100.5".parse()?);
        let port = if index == 2 { 25 } else { 443 };
        let frame = packet
            .context("one family")?
            .tcp(40_000, port, flag::SYN)
            .build();
        capture.write(
            1_800_000_000_000_000_000 + index as u64 * 500_000_000,
            &frame,
        )?;
    }
    fs::write(folder.path().join("visit.pcap"), capture.finish()?)?;
    Ok(folder)
}

fn listed(index: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from_bits(0x0100_0000 + index * 30_011)
}

fn run(folder: &Path, arguments: &[&str]) -> Result<Finished> {
    let mut command = Command::new(palisade()?);
    command.current_dir(folder).args(arguments);
    // Nobody answers there.
    finish(command.env("PALISADE_SOCKET", folder.join("no.sock")))
}

#[test]
fn explain_names_the_set_that_caught_an_address_among_120_000() -> Result<()> {
    let folder = folder()?;
    for index in [0, 60_000, LISTED - 1] {
        let from = listed(index).to_string();
        let asked = [
            "explain",
            "--from",
            &from,
            "--to",
            "198.51.100.5:443",
            "--policy",
            "policy.toml",
        ];
        let told = run(folder.path(), &[&asked[..], &["--json"]].concat())?;
        assert_eq!(told.status.code(), Some(0), "{told}");
        let told: Value = serde_json::from_str(&told.stdout)?;
        assert_eq!(told["verdict"], "drop");
        assert_eq!(told["rule"], "hostile");
        assert_eq!(told["set"], "hostile");
        assert_eq!(told["bans_known"], false);
        let words = run(folder.path(), &asked)?;
        assert!(words.stdout.contains("caught by set hostile"), "{words}");
    }
    Ok(())
}

#[test]
fn explain_counts_the_bans_of_the_running_daemon() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let folder = folder()?;
    let world = Topology::untagged()?;
    let open = "version = 1\n[defaults]\ninbound = \"accept\"\noutbound = \"accept\"\n";
    let daemon = Daemon::start(&world.inside, open)?;
    let policy = folder.path().join("policy.toml");
    let policy = policy.to_str().context("a path in UTF-8")?;
    let ask = || {
        daemon.palisade(&[
            "explain",
            "--from",
            "203.0.113.9",
            "--to",
            "198.51.100.5:443",
            "--policy",
            policy,
        ])
    };
    assert_eq!(ask()?["rule"], "web");
    daemon.palisade(&["ban", "203.0.113.0/28", "--for", "1h"])?;
    let told = ask()?;
    assert_eq!(
        (&told["verdict"], &told["reason"]),
        (&"drop".into(), &"ban".into())
    );
    assert_eq!(told["bans_known"], true);
    Ok(())
}

#[test]
fn replay_prints_a_document_and_writes_a_line_for_each_packet() -> Result<()> {
    let folder = folder()?;
    let arguments = [
        "replay",
        "visit.pcap",
        "--policy",
        "policy.toml",
        "--engine",
        "host",
        "--verdicts",
        "lines",
        "--json",
    ];
    let replayed = run(folder.path(), &arguments)?;
    assert_eq!(replayed.status.code(), Some(0), "{replayed}");
    let document: Value = serde_json::from_str(&replayed.stdout)?;
    assert_eq!(document["packets"], 3);
    assert_eq!(document["seconds"], 1.0);
    assert_eq!(document["rules"]["hostile"]["packets"], 1);
    assert_eq!(document["engine"], "host");
    let lines = fs::read_to_string(folder.path().join("lines"))?;
    let expected = "{\"packet\":1,\"verdict\":\"drop\",\"reason\":\"rule\",\"rule\":\"hostile\"}\n\
                    {\"packet\":2,\"verdict\":\"pass\",\"reason\":\"rule\",\"rule\":\"web\"}\n\
                    {\"packet\":3,\"verdict\":\"drop\",\"reason\":\"default\",\"rule\":null}\n";
    assert_eq!(lines, expected);
    Ok(())
}

#[test]
fn a_capture_that_ends_early_is_replayed_so_far_and_told_of() -> Result<()> {
    let folder = folder()?;
    let capture = fs::read(folder.path().join("visit.pcap"))?;
    fs::write(
        folder.path().join("cut.pcap"),
        &capture[..capture.len() - 9],
    )?;
    let arguments = [
        "replay",
        "cut.pcap",
        "--policy",
        "policy.toml",
        "--engine",
        "host",
        "--json",
    ];
    let replayed = run(folder.path(), &arguments)?;
    assert_eq!(replayed.status.code(), Some(1), "{replayed}");
    assert!(
        replayed
            .stderr
            .contains("the 2 packets before it were replayed"),
        "{replayed}"
    );
    let document: Value = serde_json::from_str(&replayed.stdout)?;
    assert_eq!(document["packets"], 2);
    assert!(
        document["damage"]
            .as_str()
            .is_some_and(|damage| damage.contains("at byte"))
    );
    Ok(())
}

#[test]
fn what_cannot_be_replayed_or_explained_is_refused_with_the_reason() -> Result<()> {
    let folder = folder()?;
    let capture = fs::read(folder.path().join("visit.pcap"))?;
    // The link type is the header's last field.
    let wireless = [&capture[..20], &105_u32.to_le_bytes(), &capture[24..]].concat();
    fs::write(folder.path().join("wireless.pcap"), wireless)?;
    fs::write(folder.path().join("empty.pcap"), [])?;
    let policy = ["--policy", "policy.toml"];
    let explain = ["explain", "--policy", "policy.toml", "--from"];
    let cases: &[(&[&str], &[&str], i32, &str)] = &[
        (&["replay", "visit.pcap"], &[], 2, "--policy"),
        (
            &["replay", "missing.pcap"],
            &policy,
            1,
            "missing.pcap cannot be read",
        ),
        (
            &["replay", "policy.toml"],
            &policy,
            1,
            "is neither pcap nor pcapng",
        ),
        (&["replay", "empty.pcap"], &policy, 1, "empty.pcap is empty"),
        (
            &["replay", "wireless.pcap", "--engine", "host"],
            &policy,
            1,
            "105 (IEEE 802.11)",
        ),
        (
            &["replay", "visit.pcap", "--policy", "none.toml"],
            &[],
            1,
            "none.toml",
        ),
        (
            &["replay", "visit.pcap", "--inside", "198.51.100.7/24"],
            &policy,
            2,
            "198.51.100.0/24",
        ),
        (
            &["replay", "visit.pcap", "--compare", "--engine", "host"],
            &policy,
            2,
            "--compare",
        ),
        (
            &explain,
            &["shop:443", "--to", "198.51.100.5"],
            2,
            "no IP address",
        ),
        (
            &explain,
            &["198.51.100.7:70000", "--to", "198.51.100.5"],
            2,
            "the port is no number",
        ),
        (
            &explain,
            &["198.51.100.0/24", "--to", "198.51.100.5"],
            2,
            "a prefix is no address",
        ),
        (
            &explain,
            &["2001:db8::1", "--to", "198.51.100.5"],
            2,
            "one is IPv4 and the other IPv6",
        ),
        (
            &explain,
            &["198.51.100.7", "--to", "198.51.100.5", "--flags", "sin"],
            2,
            "unknown TCP flag \"sin\"",
        ),
        (
            &explain,
            &["198.51.100.7", "--to", "198.51.100.5", "--protocol", "tpc"],
            2,
            "unknown protocol \"tpc\"",
        ),
        (
            &explain,
            &[
                "198.51.100.7:5",
                "--to",
                "198.51.100.5",
                "--protocol",
                "icmp",
            ],
            2,
            "icmp has no ports",
        ),
    ];
    for (verb, rest, code, reason) in cases {
        let refused = run(folder.path(), &[*verb, *rest].concat())?;
        assert_eq!(refused.status.code(), Some(*code), "{verb:?}: {refused}");
        assert!(refused.stderr.contains(reason), "{verb:?}: {refused}");
        assert!(refused.stdout.is_empty(), "{verb:?}: {refused}");
    }
    Ok(())
}
