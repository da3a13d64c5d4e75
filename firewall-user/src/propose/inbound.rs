//! Rules for what listens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Names, OPERATIONS, Rule, holder, listed};
use crate::host::{Host, Interface, Listener, Session, Transport};
use crate::policy::is_admin_port;

/// Addresses in a comment, at most.
const SHOWN: usize = 8;
/// Single addresses that are proposed for `from`; more are summed up.
const SINGLE: usize = 16;

/// A rule for each program and protocol, and what is not opened.
pub(super) fn rules(
    host: &Host,
    interfaces: &[&Interface],
    names: &mut Names,
) -> (Vec<Rule>, Vec<String>) {
    let mut closed = Vec::new();
    let mut programs: BTreeMap<Key, BTreeMap<u16, Vec<&Listener>>> = BTreeMap::new();
    for listener in &host.listeners {
        if let Some(why) = stays_closed(listener, host, interfaces) {
            closed.push(format!(
                "{} {}: {}: {why}",
                listener.transport.name(),
                listener.address,
                holder(listener)
            ));
            continue;
        }
        let open = || {
            host.listeners
                .iter()
                .filter(|one| stays_closed(one, host, interfaces).is_none())
        };
        let ports = programs.entry(Key::of(listener, open())).or_default();
        let port = listener.address.port();
        ports.entry(port).or_default().push(listener);
    }
    let mut rules: Vec<Rule> = Vec::new();
    for (key, ports) in programs {
        // Ports that are reached the same way share a rule.
        let mut groups: Vec<(Vec<String>, Vec<u16>)> = Vec::new();
        for (port, listeners) in &ports {
            let to = reached_at(listeners);
            match groups.iter_mut().find(|(known, _)| *known == to) {
                Some((_, group)) => group.push(*port),
                None => groups.push((to, vec![*port])),
            }
        }
        for (to, group) in groups {
            let listeners: Vec<&Listener> = group
                .iter()
                .flat_map(|port| ports[port].iter().copied())
                .collect();
            rules.push(rule(host, &key, &listeners, group, to, names));
        }
    }
    rules.extend(["icmp", "icmpv6"].map(|protocol| echo(protocol, names)));
    (rules, closed)
}

/// Whose listeners stand in one rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    name: String,
    transport: Transport,
    interface: Option<String>,
}

impl Key {
    /// A port that several programs share stands in the rule of the first of them.
    fn of<'h>(listener: &'h Listener, open: impl Iterator<Item = &'h Listener>) -> Self {
        let port = listener.address.port();
        let shares =
            |one: &&Listener| one.transport == listener.transport && one.address.port() == port;
        let mut sharing = open.filter(shares).peekable();
        let first = sharing.peek().copied().unwrap_or(listener);
        // Where one of them takes what comes by any interface, the port is open there.
        let mut interface = listener.interface.clone();
        if sharing.any(|one| one.interface.is_none()) {
            interface = None;
        }
        let name = match &first.process {
            Some(process) => process.name.clone(),
            None if first.of_kernel => format!("kernel-{port}"),
            None => format!("port-{port}"),
        };
        Self {
            name,
            transport: listener.transport,
            interface,
        }
    }
}

/// Why nobody else is let in to a listener.
fn stays_closed(listener: &Listener, host: &Host, interfaces: &[&Interface]) -> Option<String> {
    if listener.is_local() {
        return Some("only the host itself reaches it".to_owned());
    }
    if listener.is_built_in() {
        return Some("a built-in rule lets the answers of DHCP in".to_owned());
    }
    if listener.of_client {
        return Some(
            "the kernel gives such ports to clients, whose answers come in by themselves; if it is a service, \
             write a rule for it"
                .to_owned(),
        );
    }
    let stands_on = |name: &str| interfaces.iter().any(|interface| interface.name == name);
    let elsewhere = |name: &str| format!("reached by {name}, which is not protected");
    if let Some(name) = &listener.interface {
        return (!stands_on(name)).then(|| elsewhere(name));
    }
    let address = listener.address.ip();
    let mut all = host.interfaces.iter();
    let of = all.find(|interface| interface.addresses.contains(&address))?;
    // What has no Ethernet of its own may be reached through an interface that has.
    (of.ethernet && !of.loopback && !stands_on(&of.name) && !is_routed(of, interfaces))
        .then(|| elsewhere(&of.name))
}

/// A tagged interface on a protected one passes its fence.
fn is_routed(interface: &Interface, interfaces: &[&Interface]) -> bool {
    let mut parents = interfaces.iter();
    parents.any(|parent| interface.name.starts_with(&format!("{}.", parent.name)))
}

