//! The little world of a test: a host to protect and the outside, joined by a wire.
//!
//! ```text
//!   outside                          inside
//!   wire 198.51.100.2 .. .9  ======  edge 198.51.100.1      the fence stands on `edge`
//!        2001:db8:51::2 .. ::9            2001:db8:51::1
//!   far (optional)
//!   far0 203.0.113.2  ---- a narrower link, routed by the outside
//! ```
//!
//! Over a tagged wire the addresses sit on `host`, and a relay in user space puts the 802.1Q tag
//! on and takes it off at each end, so that `edge` carries real tagged frames even where the
//! kernel has no VLAN devices.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::namespace::Namespace;
use crate::process::{succeed, wait_until};
use crate::relay::TagRelay;

/// The interface that the fence stands on.
pub const EDGE: &str = "edge";
/// The outside's end of the wire.
pub const WIRE: &str = "wire";
/// The protected host.
pub const INSIDE_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const INSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 1);
/// The inside's gateway, which is also the first client.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 2);
/// A second client.
pub const OTHER_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 3);
pub const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 3);
/// A client that [`SHOP`](crate::policies::SHOP) lists as hostile.
pub const LISTED_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
pub const LISTED_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 9);
/// A host behind the outside, over a link whose MTU is smaller than the wire's.
pub const FAR_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 2);

/// Both addresses of the protected host.
pub const INSIDE: [IpAddr; 2] = [IpAddr::V4(INSIDE_V4), IpAddr::V6(INSIDE_V6)];
/// Both addresses of the first client.
pub const CLIENT: [IpAddr; 2] = [IpAddr::V4(CLIENT_V4), IpAddr::V6(CLIENT_V6)];
/// Both addresses of the second client.
pub const OTHER: [IpAddr; 2] = [IpAddr::V4(OTHER_V4), IpAddr::V6(OTHER_V6)];
/// Both addresses of the listed client.
pub const LISTED: [IpAddr; 2] = [IpAddr::V4(LISTED_V4), IpAddr::V6(LISTED_V6)];
/// Both addresses of the far host.
pub const FAR: [IpAddr; 2] = [IpAddr::V4(FAR_V4), IpAddr::V6(FAR_V6)];

/// The namespaces and what joins them. Fields go in this order: relays before their interfaces.
#[derive(Debug)]
pub struct Topology {
    relays: Vec<TagRelay>,
    pub inside: Namespace,
    pub outside: Namespace,
    pub far: Option<Namespace>,
    trunk: Option<Namespace>,
}

impl Topology {
    /// A plain wire.
    pub fn untagged() -> Result<Self> {
        let inside = Namespace::create("inside")?;
        let outside = Namespace::create("outside")?;
        join((&inside, EDGE), (&outside, WIRE))?;
        give_addresses(&inside, EDGE, &outside)?;
        Ok(Self {
            relays: Vec::new(),
            inside,
            outside,
            far: None,
            trunk: None,
        })
    }

    /// A plain wire whose ends are network cards that are joined somewhere out of sight. They go back
    /// to where they came from when the namespaces go.
    pub fn between_cards(inside_card: &str, outside_card: &str) -> Result<Self> {
        let inside = Namespace::create("inside")?;
        let outside = Namespace::create("outside")?;
        for (namespace, card, name) in
            [(&inside, inside_card, EDGE), (&outside, outside_card, WIRE)]
        {
            succeed(Command::new("ip").args(["link", "set", card, "down"]))?;
            let into = ["netns", namespace.name(), "name", name];
            succeed(Command::new("ip").args(["link", "set", card]).args(into))?;
            namespace.run(&format!("ip link set {name} up"))?;
        }
        give_addresses(&inside, EDGE, &outside)?;
        Ok(Self {
            relays: Vec::new(),
            inside,
            outside,
            far: None,
            trunk: None,
        })
    }

    /// Deletes the wire and joins the two anew: other devices of the same names, as after a driver
    /// was reloaded.
    pub fn rewire(&self) -> Result<()> {
        self.inside.run(&format!("ip link delete {EDGE}"))?;
        join((&self.inside, EDGE), (&self.outside, WIRE))?;
        give_addresses(&self.inside, EDGE, &self.outside)
    }

