//! A capture under two policies side by side: which of its packets the new one would treat otherwise.

use std::collections::HashMap;
use std::io::Read;

use firewall_common::layout::NO_RULE;
use firewall_common::{Direction, Reason, Verdict};

use super::capture::{CaptureReader, pad_to_original, to_ethernet};
use super::clock::ReplayClock;
use super::direction::Inside;
use super::outcome::Outcome;
use crate::engine::HostEngine;
use crate::policy::{Environment, Policy};

/// What differed over a capture.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Packets judged.
    pub packets: u64,
    /// Those with another verdict.
    pub changed: u64,
    /// They, by who decided; the most frequent first.
    pub changes: Vec<PacketChange>,
    /// Packets of a link type that cannot be judged.
    pub skipped: u64,
    /// Why the capture was not read to its end, if it was not.
    pub damage: Option<String>,
}

/// Packets on which the policies differ in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketChange {
    pub direction: Direction,
    pub old: Said,
    pub new: Said,
    pub packets: u64,
    pub bytes: u64,
    /// The number of the first of them, from 1.
    pub first: u64,
}

/// What one policy says of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub verdict: Verdict,
    pub reason: Reason,
    pub rule: Option<String>,
}

/// Judges a capture under both policies, each with bans none and connections of its own, on the capture's
/// clock. Sources that a detector would ban are not banned.
pub fn compare(
    mut capture: CaptureReader<impl Read>,
    policies: [&Policy; 2],
    inside: &Inside,
    interface: Option<&str>,
) -> anyhow::Result<Comparison> {
    let environment = Environment {
        interfaces: interface.map(str::to_owned).into_iter().collect(),
        ..Environment::default()
    };
    let mut engines = Vec::with_capacity(policies.len());
    for policy in policies {
        engines.push(HostEngine::new(policy.compile(&environment)?));
    }
    let mut clock = ReplayClock::default();
    let mut comparison = Comparison::default();
    let mut kinds: HashMap<(u32, [Key; 2]), PacketChange> = HashMap::new();
    let mut frame = Vec::new();
    let mut index = 0;
    loop {
        let record = match capture.next(&mut frame) {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(damage) => {
                comparison.damage = Some(damage.to_string());
                break;
            }
        };
        index += 1;
        let Some(original) = to_ethernet(&record, &mut frame) else {
            comparison.skipped += 1;
            continue;
        };
        pad_to_original(&mut frame, original);
        let now = clock.advance(record.time);
        let direction = inside.direction(&frame);
        let [old, new] = [0, 1].map(|which: usize| {
            let judged = engines[which].judge(&frame, direction, now);
            Outcome::from(judged.judgement)
        });
        comparison.packets += 1;
        if old.verdict == new.verdict {
            continue;
        }
        comparison.changed += 1;
        let kind = kinds
            .entry((direction as u32, [key(old), key(new)]))
            .or_insert_with(|| PacketChange {
                direction,
                old: said(&engines[0], old),
                new: said(&engines[1], new),
                packets: 0,
                bytes: 0,
                first: index,
            });
        kind.packets += 1;
        kind.bytes += frame.len() as u64;
    }
    comparison.changes = kinds.into_values().collect();
    comparison
        .changes
        .sort_unstable_by_key(|change| (std::cmp::Reverse(change.packets), change.first));
    Ok(comparison)
}

/// Verdict, reason and rule as numbers.
type Key = (u32, u32, u32);

fn key(outcome: Outcome) -> Key {
    (outcome.verdict as u32, outcome.reason as u32, outcome.rule)
}

fn said(engine: &HostEngine, outcome: Outcome) -> Said {
    let rule = (outcome.rule != NO_RULE).then(|| engine.rule_name(outcome.rule));
    Said {
        verdict: outcome.verdict,
        reason: outcome.reason,
        rule: rule.flatten().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use firewall_common::packet::flag;

    use super::*;
    use crate::packet_build::PacketBuilder;
    use crate::replay::capture::CaptureWriter;

    const OLD: &str = "version = 1\n[defaults]\ninbound = \"drop\"\n[[rule]]\nname = \"web\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 80\n";

    #[test]
    fn packets_with_another_verdict_are_counted_by_who_decides() {
        let mut capture = CaptureWriter::new(Vec::new()).unwrap();
        let ports = [80, 443, 443, 22];
        for (index, port) in ports.into_iter().enumerate() {
            let [from, to] =
                ["203.0.113.7", "198.51.100.1"].map(|address| address.parse().unwrap());
            let packet = PacketBuilder::new(from, to).unwrap();
            let frame = packet.tcp(40_000, port, flag::SYN).build();
            capture.write(index as u64 * 1_000_000, &frame).unwrap();
        }
        let capture = capture.finish().unwrap();
        let policy = |text: &str| Policy::parse(text, "p", Path::new("")).unwrap().0;
        let (old, new) = (
            policy(OLD),
            policy(&OLD.replace("80", "443").replace("web", "tls")),
        );
        let reader = CaptureReader::new(capture.as_slice()).unwrap();
        let found = compare(reader, [&old, &new], &Inside::default(), None).unwrap();
        assert_eq!((found.packets, found.changed), (4, 3));
        let [opened, closed] = &found.changes[..] else {
            panic!("{found:?}");
        };
        assert_eq!((opened.packets, opened.first), (2, 2));
        assert_eq!(opened.old.reason, Reason::Default);
        assert_eq!(opened.new.rule.as_deref(), Some("tls"));
        assert_eq!((closed.packets, closed.first), (1, 1));
        assert_eq!(closed.old.rule.as_deref(), Some("web"));
        assert_eq!(closed.new.verdict, Verdict::Drop);
        let reader = CaptureReader::new(capture.as_slice()).unwrap();
        let same = compare(reader, [&old, &old], &Inside::default(), None).unwrap();
        assert_eq!(same.changed, 0);
    }
}
