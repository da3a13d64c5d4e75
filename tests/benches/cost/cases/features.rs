//! What each feature costs by itself: policies that differ in one thing from a policy of nothing.

use std::path::Path;

use anyhow::Result;
use firewall_common::{Direction, Reason};
use ipnet::IpNet;

use crate::data;
use crate::policies::{self, BANNED, OPEN_PORT, STRANGER, opening_and_answer, syn};
use crate::subject::Group;

pub const NOTHING: &str = "no rule";
pub const CASE: &str = "feature";

/// A feature, and the rule's keys beside its name and action. No rule matches the frame, so that the
/// look at the field is what is added, unless the action says otherwise.
const KEYS: [(&str, &str, &str); 20] = [
    ("`protocol`", "drop", "protocol = \"gre\""),
    (
        "`protocol` and `port`",
        "drop",
        "protocol = \"tcp\"\nport = 9",
    ),
    (
        "`protocol` and `from_port`",
        "drop",
        "protocol = \"tcp\"\nfrom_port = 9",
    ),
    ("`from`, one prefix", "drop", "from = \"10.9.0.0/16\""),
    ("`to`, one prefix", "drop", "to = \"10.9.0.0/16\""),
    (
        "`tcp_flags`",
        "drop",
        "protocol = \"tcp\"\ntcp_flags = \"syn,fin\"",
    ),
    (
        "`icmp_type`",
        "drop",
        "protocol = \"icmp\"\nicmp_type = \"echo-request\"",
    ),
    ("`length`", "drop", "length = \"1400-9000\""),
    ("`ttl`", "drop", "ttl = \"0-5\""),
    ("`fragment`", "drop", "fragment = true"),
    ("`interface`", "drop", "interface = \"bench9\""),
    ("`vlan`", "drop", "vlan = 7"),
    ("`tcp_window`", "drop", "protocol = \"tcp\"\ntcp_window = 0"),
    (
        "`payload`",
        "drop",
        "protocol = \"udp\"\npayload = { offset = 0, hex = \"deadbeef\" }",
    ),
    ("a rule that counts", "count", "protocol = \"tcp\""),
    (
        "a rule that observes",
        "drop",
        "protocol = \"tcp\"\nmode = \"observe\"",
    ),
    (
        "`expires`, on a rule that counts",
        "count",
        "protocol = \"tcp\"\nexpires = 2099-12-31",
    ),
    (
        "`log`, on a rule that counts",
        "count",
        "protocol = \"tcp\"\nlog = true",
    ),
    (
        "`limit` per source",
        "accept",
        "protocol = \"tcp\"\nlimit = { rate = \"100000000/s\", burst = 100000000, per = \"source\", unit = \"packets\" }",
    ),
    (
        "`limit` per rule",
        "accept",
        "protocol = \"tcp\"\nlimit = { rate = \"100000000/s\", burst = 100000000, per = \"rule\", unit = \"packets\" }",
    ),
];

pub fn add(group: &mut Group, folder: &Path) -> Result<()> {
    let frame = syn(STRANGER[0], OPEN_PORT)?;
    let mut feature = |name: &str, policy: &str, reason| {
        group.subject(name, policy, |subject| {
            subject.hot(CASE, &frame, reason)?;
            subject.cold_any(CASE, &frame)
        });
    };
    feature(NOTHING, &policy_with(""), Reason::Default);
    for (name, action, keys) in KEYS {
        let rule = format!("[[rule]]\nname = \"feature\"\naction = \"{action}\"\n{keys}\n");
        let reason = if action == "accept" {
            Reason::Rule
        } else {
            Reason::Default
        };
        feature(name, &policy_with(&rule), reason);
    }
    for count in [10_000, 1_000_000] {
        let name = format!("features-{count}");
        let file = data::list_file(folder, &name, &data::prefixes(count))?;
        let policy = policy_with(&policies::blocklist(&file));
        feature(
            &format!("a set of {count} prefixes"),
            &policy,
            Reason::Default,
        );
    }
    let protect = "[protect]\nnever_block = [\"10.9.0.0/16\"]\n";
    feature(
        "`never_block`, no ban",
        &policy_with(protect),
        Reason::Default,
    );
    group.subject("a ban of an address", &policy_with(""), |subject| {
        subject.run.ban(IpNet::from(BANNED[0]), None)?;
        subject.hot(CASE, &frame, Reason::Default)?;
        subject.cold_any(CASE, &frame)
    });
    for places in [1 << 15, 1 << 19, 1 << 20] {
        let name = format!("`kernel_sources` = {places}");
        group.subject_with_sources(&name, &policy_with(""), places, |subject| {
            subject.hot(CASE, &frame, Reason::Default)?;
            subject.cold_any(CASE, &frame)
        });
    }
    group.subject("a packet of a connection", &policy_with(""), |subject| {
        let (opening, answer) = opening_and_answer(STRANGER[0])?;
        subject.judge(&opening, Direction::Outbound)?;
        subject.hot(CASE, &answer, Reason::Established)?;
        subject.cold_any(CASE, &answer)
    });
    Ok(())
}

fn policy_with(text: &str) -> String {
    format!("version = 1\n[defaults]\ninbound = \"accept\"\n{text}")
}
