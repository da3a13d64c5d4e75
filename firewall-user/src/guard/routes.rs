//! The host's routes, as far as it takes to know by which interface an address is reached and who
//! the default gateways are.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: IpNet,
    /// `None` when the network is on the link.
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) interface: String,
    metric: u32,
}

/// The route is up (`RTF_UP` in the kernel's route.h).
const UP: u32 = 1;
/// Packets are refused (`RTF_REJECT`).
const REJECT: u32 = 0x200;

/// The routes of both families, of the network namespace that this process is in.
pub(crate) fn of_this_host() -> Vec<Route> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let mut routes = parse_v4(&read("/proc/net/route"));
    routes.extend(parse_v6(&read("/proc/net/ipv6_route")));
    routes
}

/// Reads `/proc/net/route`: hexadecimal words in the order in which the host keeps them.
fn parse_v4(table: &str) -> Vec<Route> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let word = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok();
        let address = |index: usize| Some(Ipv4Addr::from(word(index)?.to_ne_bytes()));
        let flags = word(3)?;
        if flags & UP == 0 || flags & REJECT != 0 {
            return None;
        }
        let length = u32::from_be_bytes(address(7)?.octets()).count_ones() as u8;
        let gateway = address(2).filter(|gateway| !gateway.is_unspecified());
        Some(Route {
            to: Ipv4Net::new(address(1)?, length).ok()?.trunc().into(),
            gateway: gateway.map(IpAddr::V4),
            interface: (*fields.first()?).to_owned(),
            metric: fields.get(6)?.parse().ok()?,
        })
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// Reads `/proc/net/ipv6_route`.
fn parse_v6(table: &str) -> Vec<Route> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = |index: usize| {
            let bits = u128::from_str_radix(fields.get(index)?, 16).ok()?;
            Some(Ipv6Addr::from_bits(bits))
        };
        let flags = u32::from_str_radix(fields.get(8)?, 16).ok()?;
        if flags & UP == 0 || flags & REJECT != 0 {
            return None;
        }
        let length = u8::from_str_radix(fields.get(1)?, 16).ok()?;
        let gateway = address(4).filter(|gateway| !gateway.is_unspecified());
        Some(Route {
            to: Ipv6Net::new(address(0)?, length).ok()?.trunc().into(),
            gateway: gateway.map(IpAddr::V6),
            interface: (*fields.get(9)?).to_owned(),
            metric: u32::from_str_radix(fields.get(5)?, 16).ok()?,
        })
    };
    table.lines().filter_map(route).collect()
}

/// The route to an address: the longest prefix, then the smallest metric.
pub(super) fn towards(routes: &[Route], address: IpAddr) -> Option<&Route> {
    routes
        .iter()
        .filter(|route| route.to.contains(&address))
        .max_by_key(|route| (route.to.prefix_len(), std::cmp::Reverse(route.metric)))
}

/// The default gateways with their interfaces.
pub(crate) fn gateways(routes: &[Route]) -> impl Iterator<Item = (IpAddr, &str)> {
    routes
        .iter()
        .filter(|route| route.to.prefix_len() == 0)
        .filter_map(|route| Some((route.gateway?, route.interface.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        edge\t00000000\t026433C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        spare\t00000000\t017100CB\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        edge\t006433C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        *\t0A0A0A0A\t00000000\t0201\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n";
    const V6: &str = "20010db8005100000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     edge\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 20010db8005100000000000000000002 00000400 00000002 00000000 00000003     edge\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";

    #[test]
    fn the_longest_prefix_then_the_smallest_metric_leads_the_way() {
        // The table is as a little-endian host writes it.
        if cfg!(target_endian = "big") {
            return;
        }
        let routes = [parse_v4(V4), parse_v6(V6)].concat();
        let way = |address: &str| {
            let route = towards(&routes, address.parse().unwrap()).unwrap();
            (
                route.interface.as_str(),
                route.gateway.map(|gateway| gateway.to_string()),
            )
        };
        let via = |gateway: &str| Some(gateway.to_owned());
        assert_eq!(way("198.51.100.7"), ("edge", None));
        assert_eq!(way("8.8.8.8"), ("edge", via("198.51.100.2")));
        assert_eq!(way("2001:db8:51::7"), ("edge", None));
        assert_eq!(way("2001:db8:99::7"), ("edge", via("2001:db8:51::2")));
        assert_eq!(
            way("10.10.10.10"),
            ("edge", via("198.51.100.2")),
            "a refused route"
        );
        let gateways: Vec<String> = gateways(&routes)
            .map(|(gateway, interface)| format!("{gateway} {interface}"))
            .collect();
        assert_eq!(
            gateways,
            [
                "198.51.100.2 edge",
                "203.0.113.1 spare",
                "2001:db8:51::2 edge"
            ]
        );
    }

    #[test]
    fn lines_that_are_no_routes_are_passed_over() {
        assert_eq!(parse_v4("header\nnonsense\n\nedge 1 2\n"), []);
        assert_eq!(parse_v6("nonsense\n\n0 0 0\n"), []);
    }
}
