//! Sets of one address to a million, and the full Internet table.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use firewall_common::Reason;

use super::rules::{DEFAULT, PASS};
use crate::contender::{Heat, MANY};
use crate::data;
use crate::policies::{self, CLOSED_PORT, Families, OPEN_PORT, STRANGER, syn};
use crate::subject::{Group, Subject};

/// How many addresses the sets have.
pub const COUNTS: [usize; 4] = [1, 10_000, 100_000, 1_000_000];

pub const LISTED: &str = "drop by set";
pub const INTERNET: &str = "Palisade, the Internet table";

pub fn subject(count: usize) -> String {
    let plural = if count == 1 { "address" } else { "addresses" };
    format!("Palisade, {count} {plural}")
}

pub fn add(group: &mut Group, folder: &Path) -> Result<()> {
    for count in COUNTS {
        let addresses = data::addresses(count);
        let file = data::list_file(folder, &format!("addresses-{count}"), &addresses)?;
        let policy = policies::of_rules(1, Families::Both, &policies::blocklist(&file));
        let listed: Vec<IpAddr> = addresses.into_iter().map(IpAddr::V4).collect();
        group.subject(&subject(count), &policy, |subject| {
            drops(subject, &listed)?;
            passes(subject)
        });
    }
    match data::internet_table(folder)? {
        Some(file) => {
            let policy = policies::of_rules(1, Families::Both, &policies::blocklist(&file));
            group.subject(INTERNET, &policy, internet);
        }
        None => group
            .missing
            .push("no full Internet table in ../shared/data or in PALISADE_DATA".to_owned()),
    }
    Ok(())
}

/// Listed sources: one, and many.
pub fn drops(subject: &mut Subject<'_>, listed: &[IpAddr]) -> Result<()> {
    let one = listed.get(listed.len() / 2).context("an empty list")?;
    subject.hot(LISTED, &syn(*one, OPEN_PORT)?, Reason::Rule)?;
    if listed.len() >= MANY {
        let step = listed.len() / MANY;
        let frames: Vec<Vec<u8>> = listed
            .iter()
            .step_by(step)
            .take(MANY)
            .map(|address| syn(*address, OPEN_PORT))
            .collect::<Result<_>>()?;
        subject.drawn(LISTED, &frames, Heat::Many, Some(Reason::Rule))?;
    }
    Ok(())
}

/// A source that no list knows, and any source.
pub fn passes(subject: &mut Subject<'_>) -> Result<()> {
    for stranger in STRANGER {
        subject.hot(PASS, &syn(stranger, OPEN_PORT)?, Reason::Rule)?;
        subject.hot(DEFAULT, &syn(stranger, CLOSED_PORT)?, Reason::Default)?;
    }
    subject.cold_any(PASS, &syn(STRANGER[0], OPEN_PORT)?)?;
    subject.cold_any(DEFAULT, &syn(STRANGER[0], CLOSED_PORT)?)?;
    subject.cold(DEFAULT, &syn(STRANGER[1], CLOSED_PORT)?, Reason::Default)
}

/// Most sources are listed; the documentation ranges are not.
fn internet(subject: &mut Subject<'_>) -> Result<()> {
    for (family, listed) in [(0, "8.8.8.8"), (1, "2001:4860:4860::8888")] {
        let listed: IpAddr = listed.parse()?;
        subject.hot(LISTED, &syn(listed, OPEN_PORT)?, Reason::Rule)?;
        subject.hot(PASS, &syn(STRANGER[family], OPEN_PORT)?, Reason::Rule)?;
    }
    subject.cold_any("any source", &syn(STRANGER[0], OPEN_PORT)?)?;
    // Drawn networks lie within 2001:db8::/32 of the frame's source; so start from a real one.
    let real: IpAddr = "2a00:1450:4001::1".parse()?;
    subject.cold_any("any source", &syn(real, OPEN_PORT)?)
}
