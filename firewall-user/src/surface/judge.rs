//! Who gets in to a port of this host, asked of the decision with real packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_common::decide::Circumstances;
use firewall_common::{Direction, Reason, Verdict};
use ipnet::IpNet;

use super::shape::Shape;
use crate::engine::HostEngine;
use crate::guard::Place;
use crate::host::Transport;
use crate::policy::{Action, Addresses, Compiled, Policy, Rule};

/// A policy that can be asked.
#[derive(Debug)]
pub struct Judge<'p> {
    policy: &'p Policy,
    engine: HostEngine,
    now: u64,
    strangers: Vec<IpAddr>,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    pub passes: bool,
    /// The rule that decided, or `None` for the default and what is built in.
    pub rule: Option<String>,
    pub reason: Reason,
}

/// Who gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Exposure {
    None,
    Restricted,
    All,
}

impl Exposure {
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Restricted => "restricted",
            Self::All => "all",
        }
    }
}

/// Who gets in to a port, and by what.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Reach {
    pub exposure: Exposure,
    /// The rules that let somebody in; none where it is the default.
    pub rules: Vec<String>,
    /// Sets and prefixes of those who get in, where not everybody does.
    pub from: Vec<String>,
}

/// Prefixes of a set that are tried: one that lies within a drop rule's is passed over.
const TRIED: usize = 4;
/// Names that are told.
const TOLD: usize = 16;

impl<'p> Judge<'p> {
    /// A judge by `policy`, compiled as `compiled` for a host whose packet clock shows `now`.
    pub fn new(policy: &'p Policy, compiled: Compiled, now: u64) -> Self {
        Self {
            engine: HostEngine::new(compiled),
            strangers: [false, true]
                .into_iter()
                .flat_map(|v6| strangers(policy, v6))
                .collect(),
            policy,
            now,
        }
    }

    /// Judges a frame. What a limit drops gets in, only not as often.
    pub fn passage(&mut self, frame: &[u8], direction: Direction, place: Place) -> Passage {
        let at = Circumstances {
            now: self.now,
            interface: place.slot,
        };
        let judged = self
            .engine
            .judge_at(frame, place.tag, direction, at)
            .judgement;
        let rule = match judged.reason {
            Reason::Rule | Reason::Limit => self.engine.rule_name(judged.rule),
            _ => None,
        };
        Passage {
            passes: judged.verdict == Verdict::Pass || judged.reason == Reason::Limit,
            rule: rule.map(str::to_owned),
            reason: judged.reason,
        }
    }

    /// Judges the first packet of a connection.
    pub fn opening(
        &mut self,
        transport: Transport,
        (from, to, port): (IpAddr, IpAddr, u16),
        direction: Direction,
        place: Place,
    ) -> Option<Passage> {
        let frame = Shape::PLAIN.frame(from, to, transport, port)?;
        Some(self.passage(&frame, direction, place))
    }

    /// Who gets in to a port of an address of this host.
    pub fn reach(&mut self, transport: Transport, to: IpAddr, port: u16, place: Place) -> Reach {
        let rules: Vec<&Rule> = self
            .policy
            .rules
            .iter()
            .filter(|rule| lets_in(rule, transport, port) && rule.to.contains(self.policy, to))
            .collect();
        let mut shapes = vec![Shape::PLAIN];
        for rule in &rules {
            let shape = Shape::of(rule);
            if !shapes.contains(&shape) {
                shapes.push(shape);
            }
        }
        let mut reach = Reach {
            exposure: Exposure::None,
            rules: Vec::new(),
            from: Vec::new(),
        };
        for stranger in self.strangers_to(to) {
            for shape in &shapes {
                let Some(frame) = shape.frame(stranger, to, transport, port) else {
                    continue;
                };
                let passage = self.passage(&frame, Direction::Inbound, place);
                if passage.passes {
                    reach.exposure = Exposure::All;
                    add(&mut reach.rules, passage.rule);
                }
            }
        }
        if reach.exposure == Exposure::All {
            return reach;
        }
        for rule in rules {
            let from = self.sources(rule, to);
            for source in from {
                let Some(frame) = Shape::of(rule).frame(source, to, transport, port) else {
                    continue;
                };
                let passage = self.passage(&frame, Direction::Inbound, place);
                if passage.passes {
                    reach.exposure = Exposure::Restricted;
                    add(&mut reach.rules, passage.rule);
                    for label in labels(self.policy, &rule.from) {
                        add(&mut reach.from, Some(label));
                    }
                    break;
                }
            }
        }
        reach
    }

