//! Bans: none, one, a million.

use anyhow::Result;
use firewall_common::Reason;
use ipnet::IpNet;

use super::rules::PASS;
use crate::data;
use crate::policies::{self, BANNED, Families, OPEN_PORT, STRANGER, syn};
use crate::subject::{Group, Subject};

pub const COUNTS: [usize; 3] = [0, 1, 1_000_000];
pub const BANNED_CASE: &str = "drop by ban";

pub fn subject(count: usize) -> String {
    match count {
        0 => "Palisade, 10 rules, no ban".to_owned(),
        1 => "Palisade, 10 rules, 1 ban".to_owned(),
        _ => format!("Palisade, 10 rules, {count} bans"),
    }
}

pub fn add(group: &mut Group) {
    let policy = policies::of_rules(10, Families::Both, "");
    for count in COUNTS {
        group.subject(&subject(count), &policy, |subject| of_bans(subject, count));
    }
}

/// Addresses and prefixes of IPv4 as blocklists have them; those that the frames are sent from come
/// on top.
fn of_bans(subject: &mut Subject<'_>, count: usize) -> Result<()> {
    if count > 0 {
        for banned in BANNED {
            subject.run.ban(IpNet::from(banned), None)?;
        }
        for prefix in data::prefixes(count - 1) {
            subject.run.ban(prefix.into(), None)?;
        }
        for banned in BANNED {
            subject.hot(BANNED_CASE, &syn(banned, OPEN_PORT)?, Reason::Ban)?;
        }
    }
    subject.hot(PASS, &syn(STRANGER[0], OPEN_PORT)?, Reason::Rule)?;
    subject.hot(PASS, &syn(STRANGER[1], OPEN_PORT)?, Reason::Rule)?;
    subject.cold_any(PASS, &syn(STRANGER[0], OPEN_PORT)?)?;
    subject.cold(PASS, &syn(STRANGER[1], OPEN_PORT)?, Reason::Rule)
}
