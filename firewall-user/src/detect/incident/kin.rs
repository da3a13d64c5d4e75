//! Which alerts belong together.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::detect::{Alert, AlertKind, Subject, Time};

/// Scans of one kind by different sources are one scan when they follow each other within this time.
const FOLLOWS: Time = 300_000_000_000;
/// An incident older than this takes in no more strangers: the Internet always scans a little, and
/// that shall not be one incident for ever.
const OLD: Time = 3_600_000_000_000;
/// Prefixes that are commonly in one hand.
const NEIGHBOURS_V4: u8 = 24;
const NEIGHBOURS_V6: u8 = 48;

/// How an alert belongs to an incident; the later, the closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kinship {
    /// The same attack on this host by somebody else.
    SameAttack,
    /// From the same /24 or /48.
    Neighbour,
    /// The same subject.
    Same,
}

/// What an incident is like.
pub(super) struct Standing<'a> {
    pub kinds: &'a BTreeSet<AlertKind>,
    pub names: &'a dyn Fn(&Subject) -> bool,
    pub near: &'a dyn Fn(&IpNet) -> bool,
    /// Since its latest alert began.
    pub since_last: Time,
    /// Since its first alert began.
    pub age: Time,
}

/// How `alert` belongs to an incident, if it does.
pub(super) fn of(alert: &Alert, incident: &Standing<'_>) -> Option<Kinship> {
    let family = Family::of(alert.kind);
    let related = |kind: &AlertKind| Family::of(*kind) == family;
    let source = alert.subject.prefix();
    if source.is_some() && (incident.names)(&alert.subject) {
        return Some(Kinship::Same);
    }
    if source.is_some_and(|source| neighbourhood(source).is_some_and(|near| (incident.near)(&near)))
    {
        return Some(Kinship::Neighbour);
    }
    match family {
        // One attack shows in many ways at once, all of them on this host.
        Family::Overload => incident.kinds.iter().any(related),
        // Scanners of one hand share a kind; the old noise of the Internet is left out.
        Family::Probing => {
            incident.kinds.contains(&alert.kind)
                && incident.since_last <= FOLLOWS
                && incident.age <= OLD
        }
        // What leaves this host for one place has nothing to do with what leaves it for another.
        Family::Leak | Family::Own => {
            incident.kinds.contains(&alert.kind) && (incident.names)(&alert.subject)
        }
    }
    .then_some(Kinship::SameAttack)
}

/// The prefix around a source that is commonly in one hand; none for what is wider already.
pub(super) fn neighbourhood(source: IpNet) -> Option<IpNet> {
    let length = match source {
        IpNet::V4(_) => NEIGHBOURS_V4,
        IpNet::V6(_) => NEIGHBOURS_V6,
    };
    (source.prefix_len() >= length)
        .then(|| IpNet::new(source.addr(), length).ok())
        .flatten()
        .map(|prefix| prefix.trunc())
}

/// Kinds that show one attack from different sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// Too much for the host or the line, and what follows from that.
    Overload,
    /// Looking for a way in.
    Probing,
    /// Something goes out that should not.
    Leak,
    /// About Palisade itself.
    Own,
}

impl Family {
    fn of(kind: AlertKind) -> Self {
        match kind {
            AlertKind::PortScan | AlertKind::HostSweep | AlertKind::BruteForce => Self::Probing,
            AlertKind::Exfiltration | AlertKind::Beaconing | AlertKind::Tunnel => Self::Leak,
            AlertKind::ResponseWithheld => Self::Own,
            AlertKind::SynFlood
            | AlertKind::UdpFlood
            | AlertKind::IcmpFlood
            | AlertKind::RequestFlood
            | AlertKind::Amplification
            | AlertKind::Reflection
            | AlertKind::SlowClients
            | AlertKind::NewSourceSurge
            | AlertKind::TrafficSpike
            | AlertKind::TrafficLoss
            | AlertKind::SpoofedSource
            | AlertKind::Malformed => Self::Overload,
        }
    }
}
