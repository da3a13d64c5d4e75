//! Whether an alert is ground enough to act on the source that it names: packets can be forged, and an
//! answer to forged packets hits whom the forger chose.

use super::RespondMode;
use crate::detect::AlertKind;

/// How sure it is that the source itself sent what an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// It takes completed handshakes: whoever forges an address never sees the other half.
    Proven,
    /// It can be forged, but a forger gains nothing by it except to have somebody else answered. Whoever
    /// had connections before is therefore limited at most.
    Claimed,
    /// Floods are forged as a rule.
    Forgeable,
    /// There is no single source to answer, or it is not the one to blame.
    None,
}

impl Ground {
    pub const fn of(kind: AlertKind) -> Self {
        match kind {
            AlertKind::BruteForce | AlertKind::SlowClients => Self::Proven,
            AlertKind::PortScan | AlertKind::HostSweep | AlertKind::RequestFlood => Self::Claimed,
            AlertKind::SynFlood
            | AlertKind::UdpFlood
            | AlertKind::IcmpFlood
            | AlertKind::TrafficSpike
            | AlertKind::Malformed => Self::Forgeable,
            AlertKind::Amplification
            | AlertKind::Reflection
            | AlertKind::NewSourceSurge
            | AlertKind::TrafficLoss
            | AlertKind::Exfiltration
            | AlertKind::Beaconing
            | AlertKind::Tunnel
            | AlertKind::SpoofedSource
            | AlertKind::ResponseWithheld => Self::None,
        }
    }

    /// Whether the settings may ask for `mode`; else why not.
    pub fn check(self, kind: AlertKind, mode: RespondMode) -> Result<(), String> {
        match (self, mode) {
            (_, RespondMode::Observe)
            | (Self::Proven | Self::Claimed, _)
            | (Self::Forgeable, RespondMode::Limit) => Ok(()),
            (Self::Forgeable, RespondMode::Ban) => Err(format!(
                "sources of a {kind} can be forged, so it cannot ban them: write \"limit\" or \"observe\""
            )),
            (Self::None, _) => Err(format!(
                "a {kind} has no source that could be answered: write \"observe\""
            )),
        }
    }

    /// What becomes of a mode that was set for all kinds.
    pub const fn at_most(self, mode: RespondMode) -> RespondMode {
        match self {
            Self::Proven | Self::Claimed => mode,
            Self::Forgeable | Self::None => RespondMode::Observe,
        }
    }
}
