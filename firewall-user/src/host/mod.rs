//! What this host serves and whom it talks to, read from the kernel and `/proc` of the network
//! namespace that this process is in. Nothing is sent.

mod card;
mod interfaces;
mod netlink;
mod processes;
pub mod programs;
pub mod sock_diag;
mod sockets;

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use crate::guard::{resolvers, routes};

pub use card::{Card, Channels};
pub use interfaces::Interface;
pub use processes::Process;
pub(crate) use processes::sockets_of;
pub use sockets::{Listener, Session, Transport};

/// A look at the host.
#[derive(Clone, Debug)]
pub struct Host {
    pub listeners: Vec<Listener>,
    pub sessions: Vec<Session>,
    pub interfaces: Vec<Interface>,
    /// Default gateways with their interfaces.
    pub gateways: Vec<(IpAddr, String)>,
    /// Name servers that are not on the host itself.
    pub resolvers: Vec<IpAddr>,
    /// The program that keeps the time over the network.
    pub time_keeper: Option<Process>,
    /// It forwards packets of others.
    pub forwards: bool,
    /// The name of its network namespace, unless it is the one that the host was started in.
    pub namespace: Option<String>,
    /// What could not be read, so that nobody takes silence for safety.
    pub unknown: Vec<String>,
}

/// How programs that keep the time over the network call themselves (`comm`, at most 15 bytes).
const TIME_KEEPERS: [&str; 4] = ["chronyd", "ntpd", "systemd-timesyn", "openntpd"];

impl Host {
    /// Looks at the host. `resolv_conf` names its name servers.
    pub fn look(resolv_conf: &Path) -> anyhow::Result<Self> {
        let interfaces = interfaces::all()?;
        let (holders, hidden) = processes::of_sockets();
        let mut unknown = Vec::new();
        if hidden {
            unknown.push(
                "the sockets of some processes may not be looked at (run it as root): they have no name here"
                    .to_owned(),
            );
        }
        let (listeners, sessions) = sockets::read(&interfaces, &holders)?;
        let routes = routes::of_this_host();
        let gateways = routes::gateways(&routes)
            .map(|(gateway, interface)| (gateway, interface.to_owned()))
            .collect();
        let forwarding = |file: &str| {
            fs::read_to_string(file).is_ok_and(|text| text.trim() != "0" && !text.is_empty())
        };
        Ok(Self {
            listeners,
            sessions,
            gateways,
            resolvers: resolvers::configured(resolv_conf),
            time_keeper: processes::named(&TIME_KEEPERS),
            forwards: forwarding("/proc/sys/net/ipv4/ip_forward")
                || forwarding("/proc/sys/net/ipv6/conf/all/forwarding"),
            namespace: namespace(),
            unknown,
            interfaces,
        })
    }

    /// The interfaces that face a network and that Palisade can stand on: those of the default routes,
    /// or, where there is none, all that have addresses.
    pub fn outward(&self) -> Vec<&Interface> {
        let usable = |interface: &&Interface| interface.up && interface.ethernet;
        let routed = |interface: &&Interface| {
            let mut gateways = self.gateways.iter();
            gateways.any(|(_, name)| *name == interface.name)
        };
        let own = |interface: &&Interface| {
            // What joins guests and containers on the host has its own fence: the way out.
            interface
                .addresses
                .iter()
                .any(|address| !is_link_local(*address))
                && !matches!(interface.driver.as_deref(), Some("bridge" | "tun"))
        };
        let routed: Vec<&Interface> = self
            .interfaces
            .iter()
            .filter(usable)
            .filter(routed)
            .collect();
        if !routed.is_empty() {
            return routed;
        }
        self.interfaces.iter().filter(usable).filter(own).collect()
    }

    /// Whether an address is one of the host's own.
    pub fn owns(&self, address: IpAddr) -> bool {
        let mut interfaces = self.interfaces.iter();
        address.is_loopback() || interfaces.any(|interface| interface.addresses.contains(&address))
    }
}

/// Whether an address is of one link only.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The own network namespace, if the first process is in another one.
fn namespace() -> Option<String> {
    let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let (own, first) = (of("self")?, of("1")?);
    (own != first).then(|| own.display().to_string())
}
