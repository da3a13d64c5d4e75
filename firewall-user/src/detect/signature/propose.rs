//! Proposes conditions that many packets of a set meet.

use std::collections::BTreeMap;

use firewall_common::image::{NO_FLAGS, NO_ICMP, NO_PORT, NO_WINDOW};
use firewall_common::packet::protocol;
use firewall_common::signature::{Number, PAYLOAD};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::condition::{Condition, Field, exact_flags};
use super::{Reservoir, Specimen};

/// A single value is worth a look when this share has it.
const COMMON: f64 = 0.3;
/// Most values of a field that are looked at.
const VALUES: usize = 2;
/// A range is the shortest that holds this share.
const WITHIN: [f64; 2] = [0.9, 0.98];
/// A byte of the payload is fixed when this share has it.
const FIXED: f64 = 0.9;
/// Fewer fixed bytes are no pattern.
const FIXED_BYTES: usize = 2;
/// Lengths of source prefixes that are looked at.
const V4_LENGTHS: [u8; 6] = [8, 12, 16, 20, 24, 32];
const V6_LENGTHS: [u8; 4] = [16, 32, 48, 64];

/// The protocols that make up a good part of a set: what a search begins with.
pub fn protocols(set: &[&Specimen]) -> Vec<Condition> {
    let values = histogram(set, |specimen| {
        u8::try_from(specimen.number(Number::Protocol)).ok()
    });
    let common = common(&values, total(set));
    common.into_iter().map(Condition::Protocol).collect()
}

/// Conditions on one field that many packets of a set of one protocol meet.
pub fn conditions(field: Field, number: u8, set: &[&Specimen]) -> Vec<Condition> {
    let tcp = number == protocol::TCP;
    match field {
        Field::Protocol => Vec::new(),
        Field::Port => exact(set, Number::DestinationPort, NO_PORT, |port| {
            Condition::Port(port, port)
        }),
        Field::FromPort => ranges(set, Number::SourcePort, NO_PORT, Condition::FromPort),
        Field::Length => ranges(set, Number::Length, u32::MAX, Condition::Length),
        Field::Ttl => ranges(set, Number::Ttl, u32::MAX, |low, high| {
            Condition::Ttl(low.min(255) as u8, high.min(255) as u8)
        }),
        Field::TcpWindow if tcp => ranges(set, Number::TcpWindow, NO_WINDOW, Condition::TcpWindow),
        Field::TcpFlags if tcp => flags(set),
        Field::TcpWindow | Field::TcpFlags => Vec::new(),
        Field::IcmpType if matches!(number, protocol::ICMP | protocol::ICMPV6) => {
            exact(set, Number::IcmpType, NO_ICMP, |kind| {
                Condition::IcmpType(kind.min(255) as u8)
            })
        }
        Field::IcmpType => Vec::new(),
        Field::From => sources(set),
        Field::Fragment => exact(set, Number::Fragment, u32::MAX, |wanted| {
            Condition::Fragment(wanted != 0)
        }),
        Field::Payload => payload(set).into_iter().collect(),
    }
}

/// At most `size` of a set, each with the weight that it stands for then.
pub fn thinned(set: &[Specimen], size: usize) -> Vec<Specimen> {
    if set.len() <= size {
        return set.to_vec();
    }
    let mut reservoir = Reservoir::new(size);
    for specimen in set {
        reservoir.add(*specimen);
    }
    reservoir.specimens(0)
}

fn total(set: &[&Specimen]) -> f64 {
    set.iter().map(|specimen| specimen.weight).sum()
}

fn histogram<K: Ord>(set: &[&Specimen], key: impl Fn(&Specimen) -> Option<K>) -> BTreeMap<K, f64> {
    let mut weights = BTreeMap::new();
    for specimen in set {
        if let Some(key) = key(specimen) {
            *weights.entry(key).or_insert(0.0) += specimen.weight;
        }
    }
    weights
}

/// The most frequent values, if they are frequent.
fn common<K: Copy + Ord>(weights: &BTreeMap<K, f64>, total: f64) -> Vec<K> {
    let mut common: Vec<(K, f64)> = weights
        .iter()
        .map(|(key, weight)| (*key, *weight))
        .filter(|(_, weight)| *weight >= total * COMMON)
        .collect();
    common.sort_by(|one, other| other.1.total_cmp(&one.1));
    common.truncate(VALUES);
    common.into_iter().map(|(key, _)| key).collect()
}

/// The values of a number, without the one that says there is none.
fn numbers(set: &[&Specimen], number: Number, none: u32) -> BTreeMap<u16, f64> {
    histogram(set, |specimen| match specimen.number(number) {
        value if value == none => None,
        value => u16::try_from(value).ok(),
    })
}

