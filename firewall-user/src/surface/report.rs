//! The whole surface: listeners and openings with what is known of their traffic.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::{Exposure, Judge, Opening, Reach, openings};
use crate::guard::{Place, Ways};
use crate::host::{Host, Listener, Transport};
use crate::policy::Policy;

/// What a daemon has seen.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Packets of each rule.
    pub rules: HashMap<String, u64>,
    /// When a packet to a port was let in last, as far as samples tell.
    pub ports: HashMap<(Transport, u16), Timestamp>,
    /// How long samples have been taken.
    pub watched_seconds: u64,
}

/// What is exposed.
#[derive(Clone, Debug, Serialize)]
pub struct Surface {
    pub listeners: Vec<ListenerReport>,
    pub openings: Vec<OpeningReport>,
}

/// A listening socket.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerReport {
    pub protocol: Transport,
    pub address: IpAddr,
    pub port: u16,
    /// `ipv4`, `ipv6` or `both`.
    pub family: &'static str,
    pub interface: Option<String>,
    pub process: Option<String>,
    pub pid: Option<u32>,
    pub user: String,
    /// `all`, `restricted` or `none`, if the policy were enforced; `local` where only the host reaches it,
    /// `unprotected` where no protected interface leads to it.
    pub exposure: &'static str,
    /// The rules that let somebody in.
    pub rules: Vec<String>,
    /// Whom they let in, where not everybody.
    pub from: Vec<String>,
    /// By family; null where the host has no such address, or it does not listen there.
    pub ipv4: Option<Reach>,
    pub ipv6: Option<Reach>,
    /// Connections to it now.
    pub connections: usize,
    /// What its rules have counted, for all that they let in; null without a daemon or a rule.
    pub packets: Option<u64>,
    /// When a packet to the port was let in last, as far as is known.
    pub last_packet: Option<Timestamp>,
    /// `not_covered`, `unused`.
    pub flags: Vec<&'static str>,
}

/// What a rule lets in where nothing listens.
#[derive(Clone, Debug, Serialize)]
pub struct OpeningReport {
    #[serde(flatten)]
    pub opening: Opening,
    /// What the rule has counted; null without a daemon.
    pub packets: Option<u64>,
    pub flags: Vec<&'static str>,
}

/// Nobody gets in to a listener.
pub const NOT_COVERED: &str = "not_covered";
/// Somebody might get in, and nobody did.
pub const UNUSED: &str = "unused";
/// A rule lets in where nothing listens.
pub const OPEN_AND_UNUSED: &str = "open_and_unused";

/// The surface of a host by a policy. `ways` lead over the protected interfaces; a listener counts as unused
/// once it was watched for `quiet` seconds.
pub fn survey(
    judge: &mut Judge<'_>,
    policy: &Policy,
    host: &Host,
    ways: &Ways,
    traffic: Option<&Traffic>,
    quiet: u64,
) -> Surface {
    let addresses: Vec<(&str, IpAddr, Place)> = host
        .interfaces
        .iter()
        .filter_map(|interface| Some((interface, ways.place(&interface.name)?)))
        .flat_map(|(interface, place)| {
            let addresses = interface.addresses.iter();
            addresses.map(move |address| (interface.name.as_str(), *address, place))
        })
        .collect();
    let listeners: Vec<ListenerReport> = host
        .listeners
        .iter()
        .map(|listener| survey_listener(judge, listener, host, &addresses, traffic))
        .collect();
    let shared: HashMap<String, usize> =
        listeners
            .iter()
            .flat_map(|one| &one.rules)
            .fold(HashMap::new(), |mut counts, rule| {
                *counts.entry(rule.clone()).or_default() += 1;
                counts
            });
    let listeners = listeners.into_iter().map(|mut one| {
        let alone = one.rules.iter().all(|rule| shared.get(rule) == Some(&1));
        let silent = one.last_packet.is_none()
            && one.connections == 0
            && (!alone || one.packets.is_none_or(|packets| packets == 0));
        let watched = traffic.is_some_and(|traffic| traffic.watched_seconds >= quiet);
        if matches!(one.exposure, "all" | "restricted") && silent && watched {
            one.flags.push(UNUSED);
        }
        one
    });
    let listeners: Vec<ListenerReport> = listeners.collect();
    let places: Vec<(IpAddr, Place)> = addresses
        .iter()
        .map(|(_, address, place)| (*address, *place))
        .collect();
    let openings = openings(judge, policy, &places, &host.listeners);
    let report = |opening: Opening| OpeningReport {
        packets: traffic.map(|traffic| traffic.rules.get(&opening.rule).copied().unwrap_or(0)),
        opening,
        flags: vec![OPEN_AND_UNUSED],
    };
    Surface {
        listeners,
        openings: openings.into_iter().map(report).collect(),
    }
}

