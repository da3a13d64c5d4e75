//! Which packets an alert is about, and which of them a signature would have had a say in.

use firewall_common::packet::{flag, protocol};
use firewall_common::signature::Number;
use firewall_common::{Direction, Reason, Verdict};
use ipnet::IpNet;

use super::Specimen;
use crate::detect::{Alert, AlertKind, Sighting};
use crate::engine;

/// Which packets an alert is about.
#[derive(Clone, Copy, Debug)]
pub struct About {
    kind: AlertKind,
    /// Their sources, if they have a prefix in common.
    within: Option<IpNet>,
}

impl About {
    /// What an alert is about.
    pub fn of(alert: &Alert) -> Self {
        Self {
            kind: alert.kind,
            within: alert.subject.prefix(),
        }
    }

    pub fn is_about(&self, specimen: &Specimen) -> bool {
        belongs(self.kind, specimen)
            && self
                .within
                .is_none_or(|prefix| prefix.contains(&engine::ip_address(specimen.shown.source)))
    }
}

/// Whether a prefix is what is accounted as one source.
pub(super) fn is_one_source(prefix: IpNet) -> bool {
    match prefix {
        IpNet::V4(prefix) => prefix.prefix_len() == 32,
        IpNet::V6(prefix) => prefix.prefix_len() >= 64,
    }
}

/// Whether the sender's packet was let through without belonging to a connection: what a signature
/// would have had a say in. `None` for what it would not.
pub(super) fn is_of_strangers(sighting: &Sighting) -> Option<bool> {
    if sighting.direction != Direction::Inbound {
        return None;
    }
    match (sighting.reason, sighting.verdict) {
        (Reason::Rule | Reason::Default, Verdict::Pass) | (Reason::Limit, _) => Some(true),
        (Reason::Rule | Reason::Default | Reason::Ban, Verdict::Drop) => Some(false),
        _ => None,
    }
}

/// Whether alerts of a kind are about packets that a signature may tell.
pub(super) fn answers(kind: AlertKind) -> bool {
    matches!(
        kind,
        AlertKind::SynFlood
            | AlertKind::UdpFlood
            | AlertKind::IcmpFlood
            | AlertKind::RequestFlood
            | AlertKind::Amplification
            | AlertKind::Reflection
            | AlertKind::NewSourceSurge
            | AlertKind::TrafficSpike
    )
}

/// Whether a packet is of what an alert of a kind is about.
fn belongs(kind: AlertKind, specimen: &Specimen) -> bool {
    let number = specimen.number(Number::Protocol);
    let is = |wanted: u8| number == u32::from(wanted);
    let flags = specimen.shown.flags;
    let has = |bit: u8| flags & u32::from(bit) != 0;
    match kind {
        AlertKind::SynFlood => is(protocol::TCP) && has(flag::SYN) && !has(flag::ACK),
        AlertKind::Reflection => is(protocol::TCP) && has(flag::SYN) && has(flag::ACK),
        AlertKind::UdpFlood | AlertKind::Amplification => is(protocol::UDP),
        AlertKind::IcmpFlood => is(protocol::ICMP) || is(protocol::ICMPV6),
        _ => true,
    }
}