fn exact(
    set: &[&Specimen],
    number: Number,
    none: u32,
    make: impl Fn(u16) -> Condition,
) -> Vec<Condition> {
    let values = common(&numbers(set, number, none), total(set));
    values.into_iter().map(make).collect()
}

fn ranges(
    set: &[&Specimen],
    number: Number,
    none: u32,
    make: impl Fn(u16, u16) -> Condition,
) -> Vec<Condition> {
    let weights = numbers(set, number, none);
    let total = total(set);
    let exact = common(&weights, total);
    let mut bounds: Vec<(u16, u16)> = exact.into_iter().map(|value| (value, value)).collect();
    for share in WITHIN {
        bounds.extend(shortest(&weights, total * share));
    }
    bounds.dedup();
    bounds
        .into_iter()
        .map(|(low, high)| make(low, high))
        .collect()
}

/// The shortest range with at least this weight.
fn shortest(weights: &BTreeMap<u16, f64>, wanted: f64) -> Option<(u16, u16)> {
    let values: Vec<(u16, f64)> = weights
        .iter()
        .map(|(key, weight)| (*key, *weight))
        .collect();
    let (mut first, mut held) = (0, 0.0);
    let mut best: Option<(u16, u16)> = None;
    for (high, weight) in &values {
        held += weight;
        while held - values[first].1 >= wanted {
            held -= values[first].1;
            first += 1;
        }
        let low = values[first].0;
        if held >= wanted && best.is_none_or(|(from, to)| high - low < to - from) {
            best = Some((low, *high));
        }
    }
    best
}

fn flags(set: &[&Specimen]) -> Vec<Condition> {
    let weights = histogram(set, |specimen| match specimen.shown.flags {
        NO_FLAGS => None,
        flags => Some(flags as u8),
    });
    let values = common(&weights, total(set));
    values.into_iter().map(exact_flags).collect()
}

/// The longest prefixes that hold most of the sources.
fn sources(set: &[&Specimen]) -> Vec<Condition> {
    let total = total(set);
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for specimen in set {
        let source = specimen.shown.source;
        if source.is_v4() {
            v4.push((u64::from(source.as_v4()) << 32, specimen.weight));
        } else {
            v6.push((source.high, specimen.weight));
        }
    }
    // Sorted once, equal prefixes of any length stand together.
    v4.sort_unstable_by_key(|(bits, _)| *bits);
    v6.sort_unstable_by_key(|(bits, _)| *bits);
    let mut longest = Vec::new();
    for share in WITHIN {
        let least = total * share;
        let of_v4 = V4_LENGTHS.iter().rev().find_map(|length| {
            let address = (heaviest_prefix(&v4, *length, least)? >> 32) as u32;
            Some(IpNet::V4(Ipv4Net::new(address.into(), *length).ok()?))
        });
        let of_v6 = V6_LENGTHS.iter().rev().find_map(|length| {
            let address = u128::from(heaviest_prefix(&v6, *length, least)?) << 64;
            Some(IpNet::V6(Ipv6Net::new(address.into(), *length).ok()?))
        });
        longest.extend(of_v4.or(of_v6));
    }
    longest.dedup();
    longest.into_iter().map(Condition::From).collect()
}

/// The prefix with the most weight, of addresses in ascending order that fill a word from above; none if it
/// has less than `least`.
fn heaviest_prefix(sorted: &[(u64, f64)], length: u8, least: f64) -> Option<u64> {
    let mask = u64::MAX << (64 - u32::from(length));
    let mut most: Option<(u64, f64)> = None;
    for equal in sorted.chunk_by(|one, other| (one.0 ^ other.0) & mask == 0) {
        let weight: f64 = equal.iter().map(|(_, weight)| weight).sum();
        if most.is_none_or(|(_, known)| weight >= known) {
            most = Some((equal[0].0 & mask, weight));
        }
    }
    most.filter(|(_, weight)| *weight >= least)
        .map(|(prefix, _)| prefix)
}

fn heaviest<K: Copy>(weights: &BTreeMap<K, f64>, least: f64) -> Option<K> {
    let most = weights.iter().max_by(|one, other| one.1.total_cmp(other.1));
    most.filter(|(_, weight)| **weight >= least)
        .map(|(key, _)| *key)
}

/// The bytes that nearly all payloads begin with.
fn payload(set: &[&Specimen]) -> Option<Condition> {
    let total = total(set);
    let mut bytes: Vec<Option<u8>> = (0..PAYLOAD)
        .map(|at| {
            let weights = histogram(set, |specimen| specimen.byte(at));
            heaviest(&weights, total * FIXED)
        })
        .collect();
    while bytes.last() == Some(&None) {
        bytes.pop();
    }
    let fixed = bytes.iter().flatten().count();
    (fixed >= FIXED_BYTES).then_some(Condition::Payload(bytes))
}
