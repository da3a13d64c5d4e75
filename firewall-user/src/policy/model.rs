//! The policy as the rest of the code sees it: read, resolved and checked, so that nothing
//! behind this point has to validate again.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

pub use firewall_common::Direction;

use super::compile::Counters;
use super::limit::Limit;
pub use super::payload::Payload;

/// Services that are watched one by one: the first so many.
const MOST_SERVICES: usize = 1_024;

/// A whole policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub defaults: Defaults,
    /// In file order; names are unique.
    pub sets: Vec<Set>,
    /// Every prefix that no ban and no drop rule may hit.
    pub never_block: Vec<IpNet>,
    /// In file order: the first match decides; names are unique.
    pub rules: Vec<Rule>,
}

/// What happens where no rule matches, and whether anything is enforced at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    pub inbound: DefaultAction,
    pub outbound: DefaultAction,
    pub mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    Accept,
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    /// Count only.
    Observe,
}

/// A named set of addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    pub name: String,
    pub prefixes: Vec<IpNet>,
    /// The file it comes from, if not inline (absolute or relative to the working directory).
    pub file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Accept,
    Drop,
    /// Count and go on with the next rule.
    Count,
}

/// One rule. An empty list means "any".
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    pub action: Action,
    pub direction: Direction,
    /// The rule's own mode; [`Defaults::mode`] covers every rule besides.
    pub mode: Mode,
    /// IP protocol numbers. `icmp` is 1 and IPv4 only, `icmpv6` is 58 and IPv6 only.
    pub protocols: Vec<u8>,
    pub from: Addresses,
    pub to: Addresses,
    /// Source ports (TCP, UDP, SCTP, DCCP, UDP-Lite); inclusive ranges.
    pub from_ports: Vec<(u16, u16)>,
    /// Destination ports; inclusive ranges.
    pub ports: Vec<(u16, u16)>,
    pub tcp_flags: Option<TcpFlags>,
    /// ICMP and ICMPv6 message types.
    pub icmp_types: Vec<u8>,
    /// Identifier of the outermost tag (802.1Q or 802.1ad); `Some(0)` is priority-tagged.
    pub vlans: Vec<u16>,
    /// Names of interfaces.
    pub interfaces: Vec<String>,
    /// IP packet length in bytes (IP header included); inclusive ranges.
    pub lengths: Vec<(u16, u16)>,
    /// TTL or hop limit; inclusive ranges.
    pub ttls: Vec<(u8, u8)>,
    /// Windows as they stand in the TCP header, not scaled; inclusive ranges.
    pub tcp_windows: Vec<(u16, u16)>,
    /// Any of these in the payload.
    pub payloads: Vec<Payload>,
    /// `Some(true)`: only fragments; `Some(false)`: only whole packets.
    pub fragment: Option<bool>,
    /// Only of rules that accept.
    pub limit: Option<Limit>,
    pub log: bool,
    pub owner: Option<String>,
    pub reason: Option<String>,
    /// When the rule stops being in force.
    pub expires: Option<jiff::Timestamp>,
    /// Line of the rule's header in the policy file, from 1.
    pub line: usize,
}

/// An address match: sets by index into [`Policy::sets`], plus prefixes written in place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Addresses {
    pub sets: Vec<usize>,
    pub prefixes: Vec<IpNet>,
}

/// TCP flags that must be set and that must not be; other flags do not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags {
    pub set: u8,
    pub clear: u8,
}

impl Addresses {
    /// Whether every address matches.
    pub fn is_any(&self) -> bool {
        self.sets.is_empty() && self.prefixes.is_empty()
    }

    /// Whether `address` matches.
    pub fn contains(&self, policy: &Policy, address: IpAddr) -> bool {
        self.is_any()
            || self.prefixes.iter().any(|prefix| prefix.contains(&address))
            || self
                .sets
                .iter()
                .any(|&set| policy.sets[set].contains(address))
    }
}

impl Set {
    /// Whether a prefix of the set covers `address`. Linear: for people, not for packets.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }
}

impl Policy {
    /// Names of the sets that cover `address`, in file order.
    pub fn sets_covering(&self, address: IpAddr) -> Vec<&str> {
        self.sets
            .iter()
            .filter(|set| set.contains(address))
            .map(|set| set.name.as_str())
            .collect()
    }

    /// The rules that let something in, by name and counter, in the policy's order: its services.
    pub fn services(&self, counters: &Counters) -> impl Iterator<Item = (&str, u32)> {
        self.rules
            .iter()
            .filter(|rule| rule.action == Action::Accept && rule.direction == Direction::Inbound)
            .filter_map(|rule| Some((rule.name.as_str(), counters.of(&rule.name)?)))
            .take(MOST_SERVICES)
    }

    /// Whether `address` is protected from bans and drop rules.
    pub fn never_blocks(&self, address: IpAddr) -> bool {
        self.never_block
            .iter()
            .any(|prefix| prefix.contains(&address))
    }
}
