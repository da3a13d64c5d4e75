//! Everything at once: a blocklist of a million, ten thousand rules, connections, accounts.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;
use firewall_common::{Direction, Reason};

use super::sets;
use crate::data;
use crate::policies::{self, Families, STRANGER, opening_and_answer};
use crate::subject::Group;

pub const SUBJECT: &str = "Palisade, a whole policy";
pub const ESTABLISHED: &str = "pass established";
const LISTED: usize = 1_000_000;
const RULES: usize = 10_000;
const CONNECTIONS: usize = 50_000;

pub fn add(group: &mut Group, folder: &Path) -> Result<()> {
    let addresses = data::addresses(LISTED);
    let file = data::list_file(folder, "whole", &addresses)?;
    let policy = policies::of_rules(RULES, Families::Both, &policies::blocklist(&file));
    let listed: Vec<IpAddr> = addresses.into_iter().map(IpAddr::V4).collect();
    group.subject(SUBJECT, &policy, |subject| {
        // The host has opened connections all over.
        for to in data::addresses(LISTED + CONNECTIONS).split_off(LISTED) {
            let (opening, _) = opening_and_answer(to.into())?;
            subject.judge(&opening, Direction::Outbound)?;
        }
        sets::drops(subject, &listed)?;
        sets::passes(subject)?;
        for stranger in STRANGER {
            let (opening, answer) = opening_and_answer(stranger)?;
            subject.judge(&opening, Direction::Outbound)?;
            subject.hot(ESTABLISHED, &answer, Reason::Established)?;
        }
        Ok(())
    });
    Ok(())
}
