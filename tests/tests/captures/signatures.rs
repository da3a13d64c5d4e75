//! The signatures of recorded floods.

use std::path::Path;

use anyhow::{Context, Result};
use firewall_user::detect::Config;
use firewall_user::policy::Policy;
use firewall_user::replay::capture::CaptureReader;
use firewall_user::replay::{EngineKind, Inside, Options, Replay};

use super::real::{open, real_captures};

/// The signatures of the first alert of a recording, in words, with the share of the flood that each covers.
fn signatures(recording: &Path) -> Result<Vec<(String, f64)>> {
    let text = "version = 1\n[defaults]\ninbound = \"accept\"\n";
    let (policy, _) = Policy::parse(text, "policy.toml", Path::new("/")).context("the policy")?;
    let options = Options {
        engine: Some(EngineKind::Host),
        inside: Inside::default(),
        interface: None,
        detection: Config::default(),
    };
    let mut replay = Replay::new(&policy, options, None::<std::io::Sink>)?;
    replay.judge(CaptureReader::new(open(recording)?)?)?;
    let report = replay.finish()?;
    let alert = report.alerts.first().context("no alert")?;
    let told = alert.evidence.get("signatures").context("no signature")?;
    let told = told.as_array().context("a list")?;
    let pairs = told.iter().map(|signature| {
        let words = signature["conditions"].as_str().context("no words")?;
        let coverage = signature["coverage"].as_f64().context("no share")?;
        Ok((words.to_owned(), coverage))
    });
    pairs.collect()
}

#[test]
fn recorded_floods_have_one_signature_each_that_covers_them() -> Result<()> {
    let Some(captures) = real_captures() else {
        return Ok(());
    };
    for (name, parts) in [
        (
            "stopddos__pkt.TCP.synflood.spoofed.pcap",
            ["protocol = \"tcp\"", "length = 40", "tcp_window = 0"],
        ),
        (
            "stopddos__amp.UDP.isakmp.pcap",
            [
                "protocol = \"udp\"",
                "from_port = 4500",
                "payload = \"0:00000000",
            ],
        ),
        (
            "stopddos__amp.TCP.reflection.SYNACK.pcap",
            [
                "protocol = \"tcp\"",
                "from_port = \"80-443\"",
                "length = 44",
            ],
        ),
    ] {
        let found = signatures(&captures.join("attack").join(name))?;
        let [(words, coverage)] = &found[..] else {
            anyhow::bail!("{name}: {found:?}");
        };
        for part in parts {
            assert!(words.contains(part), "{name}: {words}");
        }
        assert!(*coverage > 0.95, "{name}: {coverage}");
    }
    Ok(())
}