fn survey_listener(
    judge: &mut Judge<'_>,
    listener: &Listener,
    host: &Host,
    addresses: &[(&str, IpAddr, Place)],
    traffic: Option<&Traffic>,
) -> ListenerReport {
    let port = listener.address.port();
    let mut families: [Option<Reach>; 2] = [None, None];
    if !listener.is_local() {
        for (interface, address, place) in addresses {
            let bound_elsewhere = listener
                .interface
                .as_ref()
                .is_some_and(|name| name != interface);
            if bound_elsewhere || !listener.takes(*address) {
                continue;
            }
            let reach = judge.reach(listener.transport, *address, port, *place);
            let known = &mut families[usize::from(address.is_ipv6())];
            if known
                .as_ref()
                .is_none_or(|known| known.exposure < reach.exposure)
            {
                *known = Some(reach);
            }
        }
    }
    let widest = families.iter().flatten().map(|reach| reach.exposure).max();
    let exposure = match widest {
        _ if listener.is_local() => "local",
        None => "unprotected",
        Some(exposure) => exposure.name(),
    };
    let gather = |of: fn(&Reach) -> &Vec<String>| {
        let mut all: Vec<String> = families.iter().flatten().flat_map(of).cloned().collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let rules = gather(|reach| &reach.rules);
    let from = match widest {
        Some(Exposure::Restricted) => gather(|reach| &reach.from),
        _ => Vec::new(),
    };
    let connections = host.sessions.iter().filter(|session| {
        session.inbound
            && session.transport == listener.transport
            && session.local.port() == port
            && listener.takes(session.local.ip())
    });
    let packets = traffic.filter(|_| !rules.is_empty()).map(|traffic| {
        let counts = rules.iter().filter_map(|rule| traffic.rules.get(rule));
        counts.sum()
    });
    let [ipv4, ipv6] = families;
    ListenerReport {
        protocol: listener.transport,
        address: listener.address.ip(),
        port,
        family: match listener.address.ip() {
            IpAddr::V4(_) => "ipv4",
            IpAddr::V6(_) if listener.both_families => "both",
            IpAddr::V6(_) => "ipv6",
        },
        interface: listener.interface.clone(),
        process: match &listener.process {
            Some(process) => Some(process.name.clone()),
            None => listener.of_kernel.then(|| "kernel".to_owned()),
        },
        pid: listener.process.as_ref().map(|process| process.pid),
        user: user(listener.uid),
        flags: match widest {
            // A client's port is closed by right.
            Some(Exposure::None) if !listener.is_built_in() && !listener.of_client => {
                vec![NOT_COVERED]
            }
            _ => Vec::new(),
        },
        exposure,
        rules,
        from,
        ipv4,
        ipv6,
        connections: connections.count(),
        packets,
        last_packet: traffic
            .filter(|_| !listener.is_local())
            .and_then(|traffic| traffic.ports.get(&(listener.transport, port)).copied()),
    }
}

fn user(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}