/// Where a port is reached, as a rule's `to` says it: nothing where any address will do.
fn reached_at(listeners: &[&Listener]) -> Vec<String> {
    let any = |v4: bool| {
        listeners.iter().any(|listener| {
            let address = listener.address.ip();
            address.is_unspecified() && (address.is_ipv4() == v4 || (v4 && listener.both_families))
        })
    };
    let (any_v4, any_v6) = (any(true), any(false));
    if any_v4 && any_v6 {
        return Vec::new();
    }
    let mut to = BTreeSet::new();
    for listener in listeners {
        let address = listener.address.ip();
        let covered = if address.is_ipv4() { any_v4 } else { any_v6 };
        if !covered {
            to.insert(address.to_string());
        }
    }
    let mut to: Vec<String> = to.into_iter().collect();
    if any_v4 {
        to.insert(0, "0.0.0.0/0".to_owned());
    }
    if any_v6 {
        to.insert(0, "::/0".to_owned());
    }
    to
}

fn rule(
    host: &Host,
    key: &Key,
    listeners: &[&Listener],
    ports: Vec<u16>,
    to: Vec<String>,
    names: &mut Names,
) -> Rule {
    let transport = key.transport.name();
    let wish = match key.transport {
        Transport::Tcp => key.name.clone(),
        Transport::Udp => format!("{}-udp", key.name),
    };
    let sessions: Vec<&Session> = host
        .sessions
        .iter()
        .filter(|session| {
            session.inbound
                && session.transport == key.transport
                && ports.contains(&session.local.port())
        })
        .collect();
    let mut addresses: Vec<SocketAddr> = listeners.iter().map(|one| one.address).collect();
    addresses.dedup();
    let who = listeners
        .first()
        .map_or_else(String::new, |one| holder(one));
    let mut comments = vec![format!("{who} listens on {}", listed(&addresses, SHOWN))];
    let peers = peers(&sessions);
    if !peers.is_empty() {
        comments.push(format!("connected now: {}", listed(&peers, SHOWN)));
    }
    let ssh = ["sshd", "dropbear"]
        .iter()
        .any(|name| key.name.starts_with(name));
    let administers = ssh
        || ports
            .iter()
            .any(|port| is_admin_port(key.transport.number(), *port));
    let from = administers.then(|| from(&peers));
    if administers {
        comments.push(
            "open to everybody as it is now; `from` with those who need it would close it to the rest"
                .to_owned(),
        );
    }
    let what = match ssh {
        true => "administration".to_owned(),
        false => format!("{} serves {transport} {}", key.name, listed(&ports, SHOWN)),
    };
    Rule {
        name: names.give(&wish),
        protocols: vec![transport],
        ports,
        to,
        interface: key.interface.clone(),
        owner: owner(listeners),
        reason: what,
        comments,
        from: from.flatten(),
        ..Rule::default()
    }
}

/// The user whose process it is, where that says something.
fn owner(listeners: &[&Listener]) -> String {
    let uid = listeners.first().map_or(0, |listener| listener.uid);
    if uid == 0 {
        return OPERATIONS.to_owned();
    }
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    user.map_or_else(|| format!("user {uid}"), |user| user.name)
}

/// Who is connected, each once.
fn peers(sessions: &[&Session]) -> Vec<IpAddr> {
    let peers: BTreeSet<IpAddr> = sessions.iter().map(|session| session.peer.ip()).collect();
    peers.into_iter().collect()
}

/// A list for `from` that is not narrower than what is in use; nothing if nobody is there.
fn from(peers: &[IpAddr]) -> Option<String> {
    if peers.is_empty() {
        return None;
    }
    let shown: BTreeSet<String> = if peers.len() <= SINGLE {
        peers.iter().map(ToString::to_string).collect()
    } else {
        peers
            .iter()
            .map(|peer| network(*peer).to_string())
            .collect()
    };
    let quoted: Vec<String> = shown
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect();
    Some(format!("[{}]", quoted.join(", ")))
}

/// The /24 or /64 around an address.
fn network(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(address) => Ipv4Net::new_assert(address, 24).trunc().into(),
        IpAddr::V6(address) => Ipv6Net::new_assert(address, 64).trunc().into(),
    }
}

fn echo(protocol: &'static str, names: &mut Names) -> Rule {
    let (wish, family) = match protocol {
        "icmp" => ("ping", "IPv4"),
        _ => ("ping6", "IPv6"),
    };
    Rule {
        name: names.give(wish),
        protocols: vec![protocol],
        keys: vec![
            ("icmp_type", "\"echo-request\"".to_owned()),
            (
                "limit",
                "{ rate = \"10/s\", burst = 20, per = \"source\" }".to_owned(),
            ),
        ],
        owner: OPERATIONS.to_owned(),
        reason: format!("reachability, {family}"),
        comments: vec!["the host answers pings now; this bounds how many".to_owned()],
        ..Rule::default()
    }
}
