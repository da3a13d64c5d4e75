//! Recorded traffic through both engines: the loaded kernel programs and the host engine must
//! agree on every packet, and detection must name the attacks and leave ordinary traffic alone.
//!
//! Real captures are looked for in `captures/` under the folder that PALISADE_DATA names, by
//! default `../shared/data` beside the repository; without them those tests say so and skip. What
//! must always be proved is proved on captures built here.

mod build;
mod built;
mod policies;
mod real;
mod signatures;

use std::path::Path;

use anyhow::Result;
use firewall_user::policy::{Environment, Policy};
use firewall_user::replay::capture::{CaptureReader, pad_to_original, to_ethernet};
use firewall_user::replay::{EngineKind, Inside, Judges, Options, Replay, Report};

/// Private networks are inside, so that real captures have packets of both directions.
const INSIDE: [&str; 6] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.51.100.0/24",
    "2001:db8::/32",
    "fe80::/10",
];

fn policy(text: &str) -> Result<Policy> {
    let (policy, _) = Policy::parse(text, "policy.toml", Path::new("/"))?;
    Ok(policy)
}

fn inside() -> Result<Inside> {
    let prefixes: Result<_, _> = INSIDE.iter().map(|prefix| prefix.parse()).collect();
    Ok(Inside::new(prefixes?))
}

/// Calls `each` with the time and the frame of every packet that can be judged; returns how many
/// packets there were, those of other link types included.
fn each_frame(
    source: impl std::io::Read,
    mut each: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<u64> {
    let mut packets = 0;
    let mut frame = Vec::new();
    let Ok(mut reader) = CaptureReader::new(source) else {
        return Ok(0);
    };
    while let Ok(Some(record)) = reader.next(&mut frame) {
        packets += 1;
        if let Some(original) = to_ethernet(&record, &mut frame) {
            pad_to_original(&mut frame, original);
            each(record.time, &frame)?;
        }
    }
    Ok(packets)
}

/// The kernel programs under a policy, with the host engine beside them.
fn both_engines(text: &str) -> Result<Judges> {
    let policy = policy(text)?;
    let compiled = policy.compile(&Environment::default())?;
    let (judges, _) = Judges::choose(Some(EngineKind::Kernel), &policy, compiled)?;
    Ok(judges)
}

fn replay(capture: &[u8], text: &str, engine: EngineKind) -> Result<(Report, String)> {
    let options = Options {
        engine: Some(engine),
        inside: inside()?,
        ..Options::default()
    };
    let mut verdicts = Vec::new();
    let mut replay = Replay::new(&policy(text)?, options, Some(&mut verdicts))?;
    replay.judge(CaptureReader::new(capture)?)?;
    let report = replay.finish()?;
    Ok((report, String::from_utf8(verdicts)?))
}
