//! Which samples somebody asks for.

use std::net::IpAddr;

use firewall_common::packet::Kind;
use firewall_common::{Reason, Verdict};
use ipnet::IpNet;

use crate::daemon::documents::{EventDocument, WatchQuery};
use crate::detect::Sighting;
use crate::policy::address::parse_prefix;
use crate::policy::protocol::protocol_number;

/// A query that has been understood. An empty list asks nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    passed: bool,
    reasons: Vec<Reason>,
    from: Vec<IpNet>,
    to: Vec<IpNet>,
    ports: Vec<u16>,
    protocols: Vec<u8>,
    rules: Vec<String>,
    interfaces: Vec<String>,
}

impl Filter {
    /// Whether it may be asked for; what has names is left to [`Self::wants_named`].
    pub fn wants(&self, sighting: &Sighting) -> bool {
        let packet = &sighting.packet;
        let is_ip = packet.kind == Kind::Ip;
        (self.passed || sighting.verdict == Verdict::Drop)
            && among(&self.reasons, &sighting.reason)
            && (self.protocols.is_empty() || is_ip && self.protocols.contains(&packet.protocol))
            && covers(&self.from, is_ip, sighting.sender())
            && covers(&self.to, is_ip, sighting.destination())
            && (self.ports.is_empty()
                || self.ports.contains(&packet.source_port)
                || self.ports.contains(&packet.destination_port))
    }

    /// Whether the names fit.
    pub fn wants_named(&self, event: &EventDocument) -> bool {
        let rule_fits = match &event.rule {
            Some(rule) => among(&self.rules, rule),
            None => self.rules.is_empty(),
        };
        rule_fits && among(&self.interfaces, &event.interface)
    }
}

fn among<T: PartialEq>(list: &[T], value: &T) -> bool {
    list.is_empty() || list.contains(value)
}

fn covers(list: &[IpNet], is_ip: bool, address: IpAddr) -> bool {
    list.is_empty() || is_ip && list.iter().any(|prefix| prefix.contains(&address))
}

impl TryFrom<&WatchQuery> for Filter {
    type Error = String;

    fn try_from(query: &WatchQuery) -> Result<Self, String> {
        let prefix = |text: &str| parse_prefix(text).map_err(|error| error.to_string());
        Ok(Self {
            passed: query.passed,
            reasons: list("reason", &query.reason, reason)?,
            from: list("from", &query.from, prefix)?,
            to: list("to", &query.to, prefix)?,
            ports: list("port", &query.port, |text| {
                text.parse().map_err(|_| "a port is 0 to 65535".to_owned())
            })?,
            protocols: list("protocol", &query.protocol, protocol)?,
            rules: list("rule", &query.rule, |text| Ok(text.to_owned()))?,
            interfaces: list("interface", &query.interface, |text| Ok(text.to_owned()))?,
        })
    }
}

/// The parts of a list, each understood.
fn list<T>(
    what: &str,
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| parse(part).map_err(|error| format!("`{what}`: `{part}`: {error}")))
        .collect()
}

/// The reason of a name.
pub fn reason(name: &str) -> Result<Reason, String> {
    let found = Reason::ALL.into_iter().find(|reason| reason.name() == name);
    found.ok_or_else(|| {
        let names = Reason::ALL.map(Reason::name);
        format!("a reason is one of {}", names.join(", "))
    })
}

/// The number of a protocol, by name or number.
pub fn protocol(text: &str) -> Result<u8, String> {
    let number = text.parse().ok().or_else(|| protocol_number(text));
    number.ok_or_else(|| "a protocol is tcp, udp, icmp, icmpv6 ..., or 0 to 255".to_owned())
}