    /// Whether `rule` itself lets somebody in to a port of an address.
    pub(super) fn is_opened_by(
        &mut self,
        rule: &Rule,
        transport: Transport,
        to: IpAddr,
        port: u16,
        place: Place,
    ) -> bool {
        let shape = Shape::of(rule);
        self.sources(rule, to).into_iter().any(|source| {
            let frame = shape.frame(source, to, transport, port);
            frame.is_some_and(|frame| {
                let passage = self.passage(&frame, Direction::Inbound, place);
                passage.passes && passage.rule.as_deref() == Some(rule.name.as_str())
            })
        })
    }

    /// Some of whom a rule is for, of the family of `to`.
    fn sources(&self, rule: &Rule, to: IpAddr) -> Vec<IpAddr> {
        if rule.from.is_any() {
            return self.strangers_to(to);
        }
        let mut sources = Vec::new();
        let sets = rule
            .from
            .sets
            .iter()
            .map(|set| &self.policy.sets[*set].prefixes);
        for prefixes in sets.chain([&rule.from.prefixes]) {
            let of_family = prefixes
                .iter()
                .filter(|prefix| is_v4(prefix) == to.is_ipv4());
            sources.extend(of_family.take(TRIED).map(|prefix| within(*prefix)));
        }
        // A packet to its own sender is malformed.
        sources.retain(|source| *source != to);
        sources
    }

    fn strangers_to(&self, to: IpAddr) -> Vec<IpAddr> {
        let same = |stranger: &&IpAddr| stranger.is_ipv4() == to.is_ipv4() && **stranger != to;
        self.strangers.iter().filter(same).copied().collect()
    }
}

/// Whether a rule may let something in to a port.
pub(super) fn lets_in(rule: &Rule, transport: Transport, port: u16) -> bool {
    let covers = |range: &(u16, u16)| (range.0..=range.1).contains(&port);
    rule.action == Action::Accept
        && rule.direction == Direction::Inbound
        && (rule.protocols.is_empty() || rule.protocols.contains(&transport.number()))
        && (rule.ports.is_empty() || rule.ports.iter().any(covers))
}

fn add(list: &mut Vec<String>, name: Option<String>) {
    if let Some(name) = name
        && list.len() < TOLD
        && !list.contains(&name)
    {
        list.push(name);
    }
}

fn labels(policy: &Policy, addresses: &Addresses) -> Vec<String> {
    let sets = addresses
        .sets
        .iter()
        .map(|set| policy.sets[*set].name.clone());
    let prefixes = addresses.prefixes.iter().map(ToString::to_string);
    sets.chain(prefixes).take(TOLD).collect()
}

/// Addresses that no rule and no protection names, as far as there are some: two of a family, so that one
/// in somebody's list does not speak for all.
fn strangers(policy: &Policy, v6: bool) -> Vec<IpAddr> {
    let named = |address: IpAddr| {
        let within = |prefix: &&IpNet| prefix.contains(&address) && prefix.prefix_len() > 0;
        let in_sets = policy
            .sets
            .iter()
            .flat_map(|set| &set.prefixes)
            .filter(within)
            .count();
        let in_rules = policy.rules.iter().flat_map(|rule| &rule.from.prefixes);
        in_sets + in_rules.filter(within).count()
    };
    let mut candidates: Vec<(usize, IpAddr)> = candidates(v6)
        .map(|address| (named(address), address))
        .collect();
    candidates.sort_by_key(|(named, _)| *named);
    candidates
        .into_iter()
        .take(2)
        .map(|(_, address)| address)
        .collect()
}

/// Public addresses far from each other.
fn candidates(v6: bool) -> impl Iterator<Item = IpAddr> {
    [
        5_u8, 23, 41, 62, 77, 89, 101, 118, 134, 151, 163, 177, 185, 193, 201, 219,
    ]
    .into_iter()
    .map(move |first| {
        if v6 {
            let second = 0x100 | u16::from(first);
            let first = 0x2400 | u16::from(first & 0xf);
            Ipv6Addr::new(first, second << 4, 0x51, 0, 0, 0, 0, 0x77).into()
        } else {
            Ipv4Addr::new(first, first ^ 0x5a, 77, 23).into()
        }
    })
}

fn is_v4(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V4(_))
}

/// An address of a prefix: not the first, which may stand for the network.
fn within(prefix: IpNet) -> IpAddr {
    let first = prefix.network();
    let second = match first {
        IpAddr::V4(first) => IpAddr::from(Ipv4Addr::from_bits(first.to_bits().wrapping_add(1))),
        IpAddr::V6(first) => IpAddr::from(Ipv6Addr::from_bits(first.to_bits().wrapping_add(1))),
    };
    if prefix.contains(&second) {
        second
    } else {
        first
    }
}
