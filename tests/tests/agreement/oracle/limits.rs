//! Limits as buckets of tokens, in exact arithmetic: a bucket for each rule and whoever shares it.

use std::collections::HashMap;
use std::net::IpAddr;

use firewall_user::policy::limit::{Per, Unit};
use firewall_user::policy::{Limit, Rule};

use super::parse::{ACK, Body, FIN, Fragment, Packet, RST, SYN};

const SECOND: i128 = 1_000_000_000;

/// Whose bucket it is: rule, prefix, protocol and port; what does not matter is nothing.
type Key = (String, Option<(IpAddr, u8)>, u8, u16);

#[derive(Debug, Default)]
pub struct Limits {
    buckets: HashMap<Key, Bucket>,
    over: HashMap<String, (u64, u64)>,
}

/// Tokens, counted in parts of which a unit has as many as its period has nanoseconds.
#[derive(Debug)]
struct Bucket {
    parts: i128,
    since: u64,
}

/// What is held to a limit.
pub struct Held<'a> {
    pub packet: &'a Packet,
    pub bytes: usize,
    /// It belongs to a connection that was let through before.
    pub known: bool,
}

impl Limits {
    /// Whether a packet is over the limit of a rule, if that has one.
    pub fn is_over(&mut self, rule: &Rule, held: &Held<'_>, now: u64) -> bool {
        let Some(limit) = rule.limit else {
            return false;
        };
        let units = units(&limit, held);
        if units == 0 {
            return false;
        }
        let period = i128::from(limit.terms.seconds) * SECOND;
        let full = i128::from(limit.terms.burst) * period;
        let bucket = self.buckets.entry(key(rule, &limit, held.packet));
        let bucket = bucket.or_insert(Bucket {
            parts: full,
            since: now,
        });
        let passed = i128::from(now.saturating_sub(bucket.since));
        bucket.parts = full.min(bucket.parts + passed * i128::from(limit.terms.rate));
        bucket.since = now;
        let wanted = units * period;
        if bucket.parts < wanted.min(full) {
            let over = self.over.entry(rule.name.clone()).or_default();
            over.0 += 1;
            over.1 += held.bytes as u64;
            return true;
        }
        bucket.parts -= wanted;
        false
    }

    /// Packets and bytes over the limit of a rule.
    pub fn over(&self, name: &str) -> (u64, u64) {
        self.over.get(name).copied().unwrap_or_default()
    }
}

fn units(limit: &Limit, held: &Held<'_>) -> i128 {
    let packet = held.packet;
    match limit.unit {
        Unit::Packets => 1,
        Unit::Bytes => held.bytes as i128,
        Unit::Requests => i128::from(packet.is_request),
        Unit::Connections => {
            let opens = match packet.body {
                Body::Tcp { flags, .. } => flags & (SYN | ACK | FIN | RST) == SYN,
                // A later fragment of TCP has no flags that could say so.
                _ => packet.protocol != 6 && packet.fragment != Fragment::Later,
            };
            i128::from(opens && !packet.is_error && !held.known)
        }
    }
}

fn key(rule: &Rule, limit: &Limit, packet: &Packet) -> Key {
    let name = rule.name.clone();
    match limit.per {
        Per::Rule => (name, None, 0, 0),
        Per::Sender { v4, v6 } => {
            let prefix = match packet.sender {
                IpAddr::V4(address) => {
                    let bits = address.to_bits() >> (32 - u32::from(v4));
                    (IpAddr::V4(bits.into()), v4)
                }
                IpAddr::V6(address) => {
                    let bits = address.to_bits() >> (128 - u32::from(v6));
                    (IpAddr::V6(bits.into()), v6)
                }
            };
            (name, Some(prefix), 0, 0)
        }
        Per::Service => {
            let port = match packet.body {
                Body::Tcp { to, .. } | Body::Ports { to, .. } => to,
                Body::Icmp { .. } | Body::Opaque => 0,
            };
            (name, Some((packet.destination, 0)), packet.protocol, port)
        }
    }
}
