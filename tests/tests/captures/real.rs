//! What real captures must come to.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use firewall_user::replay::capture::CaptureReader;
use firewall_user::replay::{EngineKind, Options, Replay, ReplayClock};
use palisade_tests::{skip_unless_root, skipped};

use super::policies::{PERIMETER, STRICT};
use super::{both_engines, each_frame, inside, policy};

/// Frames of this length the kernel's test run takes on both hooks.
const KERNEL_TAKES: std::ops::RangeInclusive<usize> = 14..=3_000;

#[test]
fn both_engines_agree_on_every_packet_of_every_real_capture() -> Result<()> {
    let Some(captures) = real_captures() else {
        return Ok(());
    };
    if skip_unless_root() {
        return Ok(());
    }
    for text in [PERIMETER, STRICT] {
        // One pair of engines for all files: what earlier ones left behind is the same in both.
        let mut judges = both_engines(text)?;
        let inside = inside()?;
        let mut clock = ReplayClock::default();
        let (mut files, mut packets, mut taken) = (0, 0, 0);
        for folder in ["attack", "benign", "edge"] {
            for file in files_in(&captures.join(folder))? {
                files += 1;
                let (before, host_before) = (judges.mismatches(), judges.host_judged());
                let mut refusable = 0;
                each_frame(open(&file)?, |time, frame| {
                    packets += 1;
                    refusable += u64::from(!KERNEL_TAKES.contains(&frame.len()));
                    let now = clock.advance(time);
                    judges.judge(packets, frame, inside.direction(frame), now)?;
                    Ok(())
                })?;
                let name = name(&file);
                assert_eq!(
                    judges.mismatches(),
                    before,
                    "{name}: {:#?}",
                    judges.differences()
                );
                let refused = judges.host_judged() - host_before;
                assert!(
                    refused <= refusable,
                    "{name}: {refused} refused, {refusable} may be"
                );
                taken = packets - judges.host_judged();
            }
        }
        println!("{files} captures, {packets} packets, {taken} of them judged by the kernel");
        assert!(
            files > 700 && taken > 100_000,
            "{files} files, {taken} packets"
        );
    }
    Ok(())
}

#[test]
fn the_reader_finds_as_many_packets_as_other_tools() -> Result<()> {
    let Some(captures) = real_captures() else {
        return Ok(());
    };
    let manifest = fs::read_to_string(captures.join("MANIFEST.tsv"))?;
    let mut lines = manifest.lines();
    let header: Vec<&str> = lines.next().context("a header")?.split('\t').collect();
    let column = |name| header.iter().position(|column| *column == name);
    let packets = column("packets").context("a column for packets")?;
    let link_type = column("linktype").context("a column for link types")?;
    let mut compared = 0;
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields[link_type].is_empty() {
            // The tool that counted did not know the link type, and counted nothing.
            continue;
        }
        let file = captures.join(fields[0].trim_start_matches("captures/"));
        let expected: u64 = fields[packets].parse()?;
        let found = each_frame(open(&file)?, |_, _| Ok(()))?;
        assert_eq!(found, expected, "{}", fields[0]);
        compared += 1;
    }
    assert!(compared > 700, "{compared}");
    Ok(())
}

#[test]
fn damaged_real_captures_are_read_as_far_as_they_go() -> Result<()> {
    let Some(captures) = real_captures() else {
        return Ok(());
    };
    // A generator of its own (xorshift): the same damage every time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound.max(1) as u64) as usize
    };
    for folder in ["attack", "benign", "edge"] {
        for file in files_in(&captures.join(folder))? {
            let bytes = fs::read(&file)?;
            let sound = &bytes[..bytes.len().min(20_000)];
            for _ in 0..4 {
                let mut damaged = sound.to_vec();
                for _ in 0..=random(8) {
                    let place = random(damaged.len());
                    damaged[place] = random(256) as u8;
                }
                damaged.truncate(random(damaged.len() + 1));
                let mut bytes_read = 0;
                each_frame(&damaged[..], |_, frame| {
                    bytes_read += frame.len();
                    Ok(())
                })?;
                assert!(bytes_read <= damaged.len() * (256 << 10), "{}", name(&file));
            }
        }
    }
    Ok(())
}

