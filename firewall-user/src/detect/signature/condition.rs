//! Conditions on header fields: as people write them in a rule, and as the kernel compares them.

use std::fmt::Write as _;

use firewall_common::image::NO_FLAGS;
use firewall_common::signature::{Conditions, FLAGS, Number, PAYLOAD};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Specimen;
use crate::engine;
use crate::policy::protocol;

/// A condition on one field. Named after the key of a rule that means the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    Protocol(u8),
    /// Inclusive bounds, here and below.
    Port(u16, u16),
    FromPort(u16, u16),
    Length(u16, u16),
    Ttl(u8, u8),
    /// Which have to be set, and which must not.
    TcpFlags {
        set: u8,
        clear: u8,
    },
    TcpWindow(u16, u16),
    IcmpType(u8),
    From(IpNet),
    Fragment(bool),
    /// At the beginning of the payload; `None` for a byte that does not matter. At most 16.
    Payload(Vec<Option<u8>>),
}

/// The field of a condition: a signature has at most one on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    Protocol,
    Port,
    FromPort,
    Length,
    Ttl,
    TcpFlags,
    TcpWindow,
    IcmpType,
    From,
    Fragment,
    Payload,
}

impl Condition {
    pub fn field(&self) -> Field {
        match self {
            Self::Protocol(_) => Field::Protocol,
            Self::Port(..) => Field::Port,
            Self::FromPort(..) => Field::FromPort,
            Self::Length(..) => Field::Length,
            Self::Ttl(..) => Field::Ttl,
            Self::TcpFlags { .. } => Field::TcpFlags,
            Self::TcpWindow(..) => Field::TcpWindow,
            Self::IcmpType(_) => Field::IcmpType,
            Self::From(_) => Field::From,
            Self::Fragment(_) => Field::Fragment,
            Self::Payload(_) => Field::Payload,
        }
    }

    /// The share of packets that a condition of this kind meets where nothing is known: what a small
    /// sample of ordinary packets is completed with.
    pub fn likely(&self) -> f64 {
        let bounds = |low: u16, high: u16, whole: f64| {
            let width = f64::from(high - low) + 1.0;
            (width / whole).sqrt().clamp(0.02, 1.0)
        };
        match self {
            Self::Protocol(_) | Self::TcpFlags { .. } => 0.5,
            Self::Port(..) => 0.5,
            Self::FromPort(low, high) => bounds(*low, *high, 65_536.0),
            Self::Length(low, high) => bounds(*low, *high, 1_500.0),
            Self::Ttl(low, high) => bounds(u16::from(*low), u16::from(*high), 256.0),
            Self::TcpWindow(low, high) => bounds(*low, *high, 65_536.0),
            Self::IcmpType(_) => 0.5,
            Self::From(prefix) => 0.5_f64.powi(i32::from(prefix.prefix_len()) / 4),
            Self::Fragment(true) => 0.02,
            Self::Fragment(false) => 0.98,
            Self::Payload(_) => 0.02,
        }
    }

    /// Whether a packet meets it.
    pub fn meets(&self, specimen: &Specimen) -> bool {
        conditions(std::slice::from_ref(self)).meet(&specimen.shown)
    }

    /// Adds it to what the kernel compares.
    fn put(&self, to: &mut Conditions) {
        let mut bound = |number: Number, low: u32, high: u32| {
            to.low[number as usize] = low;
            to.high[number as usize] = high;
        };
        match self {
            Self::Protocol(number) => {
                bound(Number::Protocol, u32::from(*number), u32::from(*number));
            }
            Self::Port(low, high) => {
                bound(Number::DestinationPort, u32::from(*low), u32::from(*high));
            }
            Self::FromPort(low, high) => {
                bound(Number::SourcePort, u32::from(*low), u32::from(*high));
            }
            Self::Length(low, high) => bound(Number::Length, u32::from(*low), u32::from(*high)),
            Self::Ttl(low, high) => bound(Number::Ttl, u32::from(*low), u32::from(*high)),
            Self::TcpWindow(low, high) => {
                bound(Number::TcpWindow, u32::from(*low), u32::from(*high));
            }
            Self::IcmpType(kind) => bound(Number::IcmpType, u32::from(*kind), u32::from(*kind)),
            Self::Fragment(wanted) => {
                bound(Number::Fragment, u32::from(*wanted), u32::from(*wanted));
            }
            Self::TcpFlags { set, clear } => {
                to.flags = u32::from(*set);
                to.flags_mask = u32::from(set | clear) | NO_FLAGS;
            }
            Self::From(prefix) => {
                let (address, length) = match prefix {
                    IpNet::V4(v4) => (v4.addr().into(), u32::from(v4.prefix_len()) + 96),
                    IpNet::V6(v6) => (v6.addr().into(), u32::from(v6.prefix_len())),
                };
                let all = firewall_common::Address::v6(u64::MAX, u64::MAX);
                to.source_mask = all.masked(length);
                to.source = engine::address(address).masked(length);
            }
            Self::Payload(bytes) => {
                let (mut value, mut mask) = ([0; PAYLOAD as usize], [0; PAYLOAD as usize]);
                for (at, byte) in bytes.iter().enumerate().take(PAYLOAD as usize) {
                    if let Some(byte) = byte {
                        (value[at], mask[at]) = (*byte, 0xff);
                    }
                }
                let words = |bytes| {
                    let bits = u128::from_be_bytes(bytes);
                    [(bits >> 64) as u64, bits as u64]
                };
                (to.payload, to.payload_mask) = (words(value), words(mask));
                to.low[Number::Payload as usize] = bytes.len() as u32;
            }
        }
    }

