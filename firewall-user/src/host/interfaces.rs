//! The interfaces of the network namespace, with their addresses.

use std::net::IpAddr;

use anyhow::Context;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::Card;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    pub up: bool,
    pub loopback: bool,
    /// Its frames begin with an Ethernet header.
    pub ethernet: bool,
    pub driver: Option<String>,
    pub addresses: Vec<IpAddr>,
}

/// All interfaces, by index.
pub(super) fn all() -> anyhow::Result<Vec<Interface>> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for entry in getifaddrs().context("the interfaces cannot be listed")? {
        let name = entry.interface_name;
        let at = interfaces.iter().position(|known| known.name == name);
        let at = match at {
            Some(at) => at,
            None => {
                interfaces.push(described(name, entry.flags));
                interfaces.len() - 1
            }
        };
        let Some(address) = entry.address else {
            continue;
        };
        let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
        let v6 = address.as_sockaddr_in6().map(|address| address.ip().into());
        interfaces[at].addresses.extend::<Option<IpAddr>>(v4.or(v6));
    }
    interfaces.sort_by_key(|interface| interface.index);
    Ok(interfaces)
}

fn described(name: String, flags: InterfaceFlags) -> Interface {
    let card = Card::of(&name).ok();
    Interface {
        index: card.as_ref().map_or(0, |card| card.index),
        up: flags.contains(InterfaceFlags::IFF_UP),
        loopback: flags.contains(InterfaceFlags::IFF_LOOPBACK),
        ethernet: card.as_ref().is_some_and(|card| card.ethernet),
        driver: card.and_then(|card| card.driver),
        addresses: Vec::new(),
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_there_and_is_no_card() {
        let interfaces = all().unwrap();
        let lo = interfaces.iter().find(|interface| interface.loopback);
        let lo = lo.unwrap();
        assert_eq!((lo.name.as_str(), lo.index), ("lo", 1));
        assert!(!lo.ethernet);
        assert!(lo.addresses.iter().all(IpAddr::is_loopback), "{lo:?}");
    }
}