/// The kinds of alert that a capture raises at the default settings.
fn alerts(file: &Path) -> Result<BTreeSet<String>> {
    let mut kinds = BTreeSet::new();
    let options = Options {
        engine: Some(EngineKind::Host),
        ..Options::default()
    };
    let verdicts: Option<Vec<u8>> = None;
    let mut replay = Replay::new(&policy(PERIMETER)?, options, verdicts)?;
    if let Ok(reader) = CaptureReader::new(open(file)?) {
        replay.judge(reader)?;
    }
    for alert in replay.finish()?.alerts {
        kinds.insert(alert.kind.name().to_owned());
    }
    Ok(kinds)
}

#[test]
fn scans_and_floods_of_real_captures_raise_the_right_kind() -> Result<()> {
    let Some(captures) = real_captures() else {
        return Ok(());
    };
    for (capture, kind) in [
        ("evilfingers__ACK_SCAN.pcap", "port_scan"),
        ("evilfingers__FIN_SCAN.pcap", "port_scan"),
        ("evilfingers__IP_PROTOCOL_SCAN.pcap", "port_scan"),
        ("evilfingers__NULL_SCAN.pcap", "port_scan"),
        ("evilfingers__RPC_SCAN.pcap", "port_scan"),
        ("evilfingers__TCP_CONNECT_SCAN.pcap", "port_scan"),
        ("evilfingers__TCP_SYN_SCAN.pcap", "port_scan"),
        ("evilfingers__UDP_SCAN.pcap", "port_scan"),
        ("evilfingers__WINDOW_SCAN.pcap", "port_scan"),
        ("evilfingers__XMAS_TREE_SCAN.pcap", "port_scan"),
        ("evilfingers__version_scan.pcap", "port_scan"),
        ("ppa__portscan.pcap", "port_scan"),
        ("stopddos__pkt.TCP.synflood.spoofed.pcap", "syn_flood"),
    ] {
        let raised = alerts(&captures.join("attack").join(capture))?;
        assert!(raised.contains(kind), "{capture}: {raised:?}, not {kind}");
        assert_eq!(raised.len(), 1, "{capture}: {raised:?}");
    }
    Ok(())
}

#[test]
fn ordinary_real_captures_raise_no_alert() -> Result<()> {
    let Some(captures) = real_captures() else {
        return Ok(());
    };
    // Peer-to-peer software that tries hundreds of hosts in vain: what a sweep looks like.
    let exceptions = [("ppa__gnutella.pcap", "host_sweep")];
    for file in files_in(&captures.join("benign"))? {
        let name = name(&file);
        let allowed = exceptions.iter().find(|(capture, _)| *capture == name);
        for kind in alerts(&file)? {
            assert_eq!(
                allowed.map(|(_, kind)| *kind),
                Some(kind.as_str()),
                "{name}"
            );
        }
    }
    Ok(())
}

/// The folder of real captures, or a line that says that it is not there.
pub fn real_captures() -> Option<PathBuf> {
    let data = std::env::var_os("PALISADE_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let captures = data.join("captures");
    if captures.is_dir() {
        return Some(captures);
    }
    skipped(&format!(
        "no real captures in {} (PALISADE_DATA names another folder)",
        captures.display()
    ));
    None
}

/// Every capture of a folder, in order.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        files.push(entry?.path());
    }
    files.sort();
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    Ok(files)
}

fn name(file: &Path) -> String {
    file.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

pub fn open(file: &Path) -> Result<BufReader<File>> {
    Ok(BufReader::new(File::open(file)?))
}
