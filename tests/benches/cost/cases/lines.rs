//! How many cache lines of the compiled policy a packet reads, which the host engine tells, as it runs the kernel
//! program's own code; and how many of all the lines that it touches are not near in a flood.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;
use firewall_common::Direction;
use firewall_user::engine::HostEngine;
use firewall_user::policy::Environment;
use serde::Serialize;

use super::flood::{self, Misses, Touched};
use super::{classbench, rules, sets};
use crate::data;
use crate::policies::{self, CLOSED_PORT, Families, STRANGER, syn};
use crate::subject::{brief, policy_of};

/// What one policy reads.
#[derive(Clone, Debug, Serialize)]
pub struct Lines {
    pub policy: String,
    pub packets: usize,
    pub mean: f64,
    pub most: usize,
    /// Of all that a packet touches in a flood, policy or not.
    pub misses: Option<Misses>,
    /// Of the compiled policy.
    pub bytes: u64,
}

/// Sources drawn for policies that have no trace.
const DRAWN: usize = 4_096;

pub fn measure(folder: &Path, missing: &mut Vec<String>) -> Result<Vec<Lines>> {
    let mut all = Vec::new();
    let mut add = |name: String, text: &str, frames: &[Vec<u8>]| match read(&name, text, frames) {
        Ok(lines) => all.push(lines),
        Err(error) => missing.push(format!("lines of {name}: {}", brief(&error))),
    };
    let strangers: Vec<Vec<u8>> = data::addresses(DRAWN)
        .into_iter()
        .map(|address| syn(IpAddr::V4(address), CLOSED_PORT))
        .collect::<Result<_>>()?;
    let v6 = [syn(STRANGER[1], CLOSED_PORT)?];
    for count in rules::COUNTS {
        let text = policies::of_rules(count, Families::Both, "");
        add(
            format!("{}, IPv4", rules::subject(count)),
            &text,
            &strangers,
        );
        add(format!("{}, IPv6", rules::subject(count)), &text, &v6);
    }
    for count in sets::COUNTS {
        // None of the sources that are drawn is listed.
        let listed = data::addresses(DRAWN + count).split_off(DRAWN);
        let file = data::list_file(folder, &format!("lines-{count}"), &listed)?;
        let text = policies::of_rules(1, Families::Both, &policies::blocklist(&file));
        add(sets::subject(count), &text, &strangers);
    }
    // What is not there was named when the sets were to be timed.
    for set in classbench::sets(&mut Vec::new()) {
        for whole in [false, true] {
            let (text, frames) = classbench::policy(set, whole)?;
            add(classbench::subject(set, whole), &text, &frames);
        }
    }
    Ok(all)
}

fn read(name: &str, text: &str, frames: &[Vec<u8>]) -> Result<Lines> {
    let compiled = policy_of(text)?.compile(&Environment::default())?;
    let bytes = size_of_val(&compiled.image[..]) as u64;
    let mut engine = HostEngine::new(compiled);
    let mut counts = Vec::with_capacity(frames.len());
    let mut touched = Vec::with_capacity(frames.len());
    for frame in frames {
        let (judged, lines) = engine.judge_lines(frame, Direction::Inbound, 0);
        counts.push(lines.len());
        touched.push(Touched::new(&judged, &lines));
    }
    Ok(Lines {
        policy: name.to_owned(),
        packets: counts.len(),
        mean: counts.iter().sum::<usize>() as f64 / counts.len().max(1) as f64,
        most: counts.iter().copied().max().unwrap_or_default(),
        misses: flood::misses(&touched),
        bytes,
    })
}
