//! Whether what is in use goes on under a policy: the lockout guard, and besides every session and every
//! listener, each judged by the decision itself.

use std::net::IpAddr;

use firewall_common::Direction;
use firewall_common::layout::INTERFACES;

use crate::datapath::clock;
use crate::guard::{self, Lifelines, Ways};
use crate::host::{Host, Interface};
use crate::policy::{Environment, Mode, Policy};
use crate::surface::{Exposure, Judge};

/// What was looked at, and what would be cut.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Kept {
    pub listeners: usize,
    pub sessions: usize,
    pub ssh_sessions: usize,
    pub gateways: usize,
    pub name_servers: usize,
    /// In words.
    pub cuts: Vec<String>,
}

/// Judges what a host with these protected interfaces has in use by `policy`, as if it were enforced.
pub fn keeps(
    policy: &Policy,
    host: &Host,
    interfaces: &[&Interface],
    lifelines: &Lifelines,
) -> anyhow::Result<Kept> {
    let mut policy = policy.clone();
    policy.defaults.mode = Mode::Enforce;
    let mut protected: Vec<String> = interfaces.iter().map(|one| one.name.clone()).collect();
    protected.truncate(INTERFACES as usize);
    let compiled = policy.compile(&Environment {
        interfaces: protected.clone(),
        clock_offset: clock::offset(),
        now: Some(jiff::Timestamp::now()),
        ..Environment::default()
    })?;
    let now = clock::monotonic();
    let (threats, compiled) = guard::examine(&policy, compiled, lifelines, now);
    let mut kept = Kept {
        ssh_sessions: lifelines.sessions.len(),
        gateways: lifelines.gateways.len(),
        name_servers: lifelines.resolvers.len(),
        cuts: threats.iter().map(ToString::to_string).collect(),
        ..Kept::default()
    };
    let ways = Ways::of_this_host(&protected);
    let mut judge = Judge::new(&policy, compiled, now);
    for listener in &host.listeners {
        if listener.is_local() || listener.of_client || listener.is_built_in() {
            continue;
        }
        let mut is_reached = false;
        for interface in interfaces {
            let Some(place) = ways.place(&interface.name) else {
                continue;
            };
            if listener
                .interface
                .as_ref()
                .is_some_and(|name| *name != interface.name)
            {
                continue;
            }
            let takes = |address: &&IpAddr| listener.takes(**address);
            for address in interface.addresses.iter().filter(takes) {
                let port = listener.address.port();
                is_reached = true;
                let reach = judge.reach(listener.transport, *address, port, place);
                if reach.exposure == Exposure::None {
                    let transport = listener.transport.name();
                    kept.cuts.push(format!(
                        "nobody would reach {transport} port {port} of {address}"
                    ));
                }
            }
        }
        kept.listeners += usize::from(is_reached);
    }
    for session in &host.sessions {
        let (local, peer) = (session.local, session.peer);
        let Some(place) = ways.towards(peer.ip()) else {
            continue;
        };
        let (direction, ends) = if session.inbound {
            (Direction::Inbound, (peer.ip(), local.ip(), local.port()))
        } else {
            (Direction::Outbound, (local.ip(), peer.ip(), peer.port()))
        };
        kept.sessions += 1;
        let passage = judge.opening(session.transport, ends, direction, place);
        if passage.is_some_and(|passage| !passage.passes) {
            let (from, to, port) = ends;
            let transport = session.transport.name();
            kept.cuts.push(format!(
                "a new connection from {from} to {to}, {transport} port {port}, would be dropped: there is one now"
            ));
        }
    }
    kept.cuts.sort_unstable();
    kept.cuts.dedup();
    Ok(kept)
}
