//! Reads the lifelines from the host: sockets, routes and name servers of the network namespace
//! that this process is in. Nothing is sent.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;
use std::sync::OnceLock;

use firewall_common::packet::NO_VLAN;

use super::routes::{self, Route};
use super::sockets::{self, Session};
use super::{Lifelines, Resolver, lookout};

/// Where packets pass the fence: the slot of an interface, and the tag that they carry there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub slot: u32,
    pub tag: u16,
}

impl Lifelines {
    /// The lifelines that pass one of the `protected` interfaces. `own` is the ssh session of
    /// whoever asks.
    pub fn of_this_host(protected: &[String], resolv_conf: &Path, own: Option<Session>) -> Self {
        let ways = Ways::of_this_host(protected);
        let (sessions, unknown) = sockets::sessions(own);
        Self {
            sessions: sessions
                .into_iter()
                .filter_map(|session| Some((session, ways.towards(session.peer.ip())?)))
                .collect(),
            gateways: routes::gateways(&ways.routes)
                .filter_map(|(gateway, interface)| Some((gateway, ways.place(interface)?)))
                .collect(),
            resolvers: lookout::resolvers(resolv_conf)
                .into_iter()
                .filter_map(|server| {
                    let route = routes::towards(&ways.routes, server)?;
                    let place = ways.place(&route.interface)?;
                    let from = source_for(server)?;
                    is_ours(route).then_some(Resolver {
                        server,
                        from,
                        place,
                    })
                })
                .collect(),
            unknown: unknown.into_iter().collect(),
        }
    }

    /// The interfaces by which this host reaches others, where no settings name any.
    pub fn interfaces() -> Vec<String> {
        let routes = routes::of_this_host();
        let mut names: Vec<String> = routes.into_iter().map(|route| route.interface).collect();
        names.retain(|name| name != "lo");
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// By which of the protected interfaces others are reached.
#[derive(Debug)]
pub struct Ways {
    protected: Vec<String>,
    vlans: Vec<Vlan>,
    routes: Vec<Route>,
}

impl Ways {
    pub fn of_this_host(protected: &[String]) -> Self {
        let vlans_file = fs::read_to_string("/proc/net/vlan/config").unwrap_or_default();
        Self {
            protected: protected.to_vec(),
            vlans: vlans(&vlans_file),
            routes: routes::of_this_host(),
        }
    }

    /// Where packets of an interface pass the fence, if they do.
    pub fn place(&self, interface: &str) -> Option<Place> {
        place(&self.protected, &self.vlans, interface)
    }

    /// Where packets to an address pass the fence, if they do.
    pub fn towards(&self, address: IpAddr) -> Option<Place> {
        self.place(&routes::towards(&self.routes, address)?.interface)
    }
}

/// A tagged interface on another one.
#[derive(Debug, PartialEq, Eq)]
struct Vlan {
    name: String,
    tag: u16,
    on: String,
}

/// Reads `/proc/net/vlan/config`: `eth0.5 | 5 | eth0`.
fn vlans(table: &str) -> Vec<Vlan> {
    let vlan = |line: &str| {
        let mut fields = line.split('|').map(str::trim);
        Some(Vlan {
            name: fields.next()?.to_owned(),
            tag: fields.next()?.parse().ok()?,
            on: fields.next()?.to_owned(),
        })
    };
    table.lines().filter_map(vlan).collect()
}

fn place(protected: &[String], vlans: &[Vlan], interface: &str) -> Option<Place> {
    let slot = |name: &str| {
        let slot = protected.iter().position(|known| known == name)?;
        u32::try_from(slot).ok()
    };
    if let Some(slot) = slot(interface) {
        return Some(Place { slot, tag: NO_VLAN });
    }
    let vlan = vlans.iter().find(|vlan| vlan.name == interface)?;
    Some(Place {
        slot: slot(&vlan.on)?,
        tag: vlan.tag,
    })
}

/// The address from which this host would ask a server. Connecting a datagram socket looks the
/// route up and sends nothing.
fn source_for(server: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((server, 53)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Whether a configured server is this network namespace's. Where the process was put into a
/// namespace of its own and shares its files with the host around it, resolv.conf is the host's: only
/// a server on the link is taken for meant.
fn is_ours(route: &Route) -> bool {
    route.gateway.is_none() || !files_are_of_another_network()
}

fn files_are_of_another_network() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let namespace = |pid: &str, kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
        let (network, files) = (namespace("self", "net"), namespace("self", "mnt"));
        let mut ancestor = "self".to_owned();
        // As many as one may look at.
        while let Some(parent) = parent_of(&ancestor) {
            if namespace(&parent, "mnt") != files {
                return false;
            }
            if namespace(&parent, "net") != network {
                return true;
            }
            ancestor = parent;
        }
        false
    })
}

/// Finds it out while other processes may still be looked at.
pub(super) fn remember_network() {
    files_are_of_another_network();
}

fn parent_of(pid: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    let parent = parent.trim();
    (parent != "0").then(|| parent.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tagged_interface_passes_the_fence_of_the_one_that_it_is_on() {
        let table = "VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                     eth1.5         | 5  | eth1\nbond0.9        | 9  | bond0\n";
        let vlans = vlans(table);
        assert_eq!(vlans.len(), 2);
        let protected = ["eth0".to_owned(), "eth1".to_owned()];
        let place = |interface| place(&protected, &vlans, interface);
        let at = |slot, tag| Some(Place { slot, tag });
        assert_eq!(place("eth1"), at(1, NO_VLAN));
        assert_eq!(place("eth1.5"), at(1, 5));
        assert_eq!(place("bond0.9"), None);
        assert_eq!(place("lo"), None);
    }
}
