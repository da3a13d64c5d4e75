//! What is learned of a service or of the host, and from which size on it matters.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is counted, per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    Packets,
    Bytes,
    Connections,
    Requests,
    NewSources,
}

impl Measure {
    pub const ALL: [Self; 5] = [
        Self::Packets,
        Self::Bytes,
        Self::Connections,
        Self::Requests,
        Self::NewSources,
    ];

    /// The name people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Bytes => "bytes",
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::NewSources => "new_sources",
        }
    }

    /// Its rate's unit.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Packets => "packets/s",
            Self::Bytes => "bytes/s",
            Self::Connections => "connections/s",
            Self::Requests => "requests/s",
            Self::NewSources => "new sources/s",
        }
    }

    /// No burst of seconds below this rate is worth an alert, whatever was learned: a page with its pictures is
    /// no attack.
    pub(super) const fn least_burst(self) -> f64 {
        match self {
            Self::Packets => 2_000.0,
            Self::Bytes => 2_000_000.0,
            Self::Connections | Self::Requests | Self::NewSources => 50.0,
        }
    }

    /// The same for a rate that lasts for minutes.
    pub(super) const fn least_rate(self) -> f64 {
        match self {
            Self::Packets => 200.0,
            Self::Bytes => 200_000.0,
            Self::Connections | Self::Requests => 5.0,
            Self::NewSources => 2.0,
        }
    }

    /// So many must be missing before it is called a loss, or none if there is nothing to lose: new
    /// customers may stay away, and sizes say no more than packets.
    pub(super) const fn least_missing(self) -> Option<f64> {
        match self {
            Self::Packets => Some(1_000.0),
            Self::Connections | Self::Requests => Some(50.0),
            Self::Bytes | Self::NewSources => None,
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}
