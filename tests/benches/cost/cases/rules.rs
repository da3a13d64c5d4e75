//! Policies of nothing but rules, and the policy that xdp-filter can express.

use anyhow::Result;
use firewall_common::{Direction, Reason};

use crate::policies::{
    self, CLOSED_PORT, DROPPED_PORT, Families, LISTED, OPEN_PORT, STRANGER, ack,
    opening_and_answer, syn,
};
use crate::subject::{Group, Subject};

/// How many rules the policies have.
pub const COUNTS: [usize; 5] = [1, 10, 100, 1_000, 10_000];

pub const LIKE_XDP_FILTER: &str = "Palisade, five addresses and a port";
pub const PASS: &str = "pass by rule";
pub const DEFAULT: &str = "drop by default";

pub fn subject(count: usize) -> String {
    let plural = if count == 1 { "rule" } else { "rules" };
    format!("Palisade, {count} {plural}")
}

pub fn add(group: &mut Group) {
    group.subject(
        LIKE_XDP_FILTER,
        &policies::like_xdp_filter(),
        like_xdp_filter,
    );
    for count in COUNTS {
        let policy = policies::of_rules(count, Families::Both, "");
        group.subject(&subject(count), &policy, |subject| of_rules(subject, count));
    }
    let policy = policies::of_rules(10, Families::Both, "");
    group.subject("Palisade, 10 rules, a connection", &policy, connection);
}

fn like_xdp_filter(subject: &mut Subject<'_>) -> Result<()> {
    for family in [0, 1] {
        let (listed, stranger) = (LISTED[family], STRANGER[family]);
        subject.hot("drop by address", &syn(listed, OPEN_PORT)?, Reason::Rule)?;
        subject.both("drop by port", &syn(stranger, DROPPED_PORT)?, Reason::Rule)?;
        let other = syn(stranger, OPEN_PORT)?;
        subject.both("pass, nothing matches", &other, Reason::Default)?;
    }
    Ok(())
}

fn of_rules(subject: &mut Subject<'_>, count: usize) -> Result<()> {
    for stranger in STRANGER {
        subject.both(PASS, &syn(stranger, OPEN_PORT)?, Reason::Rule)?;
        subject.both(DEFAULT, &syn(stranger, CLOSED_PORT)?, Reason::Default)?;
        if count > 1 {
            subject.hot("drop by rule", &syn(stranger, DROPPED_PORT)?, Reason::Rule)?;
        }
    }
    Ok(())
}

/// Packets of connections, and packets that only claim to be.
fn connection(subject: &mut Subject<'_>) -> Result<()> {
    for stranger in STRANGER {
        let (opening, answer) = opening_and_answer(stranger)?;
        subject.judge(&opening, Direction::Outbound)?;
        subject.hot("pass established", &answer, Reason::Established)?;
        let claim = ack(stranger, CLOSED_PORT)?;
        subject.both("drop, ACK without connection", &claim, Reason::Default)?;
    }
    Ok(())
}
