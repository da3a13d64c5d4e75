//! Limits that do not do what they seem to.

use firewall_common::packet::protocol;

use super::{Linter, code};
use crate::policy::finding::Severity;
use crate::policy::limit::{Per, Unit};
use crate::policy::model::Rule;

/// The largest ordinary Ethernet frame, without its checksum.
const FULL_FRAME: u64 = 1_514;
/// What a request is known by.
const WITH_REQUESTS: [u8; 5] = [
    protocol::TCP,
    protocol::UDP,
    protocol::UDPLITE,
    protocol::ICMP,
    protocol::ICMPV6,
];

impl Linter<'_> {
    pub(super) fn limits(&mut self) {
        let policy = self.policy;
        for rule in &policy.rules {
            if let Some((message, help)) = fault(rule) {
                let message = format!("the limit of rule \"{}\" {message}", rule.name);
                self.report(Severity::Warning, code::LIMIT, rule, message, help);
            }
        }
    }
}

fn fault(rule: &Rule) -> Option<(String, &'static str)> {
    let limit = rule.limit?;
    if limit.unit == Unit::Bytes && limit.terms.burst < FULL_FRAME {
        return Some((
            format!(
                "has a burst of {}, less than a full frame: such a frame passes only after a pause",
                limit.burst()
            ),
            "write a burst of a few frames at least, such as burst = \"16kB\"",
        ));
    }
    let asks = |protocol| WITH_REQUESTS.contains(protocol);
    if limit.unit == Unit::Requests
        && !rule.protocols.is_empty()
        && !rule.protocols.iter().any(asks)
    {
        return Some((
            "counts requests, and no protocol of the rule has any that are known".to_owned(),
            "requests are those of HTTP, TLS, QUIC, DNS and pings; write unit = \"packets\" or \"connections\"",
        ));
    }
    let one_port = matches!(rule.ports.as_slice(), [(low, high)] if low == high);
    let one_host = match (rule.to.sets.as_slice(), rule.to.prefixes.as_slice()) {
        ([], [prefix]) => prefix.prefix_len() == prefix.max_prefix_len(),
        _ => false,
    };
    if limit.per == Per::Service && one_port && one_host && rule.protocols.len() == 1 {
        return Some((
            "is per service, and the rule has one service only".to_owned(),
            "write per = \"rule\", which says the same, or per = \"source\" if that was meant",
        ));
    }
    None
}
