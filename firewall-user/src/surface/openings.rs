//! What the policy lets in where nothing listens.

use std::collections::BTreeSet;
use std::net::IpAddr;

use firewall_common::Direction;

use super::judge::{Judge, lets_in};
use crate::guard::Place;
use crate::host::{Listener, Transport};
use crate::policy::{Action, Policy};

/// Ports that a rule opens and that nobody serves.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Opening {
    pub rule: String,
    pub protocol: Transport,
    /// `ipv4`, `ipv6`.
    pub families: Vec<&'static str>,
    /// Inclusive.
    pub ports: Vec<(u16, u16)>,
    /// The rule has no `port`: what it leaves open has no end.
    pub every_port: bool,
}

impl Opening {
    /// `80, 8000-8010`.
    pub fn in_words(&self) -> String {
        if self.every_port {
            return "every port without a listener".to_owned();
        }
        let range = |(low, high): &(u16, u16)| match low == high {
            true => low.to_string(),
            false => format!("{low}-{high}"),
        };
        self.ports.iter().map(range).collect::<Vec<_>>().join(", ")
    }
}

/// The openings of a policy on a host with these addresses and listeners.
pub fn openings(
    judge: &mut Judge<'_>,
    policy: &Policy,
    addresses: &[(IpAddr, Place)],
    listeners: &[Listener],
) -> Vec<Opening> {
    let mut openings: Vec<Opening> = Vec::new();
    for rule in &policy.rules {
        if rule.action != Action::Accept || rule.direction != Direction::Inbound {
            continue;
        }
        for transport in [Transport::Tcp, Transport::Udp] {
            for (family, v4) in [("ipv4", true), ("ipv6", false)] {
                let addresses: Vec<(IpAddr, Place)> = addresses
                    .iter()
                    .filter(|(address, _)| address.is_ipv4() == v4)
                    .copied()
                    .collect();
                let mut ports: Vec<(u16, u16)> = Vec::new();
                for (low, high) in stretches(policy, transport, listeners) {
                    let serves = |listener: &Listener| {
                        listener.transport == transport
                            && (low..=high).contains(&listener.address.port())
                            && addresses
                                .iter()
                                .any(|(address, _)| listener.takes(*address))
                    };
                    if !lets_in(rule, transport, low) || listeners.iter().any(serves) {
                        continue;
                    }
                    let open = addresses.iter().any(|(address, place)| {
                        judge.is_opened_by(rule, transport, *address, low, *place)
                    });
                    if !open {
                        continue;
                    }
                    match ports.last_mut() {
                        Some(last) if last.1.checked_add(1) == Some(low) => last.1 = high,
                        _ => ports.push((low, high)),
                    }
                }
                if ports.is_empty() {
                    continue;
                }
                let same = |one: &&mut Opening| {
                    one.rule == rule.name && one.protocol == transport && one.ports == ports
                };
                match openings.iter_mut().find(same) {
                    Some(opening) => opening.families.push(family),
                    None => openings.push(Opening {
                        rule: rule.name.clone(),
                        protocol: transport,
                        families: vec![family],
                        ports,
                        every_port: rule.ports.is_empty(),
                    }),
                }
            }
        }
    }
    openings
}

/// Stretches of ports that no rule tells apart, and that somebody listens on at most one of.
fn stretches(policy: &Policy, transport: Transport, listeners: &[Listener]) -> Vec<(u16, u16)> {
    let mut edges: BTreeSet<u32> = BTreeSet::from([0, 1 << 16]);
    let inbound = policy
        .rules
        .iter()
        .filter(|rule| rule.direction == Direction::Inbound);
    for (low, high) in inbound.flat_map(|rule| &rule.ports) {
        edges.extend([u32::from(*low), u32::from(*high) + 1]);
    }
    for listener in listeners.iter().filter(|one| one.transport == transport) {
        let port = u32::from(listener.address.port());
        edges.extend([port, port + 1]);
    }
    let edges: Vec<u32> = edges.into_iter().collect();
    edges
        .windows(2)
        .map(|pair| (pair[0] as u16, (pair[1] - 1) as u16))
        .collect()
}
