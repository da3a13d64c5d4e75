//! Rules for what goes out: name servers, time, and the connections that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::{Names, OPERATIONS, Rule, listed};
use crate::host::{Host, Transport};

const DNS: u16 = 53;
const NTP: u16 = 123;
/// Addresses in a comment, at most.
const SHOWN: usize = 8;
/// Programs that ask any name server of the Internet.
const RECURSORS: [&str; 4] = ["named", "unbound", "pdns_recursor", "kresd"];

pub(super) fn rules(host: &Host, names: &mut Names) -> Vec<Rule> {
    let recursor = recursor(host);
    let mut rules = Vec::new();
    rules.extend(name_servers(host, recursor.as_deref(), names));
    rules.extend(time(host, names));
    // A port that several programs use stands in one rule.
    let mut ports: BTreeMap<(Transport, u16), Use> = BTreeMap::new();
    for session in &host.sessions {
        let port = session.peer.port();
        let known = match port {
            DNS => recursor.is_some() || host.resolvers.contains(&session.peer.ip()),
            NTP => session.transport == Transport::Udp,
            _ => false,
        };
        if session.inbound || known {
            continue;
        }
        let used = ports.entry((session.transport, port)).or_default();
        used.programs.insert(match &session.process {
            Some(process) => process.name.clone(),
            None => format!("user-{}", session.uid),
        });
        used.peers.insert(session.peer);
    }
    let mut groups: Vec<(Transport, Use, Vec<u16>)> = Vec::new();
    for ((transport, port), used) in ports {
        let same = |group: &&mut (Transport, Use, Vec<u16>)| {
            group.0 == transport && group.1.programs == used.programs
        };
        match groups.iter_mut().find(same) {
            Some((_, known, group)) => {
                known.peers.extend(used.peers);
                group.push(port);
            }
            None => groups.push((transport, used, vec![port])),
        }
    }
    let rule = |(transport, used, ports)| used_by(transport, &used, ports, names);
    rules.extend(groups.into_iter().map(rule));
    rules
}

/// Who uses a port, and with whom.
#[derive(Debug, Default)]
struct Use {
    programs: BTreeSet<String>,
    peers: BTreeSet<SocketAddr>,
}

fn used_by(transport: Transport, used: &Use, ports: Vec<u16>, names: &mut Names) -> Rule {
    let programs: Vec<&String> = used.programs.iter().collect();
    let peers: Vec<&SocketAddr> = used.peers.iter().collect();
    let first = programs.first().map_or("", |name| name.as_str());
    let name = transport.name();
    let programs = listed(&programs, SHOWN);
    Rule {
        name: names.give(&match transport {
            Transport::Tcp => format!("out-{first}"),
            Transport::Udp => format!("out-{first}-udp"),
        }),
        outbound: true,
        protocols: vec![name],
        owner: OPERATIONS.to_owned(),
        reason: format!("{programs}: {name} {}", listed(&ports, SHOWN)),
        comments: vec![format!(
            "{programs}: connected to {}",
            listed(&peers, SHOWN)
        )],
        ports,
        ..Rule::default()
    }
}

/// A program here that asks any name server.
fn recursor(host: &Host) -> Option<String> {
    host.listeners.iter().find_map(|listener| {
        let name = &listener.process.as_ref()?.name;
        RECURSORS.contains(&name.as_str()).then(|| name.clone())
    })
}

fn name_servers(host: &Host, recursor: Option<&str>, names: &mut Names) -> Option<Rule> {
    if recursor.is_none() && host.resolvers.is_empty() {
        return None;
    }
    let (to, comment) = match recursor {
        Some(name) => (
            Vec::new(),
            format!("{name} runs here and asks any name server"),
        ),
        None => (
            host.resolvers.iter().map(ToString::to_string).collect(),
            format!(
                "the host's name servers: {}",
                listed(&host.resolvers, SHOWN)
            ),
        ),
    };
    Some(Rule {
        name: names.give("out-dns"),
        outbound: true,
        protocols: vec!["udp", "tcp"],
        ports: vec![DNS],
        to,
        owner: OPERATIONS.to_owned(),
        reason: "name resolution".to_owned(),
        comments: vec![comment],
        ..Rule::default()
    })
}

fn time(host: &Host, names: &mut Names) -> Option<Rule> {
    let asked = host.sessions.iter().find(|session| {
        !session.inbound && session.transport == Transport::Udp && session.peer.port() == NTP
    });
    let comment = match (&host.time_keeper, asked) {
        (Some(keeper), _) => format!("{} (process {}) keeps the time", keeper.name, keeper.pid),
        (None, Some(session)) => format!("the time is asked of {}", session.peer.ip()),
        (None, None) => return None,
    };
    Some(Rule {
        name: names.give("out-ntp"),
        outbound: true,
        protocols: vec!["udp"],
        ports: vec![NTP],
        owner: OPERATIONS.to_owned(),
        reason: "time".to_owned(),
        comments: vec![comment],
        ..Rule::default()
    })
}
