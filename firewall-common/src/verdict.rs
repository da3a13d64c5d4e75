//! What is decided about a packet, and why.

/// Which way a packet crosses the fence.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the network to this host.
    Inbound = 0,
    /// From this host to the network.
    Outbound = 1,
}

/// What happens to a packet.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes on.
    Pass = 0,
    /// It is dropped.
    Drop = 1,
}

/// Why a verdict was given: the step of the judgement that decided.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The first matching rule.
    Rule = 0,
    /// No rule matched: the default of the direction.
    Default = 1,
    /// The source is banned.
    Ban = 2,
    /// Over the limit of a rule, or an automatic limit.
    Limit = 3,
    /// It belongs to a connection that is already allowed.
    Established = 4,
    /// The link itself needs it (ARP, neighbour discovery, DHCP replies ...).
    Link = 5,
    /// Its headers contradict themselves, or its source is impossible.
    Malformed = 6,
    /// It fits the signature of a flood.
    Signature = 7,
}

/// How many reasons there are: the size of tables indexed by reason.
pub const REASONS: usize = 8;

impl Direction {
    /// The name people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }

    /// The direction with this number.
    pub const fn from_index(index: u32) -> Option<Self> {
        match index {
            0 => Some(Self::Inbound),
            1 => Some(Self::Outbound),
            _ => None,
        }
    }
}

impl Verdict {
    /// The name people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
        }
    }

    /// The verdict with this number.
    pub const fn from_index(index: u32) -> Option<Self> {
        match index {
            0 => Some(Self::Pass),
            1 => Some(Self::Drop),
            _ => None,
        }
    }
}

impl Reason {
    /// Every reason, in the order of its number.
    pub const ALL: [Self; REASONS] = [
        Self::Rule,
        Self::Default,
        Self::Ban,
        Self::Limit,
        Self::Established,
        Self::Link,
        Self::Malformed,
        Self::Signature,
    ];

    /// The name people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Default => "default",
            Self::Ban => "ban",
            Self::Limit => "limit",
            Self::Established => "established",
            Self::Link => "link",
            Self::Malformed => "malformed",
            Self::Signature => "signature",
        }
    }

    /// The reason with this number.
    pub const fn from_index(index: u32) -> Option<Self> {
        if index < REASONS as u32 {
            Some(Self::ALL[index as usize])
        } else {
            None
        }
    }
}