    /// The key and value of a rule that mean the same.
    fn key(&self) -> (&'static str, String) {
        fn bounds<N: std::fmt::Display + PartialEq>(low: &N, high: &N) -> String {
            if low == high {
                low.to_string()
            } else {
                format!("\"{low}-{high}\"")
            }
        }
        match self {
            Self::Protocol(number) => (
                "protocol",
                match protocol::protocol_name(*number) {
                    name if name.parse::<u8>().is_ok() => name,
                    name => format!("\"{name}\""),
                },
            ),
            Self::Port(low, high) => ("port", bounds(low, high)),
            Self::FromPort(low, high) => ("from_port", bounds(low, high)),
            Self::Length(low, high) => ("length", bounds(low, high)),
            Self::Ttl(low, high) => ("ttl", bounds(low, high)),
            Self::TcpWindow(low, high) => ("tcp_window", bounds(low, high)),
            Self::IcmpType(kind) => ("icmp_type", kind.to_string()),
            Self::Fragment(wanted) => ("fragment", wanted.to_string()),
            Self::From(prefix) => ("from", format!("\"{prefix}\"")),
            Self::TcpFlags { set, clear } => {
                let set = protocol::tcp_flag_names(*set).map(str::to_owned);
                let clear = protocol::tcp_flag_names(*clear).map(|name| format!("!{name}"));
                let names: Vec<String> = set.chain(clear).collect();
                ("tcp_flags", format!("\"{}\"", names.join(",")))
            }
            Self::Payload(bytes) => {
                let mut text = String::from("\"0:");
                for byte in bytes {
                    match byte {
                        // Writing to a string does not fail.
                        Some(byte) => _ = write!(text, "{byte:02x}"),
                        None => text.push_str("??"),
                    }
                }
                text.push('"');
                ("payload", text)
            }
        }
    }
}

/// The flags of a packet, as a condition that asks for just these.
pub fn exact_flags(flags: u8) -> Condition {
    let set = flags & FLAGS as u8;
    Condition::TcpFlags {
        set,
        clear: !set & FLAGS as u8,
    }
}

/// What the kernel compares for these conditions.
pub fn conditions(all: &[Condition]) -> Conditions {
    let mut together = Conditions::EVERYTHING;
    for condition in all {
        condition.put(&mut together);
    }
    together
}

/// The conditions in one line, as in `protocol = "udp", port = 53`.
pub fn in_words(all: &[Condition]) -> String {
    let pairs = all.iter().map(|condition| {
        let (key, value) = condition.key();
        format!("{key} = {value}")
    });
    pairs.collect::<Vec<_>>().join(", ")
}

/// A drop rule of the policy language with these conditions.
pub fn rule_text(name: &str, all: &[Condition], reason: &str, expires: Option<&str>) -> String {
    let mut text = format!("[[rule]]\nname = \"{name}\"\naction = \"drop\"\n");
    for condition in all {
        let (key, value) = condition.key();
        // Writing to a string does not fail.
        _ = writeln!(text, "{key} = {value}");
    }
    _ = writeln!(text, "reason = {}", toml::Value::from(reason));
    if let Some(expires) = expires {
        _ = writeln!(text, "expires = {expires}");
    }
    text
}
