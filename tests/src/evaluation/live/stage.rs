//! The world of the live attacks: a host with real servers behind a real daemon, visitors and
//! attackers before it. Each attack gets a new one.
//!
//! ```text
//!   198.51.100.1, 2001:db8:51::1          the host
//!   198.51.100.10 .. .59, 2001:db8:b::/48  visitors (each IPv6 visitor has a /64 of its own)
//!   198.51.100.60, .61                     a mirror and a resolver that the host uses
//!   198.51.100.201, 2001:db8:bad::66       the attacker
//!   203.0.113.0/24, 2001:db8:f000::/36     forged sources, hosts to sweep, the attacker's servers
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::host::Servers;
use crate::daemon::{Daemon, Mode};
use crate::need_tools;
use crate::topology::{EDGE, INSIDE_V4, INSIDE_V6, Topology, WIRE};
use crate::xdp::Passing;

pub const HOST_V4: IpAddr = IpAddr::V4(INSIDE_V4);
pub const HOST_V6: IpAddr = IpAddr::V6(INSIDE_V6);
pub const ATTACKER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 201));
pub const ATTACKER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0x66));
/// Where the host fetches its updates.
pub const MIRROR: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 60));
/// Who resolves names for the host.
pub const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 61));
/// A server of the attacker's that the host, broken into, speaks to.
pub const DROP_POINT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 80));

/// What the host lets in: the services that it runs. Everything else is dropped.
const POLICY: &str = r#"version = 1

[defaults]
inbound = "drop"

[[rule]]
name     = "shop"
action   = "accept"
protocol = "tcp"
port     = [80, 443]

[[rule]]
name     = "quic"
action   = "accept"
protocol = "udp"
port     = 443

[[rule]]
name     = "ssh"
action   = "accept"
protocol = "tcp"
port     = 22

[[rule]]
name     = "ftp"
action   = "accept"
protocol = "tcp"
port     = 21

[[rule]]
name     = "names"
action   = "accept"
protocol = ["udp", "tcp"]
port     = 53

[[rule]]
name     = "game"
action   = "accept"
protocol = "udp"
port     = 5000

[[rule]]
name     = "ping"
action   = "accept"
protocol = ["icmp", "icmpv6"]
"#;

/// What the servers and the visitors are made of.
const TOOLS: [&str; 7] = [
    "nginx",
    "sshd",
    "ssh",
    "ssh-keygen",
    "dnsmasq",
    "tcpdump",
    "ping",
];

/// Fields go in this order: the daemon and the servers before what they run in.
pub struct Stage {
    pub daemon: Daemon,
    pub servers: Servers,
    _peer: Passing,
    pub world: Topology,
    /// The hardware address of the host's end of the wire.
    pub edge: [u8; 6],
}

impl Stage {
    /// With the answers to alerts as these lines of the settings say.
    pub fn build(settings: &str) -> Result<Self> {
        need_tools(&TOOLS)?;
        let world = Topology::untagged()?;
        for address in [ATTACKER_V4, ATTACKER_V6, MIRROR, RESOLVER, DROP_POINT] {
            world.add_client(address)?;
        }
        for last in 10..=45 {
            world.add_client(Ipv4Addr::new(198, 51, 100, last).into())?;
        }
        // What does not choose its source is the attacker's; visitors choose theirs.
        world.outside.run(&format!(
            "ip route replace {HOST_V4}/32 dev {WIRE} src {ATTACKER_V4}"
        ))?;
        world.outside.run(&format!(
            "ip -6 route replace {HOST_V6}/128 dev {WIRE} src {ATTACKER_V6}"
        ))?;
        // A virtual wire takes what XDP sends back, SYN cookies, only where its other end runs XDP, too.
        let peer = Passing::on(&world.outside, WIRE)?;
        let servers = Servers::start(&world)?;
        let mut daemon = Daemon::prepare(&world.inside, POLICY, EDGE, Mode::Auto)?;
        daemon.write_settings(&format!("interfaces = [\"{EDGE}\"]"), settings)?;
        daemon.launch()?;
        let edge = super::forge::hardware_address(&world.inside, EDGE)?;
        Ok(Self {
            daemon,
            servers,
            _peer: peer,
            world,
            edge,
        })
    }
}
