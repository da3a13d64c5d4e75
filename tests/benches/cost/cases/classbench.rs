//! ClassBench filter sets with the headers of their traces (Taylor and Turner, "ClassBench: a packet
//! classification benchmark", INFOCOM 2005): the first ten rules of each set beside all of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use firewall_common::{Direction, Reason};
use firewall_user::engine::HostEngine;
use firewall_user::import::classbench::{Actions, import, read_filters, read_headers};
use firewall_user::policy::Environment;

use crate::contender::{FEW, Heat};
use crate::data;
use crate::subject::{Group, Subject, policy_of};

/// Sets that come with a trace.
const SETS: [&str; 9] = [
    "acl1_1k", "acl2_1k", "acl3_1k", "fw2_1k", "fw3_1k", "ipc1_1k", "acl2_10k", "fw1_10k",
    "ipc1_10k",
];
const SMALL: usize = 10;
pub const TRACE: &str = "its trace";

/// The subject of a set, whole or its first ten rules.
pub fn subject(set: &str, whole: bool) -> String {
    if whole {
        format!("ClassBench {set}")
    } else {
        format!("ClassBench {set}, its first {SMALL} rules")
    }
}

/// The sets that are there, each in a group of its own: they are large.
pub fn sets(missing: &mut Vec<String>) -> Vec<&'static str> {
    let there: Vec<&str> = SETS
        .into_iter()
        .filter(|set| path(set).is_some() && path(&format!("{set}_trace")).is_some())
        .collect();
    if there.len() < SETS.len() {
        let absent: Vec<&str> = SETS
            .into_iter()
            .filter(|set| !there.contains(set))
            .collect();
        missing.push(format!(
            "no ClassBench sets {} in ../shared/data or in PALISADE_DATA",
            absent.join(", ")
        ));
    }
    there
}

pub fn add(group: &mut Group, set: &str) -> Result<()> {
    for whole in [false, true] {
        let (text, frames) = policy(set, whole)?;
        group.subject(&subject(set, whole), &text, |subject| {
            cases(subject, &text, &frames)
        });
    }
    Ok(())
}

/// A set, whole or its first ten rules, and the frames of its trace.
pub fn policy(set: &str, whole: bool) -> Result<(String, Vec<Vec<u8>>)> {
    let read = |name: &str| {
        let file = path(name).with_context(|| format!("no ClassBench file {name}"))?;
        fs::read_to_string(&file).with_context(|| file.display().to_string())
    };
    let filters = read_filters(&read(set)?, set).map_err(|error| anyhow::anyhow!("{error}"))?;
    let headers = read_headers(&read(&format!("{set}_trace"))?, set)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let taken = if whole { filters.len() } else { SMALL };
    let taken = &filters[..taken.min(filters.len())];
    let frames = headers.iter().map(|header| header.frame()).collect();
    Ok((import(taken, "f", Actions::Alternate).text, frames))
}

/// The kernel's verdicts are the host engine's, then they are timed.
fn cases(subject: &mut Subject<'_>, text: &str, frames: &[Vec<u8>]) -> Result<()> {
    let mut engine = HostEngine::new(policy_of(text)?.compile(&Environment::default())?);
    let mut judged = Vec::new();
    for frame in frames.iter().take(4 * FEW) {
        let expected = engine.judge(frame, Direction::Inbound, 0).judgement;
        let found = subject.judge(frame, Direction::Inbound)?;
        ensure!(
            found == (expected.verdict, expected.reason),
            "the kernel answers {found:?} where the host engine answers {expected:?}"
        );
        if [Reason::Rule, Reason::Default].contains(&found.1) {
            judged.push(frame.clone());
        }
    }
    let step = (judged.len() / FEW).max(1);
    let few: Vec<Vec<u8>> = judged.into_iter().step_by(step).take(FEW).collect();
    subject.drawn(TRACE, &few, Heat::Few, None)?;
    subject.drawn(TRACE, frames, Heat::Many, None)
}

fn path(name: &str) -> Option<std::path::PathBuf> {
    data::real(&Path::new("rules/classbench").join(name).to_string_lossy())
}