    /// A wire on which every frame carries the 802.1Q tag `vlan`.
    pub fn tagged(vlan: u16) -> Result<Self> {
        let inside = Namespace::create("inside")?;
        let outside = Namespace::create("outside")?;
        let trunk = Namespace::create("trunk")?;
        join((&inside, "host"), (&inside, "hostside"))?;
        join((&inside, EDGE), (&trunk, "inward"))?;
        join((&trunk, "outward"), (&outside, WIRE))?;
        give_addresses(&inside, "host", &outside)?;
        // A relay hands on what it reads: whole frames, with their checksums filled in.
        for (namespace, interface) in [
            (&inside, "host"),
            (&inside, "hostside"),
            (&inside, EDGE),
            (&trunk, "inward"),
            (&trunk, "outward"),
            (&outside, WIRE),
        ] {
            namespace.run(&format!(
                "ethtool -K {interface} tx off gso off tso off gro off rxvlan off txvlan off"
            ))?;
        }
        let relays = vec![
            TagRelay::start((&inside, "hostside"), (&inside, EDGE), vlan)?,
            TagRelay::start((&trunk, "outward"), (&trunk, "inward"), vlan)?,
        ];
        Ok(Self {
            relays,
            inside,
            outside,
            far: None,
            trunk: Some(trunk),
        })
    }

    /// Adds a host behind the outside, which sends it packets of up to this MTU. The host itself
    /// does not know: only the path tells.
    pub fn with_far(mut self, mtu: u16) -> Result<Self> {
        let far = Namespace::create("far")?;
        join((&self.outside, "farlink"), (&far, "far0"))?;
        self.outside
            .run(&format!("ip link set farlink mtu {mtu}"))?;
        self.outside.run("ip addr add 203.0.113.1/24 dev farlink")?;
        self.outside
            .run("ip addr add 2001:db8:113::1/64 dev farlink nodad")?;
        far.run(&format!("ip addr add {FAR_V4}/24 dev far0"))?;
        far.run(&format!("ip addr add {FAR_V6}/64 dev far0 nodad"))?;
        far.run("ip route add default via 203.0.113.1")?;
        far.run("ip -6 route add default via 2001:db8:113::1")?;
        self.outside.sysctl("ipv4/ip_forward", "1")?;
        self.outside.sysctl("ipv6/conf/all/forwarding", "1")?;
        self.far = Some(far);
        Ok(self)
    }

    /// Gives the outside one more address, reached through the gateway.
    pub fn add_client(&self, address: IpAddr) -> Result<()> {
        let (length, flags) = match address {
            IpAddr::V4(_) => (32, ""),
            IpAddr::V6(_) => (128, " nodad"),
        };
        self.outside
            .run(&format!("ip addr add {address}/{length} dev {WIRE}{flags}"))?;
        own(&self.outside, address)
    }

    /// The other end of the edge's wire.
    pub fn far_end(&self) -> (&Namespace, &'static str) {
        match &self.trunk {
            Some(trunk) => (trunk, "inward"),
            None => (&self.outside, WIRE),
        }
    }

    /// Whether the frames on the wire carry a tag.
    pub fn is_tagged(&self) -> bool {
        self.trunk.is_some() && !self.relays.is_empty()
    }
}

/// Joins two namespaces by a pair of Ethernet interfaces, both up.
pub fn join(one: (&Namespace, &str), other: (&Namespace, &str)) -> Result<()> {
    let ((here, interface), (there, peer)) = (one, other);
    here.run(&format!(
        "ip link add {interface} type veth peer name {peer} netns {}",
        there.name()
    ))?;
    here.run(&format!("ip link set {interface} up"))?;
    there.run(&format!("ip link set {peer} up"))?;
    Ok(())
}

fn give_addresses(inside: &Namespace, interface: &str, outside: &Namespace) -> Result<()> {
    inside.run(&format!("ip addr add {INSIDE_V4}/24 dev {interface}"))?;
    inside.run(&format!("ip addr add {INSIDE_V6}/64 dev {interface} nodad"))?;
    for last in 2..=9 {
        // Who does not choose a source speaks as the first client: for IPv6 that is the one
        // address which is not deprecated.
        let rank = if last == 2 { "" } else { " preferred_lft 0" };
        outside.run(&format!("ip addr add 198.51.100.{last}/24 dev {WIRE}"))?;
        outside.run(&format!(
            "ip addr add 2001:db8:51::{last}/64 dev {WIRE} nodad{rank}"
        ))?;
    }
    inside.run(&format!("ip route add default via {CLIENT_V4}"))?;
    inside.run(&format!("ip -6 route add default via {CLIENT_V6}"))?;
    own(inside, INSIDE[1])?;
    // Addresses become the host's own in the order in which they were added.
    own(outside, LISTED[1])
}

/// Waits until the kernel delivers to an address that was just added. For IPv6 it does so from a
/// work queue, behind the command: till then an answer to the address has no route, a neighbour
/// advertisement is lost like that, and the next solicitation comes a second later.
fn own(namespace: &Namespace, address: IpAddr) -> Result<()> {
    if address.is_ipv4() {
        return Ok(());
    }
    let patience = Duration::from_secs(20);
    wait_until(&format!("{address} is the host's own"), patience, || {
        let routes = namespace.run(&format!("ip -6 route show table local {address}"))?;
        Ok(!routes.trim().is_empty())
    })?;
    Ok(())
}
