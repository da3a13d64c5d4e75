//! The policies that are measured, and frames that meet their rules.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context, Result};
use firewall_common::packet::flag;
use firewall_user::packet_build::PacketBuilder;

/// Where the protected host is.
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 1);
/// A source that no list knows.
pub const STRANGER: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 9)),
];
/// The addresses that xdp-filter and Palisade's set of five both hold; by family, one is sent from.
pub const FIVE: [&str; 5] = [
    "203.0.113.66",
    "203.0.113.67",
    "203.0.113.68",
    "2001:db8:113::66",
    "2001:db8:113::67",
];
pub const LISTED: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 67)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x67)),
];
/// A banned source.
pub const BANNED: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 80)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x80)),
];

pub const OPEN_PORT: u16 = 443;
pub const DROPPED_PORT: u16 = 445;
pub const CLOSED_PORT: u16 = 9;
pub const CLIENT_PORT: u16 = 51_234;

/// What xdp-filter can express: all passes but five addresses and a port.
pub fn like_xdp_filter() -> String {
    let five = FIVE.map(|address| format!("\"{address}\"")).join(", ");
    format!(
        "version = 1\n[defaults]\ninbound = \"accept\"\n[sets]\nfive = [{five}]\n\
         [[rule]]\nname = \"five\"\naction = \"drop\"\nfrom = [\"five\"]\n\
         [[rule]]\nname = \"port\"\naction = \"drop\"\nprotocol = \"tcp\"\nport = {DROPPED_PORT}\n"
    )
}

/// The families that rules look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    V4,
    Both,
}

/// `count` rules under a default of drop, behind those in `first`. All but the last two look at
/// prefixes, ports and protocols that the frames do not have; then come the rule that drops, and the one
/// that accepts.
pub fn of_rules(count: usize, families: Families, first: &str) -> String {
    let mut text = format!("version = 1\n[defaults]\ninbound = \"drop\"\n{first}");
    for partner in partners(count) {
        let (protocol, prefix) = (partner.protocol, &partner.prefix);
        let v6 = match families {
            Families::V4 => String::new(),
            Families::Both => format!(", \"{}\"", partner.prefix_v6),
        };
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "[[rule]]\nname = \"partner-{}\"\naction = \"accept\"\nprotocol = \"{protocol}\"\n\
             port = {}\nfrom = [\"{prefix}\"{v6}]\n",
            partner.number, partner.port
        );
    }
    if count > 1 {
        text += &rule("refused", "drop", DROPPED_PORT);
    }
    text + &rule("web", "accept", OPEN_PORT)
}

/// A set and the rule that drops what it lists, to stand before other rules.
pub fn blocklist(file: &Path) -> String {
    format!(
        "[sets]\nlist = {{ file = \"{}\" }}\n\
         [[rule]]\nname = \"list\"\naction = \"drop\"\nfrom = [\"list\"]\n",
        file.display()
    )
}

/// One of the rules that look at what the frames do not have.
pub struct Partner {
    pub number: usize,
    pub protocol: &'static str,
    pub port: usize,
    pub prefix: String,
    prefix_v6: String,
}

/// The rules before the last two, for a policy of `count`.
pub fn partners(count: usize) -> impl Iterator<Item = Partner> {
    (0..count.saturating_sub(2)).map(|number| {
        let (high, low) = (number / 256 % 256, number % 256);
        Partner {
            number,
            protocol: if number % 3 == 0 { "udp" } else { "tcp" },
            port: 10_000 + number,
            prefix: format!("10.{high}.{low}.0/24"),
            prefix_v6: format!("2001:db8:a{high:02x}:{low:x}::/64"),
        }
    })
}

fn rule(name: &str, action: &str, port: u16) -> String {
    format!(
        "[[rule]]\nname = \"{name}\"\naction = \"{action}\"\nprotocol = \"tcp\"\nport = {port}\n"
    )
}

/// A SYN to the host.
pub fn syn(from: IpAddr, port: u16) -> Result<Vec<u8>> {
    segment(from, host(from), CLIENT_PORT, port, flag::SYN)
}

/// A segment to the host that is no SYN.
pub fn ack(from: IpAddr, port: u16) -> Result<Vec<u8>> {
    segment(from, host(from), CLIENT_PORT, port, flag::ACK)
}

/// The host opens a connection to `to`; and what comes back.
pub fn opening_and_answer(to: IpAddr) -> Result<(Vec<u8>, Vec<u8>)> {
    let host = host(to);
    Ok((
        segment(host, to, CLIENT_PORT, OPEN_PORT, flag::SYN)?,
        segment(to, host, OPEN_PORT, CLIENT_PORT, flag::ACK)?,
    ))
}

fn host(of: IpAddr) -> IpAddr {
    if of.is_ipv4() {
        HOST_V4.into()
    } else {
        HOST_V6.into()
    }
}

fn segment(from: IpAddr, to: IpAddr, source: u16, port: u16, flags: u8) -> Result<Vec<u8>> {
    let builder = PacketBuilder::new(from, to).context("addresses of two families")?;
    Ok(builder.tcp(source, port, flags).build())
}

/// A segment from the host that is no SYN.
pub fn outgoing(to: IpAddr, port: u16) -> Result<Vec<u8>> {
    segment(host(to), to, CLIENT_PORT, port, flag::ACK)
}
